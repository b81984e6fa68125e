"""Batches depend on the step alone, whatever reads them."""

import grain
import numpy as np
import pytest
import tiny
from numerics import close

from wsrnn import data
from wsrnn.tasks import Batch, Task
from wsrnn.tasks.regression import LinearRegression
from wsrnn.tasks.training import Finite

TASK = LinearRegression(d=2, examples=3)


class Counted(Task):
    """Ten examples that say their own number."""

    d_in = d_out = length = 1
    loss = "mse"

    def dataset(self, split, seed):
        def example(i):
            one = np.ones(1, np.float32)
            return Batch(one[:, None] * i, one, one[:, None], one, {"i": np.int32(i)})

        return grain.MapDataset.range(10).map(example)


def take(stream, count):
    return [next(stream) for _ in range(count)]


def same(a, b):
    np.testing.assert_array_equal(a.inputs, b.inputs)
    np.testing.assert_array_equal(a.mask, b.mask)


def test_a_stream_that_starts_later_sees_the_same_batches():
    whole = take(data.train_stream(TASK, 8, seed=3), 6)
    for a, b in zip(whole[4:], take(data.train_stream(TASK, 8, seed=3, start=4), 2), strict=True):
        same(a, b)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_cut_the_same_global_batches(processes):
    whole = take(data.train_stream(TASK, 8, seed=3), 3)
    parts = [
        take(data.train_stream(TASK, 8, seed=3, process=(i, processes)), 3)
        for i in range(processes)
    ]
    for step, batch in enumerate(whole):
        joined = np.concatenate([part[step].inputs for part in parts])
        np.testing.assert_array_equal(joined, batch.inputs)


def test_worker_processes_see_the_same_batches():
    alone = take(data.train_stream(TASK, 4, seed=1), 3)
    with_workers = take(data.train_stream(TASK, 4, seed=1, workers=2), 3)
    for a, b in zip(alone, with_workers, strict=True):
        same(a, b)


def test_seeds_and_splits_differ():
    streams = [
        data.examples(TASK, split, seed, 4) for split in ("train", "test") for seed in (0, 1)
    ]
    for i, a in enumerate(streams):
        for b in streams[:i]:
            assert not np.array_equal(a.inputs, b.inputs)


def test_training_visits_every_example_once_an_epoch_in_a_new_order():
    batches = take(data.train_stream(Counted(), 5, seed=0), 4)
    seen = [batch.latents["i"] for batch in batches]
    first, second = np.concatenate(seen[:2]), np.concatenate(seen[2:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("batch_size", [4, 8, 16])
def test_an_evaluation_counts_every_example_once(batch_size, processes):
    counted = []
    lengths = set()
    for i in range(processes):
        stream = data.eval_stream(Counted(), "valid", batch_size, 0, process=(i, processes))
        batches = list(stream)
        lengths.add(len(batches))
        for batch in batches:
            assert len(batch.mask) == batch_size // processes
            counted += batch.latents["i"][batch.mask[:, 0] > 0].tolist()
    assert sorted(counted) == list(range(10))
    assert len(lengths) == 1  # every process must take part in every step


def test_an_evaluation_can_be_cut_short():
    batches = list(data.eval_stream(TASK, "valid", 4, 0, batches=3))
    assert len(batches) == 3


def test_batches_made_at_once_are_those_of_single_examples():
    for task in (
        LinearRegression(d=2, examples=3),
        LinearRegression(d=2, examples=3, training=Finite(70)),
    ):
        found, single = task.batches("train", 1, 48), task.dataset("train", 1).batch(48)
        for i in (0, 1, 2, 5):  # within a block of draws, across two, and round the end of 70
            close(found[i], single[i], 0)
    altered = tiny.Poisoned(d=2, examples=3, sound=0).batches("train", 0, 8)
    assert np.isnan(altered[0].targets).all()
