"""WARP layers one above the other: each layer's outputs drive the next.

The last layer evaluates its root at the tokens themselves, those below at their own inputs. A layer
below with B = 0 is a root network applied to each token, so a learned lift; with A and B it also
binds neighbouring tokens. Every layer is a linear recurrence and keeps its convolution.
"""

from dataclasses import dataclass, field, replace

from flax import nnx

from wsrnn.models import Model, ModelConfig, check_sequences
from wsrnn.models.warp.config import WarpConfig
from wsrnn.models.warp.model import Warp
from wsrnn.models.warp.query import Query
from wsrnn.models.warp.write import Matrix
from wsrnn.recurrence import Diagonal
from wsrnn.root import Mlp


@dataclass(frozen=True)
class StackConfig(ModelConfig):
    """Layers of WARP."""

    below: WarpConfig = field(
        default_factory=lambda: WarpConfig(
            root=Mlp(width=32, depth=1),
            transition=Diagonal(start="decay"),
            write=Matrix(scale=0.1),
            query=Query(time=False, inputs=True),
            mode="conv",
        )
    )
    """All layers but the last, in layout standard."""
    layers: int = 1
    """How many of them, one above the other."""
    channels: int = 48
    """Outputs of each of them: what the next one writes."""
    last: WarpConfig = field(
        default_factory=lambda: WarpConfig(drive="value", write=Matrix(scale=0.1), mode="conv")
    )
    """The layer that predicts. It writes the outputs of the one below instead of lifted tokens."""

    def __post_init__(self):
        if min(self.layers, self.channels) < 1:
            raise ValueError(
                f"layers and channels must be at least 1, got {self.layers} and {self.channels}: "
                "for one layer in all use WarpConfig"
            )
        if self.below.reads_before_writing or self.below.uncertain:
            raise ValueError(
                "layers below output something for the token itself, without a scale: set "
                "below.layout standard and below.head.scale None"
            )
        if self.last.lift or not isinstance(self.last.write, Matrix) or self.last.start.sees_first:
            raise ValueError(
                "the last layer of a stack starts at one theta_0 and writes by a learned B what it "
                "is given: set last.lift None, last.write Matrix and last.start Learned"
            )
        if "auto" in (self.below.mode, self.last.mode):
            raise ValueError(
                "costs are counted for one layer at a time, so a stack cannot choose: set "
                "below.mode and last.mode to scan, conv or parallel"
            )

    @property
    def uncertain(self):
        """The last layer's."""
        return self.last.uncertain

    @property
    def reads_before_writing(self):
        """The last layer's: the outputs for a token are written with it."""
        return self.last.reads_before_writing

    def sized(self, task):
        """Those of the last layer, and of the ones below as the first of them needs."""
        below = self.below.sized_for(task.d_in, self.channels, task.noise)
        return replace(self, below=below, last=self.last.sized(task))

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "Stack":
        """A fresh stack."""
        return Stack(self, d_in, d_out, rngs=rngs)


class Stack(Model):
    """`StackConfig` says the rest."""

    def __init__(self, config: StackConfig, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        widths = [d_in] + [config.channels] * (config.layers - 1)
        self.below = nnx.List(
            [config.below.build(width, config.channels, rngs=rngs) for width in widths]
        )
        self.last = Warp(config.last, d_in, d_out, channels=config.channels, rngs=rngs)

    def __call__(self, inputs, times, *, steps="all", mode=None):
        """Return the prediction at every step, or at `steps`; `mode` is the last layer's."""
        inputs, times = check_sequences(self.last, inputs, times)
        tokens = self._tokens(inputs, times)
        return self.last(inputs, times, steps=steps, mode=mode, tokens=tokens)

    def _tokens(self, inputs, times):
        """What the last layer writes."""
        for layer in self.below:
            inputs = layer(inputs, times)
        return inputs

    @property
    def contracts(self):
        """Where any layer's config asks for it."""
        return any(layer.contracts for layer in (*self.below, self.last))

    def contract(self):
        """Every layer that asks for it."""
        for layer in (*self.below, self.last):
            if layer.contracts:
                layer.contract()

    def states(self, inputs, times):
        """Theta of the last layer."""
        inputs, times = check_sequences(self.last, inputs, times)
        return self.last.states(inputs, times, tokens=self._tokens(inputs, times))

    def eigenvalues(self):
        """Of the last layer's A."""
        return self.last.eigenvalues()

    def sizes(self, length):
        """P, floats of the states and operations, of all layers together."""
        layers = [layer.sizes(length) for layer in (*self.below, self.last)]
        summed = ("P", "state floats", "operations per token")
        return {name: sum(sizes[name] for sizes in layers) for name in summed}
