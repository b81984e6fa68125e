"""A decay for each weight."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from wsrnn.checks import check_fields
from wsrnn.recurrence.transition.base import Learned, LinearMap, check_radius, time_scales


@dataclass(frozen=True)
class Diagonal(Learned):
    """One real decay for each weight: P parameters, P operations a step."""

    start: Literal["identity", "decay"] = "identity"
    """identity: all equal. decay: time scales from 2 to 1,000 steps."""
    radius: float = 1.0
    """Spectral radius at the start."""

    squaring = "cheap"

    def __post_init__(self):
        check_fields(self)
        check_radius(self)

    def init(self, key, blocks):
        """{decays [P]}."""
        size = sum(blocks)
        decay = self.start == "decay"
        return {"decays": time_scales(size, self.radius) if decay else jnp.full(size, self.radius)}

    def apply(self, A, theta):
        """Elementwise."""
        return theta * jnp.broadcast_to(A["decays"], theta.shape)

    def transpose(self, A):
        """A is symmetric."""
        return LinearMap(self, A)

    def square(self, A):
        """The decays squared."""
        return LinearMap(self, {"decays": A["decays"] ** 2})

    def dense(self, A, size):
        """The diagonal matrix."""
        return jnp.diag(A["decays"])

    def operations(self, A, size):
        """One multiplication for each weight."""
        return size

    def spectral_radius(self, A, size):
        """The largest modulus on the diagonal."""
        return jnp.abs(A["decays"]).max()

    def distance_to_identity(self, A, size):
        """Of the diagonal."""
        return jnp.linalg.norm(A["decays"] - 1)

    def contracted(self, A, size):
        """Clipped."""
        return {"decays": jnp.clip(A["decays"], -1, 1)}
