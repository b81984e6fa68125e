"""WARP layers one above the other: each layer's outputs drive the next.

The last layer evaluates its root at the tokens themselves, those below at their own inputs. A layer
below with B = 0 is a root network applied to each token, so a learned lift; with A and B it also
binds neighbouring tokens. Every layer is a linear recurrence and keeps its convolution.

With `gated` the layers below stand in the residual blocks of deep state-space models. An `encoder`
is a layer before them that is read at every c-th step alone, exactly: for long sequences of few
channels, of which the other layers then see 1 / c of the steps.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from wsrnn.checks import check_fields
from wsrnn.choices import choice
from wsrnn.models import Model, ModelConfig, check_sequences, check_steps
from wsrnn.models.gated import Gated
from wsrnn.models.layered import through
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

    gated: bool = False
    """Put each layer below into a residual block, u + glu(W gelu(layer(norm(u)))), after a linear
    map to `channels` or the encoder."""
    encoder: Annotated[WarpConfig, choice(lambda: (WarpConfig,))] | None = None
    """A layer before all others, in layout standard, that reads the inputs."""
    every: int = 1
    """A power of two c: the encoder is read at the steps 0, c, 2 c, ..., the layers above see these
    steps alone, and a prediction holds until the next of them."""

    def __post_init__(self):
        check_fields(self)
        if self.every < 1 or self.every & (self.every - 1) or (self.every > 1 > bool(self.encoder)):
            raise ValueError(
                f"every must be a power of two, and 1 without an encoder, got {self.every}"
            )
        if min(self.layers, self.channels) < 1:
            raise ValueError(
                f"layers and channels must be at least 1, got {self.layers} and {self.channels}: "
                "for one layer in all use WarpConfig"
            )
        lower = [self.below, *([self.encoder] if self.encoder else [])]
        if any(layer.reads_before_writing or layer.uncertain for layer in lower):
            raise ValueError(
                "layers below output something for the token itself, without a scale: set "
                "below.layout standard and below.head.scale None, and those of an encoder"
            )
        if self.every > 1 and self.encoder and self.encoder.weight_clip is not None:
            raise ValueError(
                "weight_clip acts at every step, and an encoder that is read at every c-th leaves "
                "the others out: set encoder.weight_clip None, or every 1"
            )
        if any(layer.positions for layer in (*lower, self.last)):
            raise ValueError("positions are of one WARP alone: set those of a stack's layers None")
        if self.last.lift or not isinstance(self.last.write, Matrix) or self.last.start.sees_first:
            raise ValueError(
                "the last layer of a stack starts at one theta_0 and writes by a learned B what it "
                "is given: set last.lift None, last.write Matrix and last.start Learned"
            )
        if self.every > 1 and self.last.reads_before_writing:
            raise ValueError(
                "a prediction that holds for several steps cannot read the query of each: set "
                "every 1, or last.layout standard"
            )
        if "auto" in {layer.mode for layer in (*lower, self.last)}:
            raise ValueError(
                "costs are counted for one layer at a time, so a stack cannot choose: set "
                "below.mode and last.mode, and encoder.mode, to scan, conv or parallel"
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
        inner = self.channels if self.gated or self.encoder else task.d_in
        below = self.below.sized_for(inner, self.channels, task.noise)
        encoder = self.encoder and self.encoder.sized_for(task.d_in, self.channels, task.noise)
        return replace(self, below=below, encoder=encoder, last=self.last.sized(task))

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "Stack":
        """A fresh stack."""
        return Stack(self, d_in, d_out, rngs=rngs)


class Stack(Model):
    """`StackConfig` says the rest."""

    def __init__(self, config: StackConfig, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.config, channels = config, config.channels
        self.encoder = (
            config.encoder.build(d_in, channels, rngs=rngs)
            if config.encoder
            else (nnx.Linear(d_in, channels, rngs=rngs) if config.gated else None)
        )
        first = d_in if self.encoder is None else channels
        widths = [first] + [channels] * (config.layers - 1)
        self.below = nnx.List([config.below.build(width, channels, rngs=rngs) for width in widths])
        self.last = Warp(config.last, d_in, d_out, channels=channels, rngs=rngs)
        self.gates = nnx.List([Gated(channels, rngs=rngs) for _ in widths if config.gated])

    def __call__(self, inputs, times, *, steps="all", mode=None):
        """Return the prediction at every step, or at `steps`; `mode` is the last layer's."""
        inputs, times = check_sequences(self.last, inputs, times)
        steps = check_steps(steps, *times.shape)
        every, length = self.config.every, times.shape[1]
        tokens = self._tokens(inputs, times)
        at = steps if isinstance(steps, str) else steps // every
        inputs, times = inputs[:, ::every], times[:, ::every]
        y = self.last(inputs, times, steps=at, mode=mode, tokens=tokens)
        return y if y.ndim == 2 else self._held(y, length)

    def _tokens(self, inputs, times):
        """What the last layer writes."""
        every = self.config.every
        if isinstance(self.encoder, Warp):
            inputs = self.encoder(inputs, times, every=every)
        elif self.encoder is not None:
            inputs = self.encoder(inputs)

        def layer(x, warp, *gate):
            mix = partial(warp, times=times[:, ::every])
            return gate[0].around(x, mix) if gate else mix(x)

        lists = ("below", "gates") if self.config.gated else ("below",)
        return through(self, inputs, layer, *lists)

    def _held(self, x, length):
        """Until the next step that is read."""
        return jnp.repeat(x, self.config.every, axis=1)[:, :length]

    @property
    def _layers(self):
        encoder = [self.encoder] if isinstance(self.encoder, Warp) else []
        return [*encoder, *self.below, self.last]

    @property
    def contracts(self):
        """Where any layer's config asks for it."""
        return any(layer.contracts for layer in self._layers)

    def contract(self):
        """Every layer that asks for it."""
        for layer in self._layers:
            if layer.contracts:
                layer.contract()

    def states(self, inputs, times):
        """Theta of the last layer."""
        inputs, times = check_sequences(self.last, inputs, times)
        every, length = self.config.every, times.shape[1]
        tokens = self._tokens(inputs, times)
        theta = self.last.states(inputs[:, ::every], times[:, ::every], tokens=tokens)
        return self._held(theta, length)

    def eigenvalues(self):
        """Of the last layer's A."""
        return self.last.eigenvalues()

    def sizes(self, length):
        """P, floats of the states and operations, of all layers, gates and a linear encoder.

        What sees every c-th step alone counts by 1 / c for a token.
        """
        every, warps = self.config.every, self._layers
        layers = [layer.sizes(length) for layer in warps]
        sizes = {name: sum(layer[name] for layer in layers) for name in ("P", "state floats")}
        linear = [self.gates, *([self.encoder] if isinstance(self.encoder, nnx.Linear) else [])]
        leaves = jax.tree.leaves(nnx.state(nnx.List(linear)))
        matrices = sum(leaf.size for leaf in leaves if leaf.ndim == 2)
        first = layers[0]["operations per token"] if isinstance(self.encoder, Warp) else 0
        above = sum(layer["operations per token"] for layer in layers) - first + 2 * matrices
        return sizes | {"operations per token": first + above // every}
