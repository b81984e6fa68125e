"""A residual root network, whose layers count by their direction and not by their size."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from wsrnn.root.base import Network, contract
from wsrnn.root.mlp import ACTIVATIONS, Activation


@dataclass(frozen=True)
class Residual(Network):
    """h_0 = E z + e, h_k = h_{k-1} + g_k W_k act(h_{k-1}) / |W_k|, y = V h_K + v.

    theta = (W_1, ..., W_K, E, e, V, v, g), of which tokens write the W alone; what stands around
    them is learned once for all prompts. |W| is Frobenius' norm, so that sums over many examples or
    large inputs turn a layer and do not blow it up: weight normalisation (Salimans & Kingma 2016)
    of weights that a recurrence adds up, in residual layers (He et al. 2016). With the activation
    identity all W_k that hold the same sums of x x^T and y x^T make it `Descent`; here each layer
    learns what it takes from the sums.
    """

    d_in: int
    width: int
    depth: int
    d_out: int
    activation: Activation = "relu"

    def __post_init__(self):
        if min(self.d_in, self.width, self.depth, self.d_out) < 1:
            raise ValueError(
                f"a residual root network needs d_in, width, depth and d_out of at least 1, got "
                f"{self.d_in}, {self.width}, {self.depth} and {self.d_out}"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {self.activation!r} is unknown: use one of {', '.join(ACTIVATIONS)}"
            )

    @property
    def blocks(self):
        """Layers, embedding, read-out, gains."""
        H = self.width
        return (*[H * H] * self.depth, H * (self.d_in + 1), self.d_out * (H + 1), self.depth)

    @property
    def written(self):
        """The layers."""
        return self.depth * self.width**2

    @property
    def operations(self):
        """A multiply-add for each weight, and one for its part of the norm."""
        return 4 * self.size

    def init(self, key, start="uniform"):
        """Layers and read-out are normal, the embedding too, which keeps the scale; gains are 1."""
        keys = jax.random.split(key, 3)
        H, d, O = self.width, self.d_in, self.d_out  # noqa: E741
        layers = jax.random.normal(keys[0], (self.written,)) * H**-0.5
        E = jax.random.normal(keys[1], (H * d,)) * d**-0.5
        V = jax.random.normal(keys[2], (O * H,)) * H**-0.5
        return jnp.concatenate([layers, E, jnp.zeros(H), V, jnp.zeros(O), jnp.ones(self.depth)])

    def apply(self, theta, z):
        """Layer by layer; rows of theta beyond the first P are ignored."""
        H, d, O = self.width, self.d_in, self.d_out  # noqa: E741
        *M, _, N = theta.shape
        ends = np.cumsum([self.written, H * d, H, O * H, O])
        W, E, e, V, v, gains = jnp.split(theta[..., : self.size, :], ends, -2)
        h = contract(E.reshape(*M, H, d, N), z, -2) + e
        W = W.reshape(*M, self.depth, H, H, N)
        gains = gains * jax.lax.rsqrt((W**2).sum((-2, -3)) + 1e-12)
        for k in range(self.depth):
            a = ACTIVATIONS[self.activation](h)
            h += gains[..., k : k + 1, :] * contract(W[..., k, :, :, :], a, -2)
        return contract(V.reshape(*M, O, H, N), h, -2) + v
