"""Tasks whose examples are built, many at once, from declared random numbers.

Sampling and building are separate. The random numbers come from numpy in grain's workers, or from
jax inside a compiled step (`wsrnn.data.in_step`); `build` is one function in the array API for
both, so that there is one distribution and one set of tests.
"""

from abc import abstractmethod
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import grain
import numpy as np

from wsrnn.tasks import ENDLESS, SPLITS, Batch, Split, Task

BLOCK = 64  # examples drawn by one generator: building them one by one would take ten times as long


class Raw(NamedTuple):
    """What is drawn for each example: independent numbers of one distribution."""

    distribution: Literal["normal", "uniform", "below"]
    """normal: mean 0 and variance 1. uniform: from [0, 1). below: the integers 0 .. high - 1."""
    shape: tuple[int, ...] = ()
    high: int = 0


class Drawn(Task):
    """A task whose examples are drawn: a subclass says what and writes `build`."""

    endless = True

    @abstractmethod
    def draws(self, split: Split) -> dict[str, Raw]:
        """What is drawn for each example, by name."""

    @abstractmethod
    def build(self, raw: dict[str, Any], split: Split, xp: Any = np) -> Batch:
        """Return N examples from raw numbers [N, ...] and, as raw["index"], their positions [N].

        `xp` is numpy or jax.numpy. A row of the result depends on the same row of raw alone.
        """

    def stands_at(self, i: Any, split: Split) -> Any:
        """Which drawn example stands at position i of a split."""
        return i

    def dataset(self, split, seed):
        """Return an endless dataset; each split has a stream of its own."""
        return grain.MapDataset.source(_Examples(self, split, seed))

    def batches(self, split, seed, size):
        """The same, cut from whole blocks: one by one examples would cost more than a step."""
        if type(self).dataset is not Drawn.dataset:  # a subclass makes something else of them
            return super().batches(split, seed, size)
        return grain.MapDataset.source(_Batches(self, split, seed, size))


class _Examples:
    """Random access to single examples, of which the blocks around the last ones are kept."""

    def __init__(self, task: Drawn, split: Split, seed: int):
        self.task, self.split, self.seed = task, split, seed

    def __len__(self):
        return ENDLESS

    def __getitem__(self, i: int) -> Batch:
        block, row = divmod(self.task.stands_at(int(i), self.split), BLOCK)
        return _rows(_block(self.task, self.split, self.seed, block), row)


class _Batches(_Examples):
    """Random access to batches of neighbouring examples."""

    def __init__(self, task: Drawn, split: Split, seed: int, size: int):
        super().__init__(task, split, seed)
        self.size = size

    def __len__(self):
        return ENDLESS // self.size

    def __getitem__(self, i: int) -> Batch:
        stands = self.task.stands_at(int(i) * self.size + np.arange(self.size), self.split)
        blocks, rows = np.divmod(stands, BLOCK)
        cuts = np.flatnonzero(np.diff(blocks)) + 1
        parts = [
            _rows(_block(self.task, self.split, self.seed, int(block[0])), row)
            for block, row in zip(np.split(blocks, cuts), np.split(rows, cuts), strict=True)
        ]
        latents = {
            name: np.concatenate([part.latents[name] for part in parts])
            for name in parts[0].latents
        }
        inputs, times, targets, mask = map(
            np.concatenate, zip(*(part[:4] for part in parts), strict=True)
        )
        return Batch(inputs, times, targets, mask, latents)


def _rows(batch: Batch, rows: int | np.ndarray) -> Batch:
    latents = {name: value[rows] for name, value in batch.latents.items()}
    inputs, times, targets, mask = (leaf[rows] for leaf in batch[:4])
    return Batch(inputs, times, targets, mask, latents)


@lru_cache(maxsize=16)
def _block(task: Drawn, split: Split, seed: int, block: int) -> Batch:
    rng = np.random.default_rng([seed, SPLITS.index(split), block])
    raw = {name: draw(raw, rng, BLOCK) for name, raw in sorted(task.draws(split).items())}
    raw["index"] = block * BLOCK + np.arange(BLOCK)
    return task.build(raw, split)


def draw(raw: Raw, rng: np.random.Generator, count: int) -> np.ndarray:
    """Raw numbers of `count` examples."""
    shape = (count, *raw.shape)
    match raw.distribution:
        case "normal":
            return rng.standard_normal(shape, np.float32)
        case "uniform":
            return rng.random(shape, np.float32)
        case "below":
            return rng.integers(raw.high, size=shape)


def choose(log_p: np.ndarray, uniform: Any, count: int, xp: Any) -> Any:
    """Draw `count` of K things without replacement, with odds exp(log_p) [K]: positions [N, count].

    From uniform numbers [N, K]: those of the largest log_p plus Gumbel noise.
    """
    gumbel = -xp.log(-xp.log(xp.clip(uniform, 1e-30, 1 - 6e-8)))
    return xp.argsort(-(log_p + gumbel), 1)[:, :count]
