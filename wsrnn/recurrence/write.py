"""B: how the drive is added to the state."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.transition import PRECISION


class Write(ABC):
    """B as a pytree."""

    @abstractmethod
    def apply(self, u: Float[Array, "*N D"]) -> Float[Array, "*N P"]:
        """B u, for every leading axis."""

    @abstractmethod
    def matrix(self, channels: int, like: Any) -> Float[Array, "P D"]:
        """B as a matrix with the dtype of `like`."""

    @abstractmethod
    def multiplied(self, channels: int) -> int:
        """How many of the drive's channels a matrix multiplies."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Projection(Write):
    """A matrix."""

    B: Any  # [P, D]

    def apply(self, u):
        """2 P D operations each."""
        return jnp.matmul(u, self.B.T, precision=PRECISION)

    def matrix(self, channels, like):
        """Itself."""
        return self.B

    def multiplied(self, channels):
        """All."""
        return channels


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Injection(Write):
    """The first columns of the identity: channels are added to the first weights, one to one."""

    size: int = field(metadata={"static": True})
    """P."""

    def apply(self, u):
        """U, and zeros after it."""
        return jnp.pad(u, [(0, 0)] * (u.ndim - 1) + [(0, self.size - u.shape[-1])])

    def matrix(self, channels, like):
        """Ones on the diagonal."""
        return jnp.eye(self.size, channels, dtype=like.dtype)

    def multiplied(self, channels):
        """None."""
        return 0
