"""Which prompts training draws: ever new ones, a finite set, or prompts that grow.

A new way, here or in an experiment file, is one class. Validation and test draw ever new prompts.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from wsrnn.checks import check_fields, check_positive
from wsrnn.choices import choice


class TrainingSet:
    """Base of these classes; arrays are of numpy or jax.numpy, which is `xp`."""

    def stands_at(self, i: Any) -> Any:
        """Which drawn prompt stands at position i."""
        return i

    def reached(self, index: Any, d: int, points: int, xp: Any) -> tuple[Any, Any]:
        """How many of d coordinates and of the points the prompts at `index` [N] have."""
        return xp.full(index.shape, d), xp.full(index.shape, points)


@dataclass(frozen=True)
class Fresh(TrainingSet):
    """Ever new prompts."""


@dataclass(frozen=True)
class Finite(TrainingSet):
    """So many prompts, again and again."""

    prompts: int = 5000
    """How many."""

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "prompts")

    def stands_at(self, i):
        """They begin again."""
        return i % self.prompts


@dataclass(frozen=True)
class Growth:
    """A size that begins small."""

    start: int = 1
    """The size at first."""
    step: int = 1
    """What is added each time."""

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "start", "step")

    def at(self, stage: Any, full: int, xp: Any) -> Any:
        """The size after so many additions, at most the full one."""
        return xp.minimum(self.start + self.step * stage, full)


@dataclass(frozen=True)
class Curriculum(TrainingSet):
    """Prompts that grow with the examples drawn so far, as in Garg et al. (2022).

    What is beyond is masked, so that shapes and the compiled step stay as they are.
    """

    every: int = 128_000
    """Training examples between two additions."""
    dimensions: Annotated[Growth, choice(lambda: (Growth,))] | None = field(
        default_factory=lambda: Growth(5, 1)
    )
    """Coordinates of x, of which the others are 0; None begins with all."""
    points: Annotated[Growth, choice(lambda: (Growth,))] | None = field(
        default_factory=lambda: Growth(11, 2)
    )
    """Points of a prompt, the query included; None begins with all."""

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "every")

    def reached(self, index, d, points, xp):
        """By the number of additions so far."""
        stage, full = index // self.every, super().reached(index, d, points, xp)
        return (
            self.dimensions.at(stage, d, xp) if self.dimensions else full[0],
            self.points.at(stage, points, xp) if self.points else full[1],
        )


TRAINING_SETS: tuple[type[TrainingSet], ...] = (Fresh, Finite, Curriculum)
