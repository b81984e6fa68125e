"""A pointwise lift of the tokens before B: the convolution mode is untouched.

A state that is linear in raw tokens cannot hold products such as x y; one linear in lifted tokens
can.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.models import check_options
from wsrnn.recurrence.transition import PRECISION

SIZED = ("mlp", "low_rank", "outer")
"""The lifts that have as many channels as they are told."""


@dataclass(frozen=True)
class LiftConfig:
    """Which lift stands before B, and its sizes."""

    form: Literal["none", "mlp", "bilinear", "low_rank", "outer", "moments"] = "none"
    """none feeds the tokens to B as they are; mlp lifts each by one hidden layer; bilinear takes
    all products x x^T and y x^T of a token (x, y), and the token itself; low_rank learns `size`
    products of two linear forms; outer learns two maps of a token to `size` units and takes every
    product of one's with the other's, the matrix that linear attention adds to its state; moments
    takes every product of two entries of a token once, and 1, so that they are counted."""
    width: int = 64
    """Units of the hidden layer (mlp)."""
    size: int = 48
    """Channels after the lift (mlp, low_rank), or their square root (outer)."""

    def __post_init__(self):
        if min(self.width, self.size) < 1:
            raise ValueError(
                f"lift.width and lift.size must be at least 1, got {self.width} and {self.size}"
            )

    def channels(self, d_in: int, d_out: int) -> int:
        """How many channels B then sees, for tokens that end in d_out values."""
        own = {
            "none": d_in,
            "bilinear": (d_in - d_out + 1) * d_in,
            "moments": d_in * (d_in + 1) // 2 + 1,
            "outer": self.size**2,
        }
        return own.get(self.form, self.size)

    def build(
        self, d_in: int, d_out: int, *, rngs: nnx.Rngs
    ) -> "MlpLift | BilinearLift | LowRankLift | MomentsLift | None":
        """The lift as a module, None where there is none.

        Raises ValueError where products are asked for and tokens hold no values, and for sizes that
        are set and that the form does not have.
        """
        check_options(self, "form", width=("mlp",), size=SIZED)
        if self.form == "bilinear":
            if d_in <= d_out:
                raise ValueError(
                    f"lift bilinear multiplies a token's x with the d_out = {d_out} values that "
                    f"follow it, and d_in = {d_in} leaves no x: set lift.form mlp or none"
                )
            return BilinearLift(d_out)
        if self.form == "moments":
            return MomentsLift()
        if self.form == "low_rank":
            return LowRankLift(self, d_in, rngs=rngs)
        if self.form == "outer":
            return OuterLift(self, d_in, rngs=rngs)
        return None if self.form == "none" else MlpLift(self, d_in, rngs=rngs)


class MlpLift(nnx.Module):
    """v = W_2 relu(W_1 x + b_1) + b_2, for each token by itself."""

    def __init__(self, config: LiftConfig, d_in: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(d_in, config.width, precision=PRECISION, rngs=rngs)
        self.out = nnx.Linear(config.width, config.size, precision=PRECISION, rngs=rngs)

    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Lift every token."""
        return self.out(jax.nn.relu(self.hidden(x)))


class BilinearLift(nnx.Module):
    """(x x^T, y x^T, x, y) of a token (x, y) with `values` numbers y. Nothing is learned."""

    def __init__(self, values: int):
        self.values = values

    def __call__(self, token: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Lift every token."""
        x, y = token[..., : -self.values], token[..., -self.values :]
        products = jnp.concatenate([x, y], -1)[..., :, None] * x[..., None, :]
        return jnp.concatenate([products.reshape(*token.shape[:-1], -1), token], -1)


class LowRankLift(nnx.Module):
    """v = (U x + a) * (V x + b), coordinate by coordinate, for each token by itself."""

    def __init__(self, config: LiftConfig, d_in: int, *, rngs: nnx.Rngs):
        self.left = nnx.Linear(d_in, config.size, precision=PRECISION, rngs=rngs)
        self.right = nnx.Linear(d_in, config.size, precision=PRECISION, rngs=rngs)

    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Lift every token."""
        return self.left(x) * self.right(x)


class OuterLift(LowRankLift):
    """V = (U x + a) (V x + b)^T of a token, row by row."""

    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Lift every token."""
        products = self.left(x)[..., :, None] * self.right(x)[..., None, :]
        return products.reshape(*x.shape[:-1], -1)


class MomentsLift(nnx.Module):
    """(a_i a_j for i <= j, 1) of a token a. Nothing is learned."""

    def __call__(self, token: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Lift every token."""
        # Row by row: the gradient of taking entries by their indices would be a slow scatter.
        rows = [token[..., i : i + 1] * token[..., i:] for i in range(token.shape[-1])]
        return jnp.concatenate([*rows, jnp.ones_like(token[..., :1])], -1)


class Features(nnx.Module):
    """psi(x) = (1, x, tanh(W x + b) - tanh(b)), in place of x of a token (x, y) with `values` y.

    A coordinate of x that is 0 in all tokens adds nothing. At first every unit looks at a few
    coordinates, as many units at each.
    """

    def __init__(self, size: int, d: int, values: int, *, rngs: nnx.Rngs):
        self.values = values
        sees = jnp.arange(size)[:, None] % d == jnp.arange(d)[None]
        noise = jax.random.normal(rngs.params(), (size, d))
        self.W = nnx.Param(sees * jnp.sign(noise) + 0.1 * noise)
        self.b = nnx.Param(jax.random.normal(rngs.params(), (size,)))

    def __call__(self, token: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """(psi(x), y)."""
        x, y = token[..., : -self.values], token[..., -self.values :]
        h = jnp.matmul(x, self.W[...].T, precision=PRECISION)
        b = jnp.broadcast_to(self.b[...], h.shape)
        units = jnp.tanh(h + b) - jnp.tanh(b)
        return jnp.concatenate([jnp.ones_like(y[..., :1]), x, units, y], -1)
