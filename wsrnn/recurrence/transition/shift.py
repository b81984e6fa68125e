"""A delay line."""

from dataclasses import dataclass

import jax.numpy as jnp

from wsrnn.recurrence.transition.base import LinearMap, Transition


@dataclass(frozen=True)
class Shift(Transition):
    """A delay line: every step moves the weights on, and zeros follow. No parameters.

    What B writes is forgotten once it has been shifted out, after P / |by| steps.
    """

    by: int = 1
    """Places that the weights move in a step; negative moves them towards the first."""

    squaring = "cheap"

    def init(self, key, blocks):
        """Nothing."""
        return {}

    def apply(self, A, theta):
        """Theta, moved and filled up with zeros."""
        size = theta.shape[-1]
        by = max(-size, min(self.by, size))
        moved = theta[..., : size - by] if by >= 0 else theta[..., -by:]
        return jnp.pad(moved, [(0, 0)] * (theta.ndim - 1) + [(max(by, 0), max(-by, 0))])

    def transpose(self, A):
        """The other way."""
        return LinearMap(Shift(-self.by), A)

    def square(self, A):
        """Twice as far."""
        return LinearMap(Shift(2 * self.by), A)

    def dense(self, A, size):
        """Ones on one diagonal."""
        return jnp.eye(size, k=-self.by)

    def spectral_radius(self, A, size):
        """Zero: some power of A is."""
        return jnp.zeros(())

    def distance_to_identity(self, A, size):
        """Ones on two diagonals."""
        return jnp.sqrt(jnp.asarray(size + max(size - abs(self.by), 0), float))
