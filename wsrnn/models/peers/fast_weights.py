"""Fast weights: the state of each layer is a matrix that every token updates (Schmidhuber 1992).

`Delta` is DeltaNet (Yang et al. 2024, arXiv 2406.06484) or, gated, gated DeltaNet (2025, arXiv
2412.06464), `Ttt` is TTT-linear (Sun et al. 2024, arXiv 2407.04620). All have the same pre-norm
layers, without the short convolutions of the published ones: those bind neighbouring tokens, and a
token here holds x and y together.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.checks import check_positive
from wsrnn.choices import choice
from wsrnn.models.layered import through
from wsrnn.models.peers.base import Peer, PeerConfig
from wsrnn.recurrence import delta_rule

Tokens = Float[Array, "B T size"]  # B is a head of a sequence


class Rule(ABC):
    """How a token corrects the matrix of a head: a new rule is one class."""

    @abstractmethod
    def build(self, width: int, heads: int, *, rngs: nnx.Rngs) -> "DeltaLayer | TttLayer":
        """The rule as a module, for heads of width / heads channels."""

    @abstractmethod
    def operations(self, size: int) -> int:
        """Floating-point operations of a token and head of `size` channels."""

    def state(self, size: int) -> int:
        """Floats of the state of a head: the matrix."""
        return size**2


@dataclass(frozen=True)
class Delta(Rule):
    """DeltaNet: W <- W (I - b k k^T) + b v k^T, optionally after a decay."""

    gated: bool = False
    """Let each token set how much W decays first (gated DeltaNet)."""

    def build(self, width, heads, *, rngs):
        """Rates, and decays if gated."""
        return DeltaLayer(width, heads, self.gated, rngs=rngs)

    def operations(self, size):
        """Read what is stored, correct it, read the query."""
        return 6 * size**2


@dataclass(frozen=True)
class Ttt(Rule):
    """TTT-linear: gradient descent on |v - k - norm(W k + c)|^2, a mini-batch at a time."""

    batch: int = 16
    """Tokens in a mini-batch, all of whose gradients are taken at its beginning."""

    def __post_init__(self):
        check_positive(self, "batch")

    def build(self, width, heads, *, rngs):
        """Rates, norm, and the inner model's start."""
        return TttLayer(width, heads, self.batch, rngs=rngs)

    def operations(self, size):
        """W k, W q, the update, and the mini-batch among itself."""
        return 6 * size**2 + 4 * size * self.batch

    def state(self, size):
        """The matrix and a vector."""
        return size**2 + size


RULES: tuple[type[Rule], ...] = (Delta, Ttt)


class DeltaLayer(nnx.Module):
    """Unit keys and queries, a rate in (0, 1) for each token and head, and a decay if gated."""

    def __init__(self, width: int, heads: int, gated: bool, *, rngs: nnx.Rngs):
        self.rate = nnx.Linear(width, heads, rngs=rngs)
        self.decay = nnx.Linear(width, heads, rngs=rngs) if gated else None

    def __call__(
        self, q: Tokens, k: Tokens, v: Tokens, x: Float[Array, "N T width"]
    ) -> Float[Array, "B T size"]:
        """What each query reads, its own token included."""
        q, k = _unit(jax.nn.silu(q)), _unit(jax.nn.silu(k))
        beta = _heads_first(jax.nn.sigmoid(self.rate(x)))
        # at first it forgets a hundredth a token
        log_decay = (
            -_heads_first(jax.nn.softplus(self.decay(x) - 4.6)) if self.decay is not None else None
        )
        return delta_rule(q, k, jax.nn.silu(v), beta, log_decay)[0]


