"""Tasks: one family of sequences, one file. This file is their contract; numpy and grain only.

No task starts a jax backend, so that grain's workers may unpickle one and never touch a device.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import grain
import numpy as np

Loss = Literal["mse", "nll", "cross_entropy"]
Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
ENDLESS = 2**40  # the length of a synthetic dataset: never reached


class Feedback(NamedTuple):
    """Which inputs are given; at the other steps a model's last prediction is its input."""

    given: Any  # [N, T] bool; step 0 always is
    noise: Any  # [N, T, O] standard normal, for m + s e of a predicted scale s; None feeds m back


class Batch(NamedTuple):
    """Examples, stacked; a single example is the same without the leading N."""

    inputs: Any  # [N, T, D] float32
    times: Any  # [N, T] float32 in [0, 1]
    targets: Any  # [N, T, O] float32; classes [N, T] int32, or [N] where one step is read; of a
    # task with `has_units` [N, T, 2 O]: the targets, then the unit of each, in which errors count
    mask: Any  # [N, T] float32: where the loss counts
    # Targets where the mask is 0, and everything after a sequence's last step that counts, may be
    # anything, also not a number: neither loss nor gradient depends on them.
    latents: dict  # what the example was drawn from, for baselines and probes
    last: Any = (
        None  # [N] int: no step before it is scored and inputs after it are 0; None: unknown
    )
    feedback: Feedback | None = None  # for models that feed their predictions back; None: none


class Task(ABC):
    """What a task promises. Subclasses are frozen dataclasses, picklable and cheap to make.

    `d_in` and `d_out` are channel counts (d_out is the number of classes under cross_entropy),
    `length` is T. `loss` names an entry of `wsrnn.metrics.LOSSES`, or is a function of one's own,
    such as a method: from outputs [*N, O], targets and mask [*N] to `wsrnn.metrics.Measures`, of
    which "loss" is trained on and the others are metrics. `noise`, for sizes by rule, is the
    variance of the noise on the targets in the tokens, where the task knows it.
    """

    d_in: int
    d_out: int
    length: int
    loss: Loss | Callable[..., dict[str, Any]]
    noise: float = 0.0
    endless = False  # whether its splits have no end
    trains_on_validation = False  # whether validation examples are training examples too
    feeds_back = False  # whether predictions are fed back, which only some models can
    has_units = False  # whether targets are followed by the unit of each
    answers_in_tokens = False  # whether inputs[t] holds targets[t]: only to be read before written

    @abstractmethod
    def dataset(self, split: Split, seed: int) -> grain.MapDataset:
        """Return the unbatched examples; element i is a pure function of (split, seed, i).

        Raises UserError for a data file that is missing or damaged.
        """

    def batches(self, split: Split, seed: int, size: int) -> grain.MapDataset:
        """Return `dataset` in whole batches of `size`, for a task that can make them at once."""
        return self.dataset(split, seed).batch(size, drop_remainder=True)

    def sized(self) -> "Task":
        """The task with every size that is None filled in by its rule."""
        return self

    def times(self, length: int) -> np.ndarray:
        """The times [T] of a sequence of `length` steps whose own times are unknown."""
        return clock(length)

    def steps(self, split: Split) -> Literal["all", "last"]:
        """Which steps of a split are scored: "all" that the mask selects, or the "last" one alone.

        The model then computes that step alone. Classes are predicted at the last valid step,
        unless a task has one at every step.
        """
        return "last" if self.loss == "cross_entropy" else "all"


class Synthetic(Task):
    """A task whose examples are drawn: a subclass writes `sample`."""

    endless = True

    @abstractmethod
    def sample(self, rng: np.random.Generator, split: Split) -> Batch:
        """Draw one example."""

    def dataset(self, split, seed):
        """Return an endless dataset; each split has a stream of its own."""
        stream = np.random.SeedSequence([seed, SPLITS.index(split)]).generate_state(1)[0]
        draws = grain.MapDataset.range(ENDLESS).seed(int(stream))
        return draws.random_map(lambda _, rng: self.sample(rng, split))


def clock(length: int) -> np.ndarray:
    """Times from 0 to 1 [T], the default of most tasks: tau = t / (T - 1)."""
    return np.linspace(0, 1, length, dtype=np.float32)
