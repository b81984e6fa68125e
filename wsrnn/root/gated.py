"""An MLP with gated weights."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.root.mlp import Mlp


@dataclass(frozen=True)
class Gated(Mlp):
    """An MLP whose weights are v sigmoid(g): theta = (v, g), twice as many.

    Weights that are not linear in the state: even a linear recurrence over raw tokens then gives
    products of them, one more degree for each layer.
    """

    def blocks(self, d_in, d_out):
        """Of the values, then of the gates."""
        return super().blocks(d_in, d_out) * 2

    def operations(self, d_in, d_out):
        """Those of the MLP, and a product for each of its weights."""
        return 3 * sum(super().blocks(d_in, d_out))

    def init(self, key, d_in, d_out):
        """Values twice those of the MLP and gates of 0, which halve them."""
        values = super().init(key, d_in, d_out)
        return jnp.concatenate([2 * values, jnp.zeros_like(values)])

    def apply(self, theta, z, d_out):
        """The MLP of the gated weights."""
        return super().apply(self._weights(theta, z.shape[-2], d_out), z, d_out)

    def _weights(
        self, theta: Float[Array, "*M L N"], d_in: int, d_out: int
    ) -> Float[Array, "*M P N"]:
        half = sum(super().blocks(d_in, d_out))
        return theta[..., :half, :] * jax.nn.sigmoid(theta[..., half : 2 * half, :])
