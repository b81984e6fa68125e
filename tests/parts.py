"""A model composed of parts that are classes, as an experiment file, for the tests."""

from dataclasses import dataclass, field, replace
from typing import Annotated

from tiny import experiment as tiny

from wsrnn.choices import choice
from wsrnn.models import ModelConfig


class Root:
    """The base of root networks."""


@dataclass(frozen=True)
class Mlp(Root):
    """A network of hidden layers."""

    width: int = 24
    """Units."""


@dataclass(frozen=True)
class Gated(Mlp):
    """One whose weights are gated."""


@dataclass(frozen=True)
class Formula(Root):
    """A function of the outputs of another network."""

    inner: Annotated[Root, choice(lambda: ROOTS)] = field(default_factory=Mlp)
    outputs: int = 1


@dataclass(frozen=True)
class MyOwn(Root):
    """In no list of the package."""

    wiggles: int = 3
    names: tuple[str, ...] = ()


class Transition:
    """The base of forms of A."""


@dataclass(frozen=True)
class Dense(Transition):
    """A matrix."""

    radius: float = 1.0


@dataclass(frozen=True)
class LowRank(Transition):
    """I + U V^T."""

    rank: int = 16

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"LowRank.rank must be at least 1, got {self.rank}")


class Lift:
    """The base of lifts."""


@dataclass(frozen=True)
class MlpLift(Lift):
    """By a network."""

    size: int = 5


ROOTS = (Mlp, Gated, Formula)
TRANSITIONS = (Dense, LowRank)
LIFTS = (MlpLift,)


@dataclass(frozen=True)
class PartsConfig(ModelConfig):
    """A model with parts of its own."""

    root: Annotated[Root, choice(lambda: ROOTS)] = field(default_factory=lambda: Mlp(width=7))
    transition: Annotated[Transition, choice(lambda: TRANSITIONS)] = field(default_factory=Dense)
    lift: Annotated[Lift, choice(lambda: LIFTS)] | None = None
    reads_before_writing = True

    def build(self, d_in, d_out, *, rngs):
        return tiny.model.build(d_in, d_out, rngs=rngs)


@dataclass(frozen=True)
class PileConfig(ModelConfig):
    """A model that holds models."""

    last: PartsConfig = field(default_factory=PartsConfig)
    reads_before_writing = True

    def build(self, d_in, d_out, *, rngs):
        return self.last.build(d_in, d_out, rngs=rngs)


experiment = replace(tiny, model=PartsConfig())
variants = {
    "pile": replace(tiny, model=PileConfig()),
    "own": replace(tiny, model=PartsConfig(root=MyOwn())),
}
