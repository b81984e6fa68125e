"""The control of every claim about root networks: the same linear RNN, read by an ordinary MLP."""

import math
from dataclasses import dataclass, field, replace

import jax.numpy as jnp
from flax import nnx

from wsrnn.checks import check_fields, check_positive
from wsrnn.models import Model, ModelConfig, check_sequences, check_steps, pick
from wsrnn.models.head import Head
from wsrnn.models.warp.config import WarpConfig
from wsrnn.recurrence import PRECISION
from wsrnn.root import Weights


@dataclass(frozen=True)
class OrdinaryConfig(ModelConfig):
    """y_t = MLP([theta_t, z_t]): the state of a WARP is a vector, not the weights of a network.

    `inner` has the same A, B, theta_0, queries and P; only its root is never evaluated.
    """

    inner: WarpConfig = field(default_factory=WarpConfig)
    """Whose states are read."""
    width: int = 64
    """Units of the readout's hidden layers."""
    depth: int = 2
    """Hidden layers of the readout."""
    head: Head = field(default_factory=Head)
    """A final activation, and a predicted scale beside each mean."""

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "width", "depth")
        inner = self.inner
        if inner.head != Head() or inner.residual or inner.query.points is not None:
            raise ValueError(
                "what an ordinary readout predicts is its own: set inner.head to its defaults, "
                "inner.residual False and inner.query.points None"
            )

    @property
    def uncertain(self):
        """Whether the head predicts a scale."""
        return self.head.scale is not None

    @property
    def reads_before_writing(self):
        """As `inner` does."""
        return self.inner.reads_before_writing

    def sized(self, task):
        """With the sizes of `inner`."""
        return replace(self, inner=self.inner.sized(task))

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "Ordinary":
        """A fresh model."""
        return Ordinary(self, d_in, d_out, rngs=rngs)


class Ordinary(Model):
    """`OrdinaryConfig` says the rest. All states are in memory at once: N T P floats."""

    def __init__(self, config: OrdinaryConfig, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.inner = config.inner.build(d_in, d_out, rngs=rngs)
        network = self.inner.network
        sizes = [network.size + network.d_in, *[config.width] * config.depth]
        sizes.append(config.head.outputs(d_out))
        self.layers = nnx.List(
            nnx.Linear(sizes[i], sizes[i + 1], precision=PRECISION, rngs=rngs)
            for i in range(len(sizes) - 1)
        )
        self.head = config.head.build()

    @property
    def contracts(self):
        """As the inner model."""
        return self.inner.contracts

    def contract(self):
        """The inner model's A."""
        self.inner.contract()

    def __call__(self, inputs, times, *, steps="all", mode=None):
        """Return the prediction at every step, or at `steps`; `mode` is the recurrence's."""
        inputs, times = check_sequences(self.inner, inputs, times)
        steps = check_steps(steps, *times.shape)
        theta = self.inner.read(Weights(), inputs, times, steps, mode)
        _, z = self.inner.recurrence(inputs, times)
        y = jnp.concatenate([theta, pick(z, steps)], -1)
        for i, layer in enumerate(self.layers):
            y = layer(nnx.relu(y) if i else y)
        return self.head(y)

    def states(self, inputs, times):
        """Those of the recurrence."""
        return self.inner.states(inputs, times)

    def eigenvalues(self):
        """Of A."""
        return self.inner.eigenvalues()

    def sizes(self, length):
        """P, floats of the state, and operations of the recurrence and the readout."""
        sizes, network = self.inner.sizes(length), self.inner.network
        weights = sum(math.prod(layer.kernel.shape) for layer in self.layers)
        operations = sizes["operations per token"] - network.operations + 2 * weights
        return sizes | {"operations per token": operations}
