"""The output layer of a model: a final activation, a predicted scale."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.choices import choice


class Final(ABC):
    """A final activation of the mean."""

    def init(self) -> Float[Array, " k"] | None:
        """Its learned parameters, None if it has none."""
        return None

    @abstractmethod
    def apply(
        self, parameters: Float[Array, " k"] | None, mean: Float[Array, "*N O"]
    ) -> Float[Array, "*N O"]:
        """The activation."""


@dataclass(frozen=True)
class Tanh(Final):
    """tanh, within +-1."""

    def apply(self, parameters, mean):
        """Elementwise."""
        return jnp.tanh(mean)


@dataclass(frozen=True)
class Clip(Final):
    """Clipped; without a gradient outside."""

    bound: float = 1.0
    """The largest modulus."""

    def __post_init__(self):
        if not self.bound > 0:
            raise ValueError(f"Clip.bound must be above 0, got {self.bound}")

    def apply(self, parameters, mean):
        """Elementwise."""
        return jnp.clip(mean, -self.bound, self.bound)


@dataclass(frozen=True)
class DynamicTanh(Final):
    """alpha tanh((y - b) / a) + beta with four learned parameters (the paper's)."""

    def init(self):
        """a, b, alpha, beta: tanh at first."""
        return jnp.array([1.0, 0.0, 1.0, 0.0])

    def apply(self, parameters, mean):
        """Elementwise."""
        a, b, alpha, beta = parameters
        return alpha * jnp.tanh((mean - b) / a) + beta


FINALS: tuple[type[Final], ...] = (Tanh, Clip, DynamicTanh)


@dataclass(frozen=True)
class Scale:
    """A predicted scale beside each mean, max(softplus(s), floor), for the loss nll."""

    floor: float = 1e-4
    """The least scale."""

    def __post_init__(self):
        if not self.floor > 0:
            raise ValueError(f"Scale.floor must be above 0, got {self.floor}")


@dataclass(frozen=True)
class Head:
    """The final activation of the mean, and whether a scale is predicted beside it."""

    final: Annotated[Final, choice(lambda: FINALS)] | None = None
    """None leaves the mean as it is."""
    scale: Annotated[Scale, choice(lambda: (Scale,))] | None = None
    """None predicts the mean alone."""

    def outputs(self, d_out: int) -> int:
        """How many numbers it takes to predict d_out."""
        return d_out * (1 + (self.scale is not None))

    def build(self) -> "HeadLayer":
        """The head as a module."""
        return HeadLayer(self)


class HeadLayer(nnx.Module):
    """Mean and, with a scale, the scale, from raw outputs."""

    def __init__(self, config: Head):
        self.config = config
        parameters = config.final.init() if config.final else None
        self.parameters = None if parameters is None else nnx.Param(parameters)

    def __call__(self, y: Float[Array, "*N raw"]) -> Float[Array, "*N raw"]:
        """[..., O] to [..., O], or [..., 2 O] to the means and then the scales."""
        final, scale = self.config.final, self.config.scale
        mean, *raw = jnp.split(y, 2, -1) if scale else [y]
        if final:
            parameters = None if self.parameters is None else self.parameters[...]
            mean = final.apply(parameters, mean)
        if scale is None:
            return mean
        return jnp.concatenate([mean, jnp.maximum(jax.nn.softplus(raw[0]), scale.floor)], -1)
