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

    With `repeats` the layers W_1, ..., W_depth are gone through so many times, each time with gains
    of its own: the layers of a looped transformer (Giannou et al. 2023), whose weights are theta.

    theta = (W_1, ..., W_K, E, e, V, v, g), of which tokens write the W alone; if A is the identity
    what stands around them is learned once for all prompts. |W| is Frobenius' norm, so that sums
    over many examples or large inputs turn a layer and do not blow it up: weight normalisation
    (Salimans & Kingma 2016) of weights that a recurrence adds up, in residual layers (He et al.
    2016). With the activation identity all W_k that hold the same sums of x x^T and y x^T make it
    `Descent`; here each layer learns what it takes from the sums.
    """

    d_in: int
    width: int
    depth: int
    d_out: int
    activation: Activation = "relu"
    repeats: int = 1

    def __post_init__(self):
        sizes = self.d_in, self.width, self.depth, self.d_out, self.repeats
        if min(sizes) < 1:
            raise ValueError(
                "a residual root network needs d_in, width, depth, d_out and repeats of at least "
                f"1, got {', '.join(map(str, sizes))}"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {self.activation!r} is unknown: use one of {', '.join(ACTIVATIONS)}"
            )

    @property
    def blocks(self):
        """Layers, embedding, read-out, gains."""
        H = self.width
        return (*[H * H] * self.depth, H * (self.d_in + 1), self.d_out * (H + 1), self.gains)

    @property
    def gains(self) -> int:
        """One for each layer that is gone through."""
        return self.depth * self.repeats

    @property
    def written(self):
        """The layers."""
        return self.depth * self.width**2

    @property
    def operations(self):
        """A multiply-add for each weight that is gone through, and one for its part of the norm."""
        return 2 * (self.size + self.written * self.repeats)

    def init(self, key, start="uniform"):
        """Layers and read-out are normal, the embedding too, which keeps the scale.

        Gains are 1 / sqrt(repeats), for repeated layers add up.
        """
        keys = jax.random.split(key, 3)
        H, d, O = self.width, self.d_in, self.d_out  # noqa: E741
        layers = jax.random.normal(keys[0], (self.written,)) * H**-0.5
        E = jax.random.normal(keys[1], (H * d,)) * d**-0.5
        V = jax.random.normal(keys[2], (O * H,)) * H**-0.5
        gains = jnp.full(self.gains, self.repeats**-0.5)
        return jnp.concatenate([layers, E, jnp.zeros(H), V, jnp.zeros(O), gains])

    def apply(self, theta, z):
        """Layer by layer; rows of theta beyond the first P are ignored."""
        H, d, O = self.width, self.d_in, self.d_out  # noqa: E741
        *M, _, N = theta.shape
        ends = np.cumsum([self.written, H * d, H, O * H, O])
        W, E, e, V, v, gains = jnp.split(theta[..., : self.size, :], ends, -2)
        h = contract(E.reshape(*M, H, d, N), z, -2) + e
        W = W.reshape(*M, self.depth, H, H, N)
        scales = jax.lax.rsqrt((W**2).sum((-2, -3)) + 1e-12)
        for i in range(self.gains):
            k = i % self.depth
            gain = gains[..., i : i + 1, :] * scales[..., k : k + 1, :]
            h += gain * contract(W[..., k, :, :, :], ACTIVATIONS[self.activation](h), -2)
        return contract(V.reshape(*M, O, H, N), h, -2) + v
