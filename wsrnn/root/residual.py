"""A residual root network with weight-normalised layers."""

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from wsrnn.checks import check_fields, check_positive
from wsrnn.root.activations import ACTIVATIONS, Activation
from wsrnn.root.base import Root, contraction


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

    width: int | None = None
    """H, the units of each layer; None is two more than a token has channels."""
    depth: int = 1
    """Layers with weights of their own."""
    activation: Activation = "identity"
    """Before each layer."""
    repeats: int | None = 1
    """How often the layers are applied (weight tying), each time with gains of their own. None is
    as often as it takes to learn ridge regression of the task's dimension and noise: see
    `repeats_of`."""
    spread: float | None = 1.0
    """Gains start at from 1 / spread to spread times 1 / sqrt(repeats). None is 1 up to 16 repeats
    and 4 beyond: see `init`."""

    def __post_init__(self):
        check_fields(self)
        given = [name for name in ("width", "repeats") if getattr(self, name) is not None]
        check_positive(self, "depth", *given)
        if self.spread is not None and not self.spread >= 1:
            raise ValueError(f"Residual.spread must be at least 1, got {self.spread}")

    def sized(self, query, targets, noise):
        """Width, repeats and spread."""
        width = query + targets + 2 if self.width is None else self.width
        repeats = repeats_of(query, noise) if self.repeats is None else self.repeats
        spread = (1.0 if repeats <= 16 else 4.0) if self.spread is None else self.spread
        return replace(self, width=width, repeats=repeats, spread=spread)

    def check(self, d_in, d_out):
        """Its sizes must be known."""
        if None in (self.width, self.repeats, self.spread):
            raise ValueError(
                "root Residual has a width, repeats or spread of None, which only an experiment "
                "fills in from its task: set them"
            )

    def blocks(self, d_in, d_out):
        """Layers, embedding, readout, gains."""
        H = self.width
        return (*[H * H] * self.depth, H * (d_in + 1), d_out * (H + 1), self.gains)

    @property
    def gains(self) -> int:
        """One for each application of a layer."""
        return self.depth * (self.repeats or 1)  # open ones are refused by `check`

    def written(self, d_in, d_out):
        """The layers."""
        return self.depth * self.width**2

    def operations(self, d_in, d_out):
        """A multiply-add for each application of a weight, and one for its part of the norm."""
        applied = self.written(d_in, d_out) * self.repeats
        return 2 * (sum(self.blocks(d_in, d_out)) + applied)

    def init(self, key, d_in, d_out):
        """Layers, readout and embedding are normal with a variance that keeps the scale.

        Gains are 1 / sqrt(repeats), for repeated layers add up, times 1 / spread to spread. A
        repeated linear layer is a product of factors I + g_k W that commute: gains that start equal
        have equal gradients and remain a single step size; spread out they become a polynomial.
        """
        keys = jax.random.split(key, 3)
        H, d, O = self.width, d_in, d_out  # noqa: E741
        layers = jax.random.normal(keys[0], (self.written(d, O),)) * H**-0.5
        E = jax.random.normal(keys[1], (H * d,)) * d**-0.5
        V = jax.random.normal(keys[2], (O * H,)) * H**-0.5
        gains = jnp.full(self.gains, self.repeats**-0.5)
        if self.spread != 1:
            gains *= self.spread ** jnp.linspace(-1, 1, self.gains)
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


def repeats_of(d: int, noise: float) -> int:
    """How often a repeated layer must be applied to be ridge regression in d dimensions, n = 4 d.

    Descent along the least eigenvalue of the Gram matrix, over its Frobenius norm, slows down as
    sqrt(d); what it leaves must be small beside the error of ridge, which falls with the noise.
    16 for d up to 5 and noise of at least 0.25.
    """
    accuracy = 1 + 0.15 * math.log(0.25 / max(noise, 1e-3)) if noise < 0.25 else 1.0
    return math.ceil(16 * max(1.0, math.sqrt(d / 5)) * accuracy)
