"""In-context learning: prompts of examples of a new function, shared by all families of functions.

A prompt is n examples (x_i, y_i) and a query x_q whose y_q is to be predicted. A family of
functions defines its random parameters (`function`) and `values`; points, noise, layout, shifts,
pools and curriculum are the same for all.
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np

from wsrnn.checks import check_fields, check_positive
from wsrnn.choices import choice
from wsrnn.tasks import Batch, Split, clock
from wsrnn.tasks.drawn import Drawn, Raw, draw
from wsrnn.tasks.layouts import LAYOUTS, PromptLayout, ReadBeforeWrite, TrainOn
from wsrnn.tasks.shifts import SHIFTS, ShiftName
from wsrnn.tasks.training import TRAINING_SETS, Curriculum, Fresh, TrainingSet


class Prompt(NamedTuple):
    """Points, noise-free values, labels as they are shown, and what the function was drawn from."""

    x: Any  # [N, T, d]
    clean: Any  # [N, T, 1]
    labels: Any  # [N, T, 1]
    latents: dict


@dataclass(frozen=True)
class Pool:
    """A fixed set of training functions (Raventos et al. 2023)."""

    size: int = 64
    """How many functions."""
    seed: int = 0
    """Which ones."""

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "size")


@dataclass(frozen=True)
class Prompts(Drawn):
    """Base of all prompts: how functions are drawn, laid out and read."""

    d: int = 5
    """Dimension of x."""
    examples: int | None = 20
    """The most examples that come before a query; None is 4 d."""
    layout: Annotated[PromptLayout, choice(lambda: LAYOUTS)] = field(
        default_factory=ReadBeforeWrite
    )
    """How a prompt becomes tokens, and where it is read."""
    pool: Annotated[Pool, choice(lambda: (Pool,))] | None = None
    """Draw training functions from a fixed set; None draws ever new ones, as tests do."""
    training: Annotated[TrainingSet, choice(lambda: TRAINING_SETS)] = field(default_factory=Fresh)
    """Which prompts are trained on: ever new ones, a finite set, or prompts that grow."""
    loss = "mse"

    trains_on: ClassVar[tuple[TrainOn, ...]] = ("any", "longest", "all")
    """What a training prompt may be scored on."""

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "d")
        if self.examples is not None:
            check_positive(self, "examples")
        self._check_parts()

    def _check_parts(self) -> None:
        """Which parts go together: all that a part cannot know by itself stands here."""
        name, on = type(self).__name__, self.layout.train_on
        if on not in self.trains_on:
            raise ValueError(
                f"{name} cannot be trained on {on}: set layout.train_on "
                f"{' or '.join(self.trains_on)}"
            )
        grows = isinstance(self.training, Curriculum) and self.training.points is not None
        if grows and self.layout.one_query:
            raise ValueError(
                f"layout {type(self.layout).__name__} reads whole prompts, so their points cannot "
                "grow: set training.points None, or another layout"
            )

    def sized(self):
        """With 4 d examples where their number is open."""
        return replace(self, examples=self.context_length)

    @property
    def context_length(self) -> int:
        """The most examples that come before a query, 4 d where `examples` is open."""
        return 4 * self.d if self.examples is None else self.examples

    @property
    @abstractmethod
    def power(self) -> float:
        """E y^2 without noise, over points and functions: the error of predicting 0 is 1 of it."""

    @abstractmethod
    def function(self) -> dict[str, Raw]:
        """What a function is drawn from, beside x."""

    def latent(self, drawn: dict[str, Any], xp: Any) -> dict[str, Any]:
        """The functions' parameters, from what they are drawn from."""
        return drawn

    def members(self) -> dict[str, Any]:
        """The parameters of all functions of the pool."""
        return self.latent(_pool(self), np)

    @abstractmethod
    def values(self, latent: dict[str, Any], x: Any, xp: Any) -> Any:
        """The functions' values [N, T, 1] at x [N, T, d]."""

    def points(self) -> Raw:
        """What x is drawn from [T, d]."""
        return Raw("normal", (self.context_length + 1, self.d))

    @property
    def answers_in_tokens(self):
        """Whether token t holds y_t."""
        return self.layout.answers_in_tokens

    @property
    def d_in(self):
        """A token is x and y."""
        return self.d + 1

    @property
    def d_out(self):
        """One label."""
        return 1

    @property
    def length(self):
        """Tokens of the longest prompt."""
        return self.layout.length(self.context_length)

    @property
    def prefixes(self) -> range:
        """The numbers of examples after which a prompt is read."""
        return self.layout.prefixes(self.context_length)

    @property
    def queries(self) -> slice:
        """The steps at which a prompt is read, one for each of `prefixes`."""
        return self.layout.queries

    def steps(self, split):
        """One prefix in training and the last where the query is masked; else all."""
        return "last" if self._one_prefix(split) or self.layout.one_query else "all"

    def _one_prefix(self, split: Split) -> bool:
        if split == "train":
            return self.layout.train_on != "all"
        return split == "valid" and self.layout.train_on == "longest"

    def _drawing(self, split: Split) -> TrainingSet:
        return self.training if split == "train" else Fresh()

    def stands_at(self, i, split):
        """Training prompts begin again where there are only so many."""
        return self._drawing(split).stands_at(i)

    def draws(self, split: Split) -> dict[str, Raw]:
        """Points, function, and the prefix read."""
        draws = {"x": self.points(), "prefix": Raw("uniform")}
        draws |= {f"f.{name}": raw for name, raw in self.function().items()}
        if self.pool and split == "train":
            draws["member"] = Raw("below", high=self.pool.size)
        return draws

    @abstractmethod
    def prompt(self, raw: dict[str, Any], split: Split, xp: Any = np) -> Prompt:
        """The prompts, before they are laid out as tokens."""

    def asked(self, raw: dict[str, Any], split: Split, xp: Any) -> Any:
        """Which values [N, T] are predicted: one where the split reads one, else all there are."""
        steps = xp.arange(self.context_length + 1)
        if self.steps(split) == "all":
            _, points = self._reached(raw["index"], split, xp)
            return steps < points[:, None]
        return self.standing(raw, split, xp)[:, None] == steps

    def standing(self, raw: dict[str, Any], split: Split, xp: Any) -> Any:
        """How many examples [N] come before the point that is read, where one is.

        A random one of the prefixes that the curriculum has reached, or the longest.
        """
        _, points = self._reached(raw["index"], split, xp)
        return points - 1 if self.layout.train_on == "longest" else xp.floor(raw["prefix"] * points)

    def build(self, raw, split, xp=np):
        """Prompts as tokens, in the task's layout."""
        x, clean, labels, latents = self.prompt(raw, split, xp)
        inputs, targets = self.tokens(x, labels, xp), self.layout.targets(clean, labels, xp)
        scored = self.layout.scored(self.asked(raw, split, xp), xp)
        times = xp.broadcast_to(xp.asarray(clock(self.length)), scored.shape)
        single = [a.astype(np.float32) for a in (inputs, times, targets, scored)]
        return Batch(*single, latents)

    def tokens(self, x: Any, labels: Any, xp: Any = np) -> Any:
        """Points [N, n + 1, d] and labels [N, n + 1, 1] as tokens in the task's layout."""
        return self.layout.tokens(x, labels, xp)

    def shown(self, tokens: Any) -> tuple[Any, Any]:
        """Points [N, n + 1, d] and labels [N, n + 1] from tokens, the last label 0 if masked."""
        return self.layout.shown(tokens)

    def _reached(self, index: Any, split: Split, xp: Any) -> tuple[Any, Any]:
        """Coordinates and points [N] of each example, as far as training has come."""
        return self._drawing(split).reached(index, self.d, self.context_length + 1, xp)

    def _drawn(self, raw: dict[str, Any], split: Split, xp: Any) -> dict[str, Any]:
        if self.pool and split == "train":
            return {name: xp.asarray(all_)[raw["member"]] for name, all_ in _pool(self).items()}
        return {name[2:]: value for name, value in raw.items() if name.startswith("f.")}


