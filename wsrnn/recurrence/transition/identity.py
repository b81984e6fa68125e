"""A = I."""

from dataclasses import dataclass

import jax.numpy as jnp

from wsrnn.recurrence.transition.base import PRECISION, LinearMap, Transition


@dataclass(frozen=True)
class Identity(Transition):
    """A = I: the state is theta_0 plus the sum of all drives. No parameters."""

    squaring = "cheap"

    def init(self, key, blocks):
        """Nothing."""
        return {}

    def apply(self, A, theta):
        """Theta, unchanged."""
        return theta

    def transpose(self, A):
        """I."""
        return LinearMap(self, A)

    def square(self, A):
        """I."""
        return LinearMap(self, A)

    def parallel_scan(self, A, drive):
        """Running sums."""
        return jnp.cumsum(drive, 0)

    def factored(self, A, X, x):
        """The running sums of the channels."""
        return X, jnp.cumsum(x, 0)

    def factored_at(self, A, X, x, at):
        """One sum of each channel: running ones take log T passes."""
        until = (jnp.arange(len(x))[:, None] <= at[None]).astype(x.dtype)
        return X, jnp.einsum("tnc,tn->nc", x, until, precision=PRECISION)

    def spectral_radius(self, A, size):
        """One."""
        return jnp.ones(())

    def distance_to_identity(self, A, size):
        """Zero."""
        return jnp.zeros(())
