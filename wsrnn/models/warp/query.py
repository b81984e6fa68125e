"""z_t, the input of the root network: time, positional encoding, current input."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from wsrnn.checks import check_positive
from wsrnn.choices import choice
from wsrnn.recurrence import PRECISION
from wsrnn.root import Network


class Encoding(ABC):
    """A code of the step's number, beside or in place of the time."""

    count: int  # its channels

    @abstractmethod
    def __call__(self, step: Int[Array, "*T"]) -> Float[Array, "*T count"]:
        """The code of each step."""


@dataclass(frozen=True)
class Waves(Encoding):
    """Sines and cosines of the step's number: a positional encoding."""

    count: int = 32
    """How many, an even number."""
    base: float = 100.0
    """Wavelengths run from 2 pi steps to almost 2 pi times this."""

    def __post_init__(self):
        if self.count < 2 or self.count % 2 or not self.base > 0:
            raise ValueError(
                f"Waves.count must be an even number of at least 2 and base above 0, got "
                f"{self.count} and {self.base}"
            )

    def __call__(self, step: Int[Array, "*T"]) -> Float[Array, "*T count"]:
        """sin and cos of step / base^(2 i / count), in turns."""
        frequencies = 1 / self.base ** (jnp.arange(0.0, self.count, 2) / self.count)
        angles = jnp.multiply.outer(step.astype(frequencies.dtype), frequencies)
        waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1)
        return waves.reshape(*angles.shape[:-1], -1)


@dataclass(frozen=True)
class Raster(Encoding):
    """Cosines of the row and of the column of the pixel that step t predicts, t + 1 of an image.

    cos(pi k (i + 1/2) / side) for k = 1..count, of rows i and then of columns: the lowest modes of
    a discrete cosine transform.
    """

    side: int = 28
    """Pixels in a row, and rows."""
    modes: int = 28
    """Cosines of each."""

    def __post_init__(self):
        check_positive(self, "side", "modes")

    @property
    def count(self) -> int:  # type: ignore[override]  # of its own fields
        """Channels: rows and columns."""
        return 2 * self.modes

    def __call__(self, step: Int[Array, "*T"]) -> Float[Array, "*T count"]:
        """Of rows, then of columns."""
        k = jnp.arange(1.0, self.modes + 1)
        places = [(step + 1) // self.side, (step + 1) % self.side]
        return jnp.concatenate(
            [jnp.cos(jnp.pi / self.side * jnp.multiply.outer(place + 0.5, k)) for place in places],
            -1,
        )


@dataclass(frozen=True)
class Query:
    """z_t, the input of the root network: any of time, positional encoding and current input."""

    time: bool = True
    """tau_t, the paper's."""
    waves: Annotated[Encoding, choice(lambda: (Waves, Raster))] | None = None
    """A positional encoding of the step."""
    inputs: bool = False
    """The current input x_t (its query part in the layout read_before_write)."""

    points: int | None = None
    """Evaluate the root at so many learned values of tau in place of the time, for every step that
    is read, and add up what it answers, each answer times a learned matrix."""

    def __post_init__(self):
        if not (self.time or self.waves or self.inputs):
            raise ValueError("the root network has no input: set query.time, waves or inputs")
        if self.points is not None and (self.points < 1 or not self.time):
            raise ValueError(
                f"query.points are at least 1 value of the time, got {self.points} and time "
                f"{self.time}: set query.time True, or points None"
            )

    @property
    def inputs_alone(self) -> bool:
        """Whether z_t is x_t and nothing else."""
        return self.inputs and not self.time and not self.waves

    def size(self, d: int) -> int:
        """Channels of z, for inputs of d channels."""
        return self.time + (self.waves.count if self.waves else 0) + d * self.inputs

    def __call__(
        self, x: Float[Array, "*N D"], time: Float[Array, "*N"], step: Int[Array, "..."]
    ) -> Float[Array, "*N d_in"]:
        """z at each step: time, waves, inputs."""
        parts = [time[..., None]] if self.time else []
        if self.waves:
            waves = self.waves(step).astype(x.dtype)
            parts.append(jnp.broadcast_to(waves, (*x.shape[:-1], self.waves.count)))
        if self.inputs:
            parts.append(x)
        return jnp.concatenate(parts, -1)


class Points(nnx.Module):
    """Learned values of tau, and the matrices that combine what the root answers at them.

    At the start the values are even on [0, 1] and the answers are averaged.
    """

    def __init__(self, count: int, outputs: int):
        self.tau = nnx.Param(jnp.linspace(0.0, 1.0, count))
        self.mix = nnx.Param(jnp.tile(jnp.eye(outputs) / count, (count, 1)))

    def times(self, time: Float[Array, "*N"]) -> Float[Array, "*N K"]:
        """The same values everywhere."""
        return jnp.broadcast_to(self.tau[...].astype(time.dtype), (*time.shape, self.tau.size))

    def __call__(self, answers: Float[Array, "*N KO"]) -> Float[Array, "*N O"]:
        """Their combination."""
        return jnp.matmul(answers, self.mix[...], precision=PRECISION)


@dataclass(frozen=True)
class AtPoints:
    """A readout that evaluates one network at several inputs, side by side in z."""

    network: Network
    count: int

    def apply(
        self, theta: Float[Array, "*M L N"], z: Float[Array, "*M Kd N"]
    ) -> Float[Array, "*M KO N"]:
        """The answers, one below the other."""
        each = jnp.split(z, self.count, -2)
        return jnp.concatenate([self.network.apply(theta, part) for part in each], -2)
