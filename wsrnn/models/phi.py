"""phi: where a sequence's initial weights theta_0 come from (paper, section 2)."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.decode import Affine, Shared
from wsrnn.recurrence.transition import PRECISION
from wsrnn.root import ACTIVATIONS, Network, RootStart


@dataclass(frozen=True)
class PhiConfig:
    """How theta_0 depends on the first input."""

    form: Literal["none", "mlp", "impulse"] = "none"
    """none: one learned theta_0. mlp: theta_0 = W h(x_0) + b. impulse: theta_0 = B W x_0, the
    paper's start for its convolution mode."""
    start: RootStart = "uniform"
    """How the learned theta_0 (none) is drawn: see `RootNet.init`; uniform is the paper's."""
    depth: int = 1
    """Hidden layers of the mlp; the paper uses 0, 1 or 2."""
    width: int | None = 32
    """Units of each hidden layer. The last one is the bottleneck r: the convolution carries r + 1
    more channels. None grows the widths evenly from D to P, as the paper does: exact, but r is
    then of the order of P."""

    def __post_init__(self):
        if self.depth < 0 or (self.width is not None and self.width < 1):
            raise ValueError(
                f"phi needs a depth of at least 0 and a width of at least 1 (or None), "
                f"got {self.depth} and {self.width}"
            )

    def widths(self, d_in: int, size: int) -> list[int]:
        """Units from the input to the last hidden layer; the last is the start's rank r."""
        if self.width is not None:
            return [d_in] + [self.width] * self.depth
        return [int(w) for w in np.linspace(d_in, size, self.depth + 2)[:-1]]

    def rank(self, d_in: int, size: int) -> int:
        """Channels beyond the learned constant that the start adds to a convolution."""
        return {"none": 0, "mlp": self.widths(d_in, size)[-1], "impulse": d_in}[self.form]

    def build(
        self, root: Network, d_in: int, channels: int, *, rngs: nnx.Rngs
    ) -> "LearnedStart | MlpStart | ImpulseStart":
        """The module that makes a start from the first inputs."""
        if self.form == "none":
            return LearnedStart(root, self.start, rngs=rngs)
        if self.form == "mlp":
            return MlpStart(self, root, d_in, rngs=rngs)
        return ImpulseStart(d_in, channels, rngs=rngs)


class LearnedStart(nnx.Module):
    """theta_0 is one vector, made of parameters that are drawn as the root network says."""

    def __init__(self, root: Network, start: RootStart, *, rngs: nnx.Rngs):
        self.root = root
        self.theta = nnx.Param(root.init(rngs.params(), start))

    def __call__(self, x0: Float[Array, "N D"], B: Float[Array, "P C"] | None) -> Shared:
        """The same for every x_0."""
        return Shared(self.root.start(self.theta[...]))


class MlpStart(nnx.Module):
    """theta_0 = W h(x_0) + b, h an MLP of the root's activation."""

    def __init__(self, config: PhiConfig, root: Network, d_in: int, *, rngs: nnx.Rngs):
        widths = [*config.widths(d_in, root.size), root.size]
        self.layers = nnx.List(
            [
                nnx.Linear(i, o, precision=PRECISION, rngs=rngs, **_torch(i))
                for i, o in pairwise(widths)
            ]
        )
        self.activation = getattr(root, "activation", "relu")

    def __call__(self, x0: Float[Array, "N D"], B: Float[Array, "P C"] | None) -> Affine:
        """One start for each x_0."""
        *hidden, last = self.layers
        h = x0
        for layer in hidden:
            h = ACTIVATIONS[self.activation](layer(h))
        return Affine(last.kernel[...].T, last.bias[...], h)


class ImpulseStart(nnx.Module):
    """theta_0 = B W x_0, in the range of B as the paper's convolution mode assumes."""

    def __init__(self, d_in: int, channels: int, *, rngs: nnx.Rngs):
        self.W = nnx.Param(_torch_uniform(d_in)(rngs.params(), (channels, d_in), jnp.float32))

    def __call__(self, x0: Float[Array, "N D"], B: Float[Array, "P C"]) -> Affine:
        """One start for each x_0."""
        return Affine(jnp.matmul(B, self.W[...], precision=PRECISION), jnp.zeros_like(B[:, 0]), x0)


def _torch(fan_in: int) -> dict:
    """Kernels and biases from U(-1/sqrt(in), 1/sqrt(in)), the start of the paper's library."""
    return {"kernel_init": _torch_uniform(fan_in), "bias_init": _torch_uniform(fan_in)}


def _torch_uniform(fan_in: int):
    """U(-1/sqrt(in), 1/sqrt(in)) for kernels and biases, the start of the paper's library."""

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init
