"""The configuration of optimisation, and the optax transformation that it builds."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from wsrnn.checks import check_fields
from wsrnn.choices import choice
from wsrnn.optim.groups import factors, parsed, selected
from wsrnn.optim.rules import RULES, Adam, Rule
from wsrnn.optim.schedules import SCHEDULES, Cosine, Schedule


@dataclass(frozen=True)
class OptimConfig:
    """Update rule, learning rates, clipping, accumulation and averaging.

    A step clips the gradient, transforms it by the `rule` and subtracts it times the learning rate
    of the step and the group's factor. The rate is a function of the run's step, which a skipped
    step advances too. Parameters are selected by patterns of their paths (see
    `wsrnn.optim.groups`).
    """

    rule: Annotated[Rule, choice(lambda: RULES)] = field(default_factory=Adam)
    """How the gradient becomes the direction of a step."""
    schedule: Annotated[Schedule, choice(lambda: SCHEDULES)] = field(default_factory=Cosine)
    """The learning rate as a function of the step."""
    learning_rate: float = 1e-3
    """The peak of the schedule."""
    rates: tuple[str, ...] = ()
    """Factors of the learning rate for groups of parameters, as PATTERN=FACTOR; the first match
    counts. "A=1/P" divides the rate of a dense P x P matrix A by P, so that a step of Adam moves
    its spectral norm by at most the rate and one rate serves root networks of every size."""
    freeze: tuple[str, ...] = ()
    """Patterns of the parameters that stay as they were initialised: no gradient is computed for
    them, they are not decayed and do not count in the norm of the gradient."""
    clip_norm: float | None = 1.0
    """Limit of the global norm of the gradient."""
    clip_value: float | None = None
    """Limit of each entry of the gradient; the paper's runs use 1e-7."""
    accumulate: int = 1
    """Micro-batches that each device splits its part of a batch into, to save memory: their
    gradients are added up before the step, which is the same but for rounding."""
    average: float | None = None
    """Decay of an exponential moving average of the parameters, such as 0.999: what validation,
    evaluation and `load` then use. Corrected for its start, as Adam's moments are."""

    def __post_init__(self):
        check_fields(self)
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"optim.learning_rate must be above 0, got {self.learning_rate}")
        for name in ("clip_norm", "clip_value"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"optim.{name} must be above 0 or None, got {value}")
        if self.accumulate < 1:
            raise ValueError(f"optim.accumulate must be at least 1, got {self.accumulate}")
        if self.average is not None and not 0 < self.average < 1:
            raise ValueError(f"optim.average must lie in (0, 1) or be None, got {self.average}")
        for rate in self.rates:
            parsed(rate)

    def rate(self, peak: float | None = None) -> optax.Schedule:
        """The learning rate at each step, for another peak if given."""
        return self.schedule.build(peak or self.learning_rate)

    def trained(self, params: Any) -> Any:
        """Whether each parameter is trained; ValueError for a pattern that matches none."""
        return jax.tree.map(
            lambda frozen: not frozen, selected(params, self.freeze, "optim.freeze")
        )

    def build(self, params: Any) -> optax.GradientTransformation:
        """Clip by value and by norm, apply the rule, then the factors; the step applies the rate.

        `params` are the parameters or their shapes, without padding. Raises ValueError for patterns
        that match none of them and for a rule whose output points uphill.
        """
        rule = self.rule.build()
        if not isinstance(rule, optax.GradientTransformation):
            raise ValueError(
                f"{type(self.rule).__name__}.build() must return an optax transformation, got "
                f"{rule!r}"
            )
        if type(self.rule) not in RULES:
            _check_sign(self.rule, rule, params)
        steps = [
            optax.clip(self.clip_value) if self.clip_value else optax.identity(),
            optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity(),
            rule,
        ]
        transformation = optax.chain(*steps)
        if self.freeze:
            transformation = optax.masked(transformation, self.trained(params))
        if self.rates:
            by = factors(params, self.rates)
            scaled = optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, by))
            transformation = optax.chain(transformation, scaled)
        return optax.with_extra_args_support(transformation)

    def check(self, params: Any) -> None:
        """ValueError for what does not fit the parameters, given by their shapes."""
        jax.eval_shape(self.build(params).init, params)


def _check_sign(rule: Rule, built: optax.GradientTransformation, params: Any) -> None:
    """ValueError for a transformation that negates, tried on parameters of one entry each.

    One that cannot run on those is not judged.
    """
    point = jax.tree.map(lambda leaf: jnp.zeros((1,) * len(leaf.shape)), params)
    slope = jax.tree.map(jnp.ones_like, point)
    total = jnp.zeros(())
    with suppress(Exception):
        update, _ = optax.with_extra_args_support(built).update(
            slope, built.init(point), point, value=jnp.ones(())
        )
        total = optax.tree.sum(update)
    if total < 0:
        raise ValueError(
            f"{type(rule).__name__}.build() negates the gradient, and so does the step: return "
            "optax.scale_by_..., or chain optax.scale(-1) after a complete optimiser"
        )
