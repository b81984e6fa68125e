"""Learning-rate schedules: functions of the run's step.

A new schedule, here or in an experiment file, is one class with `build`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import optax

from wsrnn.checks import check_fields


class Schedule(ABC):
    """A frozen dataclass whose fields are flags, and which builds an optax schedule."""

    steps: int | None = None  # when it ends; None of one without an end

    def sized(self, steps: int) -> "Schedule":
        """The schedule of a run that was first started with so many steps."""
        return self

    @abstractmethod
    def build(self, peak: float) -> optax.Schedule:
        """The learning rate at each step; `peak` is optim.learning_rate."""


@dataclass(frozen=True, kw_only=True)
class Ending(Schedule):
    """The base of schedules that end: a run that is continued to more steps keeps its schedule."""

    steps: int | None = None
    """When the schedule ends, in steps; None is the steps the run was first started with."""

    def __post_init__(self):
        check_fields(self)
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"optim.schedule.steps must be at least 1 or None, got {self.steps}")

    def sized(self, steps):
        """Ends with the run where that is open."""
        return replace(self, steps=self.steps or steps)


def after_warmup(warmup: int, peak: float, after: optax.Schedule) -> optax.Schedule:
    """A schedule that begins after `warmup` steps of a linear rise from zero to the peak."""
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0, peak, warmup), after], [warmup])


@dataclass(frozen=True)
class Constant(Schedule):
    """The peak, after the warm-up."""

    warmup: int = 0
    """Steps of linear warm-up from zero; a run that is no longer only warms up."""

    def __post_init__(self):
        _check_warmup(self.warmup)

    def build(self, peak):
        """The peak at every step after the warm-up."""
        return after_warmup(self.warmup, peak, optax.constant_schedule(peak))


@dataclass(frozen=True)
class Cosine(Ending):
    """Half a cosine from the peak down, after the warm-up (Loshchilov & Hutter 2017)."""

    warmup: int = 0
    """Steps of linear warm-up from zero; a run that is no longer only warms up."""
    final_fraction: float = 0.0
    """Where the cosine ends, as a fraction of the peak."""

    def __post_init__(self):
        super().__post_init__()
        _check_warmup(self.warmup)
        if self.final_fraction < 0:
            raise ValueError(
                f"optim.schedule.final_fraction must be at least 0, got {self.final_fraction}"
            )

    def build(self, peak):
        """The cosine ends at step `steps`, which must be set."""
        assert self.steps is not None  # as `Experiment.resolve` has set it
        falling = max(1, self.steps - self.warmup)
        decay = optax.cosine_decay_schedule(peak, falling, self.final_fraction)
        return after_warmup(self.warmup, peak, decay)


def _check_warmup(warmup: int) -> None:
    if warmup < 0:
        raise ValueError(f"optim.schedule.warmup must be at least 0, got {warmup}")


SCHEDULES: tuple[type[Schedule], ...] = (Constant, Cosine)
"""The schedules of the package."""
