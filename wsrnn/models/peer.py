"""What the models that WARP is measured against share: their inputs, their output, their count."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Int, Num

from wsrnn.models import Model, ModelConfig
from wsrnn.models.head import Head, HeadConfig


@dataclass(frozen=True)
class PeerConfig(ModelConfig):
    """How a peer meets a task; its own file adds its sizes."""

    layout: Literal["standard", "read_before_write"] = "standard"
    """standard: step t sees token t. read_before_write: step t sees token t - 1 and the leading
    channels of token t (its query, without the d_out values at the end), so that y_t is the
    prediction from t examples."""
    read_time: bool = True
    """Feed the time tau beside each token."""
    head: HeadConfig = field(default_factory=HeadConfig)

    @property
    def uncertain(self) -> bool:
        """Whether the model predicts a scale beside each mean."""
        return self.head.uncertain

    @property
    def reads_before_writing(self) -> bool:
        """Whether step t sees of its own token the query part alone."""
        return self.layout == "read_before_write"

    def check_positive(self, *names: str) -> None:
        """Raise a ValueError that names those of the fields that are below 1."""
        if bad := [f"{name} {getattr(self, name)}" for name in names if getattr(self, name) < 1]:
            raise ValueError(f"sizes must be at least 1, got {', '.join(bad)}")

    def features(self, d_in: int, d_out: int) -> int:
        """Channels that the model sees at each step; ValueError if the layout has no query."""
        query = d_in - d_out if self.reads_before_writing else 0
        if self.reads_before_writing and query < 1:
            raise ValueError(
                f"layout read_before_write needs tokens of a query and its d_out values: "
                f"d_in {d_in} leaves no query beside d_out {d_out}"
            )
        return d_in + query + self.read_time

    def told(self, d_in: int, d_out: int) -> int:
        """Of these, the channels that may be written: a token, and the time."""
        self.features(d_in, d_out)
        return d_in + self.read_time

    def asked(self, d_in: int, d_out: int) -> int:
        """And those that may be read at: the token or its query, and the time."""
        self.features(d_in, d_out)
        return (d_in - d_out if self.reads_before_writing else d_in) + self.read_time


class Peer(Model):
    """y_t = head(W h_t + b), with h_t from `hidden`, the one thing that a peer defines.

    Without a `width` h_t is the output itself.
    """

    def __init__(
        self, config: PeerConfig, d_in: int, d_out: int, *, width: int | None, rngs: nnx.Rngs
    ):
        self.config, self.d_in, self.d_out = config, d_in, d_out
        self.raw = d_out * (1 + config.uncertain)
        self.readout = None if width is None else nnx.Linear(width, self.raw, rngs=rngs)
        self.head = Head(config.head)

    @abstractmethod
    def hidden(self, x: Float[Array, "N T F"], mode: str | None) -> Float[Array, "N T H"]:
        """What the features up to each step make of it; `mode` is None or one of the config's."""

    @abstractmethod
    def mixing(self, length: int) -> int:
        """Operations per token beyond the products with matrices of parameters."""

    @abstractmethod
    def carried(self, length: int) -> int:
        """Floats that go from one token to the next: the state, which a Transformer lets grow."""

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
        at: Int[ArrayLike, " N"] | None = None,
        mode: str | None = None,
    ) -> Float[Array, "N T O"] | Float[Array, "N O"]:
        """Return the prediction at every step, or at step `at`."""
        inputs, times = jnp.asarray(inputs), jnp.asarray(times)
        if inputs.ndim != 3 or inputs.shape[2] != self.d_in or times.shape != inputs.shape[:2]:
            raise ValueError(
                f"inputs must be [N, T, {self.d_in}] and times [N, T], "
                f"got {list(inputs.shape)} and {list(times.shape)}"
            )
        if mode is not None and mode not in self.config.modes:
            known = " or ".join(self.config.modes) or "None, the only execution of this model"
            raise ValueError(f"mode {mode!r} is unknown: use {known}")
        h = self.hidden(self._features(inputs, times), mode)
        if at is not None:
            h = jnp.take_along_axis(h, jnp.asarray(at)[:, None, None], 1)[:, 0]
        return self.head(h if self.readout is None else self.readout(h))

    def _features(
        self, inputs: Num[Array, "N T D"], times: Num[Array, "N T"]
    ) -> Float[Array, "N T F"]:
        parts = [inputs]
        if self.config.reads_before_writing:
            before = jnp.pad(inputs, ((0, 0), (1, 0), (0, 0)))[:, :-1]
            parts = [before, inputs[..., : -self.d_out]]
        if self.config.read_time:
            parts.append(times[..., None])
        x = jnp.concatenate(parts, -1)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def parts(
        self, x: Float[Array, "N T F"]
    ) -> tuple[Float[Array, "N T told"], Float[Array, "N T asked"]]:
        """Of the features: what may be written, and what may be read at (see the config)."""
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
