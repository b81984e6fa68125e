"""The paper's root network: a small MLP read from a flat vector of weights."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wsrnn.root.base import Network, contract

RootStart = Literal["uniform", "he"]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "swish": jax.nn.swish,
    "sin": jnp.sin,
    "identity": lambda x: x,
}
Activation = Literal[tuple(ACTIVATIONS)]


@dataclass(frozen=True)
class RootNet(Network):
    """An MLP with `depth` hidden layers of `width` units, all its weights in one vector.

    Flat layout, as in the authors' code: layer by layer, kernel ``[out, in]`` row-major and then
    bias. depth = 0 is a linear map. Frozen and hashable, hence a static attribute of a module.
    """

    d_in: int
    width: int
    depth: int
    d_out: int
    activation: Activation = "relu"
    bfloat16: bool = False
    """Compute the network in bfloat16; the states stay in full precision."""

    def __post_init__(self):
        if min(self.d_in, self.d_out) < 1 or self.depth < 0 or (self.depth and self.width < 1):
            raise ValueError(
                f"a root network needs d_in, width and d_out of at least 1 and a depth of at least "
                f"0, got {self.d_in}, {self.width}, {self.d_out} and {self.depth}"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {self.activation!r} is unknown: use one of {', '.join(ACTIVATIONS)}"
            )

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(in, out) of each layer."""
        return list(pairwise([self.d_in, *[self.width] * self.depth, self.d_out]))

    @property
    def blocks(self):
        """Of each layer."""
        return tuple(i * o + o for i, o in self.layers)

    def unflatten(self, theta: Float[Array, "*M L N"]) -> list[tuple[Array, Array]]:
        """Return (kernel ``[*M, out, in, N]``, bias ``[*M, out, N]``) of each layer."""
        *M, _, N = theta.shape
        sizes = [size for i, o in self.layers for size in (o * i, o)]
        # The gradient of a split is one concatenation, that of slices a sum of as many arrays.
        *parts, _ = jnp.split(theta, np.cumsum(sizes), -2)
        kernels, biases = parts[::2], parts[1::2]
        return [
            (kernel.reshape(*M, o, i, N), bias)
            for kernel, bias, (i, o) in zip(kernels, biases, self.layers, strict=True)
        ]

    def apply(self, theta, z):
        """Layer by layer, 2 P operations each; rows of theta beyond the first P are ignored."""
        activate = ACTIVATIONS[self.activation]
        dtype = theta.dtype
        theta, z = self._cast(theta), self._cast(z)
        for layer, (kernel, bias) in enumerate(self.unflatten(theta)):
            z = contract(kernel, z, -2) + bias
            z = activate(z) if layer < self.depth else z
        return z.astype(dtype)

    def _cast(self, x: Array) -> Array:
        """To bfloat16, where the network is to compute in it."""
        return x.astype(jnp.bfloat16) if self.bfloat16 else x

    def init(self, key: Array, start: RootStart = "uniform") -> Float[Array, " P"]:
        """Draw all weights.

        uniform: weights and biases from +-1 / sqrt(in), as the paper's library does. he: normal
        weights of variance 2 / in (He et al. 2015) and zero biases, which keeps the scale through
        relu layers.
        """
        keys = jax.random.split(key, len(self.layers))
        if start == "uniform":
            draws = [
                jax.random.uniform(k, (i * o + o,), minval=-(i**-0.5), maxval=i**-0.5)
                for k, (i, o) in zip(keys, self.layers, strict=True)
            ]
        else:
            draws = [
                jnp.pad((2 / i) ** 0.5 * jax.random.normal(k, (i * o,)), (0, o))
                for k, (i, o) in zip(keys, self.layers, strict=True)
            ]
        return jnp.concatenate(draws)


@dataclass(frozen=True)
class Gated(Network):
    """An MLP whose weights are v sigmoid(g): theta = (v, g), twice as many numbers.

    Linear in nothing it holds, so that even a linear recurrence over raw tokens gives products of
    them: one more degree for each layer.
    """

    network: RootNet

    @property
    def blocks(self):
        """Of the values, then of the gates."""
        return self.network.blocks * 2

    @property
    def operations(self):
        """Those of the MLP, and a product for each of its weights."""
        return self.network.operations + self.network.size

    def init(self, key, start="uniform"):
        """Values twice those of the MLP and gates of 0, which halve them."""
        values = self.network.init(key, start)
        return jnp.concatenate([2 * values, jnp.zeros_like(values)])

    def apply(self, theta, z):
        """The MLP; rows of theta beyond the first P are ignored."""
        return self.network.apply(self._weights(theta), z)

    def _weights(self, theta: Float[Array, "*M L N"]) -> Float[Array, "*M P N"]:
        half = self.network.size
        return theta[..., :half, :] * jax.nn.sigmoid(theta[..., half : 2 * half, :])
