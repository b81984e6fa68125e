"""What a task of the user's own returns: a mistake is named with field, place and cure."""

from dataclasses import dataclass, replace
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from numerics import close
from tiny import experiment as tiny

import wsrnn
from wsrnn import data
from wsrnn.errors import RunError, UserError
from wsrnn.evaluations import LossOnly
from wsrnn.metrics import Mean
from wsrnn.metrics_log import read_metrics
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.peers.transformer import TransformerConfig
from wsrnn.models.warp import Matrix, WarpConfig
from wsrnn.root import Mlp
from wsrnn.step import measure
from wsrnn.tasks import Batch, Task, clock
from wsrnn.tasks.check import check_examples

T, D, O = 6, 2, 3  # noqa: E741
LENGTHS = [T, 2, 4]


def example(i, classes=False):
    """Of unequal length: the last steps are padding."""
    rng = np.random.default_rng(i)
    mask = (np.arange(T) < LENGTHS[i % 3]).astype(np.float32)
    targets = rng.integers(0, O, T) if classes else rng.normal(size=(T, O)).astype(np.float32)
    return Batch(rng.normal(size=(T, D)).astype(np.float32), clock(T), targets, mask, {})


@dataclass(frozen=True)
class Broken(Task):
    """Examples of which some are changed, in one field at one place, or as a whole."""

    field: str = "inputs"
    place: tuple[int, ...] = ()
    value: float = float("nan")
    dtype: str | None = None
    loss: Any = "mse"
    first: int = 0
    split: str | None = None
    examples: int = 1000
    single: bool = False
    d_in, d_out, length = D, O, T

    def steps(self, split):
        return "last" if self.single else "all"

    def dataset(self, split, seed):
        def make(i):
            whole = example(i, self.loss == "cross_entropy")
            if i < self.first or split != (self.split or split):
                return whole
            values = np.array(getattr(whole, self.field), self.dtype)
            if self.place:
                values[self.place] = self.value
            return whole._replace(**{self.field: values})

        return grain.MapDataset.range(self.examples).map(make)


def refused(task, *parts):
    with pytest.raises(UserError) as error:
        check_examples(task, "train", 0)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("field", "place", "value", "parts"),
    [
        ("inputs", (3, 1), np.nan, ["inputs[3, 1] = nan", "fill it in"]),
        ("inputs", (0, 0), np.inf, ["inputs[0, 0] = inf"]),
        ("inputs", (0, 0), 1e39, ["inputs[0, 0] = 1e+39"]),  # which float32 cannot hold
        ("times", (2,), np.nan, ["times[2] = nan"]),
        ("targets", (1, 2), -np.inf, ["targets[1, 2] = -inf", "set the mask to 0"]),
        ("mask", (1,), np.nan, ["mask[1] = nan", "0 or more"]),
        ("mask", (1,), -1, ["mask[1] = -1.0"]),
    ],
)
def test_a_value_that_counts_and_is_no_number_is_named(field, place, value, parts):
    task = Broken(field, place, value, dtype="float64")
    refused(task, "example 0 of Broken (train)", *parts)
    later = replace(task, first=3)
    refused(later, "example 3 of Broken")


@pytest.mark.parametrize("label", [-1, O, 255])
def test_classes_out_of_range_are_named(label):
    task = Broken("targets", (1,), label, loss="cross_entropy")
    refused(task, f"targets[1] = {label}", "classes run from 0 to 2")
    refused(replace(task, single=True, place=(T - 1,)), f"targets[5] = {label}")
    check_examples(replace(task, single=True, place=(0,)), "train", 0)  # which is not read


@pytest.mark.parametrize(
    ("field", "dtype", "loss", "part"),
    [
        ("targets", "float32", "cross_entropy", "classes are integers"),
        ("inputs", "complex64", "mse", "inputs of type complex64"),
        ("inputs", "str", "mse", "return real numbers"),
    ],
)
def test_values_of_another_kind_are_named(field, dtype, loss, part):
    refused(Broken(field, dtype=dtype, loss=loss), part)


def test_an_empty_split_is_named():
    refused(Broken(examples=0), "the train split of Broken has no examples")
    refused(Broken(examples=-5), "the train split of Broken has no examples")


