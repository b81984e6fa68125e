"""What happens to the root network's outputs: a final activation, a scale."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


@dataclass(frozen=True)
class HeadConfig:
    """The final activation of the mean, and the uncertainty head."""

    final: Literal["none", "tanh", "clip", "dynamic_tanh"] = "none"
    """Of the mean. dynamic_tanh is alpha tanh((y - b) / a) + beta with four learned numbers."""
    bound: float = 1.0
    """clip limits the mean to +-bound."""
    uncertain: bool = False
    """Also predict a scale, max(softplus(s), floor), for the loss nll."""
    floor: float = 1e-4
    """The least scale."""

    def __post_init__(self):
        if self.bound <= 0 or self.floor <= 0:
            raise ValueError(
                f"head.bound and head.floor must be above 0, got {self.bound} and {self.floor}"
            )


class Head(nnx.Module):
    """Mean and, if uncertain, scale, from the root's outputs."""

    def __init__(self, config: HeadConfig):
        self.config = config
        learned = config.final == "dynamic_tanh"
        self.tanh = nnx.Param(jnp.array([1.0, 0.0, 1.0, 0.0])) if learned else None

    def __call__(self, y: Float[Array, "*N raw"]) -> Float[Array, "*N raw"]:
        """[..., O] to [..., O], or [..., 2 O] to the means and then the scales."""
        mean, raw = jnp.split(y, 2, -1) if self.config.uncertain else (y, None)
        match self.config.final:
            case "tanh":
                mean = jnp.tanh(mean)
            case "clip":
                mean = jnp.clip(mean, -self.config.bound, self.config.bound)
            case "dynamic_tanh":
                a, b, alpha, beta = self.tanh[...]
                mean = alpha * jnp.tanh((mean - b) / a) + beta
        if raw is None:
            return mean
        return jnp.concatenate([mean, jnp.maximum(jax.nn.softplus(raw), self.config.floor)], -1)
