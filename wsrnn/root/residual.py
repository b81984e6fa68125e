"""A residual root network with weight-normalised layers."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from wsrnn.literals import check_literals
from wsrnn.root.activations import ACTIVATIONS, Activation
from wsrnn.root.base import Root, check_positive, contraction


@dataclass(frozen=True)
class Residual(Root):
    """h_0 = E z + e, h_k = h_{k-1} + g_k W_k act(h_{k-1}) / |W_k|, y = V h_K + v.

    With `repeats` the layers W_1, ..., W_depth are applied that often, each time with gains of
    their own: a looped transformer (Giannou et al. 2023) whose weights are theta.

    theta = (W_1, ..., W_K, E, e, V, v, g), of which tokens write the W alone; if A is the identity
    the others are learned and the same for all prompts. |W| is the Frobenius norm, so that sums
    over many examples or large inputs turn a layer and do not blow it up: weight normalisation
    (Salimans & Kingma 2016) of weights that a recurrence adds up, in residual layers (He et al.
    2016). With the activation identity all W_k that hold the same sums of x x^T and y x^T make it
    `Descent`; here each layer learns what it takes from the sums.
    """

    width: int = 24
    """H, the units of each layer."""
    depth: int = 1
    """Layers with weights of their own."""
    activation: Activation = "identity"
    """Before each layer."""
    repeats: int = 1
    """How often the layers are applied (weight tying), each time with gains of their own."""

    def __post_init__(self):
        check_literals(self)
        check_positive(self, "width", "depth", "repeats")

    def blocks(self, d_in, d_out):
        """Layers, embedding, readout, gains."""
        H = self.width
        return (*[H * H] * self.depth, H * (d_in + 1), d_out * (H + 1), self.gains)

    @property
    def gains(self) -> int:
        """One for each application of a layer."""
        return self.depth * self.repeats

    def written(self, d_in, d_out):
        """The layers."""
        return self.depth * self.width**2

    def operations(self, d_in, d_out):
        """A multiply-add for each application of a weight, and one for its part of the norm."""
        applied = self.written(d_in, d_out) * self.repeats
        return 2 * (sum(self.blocks(d_in, d_out)) + applied)

    def init(self, key, d_in, d_out):
        """Layers, readout and embedding are normal with a variance that keeps the scale.

        Gains are 1 / sqrt(repeats), for repeated layers add up.
        """
        keys = jax.random.split(key, 3)
        H, d, O = self.width, d_in, d_out  # noqa: E741
        layers = jax.random.normal(keys[0], (self.written(d, O),)) * H**-0.5
        E = jax.random.normal(keys[1], (H * d,)) * d**-0.5
        V = jax.random.normal(keys[2], (O * H,)) * H**-0.5
        gains = jnp.full(self.gains, self.repeats**-0.5)
        return jnp.concatenate([layers, E, jnp.zeros(H), V, jnp.zeros(O), gains])

    def apply(self, theta, z, d_out):
        """Layer by layer."""
        H, d, O = self.width, z.shape[-2], d_out  # noqa: E741
        *M, _, N = theta.shape
        size, ends = sum(self.blocks(d, O)), np.cumsum([self.written(d, O), H * d, H, O * H, O])
        W, E, e, V, v, gains = jnp.split(theta[..., :size, :], ends, -2)
        h = contraction(E.reshape(*M, H, d, N), z, -2) + e
        W = W.reshape(*M, self.depth, H, H, N)
        scales = jax.lax.rsqrt((W**2).sum((-2, -3)) + 1e-12)
        for i in range(self.gains):
            k = i % self.depth
            gain = gains[..., i : i + 1, :] * scales[..., k : k + 1, :]
            h += gain * contraction(W[..., k, :, :, :], ACTIVATIONS[self.activation](h), -2)
        return contraction(V.reshape(*M, O, H, N), h, -2) + v
