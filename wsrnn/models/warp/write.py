"""B in a model: its forms and their initialisation; `recurrence.write` applies it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.recurrence import Injection, Projection, Write
from wsrnn.root import Network


class WriteForm(ABC):
    """A form of B."""

    @abstractmethod
    def init(self, network: Network, channels: int, rngs: nnx.Rngs) -> Array | None:
        """Its parameters, None if it has none."""

    @abstractmethod
    def operator(self, B: Any, network: Network) -> Write:
        """B for the recurrence; `B` are the parameters."""

    @abstractmethod
    def operations(self, network: Network, channels: int) -> int:
        """Floating-point operations of one B u."""


@dataclass(frozen=True)
class Matrix(WriteForm):
    """A learned matrix, the paper's."""

    scale: float = 0.0
    """Standard deviation at the start, times 1 / sqrt(channels). The paper's 0 gives a lift no
    gradient at first."""

    def __post_init__(self):
        if not self.scale >= 0:
            raise ValueError(f"Matrix.scale must be at least 0, got {self.scale}")

    def init(self, network, channels, rngs):
        """Normal numbers; the rows of weights that tokens do not write are left out."""
        drawn = jax.random.normal(rngs.params(), (network.written, channels))
        return self.scale * channels**-0.5 * drawn

    def operator(self, B: Float[Array, "W C"], network):
        """With rows of zeros where tokens write nothing."""
        return Projection(jnp.pad(B, ((0, network.size - network.written), (0, 0))))

    def operations(self, network, channels):
        """A multiply-add for each entry."""
        return 2 * network.written * channels


@dataclass(frozen=True)
class Direct(WriteForm):
    """B = I: a lifted token's channels are added to the first weights, one to one."""

    def init(self, network, channels, rngs):
        """Nothing."""
        return None

    def operator(self, B, network):
        """Additions alone."""
        return Injection(network.size)

    def operations(self, network, channels):
        """An addition for each channel."""
        return channels


WRITES: tuple[type[WriteForm], ...] = (Matrix, Direct)
