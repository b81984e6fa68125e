"""Sequences that are to be continued: forecasts and completions, by one of two strategies.

The strategies of multi-step forecasting are shared by all tasks of this kind, which only say what
their sequences are. Evaluate one with `evaluations.continuation.continued`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import grain
import numpy as np
from jaxtyping import Float

from wsrnn.checks import check_fields
from wsrnn.choices import choice
from wsrnn.tasks import SPLITS, Batch, Feedback, Split, Task


class Sequence(NamedTuple):
    """A whole sequence s_0, ..., s_{S-1}, and what it was drawn from."""

    values: Any  # [S, D] float32
    latents: dict
    context: int | None = None  # its own L, where it has one


class Steps(NamedTuple):
    """What a strategy makes of a sequence: its steps t = 0, ..., S - 2."""

    inputs: Any  # [T, d_in], as `Strategy.size` says
    mask: Any  # [T]: which predictions are scored
    last: Any = None  # the last step that is fed, where nothing before it is scored
    feedback: Feedback | None = None


class Strategy(ABC):
    """How a sequence is continued after its context, the first L of its S samples.

    Step t of T = S - 1 is fed with s_t and predicts s_{t+1}.
    """

    feeds_back: ClassVar[bool] = False

    def size(self, channels: int) -> int:
        """d_in, for sequences of so many channels."""
        return channels

    @abstractmethod
    def steps(
        self, values: Float[np.ndarray, "S D"], L: int, rng: np.random.Generator | None
    ) -> Steps:
        """The steps of one sequence with a context of L; in training with a generator."""


@dataclass(frozen=True)
class Direct(Strategy):
    """No feedback: nothing is fed after the context, and every later sample is read directly.

    The state goes on by A alone, so that sequences of all L are one convolution, and y_t estimates
    the conditional mean of s_{t+1} given the context, without exposure bias. The last input channel
    is 1 within the context and 0 after it. Steps from L - 1 on are scored.
    """

    unseen: Literal["zero", "last"] = "zero"
    """What stands in place of unseen samples: 0, or the last seen one, whose difference is 0."""
    changes: bool = False
    """Feed the change s_t - s_{t-1} beside each sample, between it and the flag (s_{-1} is 0, and
    so is the change of an unseen sample): the products within a token then reach two samples, and
    their sums are the least squares of one on the other."""

    def size(self, channels):
        """Samples, changes and the flag."""
        return channels * (1 + self.changes) + 1

    def __post_init__(self):
        check_fields(self)

    def steps(self, values, L, rng):
        """Without what comes after the context, with the flag."""
        inputs, seen = values[:-1].copy(), np.arange(len(values) - 1) < L
        inputs[L:] = inputs[L - 1] if self.unseen == "last" else 0
        changes = np.diff(inputs, axis=0, prepend=np.zeros_like(inputs[:1])) * seen[:, None]
        parts = (inputs, changes, seen[:, None]) if self.changes else (inputs, seen[:, None])
        inputs = np.concatenate(parts, 1, dtype=np.float32)
        last = np.int32(L - 1) if self.unseen == "zero" else None
        return Steps(inputs, _after(L, len(inputs)), last)


@dataclass(frozen=True)
class Recursive(Strategy):
    """Feedback: after the context each prediction is the next input (the paper's, section 2).

    Training scores every step. Validation and test feed predictions back after the context and
    score what comes after it, step by step: a recurrence that is no longer linear.
    """

    forcing: float = 1.0
    """Probability that a training step is fed with the true sample and not with the prediction
    before it (scheduled sampling, Bengio et al. 2015). Below 1 training runs step by step."""
    sampled: bool = False
    """Feed draws m + s e back in training, not means m, reparameterised, for the loss nll."""

    feeds_back = True

    def __post_init__(self):
        check_fields(self)
        if not 0 <= self.forcing <= 1:
            raise ValueError(f"Recursive.forcing must lie within 0 and 1, got {self.forcing}")
        if self.sampled and self.forcing == 1:
            raise ValueError("Recursive.sampled feeds nothing back for forcing 1: lower forcing")

    def steps(self, values, L, rng):
        """True samples and where they are given."""
        inputs, targets = values[:-1].copy(), values[1:]
        T = len(inputs)
        if rng is None:
            inputs[L:] = 0
            return Steps(inputs, _after(L, T), feedback=Feedback(np.arange(T) < L, None))
        everywhere = np.ones(T, np.float32)
        if self.forcing == 1:
            return Steps(inputs, everywhere)
        given = rng.random(T) < self.forcing
        given[0] = True  # there is nothing to feed back yet
        noise = rng.normal(size=targets.shape).astype(np.float32) if self.sampled else None
        return Steps(inputs, everywhere, feedback=Feedback(given, noise))


def _after(L: int, T: int) -> np.ndarray:
    return (np.arange(T) >= L - 1).astype(np.float32)


STRATEGIES: tuple[type[Strategy], ...] = (Direct, Recursive)


@dataclass(frozen=True)
class Continuation(Task):
    """The base of tasks whose sequences have a known context and an unknown rest.

    A subclass defines `channels`, `samples` and `sequences`. The time of a step is that of the
    sample it predicts: tau_t = (t + 1) / (S - 1).
    """

    strategy: Annotated[Strategy, choice(lambda: STRATEGIES)] = Direct()
    context: tuple[int, ...] = (1,)
    """L, the samples that are known. Two numbers are the range from which it is drawn for each
    sequence, anew in each epoch of training."""
    loss: Literal["mse", "nll"] = "mse"
    """mse, or nll of a model that predicts a scale too."""

    def __post_init__(self):
        check_fields(self)
        name = type(self).__name__
        low, high = self._range
        if len(self.context) not in (1, 2) or not 1 <= low <= high < self.samples:
            raise ValueError(
                f"{name}.context must be one or two rising numbers within 1 and "
                f"{self.samples - 1}, got {' '.join(map(str, self.context)) or 'none'}"
            )
        if getattr(self.strategy, "sampled", False) and self.loss != "nll":
            raise ValueError(f"{name}.strategy sampled draws from a predicted scale: set loss nll")

    @property
    def _range(self) -> tuple[int, int]:
        return (self.context[0], self.context[-1]) if self.context else (0, 0)

    @property
    @abstractmethod
    def channels(self) -> int:
        """D of a sequence."""

    @property
    @abstractmethod
    def samples(self) -> int:
        """S of a sequence."""

    @abstractmethod
    def sequences(self, split: Split, seed: int) -> grain.MapDataset:
        """Return the whole sequences, as `Sequence`."""

    @property
    def d_in(self):
        """The channels, and what the strategy adds to them."""
        return self.strategy.size(self.channels)

    @property
    def d_out(self):
        """Every channel is continued."""
        return self.channels

    @property
    def length(self):
        """Each sample but the last is an input."""
        return self.samples - 1

    @property
    def fixed_context(self) -> int | None:
        """L, if it is the same for all sequences."""
        return self.context[0] if len(set(self.context)) == 1 else None

    @property
    def feeds_back(self):
        """As the strategy does."""
        return self.strategy.feeds_back

    def times(self, length):
        """Those of the samples that are predicted, of `length` + 1 samples."""
        return (np.arange(1, length + 1) / length).astype(np.float32)

    def dataset(self, split, seed):
        """Return the sequences as examples; contexts and forced steps are drawn from the seed."""
        stream = np.random.SeedSequence([seed, SPLITS.index(split), 1]).generate_state(1)[0]
        return (
            self.sequences(split, seed).seed(int(stream)).random_map(partial(self._example, split))
        )

    def _example(self, split: Split, sequence: Sequence, rng: np.random.Generator) -> Batch:
        L = sequence.context or int(rng.integers(*self._range, endpoint=True))
        return self.example(sequence, L, rng if split == "train" else None)

    def example(
        self, sequence: Sequence, context: int, rng: np.random.Generator | None = None
    ) -> Batch:
        """One sequence as an example with this many known samples; in training with a generator."""
        values = np.asarray(sequence.values, np.float32)
        inputs, mask, last, feedback = self.strategy.steps(values, context, rng)
        return Batch(
            inputs, self.times(self.length), values[1:], mask, sequence.latents, last, feedback
        )
