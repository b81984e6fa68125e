"""Shared by the models that WARP is compared with: inputs, readout and operation counts."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Num

from wsrnn.checks import check_fields
from wsrnn.decode import Steps
from wsrnn.models import Model, TokenModelConfig, check_sequences, check_steps, pick
from wsrnn.models.head import Head
from wsrnn.models.layered import through


@dataclass(frozen=True)
class SequenceConfig(TokenModelConfig):
    """What all peers have in common, those of one layout too."""

    read_time: bool = True
    """Feed the time tau beside each token."""
    head: Head = field(default_factory=Head)

    def __post_init__(self):
        check_fields(self)

    def features(self, d_in: int, d_out: int) -> int:
        """Channels that the model sees at each step; ValueError if the layout has no query."""
        x = self.x_size(d_in, d_out)
        return (d_in + x if self.reads_before_writing else d_in) + self.read_time

    def token_size(self, d_in: int, d_out: int) -> int:
        """Of these, the channels that may be written: a token, and the time."""
        self.x_size(d_in, d_out)
        return d_in + self.read_time

    def query_size(self, d_in: int, d_out: int) -> int:
        """And those that the state may be read at: the token or its query, and the time."""
        return self.x_size(d_in, d_out) + self.read_time


@dataclass(frozen=True)
class PeerConfig(SequenceConfig):
    """How a model takes a task's sequences; its own file adds its sizes."""

    layout: Literal["standard", "read_before_write"] = "standard"
    """standard: step t sees token t. read_before_write: step t sees token t - 1 and the leading
    channels of token t (its query, without the d_out values at the end), so that y_t is the
    prediction from t examples."""


class Peer(Model):
    """y_t = head(W h_t + b), with h_t from `hidden`, the one thing that a peer defines.

    Without a `width` h_t is the output itself.
    """

    def __init__(
        self, config: SequenceConfig, d_in: int, d_out: int, *, width: int | None, rngs: nnx.Rngs
    ):
        self.config, self.d_in, self.d_out = config, d_in, d_out
        self.raw = config.head.outputs(d_out)
        self.readout = None if width is None else nnx.Linear(width, self.raw, rngs=rngs)
        self.head = config.head.build()

    @abstractmethod
    def hidden(self, x: Float[Array, "N T F"], mode: str | None) -> Float[Array, "N T H"]:
        """The hidden state at each step, from the features up to it; `mode` as in `__call__`."""

    @abstractmethod
    def mixing(self, length: int) -> int:
        """Operations per token beyond the products with matrices of parameters."""

    @abstractmethod
    def carried(self, length: int) -> int:
        """Floats of the recurrent state after T = `length`: a Transformer's grows with it."""

    def operations(self, length: int) -> int:
        """Floating-point operations per token of a forward pass over T = `length`.

        A multiply-add is two. Every entry of a matrix of parameters is used once per token; to
        them come the recurrence or the attention, and not what is elementwise (biases, gates,
        norms, activations).
        """
        matrices = [p.shape for p in jax.tree.leaves(nnx.state(self)) if p.ndim == 2]
        return 2 * sum(rows * columns for rows, columns in matrices) + self.mixing(length)

    def __call__(
        self,
        inputs: Num[ArrayLike, "N T D"],
        times: Num[ArrayLike, "N T"],
        *,
        steps: Steps = "all",
        mode: str | None = None,
    ) -> Float[Array, "N T O"] | Float[Array, "N O"]:
        """Return the prediction at every step, or at `steps`."""
        inputs, times = check_sequences(self, inputs, times)
        if mode is not None and mode not in self.config.modes:
            known = " or ".join(self.config.modes) or "None, the only execution of this model"
            raise ValueError(f"mode {mode!r} is unknown: use {known}")
        steps = check_steps(steps, *times.shape)
        h = pick(self.hidden(self._features(inputs, times), mode), steps)
        return self.head(h if self.readout is None else self.readout(h))

    def _features(
        self, inputs: Float[Array, "N T D"], times: Float[Array, "N T"]
    ) -> Float[Array, "N T F"]:
        parts = [inputs]
        if self.config.reads_before_writing:
            before = jnp.pad(inputs, ((0, 0), (1, 0), (0, 0)))[:, :-1]
            parts = [before, inputs[..., : -self.d_out]]
        if self.config.read_time:
            parts.append(times[..., None])
        return jnp.concatenate(parts, -1)

    def parts(
        self, x: Float[Array, "N T F"]
    ) -> tuple[Float[Array, "N T token"], Float[Array, "N T query"]]:
        """Of the features: the token that may be written, and the query that is read at."""
        if not self.config.reads_before_writing:
            return x, x
        query = self.d_in + self.d_in - self.d_out
        time = x[..., query:]
        return (
            jnp.concatenate([x[..., : self.d_in], time], -1),
            jnp.concatenate([x[..., self.d_in : query], time], -1),
        )

    def sizes(self, length: int) -> dict[str, int]:
        """Operations per token of the forward pass, floats of the state."""
        return {
            "operations per token": self.operations(length),
            "state floats": self.carried(length),
        }


class Blocks(Peer):
    """Encoder, gated blocks and readout: a deep state-space model, of whose blocks a peer has one.

    Its config has the fields width, layers and mode.
    """

    config: Any
    block: ClassVar[Any]
    """A `Gated` that is made from the config and called with [T, N, H] and a mode."""

    def __init__(self, config: Any, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        super().__init__(config, d_in, d_out, width=config.width, rngs=rngs)
        self.encoder = nnx.Linear(config.features(d_in, d_out), config.width, rngs=rngs)
        self.blocks = nnx.List([self.block(config, rngs=rngs) for _ in range(config.layers)])

    def hidden(self, x, mode=None):
        """The outputs of the last block."""
        x = self.encoder(jnp.swapaxes(x, 0, 1))
        x = through(self, x, lambda x, block: block(x, mode or self.config.mode), "blocks")
        return jnp.swapaxes(x, 0, 1)
