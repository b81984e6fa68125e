"""A root without inputs: its weights are its outputs."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from wsrnn.root.base import Root


@dataclass(frozen=True)
class Constant(Root):
    """y = theta: numbers that do not read z, such as the coefficients of a `Formula`."""

    start: float = 0.1
    """Standard deviation of theta_0's learned numbers at first."""

    def __post_init__(self):
        if not self.start >= 0:
            raise ValueError(f"Constant.start must be at least 0, got {self.start}")

    def blocks(self, d_in, d_out):
        """One."""
        return (d_out,)

    def init(self, key, d_in, d_out):
        """Normal numbers."""
        return self.start * jax.random.normal(key, (d_out,))

    def apply(self, theta, z, d_out):
        """The first d_out of theta, at every z."""
        y = theta[..., :d_out, :]
        return jnp.broadcast_to(y, (*y.shape[:-1], z.shape[-1]))
