"""Learned features of x, in tokens and queries alike."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.checks import check_positive
from wsrnn.recurrence import PRECISION


@dataclass(frozen=True)
class Features:
    """psi(x) = (1, x, units tanh(W x + b) - tanh(b)) in place of x of a token (x, y)."""

    units: int = 16
    """Learned features."""

    def __post_init__(self):
        check_positive(self, "units")

    @property
    def added(self) -> int:
        """Channels that psi(x) has beyond x."""
        return 1 + self.units

    def build(self, d: int, d_out: int, *, rngs: nnx.Rngs) -> "FeatureMap":
        """Of tokens with d channels of x and d_out of y."""
        return FeatureMap(self.units, d, d_out, rngs=rngs)


class FeatureMap(nnx.Module):
    """(x, y) to (psi(x), y).

    A coordinate of x that is 0 in all tokens adds nothing. At first every unit depends on a few
    coordinates, as many units on each.
    """

    def __init__(self, units: int, d: int, d_out: int, *, rngs: nnx.Rngs):
        self.d_out = d_out
        mask = jnp.arange(units)[:, None] % d == jnp.arange(d)[None]
        noise = jax.random.normal(rngs.params(), (units, d))
        self.W = nnx.Param(mask * jnp.sign(noise) + 0.1 * noise)
        self.b = nnx.Param(jax.random.normal(rngs.params(), (units,)))

    def __call__(self, token: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """(psi(x), y)."""
        x, y = token[..., : -self.d_out], token[..., -self.d_out :]
        h = jnp.matmul(x, self.W[...].T, precision=PRECISION)
        b = jnp.broadcast_to(self.b[...], h.shape)
        units = jnp.tanh(h + b) - jnp.tanh(b)
        return jnp.concatenate([jnp.ones_like(y[..., :1]), x, units, y], -1)
