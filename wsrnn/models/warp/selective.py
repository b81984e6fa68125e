"""WARP with an A_t that depends on the token: no convolution, but forms that are parallel in time.

    theta_t = A_t theta_{t-1} + B_t u_t        y_t = root(theta_t, x_q)

delta: theta is a matrix W, the root is W psi(x), and W <- a W (I - b k k^T) + b v k^T makes
W psi(x) = y, with k = psi(x) / |psi(x)| and v = y / |psi(x)|. With b = 1, a = 1 and psi(x) = x it
is normalised least mean squares: without noise its error is (1 - 1 / d)^n. In chunks of matrix
products (`recurrence.delta_rule`).

diagonal: theta_t = a_t theta_{t-1} + B u_t, coordinate by coordinate, with a_t in (0, 1) from the
token, as in selective state-space models (Gu & Dao 2023); by an associative scan.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.choices import choice
from wsrnn.models import check_sequences
from wsrnn.models.peers.base import Peer, PeerConfig, SequenceConfig
from wsrnn.models.warp.lift import LIFTS, Bilinear, Lift
from wsrnn.recurrence import PRECISION, delta_rule
from wsrnn.root import ROOTS, Mlp, Network, Root


@dataclass(frozen=True)
class DeltaWarpConfig(SequenceConfig):
    """A WARP whose linear root is corrected by the delta rule.

    Step t writes token t - 1 and reads at token t's query. There is no other layout, for otherwise
    a token's targets would be written before they are predicted.
    """

    reads_before_writing = True

    psi: Annotated[Lift, choice(lambda: LIFTS)] | None = None
    """Features of x, for keys and queries alike; None takes x itself."""
    gated: bool = False
    """Let each token set how much W decays before it is corrected."""

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.psi, Bilinear):
            raise ValueError(
                "psi Bilinear multiplies with targets, and psi sees x alone: set another lift"
            )

    def sized(self, task):
        """As many features as x has products with itself."""
        if self.psi is None:
            return self
        return replace(self, psi=self.psi.sized(self.x_size(task.d_in, task.d_out) ** 2))

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "DeltaWarp":
        """A fresh model; raises ValueError if d_in leaves no query."""
        return DeltaWarp(self, d_in, d_out, rngs=rngs)


class DeltaWarp(Peer):
    """theta_0, psi, the rates b and, if gated, the decays a are learned."""

    def __init__(self, config: DeltaWarpConfig, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        super().__init__(config, d_in, d_out, width=None, rngs=rngs)
        d, token = d_in - d_out, config.token_size(d_in, d_out)
        self.psi = config.psi.built(d, 0, rngs=rngs) if config.psi else None
        channels = config.psi.channels(d, 0) if config.psi else d
        self.W = nnx.Param(jnp.zeros((self.raw, channels)))
        # at first b = 1 and a = 0.99 whatever the token is
        zeros = nnx.initializers.zeros
        self.rate = nnx.Linear(token, 1, kernel_init=zeros, rngs=rngs)
        self.decay = nnx.Linear(token, 1, kernel_init=zeros, rngs=rngs) if config.gated else None

    def hidden(self, x, mode=None):
        """W psi(x_q) at every step."""
        token, query = self.parts(x)
        d = self.d_in - self.d_out
        k, v = token[..., :d], jnp.pad(token[..., d : self.d_in], self._scales())
        q = query[..., :d]
        if self.psi is not None:
            k, q = self.psi(k), self.psi(q)
        norm = jnp.sqrt(jnp.square(k).sum(-1, keepdims=True) + 1e-12)
        # The first step has no token before it, of which nothing may be made.
        rate = 2 * jax.nn.sigmoid(self.rate(token)[..., 0])
        beta = jnp.where((jnp.arange(x.shape[1]) > 0)[None], rate, 0)
        log_decay = None
        if self.decay is not None:
            log_decay = -jax.nn.softplus(self.decay(token)[..., 0] - 4.6)
        return delta_rule(q, k / norm, v / norm, beta, log_decay, self.W[...][None])[0]

    def mixing(self, length):
        """Read what is stored, correct it, read the query; 2 of these 6 are W's as a parameter."""
        return 4 * math.prod(self.W.shape)

    def carried(self, length):
        """W."""
        return math.prod(self.W.shape)

    def _scales(self):
        """An uncertain model's scales have no values to be corrected to: they stay theta_0's."""
        return ((0, 0), (0, 0), (0, self.raw - self.d_out))