@dataclass(frozen=True)
class Regression(Prompts):
    """Base of the families of functions: their points, shifts, and noise on their labels."""

    noise: float = 0.0
    """Variance of the noise on the labels in the prompt; targets are free of it."""
    shift: ShiftName = "none"
    """How prompts differ from those of training: a name in `wsrnn.tasks.shifts`."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"{type(self).__name__}.noise must be at least 0, got {self.noise}")

    def place(self, raw: Any, xp: Any) -> Any:
        """x [N, T, d] from what it is drawn from."""
        return raw

    def draws(self, split):
        """Also the noise, and what the shift asks for."""
        T, shift = self.context_length + 1, SHIFTS[self.shift]
        draws = super().draws(split)
        if self.noise or shift.noise:
            draws["noise"] = Raw("normal", (T, 1))
        if shift.second:
            draws |= {f"g.{name}": raw for name, raw in self.function().items()}
        return draws | shift.draws(T, self.d)

    def prompt(self, raw, split, xp=np):
        """Values at the points, under the shift, and with noise."""
        shift = SHIFTS[self.shift]
        dimensions, _ = self._reached(raw["index"], split, xp)
        x = shift.points(self.place(raw["x"], xp), raw, xp)
        x = xp.where(xp.arange(self.d) < dimensions[:, None, None], x, 0)
        latent = self.latent(self._drawn(raw, split, xp), xp)
        clean = shift.scale * self.values(latent, x, xp)
        if shift.second:
            other = {name[2:]: value for name, value in raw.items() if name.startswith("g.")}
            other = self.values(self.latent(other, xp), x, xp)
            clean = xp.where(shift.second(raw, x.shape[1], xp)[..., None], other, clean)
        variance = self.noise + shift.noise
        labels = clean + variance**0.5 * raw["noise"] if variance else clean
        return Prompt(x, clean, labels, latent)


@lru_cache(maxsize=4)
def _pool(task: Prompts) -> dict[str, np.ndarray]:
    assert task.pool is not None  # of a task with a pool
    size = task.pool.size
    rng = np.random.default_rng([task.pool.seed, size])
    return {name: draw(raw, rng, size) for name, raw in sorted(task.function().items())}