MODELS = {
    **{
        mode: WarpConfig(Mlp(width=3, depth=1), write=Matrix(scale=0.2), mode=mode)
        for mode in ("scan", "conv")
    },
    "gru": RnnConfig(width=4),
    "ssm": SsmConfig(width=4, states=4, layers=1, spectra=1),
    "transformer": TransformerConfig(width=4, depth=1, heads=1),
}


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("steps", ["all", "last"])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_masked_has_no_influence_whatever_it_is(name, steps, loss):
    examples = [example(i, loss == "cross_entropy") for i in range(3)]
    batch = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *examples)
    after = np.arange(T) >= np.array(LENGTHS)[:, None]
    nan = -7 if loss == "cross_entropy" else np.nan
    scored = after if loss == "cross_entropy" else after[..., None]
    broken = batch._replace(
        inputs=jnp.where(after[..., None], np.nan, batch.inputs),
        times=jnp.where(after, np.inf, batch.times),
        targets=jnp.where(scored, nan, batch.targets),
    )
    graph, params = nnx.split(MODELS[name].build(D, O, rngs=nnx.Rngs(0)))

    @jax.jit
    def gradients(params, batch):
        def total(params):
            return measure(nnx.merge(graph, params), batch, loss, steps)

        return jax.value_and_grad(total, has_aux=True)(params)

    result = gradients(params, broken)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
    close(result, gradients(params, batch), 1e-5)


def run(task, out, **changes):
    model = WarpConfig(Mlp(width=2, depth=1))
    made = replace(tiny, task=task, model=model, evaluation=LossOnly(), max_skipped=3, **changes)
    return wsrnn.fit(made, out)


@dataclass(frozen=True)
class Huber(Task):
    """A task with a loss and a metric of its own."""

    d_in, d_out, length = D, O, T

    def dataset(self, split, seed):
        return Broken().dataset(split, seed)

    def loss(self, outputs, targets, mask):
        """Huber's, and how often the sign is right."""
        each = optax.losses.huber_loss(outputs, targets).mean(-1)
        signs = (jnp.sign(outputs) == jnp.sign(targets)).mean(-1)
        count = mask.sum()
        sums = {"loss": jnp.where(mask > 0, each, 0).sum(), "signs": (signs * mask).sum()}
        return {name: Mean(total, count) for name, total in sums.items()}


@dataclass(frozen=True)
class Wrong(Huber):
    """One whose loss forgets to add up."""

    def loss(self, outputs, targets, mask):
        return {"loss": Mean(jnp.square(outputs - targets), mask.sum())}


def test_a_loss_and_metrics_of_ones_own_train_and_are_logged(tmp_path):
    task = Huber()
    run(task, tmp_path / "run")
    last = [row for row in read_metrics(tmp_path / "run") if "valid/loss" in row][-1]
    model, _ = wsrnn.load(tmp_path / "run", "last")
    batch = data.examples(task, "valid", 0, 16)
    outputs = np.asarray(model(batch.inputs, batch.times), np.float64)
    error = np.abs(outputs - batch.targets)
    huber = np.where(error < 1, error**2 / 2, error - 0.5).mean(-1)
    assert last["valid/loss"] == pytest.approx(np.average(huber, weights=batch.mask), rel=1e-5)
    signs = (np.sign(outputs) == np.sign(batch.targets)).mean(-1)
    assert last["valid/signs"] == pytest.approx(np.average(signs, weights=batch.mask), rel=1e-5)
    with pytest.raises(
        ValueError, match=r"loss Wrong.loss fails .*: return .*Mean\(total, count\)"
    ):
        run(Wrong(), tmp_path / "wrong")


def test_a_later_batch_that_stops_the_run_is_named(tmp_path):
    with pytest.raises(RunError, match=r"the batch of step 1 has inputs\[\d, 3, 1\] = nan"):
        run(Broken(place=(3, 1), first=8), tmp_path / "a")
    labels = Broken("targets", (0,), -1, loss="cross_entropy", first=8)
    with pytest.raises(RunError, match=r"the batch of step 1 has targets\[\d, 0\] = -1: classes"):
        run(labels, tmp_path / "b")


def test_a_bad_value_of_the_validation_split_is_named(tmp_path):
    task = Broken("targets", (0, 0), first=10, split="valid")
    with pytest.raises(
        RunError, match=r"the valid loss is not finite: example 10 has targets\[0, 0"
    ):
        run(task, tmp_path / "run")
