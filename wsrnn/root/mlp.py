"""The paper's root network: a small MLP read from a flat vector of weights."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
class RootNet:
    """An MLP with `depth` hidden layers of `width` units, all its weights in one vector.

    Flat layout, as in the authors' code: layer by layer, kernel ``[out, in]`` row-major and then
    bias. depth = 0 is a linear map. Frozen and hashable, hence a static attribute of a module.
    """

    d_in: int
    width: int
    depth: int
    d_out: int
    activation: Activation = "relu"

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
    def size(self) -> int:
        """P, the number of weights and biases."""
        return sum(i * o + o for i, o in self.layers)

    def unflatten(self, theta: Float[Array, "P *N"]) -> list[tuple[Array, Array]]:
        """Return (kernel ``[out, in, *N]``, bias ``[out, *N]``) of each layer."""
        weights, at = [], 0
        for i, o in self.layers:
            kernel = theta[at : at + o * i].reshape(o, i, *theta.shape[1:])
            weights.append((kernel, theta[at + o * i : at + o * i + o]))
            at += o * i + o
        return weights

    def apply(
        self, theta: Float[Array, "P *N"], z: Float[Array, "d_in *N"]
    ) -> Float[Array, "d_out *N"]:
        """Return the network's output, one network for each trailing index.

        The batch axes trail, so that they are contiguous: a layer is then a sum of long products,
        where batched tiny matrix-vector products would be slow on every backend. Cost: 2 P
        operations each.
        """
        activate = ACTIVATIONS[self.activation]
        for layer, (kernel, bias) in enumerate(self.unflatten(theta)):
            z = (kernel * z[None]).sum(1) + bias
            z = activate(z) if layer < self.depth else z
        return z

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
