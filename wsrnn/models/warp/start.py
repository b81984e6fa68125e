"""phi: where a sequence's initial weights theta_0 come from (paper, section 2)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.checks import check_fields, check_positive
from wsrnn.recurrence import PRECISION, InitialState, Write
from wsrnn.root import ACTIVATIONS, Activation, Network

StartModule = Callable[[Float[Array, "N D"], Write], InitialState]


class Start(ABC):
    """phi, which gives the initial hidden state theta_0.

    A new one is one frozen dataclass with `columns` and `build`, in this package (then named in
    ``STARTS``) or in an experiment file. theta_0 is linear in some h [R]: theta_0 = S h with S
    [P, R], so that the convolution treats it as R more input channels.
    """

    sees_first: ClassVar[bool] = True
    """Whether theta_0 depends on x_0."""

    @abstractmethod
    def columns(self, d_in: int, size: int) -> int:
        """R, for d_in input channels and P = `size` weights."""

    @abstractmethod
    def build(self, network: Network, d_in: int, channels: int, *, rngs: nnx.Rngs) -> StartModule:
        """Return a module from x_0 [N, d_in] and B, which maps `channels` channels, to theta_0.

        Raises ValueError, with the cure, for networks that it does not support.
        """


@dataclass(frozen=True)
class Learned(Start):
    """One learned theta_0 for all sequences, drawn as the root network says."""

    sees_first = False

    def columns(self, d_in, size):
        """theta_0 itself."""
        return 1

    def build(self, network, d_in, channels, *, rngs):
        """One vector."""
        return LearnedStart(network, rngs=rngs)


class LearnedStart(nnx.Module):
    """theta_0 is made of learned parameters."""

    def __init__(self, network: Network, *, rngs: nnx.Rngs):
        self.network = network
        self.theta = nnx.Param(network.init(rngs.params()))

    def __call__(self, x0: Float[Array, "N D"], B: Write) -> InitialState:
        """The same for every x_0."""
        return InitialState.shared(self.network.initial(self.theta[...]), len(x0))


@dataclass(frozen=True)
class FromFirst(Start):
    """theta_0 = W h(x_0) + b, with h an MLP of the first input: the paper's."""

    depth: int = 1
    """Hidden layers; the paper uses 0, 1 or 2."""
    width: int | None = 32
    """Units of each hidden layer. The last one is the bottleneck r: the convolution carries r + 1
    more channels. None grows the widths evenly from D to P, as the paper does: exact, but r is
    then of the order of P."""
    activation: Activation = "relu"
    """Of the hidden layers."""

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "depth", least=0)
        if self.width is not None:
            check_positive(self, "width")

    def widths(self, d_in: int, size: int) -> list[int]:
        """Units from the input to the last hidden layer."""
        if self.width is not None:
            return [d_in] + [self.width] * self.depth
        return [int(w) for w in np.linspace(d_in, size, self.depth + 2)[:-1]]

    def columns(self, d_in, size):
        """[W, b]."""
        return self.widths(d_in, size)[-1] + 1

    def build(self, network, d_in, channels, *, rngs):
        """An MLP."""
        widths = [*self.widths(d_in, network.size), network.size]
        return MlpStart(widths, self.activation, rngs=rngs)


class MlpStart(nnx.Module):
    """theta_0 = W h(x_0) + b."""

    def __init__(self, widths: list[int], activation: Activation, *, rngs: nnx.Rngs):
        self.activation = activation
        self.layers = nnx.List(
            [
                nnx.Linear(
                    i, o, precision=PRECISION, rngs=rngs,
                    kernel_init=_uniform(i), bias_init=_uniform(i),
                )
                for i, o in pairwise(widths)
            ]
        )  # fmt: skip

    def __call__(self, x0: Float[Array, "N D"], B: Write) -> InitialState:
        """One theta_0 for each x_0."""
        *hidden, last = self.layers
        h = x0
        for layer in hidden:
            h = ACTIVATIONS[self.activation](layer(h))
        assert last.bias is not None  # as nnx.Linear makes one
        S = jnp.concatenate([last.kernel[...].T, last.bias[...][:, None]], 1)
        return InitialState(S, jnp.concatenate([h, jnp.ones_like(h[:, :1])], 1))


@dataclass(frozen=True)
class Impulse(Start):
    """theta_0 = B W x_0, in the range of B as the paper's convolution mode assumes."""

    def columns(self, d_in, size):
        """B W."""
        return d_in

    def build(self, network, d_in, channels, *, rngs):
        """W."""
        if network.written < network.size:
            raise ValueError(
                "start Impulse is theta_0 = B W x_0, and B writes only a part of the weights of "
                f"{type(network.root).__name__}, which would begin without the others: set another "
                "start"
            )
        return ImpulseStart(d_in, channels, rngs=rngs)


class ImpulseStart(nnx.Module):
    """theta_0 = B W x_0."""

    def __init__(self, d_in: int, channels: int, *, rngs: nnx.Rngs):
        self.W = nnx.Param(_uniform(d_in)(rngs.params(), (channels, d_in), jnp.float32))

    def __call__(self, x0: Float[Array, "N D"], B: Write) -> InitialState:
        """One theta_0 for each x_0."""
        W = self.W[...]
        return InitialState(jnp.matmul(B.matrix(len(W), W), W, precision=PRECISION), x0)


STARTS: tuple[type[Start], ...] = (Learned, FromFirst, Impulse)


def _uniform(fan_in: int):
    """U(-1/sqrt(in), 1/sqrt(in)) for kernels and biases, the start of the paper's library."""

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init