@dataclass(frozen=True)
class SelectiveConfig(PeerConfig):
    """A WARP whose weights each forget as fast as the token says."""

    root: Annotated[Root, choice(lambda: ROOTS)] = field(default_factory=lambda: Mlp(24, 1))
    """The root network, which reads the query (or the token)."""
    lift: Annotated[Lift, choice(lambda: LIFTS)] | None = None
    """Of the token, before B and the decays."""
    input_scale: float = 0.01
    """B is drawn at first with a standard deviation of input_scale / sqrt(its inputs)."""

    def __post_init__(self):
        super().__post_init__()
        if not self.input_scale > 0:
            raise ValueError(f"input_scale must be above 0, got {self.input_scale}")

    def sized(self, task):
        """Sizes of the root by the task's, then those of the lift by the root's."""
        x = self.x_size(task.d_in, task.d_out)
        config = replace(self, root=self.root.sized(x, task.d_out, task.noise))
        if self.lift is None:
            return config
        written = config.network(task.d_in, task.d_out).size
        return replace(config, lift=self.lift.sized(written))

    def network(self, d_in: int, d_out: int) -> Network:
        """The root network for a task of these sizes."""
        return Network(self.root, self.query_size(d_in, d_out), self.head.outputs(d_out))

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "SelectiveWarp":
        """A fresh model; raises ValueError if the layout does not fit d_in and d_out."""
        return SelectiveWarp(self, d_in, d_out, rngs=rngs)


class SelectiveWarp(Peer):
    """B, the map to the decays, theta_0 and the lift are learned."""

    def __init__(self, config: SelectiveConfig, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        super().__init__(config, d_in, d_out, width=None, rngs=rngs)
        token = config.token_size(d_in, d_out)
        self.network = config.network(d_in, d_out)
        self.lift = config.lift.built(token, d_out, rngs=rngs) if config.lift else None
        channels = config.lift.channels(token, d_out) if config.lift else token
        size = self.network.size
        self.theta = nnx.Param(self.network.init(rngs.params()))
        scale = config.input_scale * channels**-0.5
        self.B = nnx.Param(scale * jax.random.normal(rngs.params(), (channels, size)))
        self.decay = nnx.Linear(channels, size, rngs=rngs)

    def hidden(self, x, mode=None):
        """root(theta_t, z_t) at every step."""
        _, z = self.parts(x)
        theta = jnp.moveaxis(self._states(x), 1, 2)
        return jnp.swapaxes(self.network.apply(theta, jnp.swapaxes(z, 1, 2)), 1, 2)

    def states(self, inputs, times):
        """Theta at every step: N T P floats."""
        return self._states(self._features(*check_sequences(self, inputs, times)))

    def _states(self, x: Float[Array, "N T F"]) -> Float[Array, "N T P"]:
        token, _ = self.parts(x)
        u = token if self.lift is None else self.lift(token)
        # at first each weight keeps about 0.98 of itself
        a = jax.nn.sigmoid(self.decay(u) + 4)
        v = jnp.matmul(u, self.B[...], precision=PRECISION)
        if self.config.reads_before_writing:  # nothing was told before the first step
            first = (jnp.arange(x.shape[1]) == 0)[None, :, None]
            a, v = jnp.where(first, 1, a), jnp.where(first, 0, v)
        v = v.at[:, 0].add(a[:, 0] * self.network.initial(self.theta[...])[None])

        def then(one, two):
            return one[0] * two[0], two[0] * one[1] + two[1]

        return jax.lax.associative_scan(then, (a, v), axis=1)[1]

    def mixing(self, length):
        """Forget, add, and the root."""
        return 4 * self.network.size

    def carried(self, length):
        """Theta."""
        return self.network.size