class TttLayer(nnx.Module):
    """Learned start (W, c), rate and norm of the inner model."""

    def __init__(self, width: int, heads: int, batch: int, *, rngs: nnx.Rngs):
        size = width // heads
        self.batch = batch
        self.rate = nnx.Linear(width, heads, rngs=rngs)
        normal = jax.random.normal(rngs.params(), (heads, size, size))
        self.W = nnx.Param(0.02 * normal)
        self.c, self.shift = (
            nnx.Param(jnp.zeros((heads, size))),
            nnx.Param(jnp.zeros((heads, size))),
        )
        self.scale = nnx.Param(jnp.ones((heads, size)))

    def __call__(self, q, k, v, x):
        """q_t + norm(W_t q_t + c_t), t's own step of descent included."""
        B, T, size = q.shape
        N, b = len(x), min(self.batch, T)
        eta = _heads_first(jax.nn.sigmoid(self.rate(x))) / size
        scale, shift, W, c = (
            jnp.tile(p[...], (N,) + (1,) * (p[...].ndim - 1))
            for p in (self.scale, self.shift, self.W, self.c)
        )

        def norm(z):
            centred = z - z.mean(-1, keepdims=True)
            spread = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)
            return scale[:, None] * centred * spread + shift[:, None]

        def step(carry, tokens):
            W, c = carry
            q, k, v, eta = tokens
            z = jnp.einsum("bif,bgf->big", k, W) + c[:, None]
            predicted, pull = jax.vjp(norm, z)
            (dz,) = pull(predicted - (v - k))
            dz = eta[..., None] * dz
            # W_t q = W q - sum_{s <= t} dz_s (k_s . q_t), and 1 more for c
            met = jnp.tril(jnp.einsum("bif,bjf->bij", q, k) + 1)
            read = jnp.einsum("bif,bgf->big", q, W) + c[:, None] - met @ dz
            W = W - jnp.einsum("big,bif->bgf", dz, k)
            return (W, c - dz.sum(1)), q + norm(read)

        def batches(a):
            a = jnp.pad(a, [(0, 0), (0, -T % b)] + [(0, 0)] * (a.ndim - 2))
            return jnp.moveaxis(a.reshape(B, -1, b, *a.shape[2:]), 1, 0)

        _, o = jax.lax.scan(step, (W, c), tuple(map(batches, (q, k, v, eta))))
        return jnp.moveaxis(o, 0, 1).reshape(B, -1, size)[:, :T]


@dataclass(frozen=True)
class FastWeightsConfig(PeerConfig):
    """Layers of fast weights, each followed by an MLP."""

    rule: Annotated[Rule, choice(lambda: RULES)] = field(default_factory=Delta)
    """How a token corrects a matrix."""
    width: int = 64
    """Channels between the layers."""
    depth: int = 2
    """Layers, one above the other."""
    heads: int = 2
    """Matrices in each layer, of width / heads rows and columns."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "width", "depth", "heads")
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, got {self.width} and {self.heads}"
            )

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "FastWeights":
        """A fresh model; raises ValueError if the layout does not fit d_in and d_out."""
        return FastWeights(self, d_in, d_out, rngs=rngs)


class Layer(nnx.Module):
    """Fast weights, then an MLP of four times the width; each adds to what it has normalised."""

    def __init__(self, config: FastWeightsConfig, *, rngs: nnx.Rngs):
        width, self.heads = config.width, config.heads
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.rule = config.rule.build(width, self.heads, rngs=rngs)
        self.out_norm = nnx.RMSNorm(width // config.heads, rngs=rngs)
        self.mixed = nnx.Linear(width, width, rngs=rngs)
        self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "N T width"]) -> Float[Array, "N T width"]:
        """The next layer's inputs."""
        N, T, width = x.shape
        normed = self.norm(x)
        qkv = self.qkv(normed).reshape(N, T, 3, self.heads, width // self.heads)
        q, k, v = jnp.transpose(qkv, (2, 0, 3, 1, 4)).reshape(3, N * self.heads, T, -1)
        mixed = self.out_norm(self.rule(q, k, v, normed))
        mixed = jnp.swapaxes(mixed.reshape(N, self.heads, T, -1), 1, 2).reshape(N, T, width)
        x = x + self.mixed(mixed)
        return x + self.down(nnx.gelu(self.up(self.mlp_norm(x))))


class FastWeights(Peer):
    """Embedding, layers, a last norm and readout; `FastWeightsConfig` says the rest."""

    def __init__(self, config: FastWeightsConfig, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        super().__init__(config, d_in, d_out, width=config.width, rngs=rngs)
        self.embed = nnx.Linear(config.features(d_in, d_out), config.width, rngs=rngs)
        self.layers = nnx.List([Layer(config, rngs=rngs) for _ in range(config.depth)])
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)

    def hidden(self, x, mode=None):
        """The outputs of the last layer, normalised."""
        x = self.embed(x)
        x = through(self, x, lambda x, layer: layer(x), "layers")
        return self.norm(x)

    def mixing(self, length):
        """Of every head's matrix, as if step by step."""
        config = self.config
        each = config.rule.operations(config.width // config.heads)
        return config.depth * config.heads * each

    def carried(self, length):
        """The state of every head and layer."""
        config = self.config
        each = config.rule.state(config.width // config.heads)
        return config.depth * config.heads * each


def _unit(x: Tokens) -> Float[Array, "B T size"]:
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)


def _heads_first(x: Float[Array, "N T heads"]) -> Float[Array, "B T"]:
    return jnp.swapaxes(x, 1, 2).reshape(-1, x.shape[1])
