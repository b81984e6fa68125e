"""The paper's root network: a small MLP read from a flat vector of weights."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import jax
import jax.numpy as jnp
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
        weights, at = [], 0
        *M, _, N = theta.shape
        for i, o in self.layers:
            kernel = theta[..., at : at + o * i, :].reshape(*M, o, i, N)
            weights.append((kernel, theta[..., at + o * i : at + o * i + o, :]))
            at += o * i + o
        return weights

    def apply(self, theta, z):
        """Layer by layer, 2 P operations each; rows of theta beyond the first P are ignored."""
        activate = ACTIVATIONS[self.activation]
        dtype = theta.dtype
        theta, z = self._cast(theta), self._cast(z)
        for layer, (kernel, bias) in enumerate(self.unflatten(theta)):
            z = contract(kernel, z, -2) + bias
            z = activate(z) if layer < self.depth else z
        return z.astype(dtype)

    def vjp(self, theta, z):
        """Backpropagation by hand: one more pass over theta, and one to write its gradient.

        With delta_l the gradient at a layer before its activation: dW_l = delta_l a_{l-1}^T and
        delta_{l-1} = act'(W_l^T delta_l). Automatic differentiation gives the same values by about
        four times as many passes. The gradient takes the place of theta in memory.
        """
        activate = ACTIVATIONS[self.activation]
        narrow = self._cast(theta)
        layers, inputs, slopes = self.unflatten(narrow), [self._cast(z)], []
        for layer, (kernel, bias) in enumerate(layers):
            h = contract(kernel, inputs[-1], -2) + bias
            a, slope = jax.vjp(activate, h) if layer < self.depth else (h, lambda g: (g,))
            inputs.append(a)
            slopes.append(slope)

        def pull(g):
            g, gradients = g.astype(narrow.dtype), []
            for (kernel, _), a, slope in zip(
                layers[::-1], inputs[-2::-1], slopes[::-1], strict=True
            ):
                (delta,) = slope(g)
                outer = delta[..., :, None, :] * a[..., None, :, :]
                gradients += [delta, outer.reshape(*outer.shape[:-3], -1, outer.shape[-1])]
                g = contract(kernel, delta, -3)
            ignored = jnp.zeros_like(theta[..., self.size :, :])
            parts = [part.astype(theta.dtype) for part in gradients[::-1]]
            return jnp.concatenate([*parts, ignored], -2), g.astype(z.dtype)

        return inputs[-1].astype(theta.dtype), pull

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

    def vjp(self, theta, z):
        """The MLP's own, through the product."""
        weights, product = jax.vjp(self._weights, theta)
        y, pull = self.network.vjp(weights, z)

        def through(g):
            dweights, dz = pull(g)
            return product(dweights)[0], dz

        return y, through

    def _weights(self, theta: Float[Array, "*M L N"]) -> Float[Array, "*M P N"]:
        half = self.network.size
        return theta[..., :half, :] * jax.nn.sigmoid(theta[..., half : 2 * half, :])
