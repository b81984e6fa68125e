"""A = a I."""

from dataclasses import dataclass

import jax.numpy as jnp

from wsrnn.recurrence.transition.base import Learned, LinearMap, check_radius


@dataclass(frozen=True)
class Scalar(Learned):
    """A = a I: one decay for all weights, a learned rate of forgetting."""

    radius: float = 1.0
    """a at the start."""

    squaring = "cheap"

    def __post_init__(self):
        check_radius(self)

    def init(self, key, blocks):
        """{decay []}."""
        return {"decay": jnp.asarray(self.radius, float)}

    def apply(self, A, theta):
        """Elementwise."""
        return A["decay"] * theta

    def transpose(self, A):
        """A is symmetric."""
        return LinearMap(self, A)

    def square(self, A):
        """The decay squared."""
        return LinearMap(self, {"decay": A["decay"] ** 2})

    def factored(self, A, X, x):
        """Each channel decays by itself."""
        return X, LinearMap(self, A).parallel_scan(x)

    def operations(self, A, size):
        """One multiplication for each weight."""
        return size

    def spectral_radius(self, A, size):
        """|a|."""
        return jnp.abs(A["decay"])

    def distance_to_identity(self, A, size):
        """P equal entries."""
        return size**0.5 * jnp.abs(A["decay"] - 1)

    def contracted(self, A, size):
        """Clipped."""
        return {"decay": jnp.clip(A["decay"], -1, 1)}
