"""Shared by roots of linear layers: the flat layout of kernels and biases, and their evaluation."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wsrnn.checks import check_fields
from wsrnn.root.activations import ACTIVATIONS, Activation
from wsrnn.root.base import Root, contraction


@dataclass(frozen=True)
class Layered(Root):
    """Linear layers, one after another, all their weights in one vector.

    Flat layout, as in the authors' code: layer by layer, kernel ``[out, in]`` row-major and then
    bias.
    """

    start: Literal["uniform", "he"] = field(default="uniform", kw_only=True)
    """uniform: weights and biases from +-1 / sqrt(in), the paper's. he: normal weights of variance
    2 / in and zero biases, which keeps the scale through relu layers (He et al. 2015)."""
    bfloat16: bool = field(default=False, kw_only=True)
    """Compute the network in bfloat16; the states stay in full precision."""

    def __post_init__(self):
        check_fields(self)

    @abstractmethod
    def layers(self, d_in: int, d_out: int) -> list[tuple[int, int]]:
        """(in, out) of each layer."""

    @property
    @abstractmethod
    def nonlinearity(self) -> Activation:
        """Between two layers."""

    def blocks(self, d_in, d_out):
        """Of each layer."""
        return tuple(i * o + o for i, o in self.layers(d_in, d_out))

    def unflatten(
        self, theta: Float[Array, "*M L N"], d_in: int, d_out: int
    ) -> list[tuple[Array, Array]]:
        """Return (kernel ``[*M, out, in, N]``, bias ``[*M, out, N]``) of each layer."""
        *M, _, N = theta.shape
        layers = self.layers(d_in, d_out)
        sizes = [size for i, o in layers for size in (o * i, o)]
        # The gradient of a split is one concatenation, that of slices a sum of as many arrays.
        *parts, _ = jnp.split(theta, np.cumsum(sizes), -2)
        kernels, biases = parts[::2], parts[1::2]
        return [
            (kernel.reshape(*M, o, i, N), bias)
            for kernel, bias, (i, o) in zip(kernels, biases, layers, strict=True)
        ]

    def apply(self, theta, z, d_out):
        """Layer by layer, 2 P operations each."""
        dtype, d_in = theta.dtype, z.shape[-2]
        if self.bfloat16:
            theta, z = theta.astype(jnp.bfloat16), z.astype(jnp.bfloat16)
        for layer, (kernel, bias) in enumerate(self.unflatten(theta, d_in, d_out)):
            z = ACTIVATIONS[self.nonlinearity](z) if layer else z
            z = contraction(kernel, z, -2) + bias
        return z.astype(dtype)

    def init(self, key, d_in, d_out):
        """All weights, as `start` says."""
        layers = self.layers(d_in, d_out)
        keys = jax.random.split(key, len(layers))
        if self.start == "uniform":
            draws = [
                jax.random.uniform(k, (i * o + o,), minval=-(i**-0.5), maxval=i**-0.5)
                for k, (i, o) in zip(keys, layers, strict=True)
            ]
        else:
            draws = [
                jnp.pad((2 / i) ** 0.5 * jax.random.normal(k, (i * o,)), (0, o))
                for k, (i, o) in zip(keys, layers, strict=True)
            ]
        return jnp.concatenate(draws)
