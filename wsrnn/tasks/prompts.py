"""In-context learning: prompts of examples of a new function, shared by all families of functions.

A prompt is n examples (x_i, y_i) and a query x_q whose y_q is to be predicted. A family of
functions defines its random parameters (`function`) and `values`; points, noise, layout, shifts,
pools and curriculum are the same for all.
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from wsrnn.checks import check_fields
from wsrnn.tasks import Batch, Split, clock
from wsrnn.tasks.drawn import Drawn, Raw, draw
from wsrnn.tasks.shifts import SHIFTS, ShiftName

Layout = Literal["read_before_write", "joint_masked", "interleaved"]
Cumsum = Literal["none", "tokens", "legacy"]
TrainOn = Literal["any", "longest", "all"]


@dataclass(frozen=True)
class Curriculum:
    """Prompts that grow with the examples drawn so far: (from, by, examples drawn between).

    What is beyond is masked, so that shapes and the compiled step stay as they are (Garg et al.
    2022 begin with 5 dimensions and 11 points and add 1 and 2 every 128,000 examples). `every` = 0
    leaves it out.
    """

    dimensions: int = 5
    """Coordinates of x at first; the others are 0."""
    points: int = 11
    """Points of a prompt, the query included, at first."""
    more_dimensions: int = 1
    """What is added each time."""
    more_points: int = 2
    """What is added each time."""
    every: int = 0
    """Training examples between two additions; 0 begins with all."""

    def __post_init__(self):
        if (
            min(self.dimensions, self.points) < 1
            or min(self.more_dimensions, self.more_points, self.every) < 0
        ):
            raise ValueError(
                "curriculum.dimensions and points must be at least 1, more_dimensions, "
                "more_points and every at least 0"
            )


class Prompt(NamedTuple):
    """Points, noise-free values, labels as they are shown, and what the function was drawn from."""

    x: Any  # [N, T, d]
    clean: Any  # [N, T, 1]
    labels: Any  # [N, T, 1]
    latents: dict


@dataclass(frozen=True)
class Prompts(Drawn):
    """Base of the families of functions."""

    d: int = 5
    """Dimension of x."""
    examples: int | None = 20
    """The most examples that come before a query; None is 4 d."""
    noise: float = 0.0
    """Variance of the noise on the labels in the prompt; targets are free of it."""
    layout: Layout = "read_before_write"
    """read_before_write: tokens (x_t, y_t), step t is scored on y_t from the t tokens before it and
    x_t. joint_masked: n tokens (x_t, y_t) and (x_q, 0), scored at the last. interleaved: tokens
    (x_t, 0), (0, y_t), scored at every x."""
    cumsum: Cumsum = "none"
    """Sums that joint_masked shows instead of tokens. tokens: (x, y) summed over the prompt.
    legacy, as WARP's own code: x summed over its coordinates, y over the prompt; the last label is
    0 and Y_N = Y_{N-1} + y_q is asked for, which Y_{N-1} alone answers with R^2 = 1 - 1 / N."""
    pool: int | None = None
    """Draw training functions from so many, fixed by `pool_seed`, instead of ever new ones
    (Raventos et al. 2023); tests take new ones."""
    pool_seed: int = 0
    """Which pool."""
    prompts: int | None = None
    """Repeat so many training prompts instead of drawing ever new ones."""
    train_on: TrainOn = "any"
    """What a training prompt is scored on: a random one of its prefixes, for which a model pays
    alone; the longest (then validation is, too); or all, as in Garg et al. (2022)."""
    curriculum: Curriculum = field(default_factory=Curriculum)
    shift: ShiftName = "none"
    """How prompts differ from those of training: a name in `wsrnn.tasks.shifts`."""
    loss = "mse"

    def __post_init__(self):
        name = type(self).__name__
        few = self.examples is not None and self.examples < 1
        if self.d < 1 or few or not 0 <= self.noise < float("inf"):
            raise ValueError(
                f"{name} needs d and examples of at least 1 and noise of at least 0, "
                f"got {self.d}, {self.examples} and {self.noise}"
            )
        for count in ("pool", "prompts"):
            value = getattr(self, count)
            if value is not None and value < 1:
                raise ValueError(f"{name}.{count} must be at least 1 or None, got {value}")
        if self.prompts and self.curriculum.every:
            raise ValueError(
                f"{name}.prompts repeats its first {self.prompts}, which a curriculum would never "
                "let grow: set one of them"
            )
        check_fields(self)
        if self.train_on == "all" and self.layout == "joint_masked":
            raise ValueError(
                f"{name} in layout joint_masked has one query to train on: set train_on any or "
                "longest"
            )
        if self.cumsum != "none" and self.layout != "joint_masked":
            raise ValueError(
                f"{name}.cumsum {self.cumsum} sums over a prompt with one query at its end: set "
                "layout joint_masked"
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

    def place(self, raw: Any, xp: Any) -> Any:
        """x [N, T, d] from what it is drawn from."""
        return raw

    @property
    def answers_in_tokens(self):
        """Under read_before_write token t holds y_t."""
        return self.layout == "read_before_write"

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
        """Examples and query; two tokens for each example if interleaved."""
        return (
            2 * self.context_length + 1 if self.layout == "interleaved" else self.context_length + 1
        )

    @property
    def prefixes(self) -> range:
        """The numbers of examples after which a prompt is read."""
        return range(
            self.context_length if self.layout == "joint_masked" else 0, self.context_length + 1
        )

    @property
    def queries(self) -> slice:
        """The steps at which a prompt is read, one for each of `prefixes`."""
        return {
            "read_before_write": slice(None),
            "joint_masked": slice(-1, None),
            "interleaved": slice(None, None, 2),
        }[self.layout]

    def steps(self, split):
        """One prefix in training and the last where the query is masked; else all."""
        return "last" if self._one_prefix(split) or self.layout == "joint_masked" else "all"

    def _one_prefix(self, split: Split) -> bool:
        if split == "train":
            return self.train_on != "all"
        return split == "valid" and self.train_on == "longest"

    def stands_at(self, i, split):
        """Training prompts begin again where there are only so many."""
        return i % self.prompts if self.prompts and split == "train" else i

    def draws(self, split: Split) -> dict[str, Raw]:
        """Points, function, noise, the prefix read, and what the shift asks for."""
        T = self.context_length + 1
        draws = {"x": self.points(), "prefix": Raw("uniform")}
        draws |= {f"f.{name}": raw for name, raw in self.function().items()}
        if self.noise or SHIFTS[self.shift].noise:
            draws["noise"] = Raw("normal", (T, 1))
        if self.pool and split == "train":
            draws["member"] = Raw("below", high=self.pool)
        if SHIFTS[self.shift].second:
            draws |= {f"g.{name}": raw for name, raw in self.function().items()}
        return draws | SHIFTS[self.shift].draws(T, self.d)

    def prompt(self, raw: dict[str, Any], split: Split, xp: Any = np) -> Prompt:
        """The prompts, before they are laid out as tokens."""
        shift = SHIFTS[self.shift]
        dimensions, _ = self._grown(raw["index"], split, xp)
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

    def asked(self, raw: dict[str, Any], split: Split, xp: Any) -> Any:
        """Which values [N, T] are predicted: one where the split reads one, else all there are."""
        steps = xp.arange(self.context_length + 1)
        if self.steps(split) == "all":
            _, points = self._grown(raw["index"], split, xp)
            return steps < points[:, None]
        return self.standing(raw, split, xp)[:, None] == steps

    def standing(self, raw: dict[str, Any], split: Split, xp: Any) -> Any:
        """How many examples [N] come before the point that is read, where one is.

        A random one of the prefixes that the curriculum has reached, or the longest.
        """
        _, points = self._grown(raw["index"], split, xp)
        return points - 1 if self.train_on == "longest" else xp.floor(raw["prefix"] * points)

    def build(self, raw, split, xp=np):
        """Prompts as tokens, in the task's layout."""
        x, clean, labels, latents = self.prompt(raw, split, xp)
        N, T, _ = x.shape
        read, targets = self.asked(raw, split, xp), clean
        if self.layout == "joint_masked":
            read = xp.broadcast_to(xp.arange(T) == T - 1, (N, T))
        inputs = self.tokens(x, labels, xp)
        if self.cumsum == "legacy":
            query = (xp.arange(T) == T - 1)[:, None]
            targets = xp.cumsum(xp.where(query, clean, labels), 1)
        if self.layout == "interleaved":
            targets = xp.repeat(clean, 2, 1)[:, :-1]
            read = xp.stack([read, xp.zeros_like(read)], 2).reshape(N, 2 * T)[:, :-1]
        times = xp.broadcast_to(xp.asarray(clock(self.length)), (N, self.length))
        single = [a.astype(np.float32) for a in (inputs, times, targets, read)]
        return Batch(*single, latents)

    def tokens(self, x: Any, labels: Any, xp: Any = np) -> Any:
        """Points [N, n + 1, d] and labels [N, n + 1, 1] as tokens in the task's layout."""
        N, T, _ = x.shape
        if self.layout == "joint_masked":
            query = (xp.arange(T) == T - 1)[:, None]
            labels = xp.where(query, 0, labels)
            if self.cumsum == "tokens":
                x, labels = xp.cumsum(x, 1), xp.cumsum(labels, 1)
            elif self.cumsum == "legacy":
                x, labels = xp.cumsum(x, 2), xp.where(query, 0, xp.cumsum(labels, 1))
        if self.layout != "interleaved":
            return xp.concatenate([x, labels], -1)
        keys = xp.concatenate([x, xp.zeros_like(labels)], -1)
        values = xp.concatenate([xp.zeros_like(x), labels], -1)
        return xp.stack([keys, values], 2).reshape(N, 2 * T, -1)[:, :-1]

    def shown(self, tokens: Any) -> tuple[Any, Any]:
        """Points [N, n + 1, d] and labels [N, n + 1] from tokens, the last label 0 if masked."""
        if self.layout == "interleaved":
            return tokens[:, ::2, :-1], np.pad(tokens[:, 1::2, -1], ((0, 0), (0, 1)))
        x, y = tokens[..., :-1], tokens[..., -1]
        if self.cumsum != "none":
            along = 1 if self.cumsum == "tokens" else 2
            x, y = np.diff(x, axis=along, prepend=0), np.diff(y, axis=1, prepend=0)
            y[:, -1] = 0
        return x, y

    def _grown(self, index: Any, split: Split, xp: Any) -> tuple[Any, Any]:
        """Coordinates and points [N] that the curriculum has reached at each example."""
        c = self.curriculum
        if split != "train" or not c.every:
            return xp.full(index.shape, self.d), xp.full(index.shape, self.context_length + 1)
        stage = index // c.every
        return (
            xp.minimum(c.dimensions + c.more_dimensions * stage, self.d),
            xp.minimum(c.points + c.more_points * stage, self.context_length + 1),
        )

    def _drawn(self, raw: dict[str, Any], split: Split, xp: Any) -> dict[str, Any]:
        if self.pool and split == "train":
            return {name: xp.asarray(all_)[raw["member"]] for name, all_ in _pool(self).items()}
        return {name[2:]: value for name, value in raw.items() if name.startswith("f.")}


@lru_cache(maxsize=4)
def _pool(task: Prompts) -> dict[str, np.ndarray]:
    assert task.pool is not None  # of a task with a pool
    rng = np.random.default_rng([task.pool_seed, task.pool])
    return {name: draw(raw, rng, task.pool) for name, raw in sorted(task.function().items())}
