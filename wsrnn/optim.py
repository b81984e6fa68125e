"""The optimiser, from optax."""

from dataclasses import dataclass
from typing import Literal

import optax


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedule and clipping."""

    name: Literal["adam", "adamw", "adabelief", "sgd"] = "adam"
    """adabelief is the paper's; sgd is plain gradient descent."""
    learning_rate: float = 1e-3
    """Its peak."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """After the warm-up: constant, or a half cosine down to `final_fraction` of the peak."""
    warmup: int = 0
    """Steps of linear warm-up from zero; a run that is no longer only warms up."""
    decay_steps: int | None = None
    """When the schedule ends, in steps; None is the steps the run was first started with."""
    final_fraction: float = 0.0
    """Where the cosine ends, as a part of the peak."""
    weight_decay: float = 0.0
    """Decoupled, for adamw."""
    clip_norm: float | None = 1.0
    """Limit of the global norm of the gradient."""
    clip_value: float | None = None
    """Limit of each entry of the gradient; the paper's runs use 1e-7."""

    def __post_init__(self):
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"optim.learning_rate must be above 0, got {self.learning_rate}")
        if self.warmup < 0 or self.weight_decay < 0 or self.final_fraction < 0:
            raise ValueError("optim.warmup, weight_decay and final_fraction must be at least 0")
        for name in ("clip_norm", "clip_value", "decay_steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"optim.{name} must be above 0 or None, got {value}")
        if self.weight_decay and self.name != "adamw":
            raise ValueError(f"optim.weight_decay needs optim.name adamw, not {self.name}")

    def rate(self) -> optax.Schedule:
        """The learning rate as a function of the step; needs `decay_steps` resolved to a number."""
        if self.schedule == "constant":
            after = optax.constant_schedule(self.learning_rate)
        else:
            after = optax.cosine_decay_schedule(
                self.learning_rate, max(1, self.decay_steps - self.warmup), self.final_fraction
            )
        if not self.warmup:
            return after
        warm = optax.linear_schedule(0, self.learning_rate, self.warmup)
        return optax.join_schedules([warm, after], [self.warmup])

    def build(self) -> optax.GradientTransformation:
        """Clip by value, by norm, precondition, decay weights; the step applies the rate.

        The rate stays outside, so that the schedule is a function of the run's step, which a
        skipped step advances too, and not of the optimiser's own count.
        """
        rules = {"adabelief": optax.scale_by_belief, "sgd": optax.identity}
        return optax.chain(
            optax.clip(self.clip_value) if self.clip_value else optax.identity(),
            optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity(),
            rules.get(self.name, optax.scale_by_adam)(),
            optax.add_decayed_weights(self.weight_decay) if self.weight_decay else optax.identity(),
        )
