"""Learning-rate schedules: functions of the run's step.

A new schedule, here or in an experiment file, is one class with `build`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import optax


class Schedule(ABC):
    """A frozen dataclass whose fields are flags, and which builds an optax schedule."""

    ends: ClassVar[bool] = True
    """Whether the rate at the last step of the schedule is one to stay at."""

    @abstractmethod
    def build(self, peak: float, steps: int) -> optax.Schedule:
        """The learning rate at each step; `peak` is optim.learning_rate.

        `steps` is optim.decay_steps: a run that is continued to more steps keeps its schedule.
        """


def after_warmup(warmup: int, peak: float, after: optax.Schedule) -> optax.Schedule:
    """A schedule that begins after `warmup` steps of a linear rise from zero to the peak."""
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0, peak, warmup), after], [warmup])


@dataclass(frozen=True)
class Constant(Schedule):
    """The peak, after the warm-up."""

    ends = False
    warmup: int = 0
    """Steps of linear warm-up from zero; a run that is no longer only warms up."""

    def __post_init__(self):
        _check_warmup(self.warmup)

    def build(self, peak, steps):
        """The peak at every step after the warm-up."""
        return after_warmup(self.warmup, peak, optax.constant_schedule(peak))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from the peak down, after the warm-up (Loshchilov & Hutter 2017)."""

    warmup: int = 0
    """Steps of linear warm-up from zero; a run that is no longer only warms up."""
    final_fraction: float = 0.0
    """Where the cosine ends, as a fraction of the peak."""

    def __post_init__(self):
        _check_warmup(self.warmup)
        if self.final_fraction < 0:
            raise ValueError(
                f"optim.schedule.final_fraction must be at least 0, got {self.final_fraction}"
            )

    def build(self, peak, steps):
        """The cosine ends at step `steps`."""
        decay = optax.cosine_decay_schedule(peak, max(1, steps - self.warmup), self.final_fraction)
        return after_warmup(self.warmup, peak, decay)


def _check_warmup(warmup: int) -> None:
    if warmup < 0:
        raise ValueError(f"optim.schedule.warmup must be at least 0, got {warmup}")


SCHEDULES: tuple[type[Schedule], ...] = (Constant, Cosine)
"""The schedules of the package."""
