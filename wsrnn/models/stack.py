"""WARP layers one above the other: what a layer says of each token is what the next one writes.

The last layer reads its root at the tokens themselves, those below at their own inputs. A layer
below with B = 0 is a root network applied to each token, so a learned lift; with A and B it also
binds neighbouring tokens. Every layer is a linear recurrence and keeps its convolution.
"""

from dataclasses import dataclass, field

import jax.numpy as jnp
from flax import nnx

from wsrnn.models import Model, ModelConfig
from wsrnn.models.phi import PhiConfig
from wsrnn.models.warp import TransitionConfig, Warp, WarpConfig


@dataclass(frozen=True)
class StackConfig(ModelConfig):
    """Layers of WARP."""

    below: WarpConfig = field(
        default_factory=lambda: WarpConfig(
            width=32,
            depth=1,
            transition=TransitionConfig("diagonal", "decay"),
            read_time=False,
            read_input=True,
            input_scale=0.1,
            mode="conv",
        )
    )
    """All layers but the last, in layout standard."""
    layers: int = 1
    """How many of them, one above the other."""
    channels: int = 48
    """What each of them says of a token."""
    last: WarpConfig = field(
        default_factory=lambda: WarpConfig(
            drive="value", phi=PhiConfig("none"), input_scale=0.1, mode="conv"
        )
    )
    """The layer that predicts. It writes what it is told instead of lifting tokens."""

    def __post_init__(self):
        if min(self.layers, self.channels) < 1:
            raise ValueError(
                f"layers and channels must be at least 1, got {self.layers} and {self.channels}: "
                "for one layer in all use WarpConfig"
            )
        if self.below.reads_before_writing or self.below.uncertain:
            raise ValueError(
                "layers below say something of the token itself, with no scale: set below.layout "
                "standard and below.head.uncertain False"
            )
        told = self.last.lift.form == "none" and self.last.write == "learned"
        if not told or self.last.phi.form != "none":
            raise ValueError(
                "the last layer of a stack starts at one theta_0 and writes by a learned B what it "
                "is told: set last.lift.form none, last.write learned and last.phi.form none"
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
        """The last layer's: what is said of a token is written with it."""
        return self.last.reads_before_writing

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

    def __call__(self, inputs, times, *, at=None, mode=None):
        """Return the prediction at every step, or at step `at`; `mode` is the last layer's."""
        return self.last(inputs, times, at=at, mode=mode, tokens=self._said(inputs, times))

    def _said(self, inputs, times):
        told = jnp.asarray(inputs)
        for layer in self.below:
            told = layer(told, times)
        return told

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
        return self.last.states(inputs, times, tokens=self._said(inputs, times))

    def eigenvalues(self):
        """Of the last layer's A."""
        return self.last.eigenvalues()

    def sizes(self, length):
        """P, floats of the states and operations, of all layers together."""
        layers = [layer.sizes(length) for layer in (*self.below, self.last)]
        summed = ("P", "state floats", "operations per token")
        return {name: sum(sizes[name] for sizes in layers) for name in summed}
