"""A pointwise lift of the tokens before B: the convolution mode is untouched.

A state that is linear in raw tokens cannot hold products such as x y; one linear in lifted tokens
can.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.checks import check_positive
from wsrnn.errors import naming
from wsrnn.recurrence import PRECISION
from wsrnn.root import monomials

LiftModule = Callable[[Float[Array, "*N D"]], Float[Array, "*N C"]]


class Lift(ABC):
    """A map of each token [D] to a lifted token [C], independent of the other tokens.

    A new lift is one frozen dataclass with `channels` and `build`, in this package (then named in
    ``LIFTS``) or in an experiment file. It acts before the recurrence, so all modes can execute it.
    """

    @property
    def keeps_zero(self) -> bool:
        """Whether a token of zeros is lifted to zeros, so that it writes nothing."""
        return False

    def sized(self, written: int) -> "Lift":
        """The lift with a size that is None filled in, for a root with so many written weights."""
        return self

    @abstractmethod
    def channels(self, d_in: int, d_out: int) -> int:
        """C, the size of a lifted token; the last d_out of a token's d_in channels may be y_t."""

    def spare(self, d_in: int, d_out: int) -> int:
        """How many of the last channels may be left out, with no learned unit then without use."""
        return 0

    @abstractmethod
    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> LiftModule:
        """Return a module from [*N, d_in] to [*N, C], such as an `nnx.Sequential`.

        Raises ValueError, with the cure, for token sizes that it does not support.
        """

    def built(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> LiftModule:
        """What `build` returns; ValueError if it does not give tokens of `channels`."""
        module, size = self.build(d_in, d_out, rngs=rngs), self.channels(d_in, d_out)
        with naming(f"lift {type(self).__name__}: its module fails for tokens [2, {d_in}]"):
            lifted = jax.eval_shape(module, jax.ShapeDtypeStruct((2, d_in), jnp.float32))
        shape = getattr(lifted, "shape", None)
        if shape != (2, size):
            raise ValueError(
                f"lift {type(self).__name__}: the module of build must return [*N, {size}], as "
                f"channels says, for tokens [*N, {d_in}], got {shape} for N = 2"
            )
        return module


@dataclass(frozen=True)
class MlpLift(Lift):
    """v = W_2 relu(W_1 x + b_1) + b_2."""

    width: int = 64
    """Units of the hidden layer."""
    size: int = 48
    """Channels after the lift."""

    def __post_init__(self):
        check_positive(self, "width", "size")

    def channels(self, d_in, d_out):
        """As many as `size`."""
        return self.size

    def build(self, d_in, d_out, *, rngs):
        """Two layers."""
        return TwoLayers(d_in, self.width, self.size, rngs=rngs)


class TwoLayers(nnx.Module):
    """A relu layer, then a linear one."""

    def __init__(self, d_in: int, width: int, size: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(d_in, width, precision=PRECISION, rngs=rngs)
        self.out = nnx.Linear(width, size, precision=PRECISION, rngs=rngs)

    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Both."""
        return self.out(jax.nn.relu(self.hidden(x)))


@dataclass(frozen=True)
class LowRankLift(Lift):
    """v = (U x + a) * (V x + b), elementwise: learned products of two linear forms."""

    size: int = 48
    """Channels after the lift."""

    def __post_init__(self):
        check_positive(self, "size")

    def channels(self, d_in, d_out):
        """As many as `size`."""
        return self.size

    def build(self, d_in, d_out, *, rngs):
        """Two linear maps."""
        return Products(d_in, self.size, self.size, outer=False, rngs=rngs)


@dataclass(frozen=True)
class Outer(Lift):
    """V = (U x + a) (V x + b)^T, row by row: what linear attention adds to its state."""

    size: int | tuple[int, int] | None = None
    """Rows and columns of the outer product, or one number for both; None is as few as have a
    product for each written weight of the root."""

    def __post_init__(self):
        if self.size is not None and min(self.shape) < 1:
            raise ValueError(f"Outer needs sizes of at least 1, got size {self.size}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; ValueError for an open size."""
        if self.size is None:
            raise ValueError(
                "lift Outer has a size of None, which only an experiment fills in from its task: "
                "set it"
            )
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def sized(self, written):
        """The square of the written weights, without the rows that it would not need."""
        if self.size is not None:
            return self
        columns = math.ceil(math.sqrt(written))
        rows = math.ceil(written / columns)
        return replace(self, size=columns if rows == columns else (rows, columns))

    def channels(self, d_in, d_out):
        """All products."""
        return math.prod(self.shape)

    def spare(self, d_in, d_out):
        """All but one of the last row, if the columns have others."""
        rows, columns = self.shape
        return columns - 1 if rows > 1 else 0

    def build(self, d_in, d_out, *, rngs):
        """Two linear maps."""
        return Products(d_in, *self.shape, outer=True, rngs=rngs)


class Products(nnx.Module):
    """Products of two linear maps of a token: elementwise, or each with each."""

    def __init__(self, d_in: int, left: int, right: int, *, outer: bool, rngs: nnx.Rngs):
        self.outer = outer
        self.left = nnx.Linear(d_in, left, precision=PRECISION, rngs=rngs)
        self.right = nnx.Linear(d_in, right, precision=PRECISION, rngs=rngs)

    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """The products."""
        left, right = self.left(x), self.right(x)
        if not self.outer:
            return left * right
        return (left[..., :, None] * right[..., None, :]).reshape(*x.shape[:-1], -1)


@dataclass(frozen=True)
class Bilinear(Lift):
    """(x x^T, y x^T, x, y) of a token (x, y) with d_out targets y. Nothing is learned."""

    def channels(self, d_in, d_out):
        """Products with every entry of x, and the token."""
        return (d_in - d_out + 1) * d_in

    def spare(self, d_in, d_out):
        """Any: nothing is learned."""
        return self.channels(d_in, d_out)

    def build(self, d_in, d_out, *, rngs):
        """For tokens that hold an x."""
        if d_in <= d_out:
            raise ValueError(
                f"lift Bilinear multiplies a token's x with the d_out = {d_out} targets that "
                f"follow it, and d_in = {d_in} leaves no x: set another lift, or None"
            )
        return ProductsWithX(d_out)


class ProductsWithX(nnx.Module):
    """(x x^T, y x^T, x, y)."""

    def __init__(self, d_out: int):
        self.d_out = d_out

    def __call__(self, token: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Every product with an entry of x, and the token."""
        x, y = token[..., : -self.d_out], token[..., -self.d_out :]
        products = jnp.concatenate([x, y], -1)[..., :, None] * x[..., None, :]
        return jnp.concatenate([products.reshape(*token.shape[:-1], -1), token], -1)


@dataclass(frozen=True)
class Moments(Lift):
    """(a_i a_j for i <= j, 1) of a token a: every product once, and a count. Nothing is learned."""

    def channels(self, d_in, d_out):
        """An upper triangle and 1."""
        return d_in * (d_in + 1) // 2 + 1

    def spare(self, d_in, d_out):
        """Any: nothing is learned."""
        return self.channels(d_in, d_out)

    def build(self, d_in, d_out, *, rngs):
        """Nothing to choose."""
        return UpperProducts()


class UpperProducts(nnx.Module):
    """(a_i a_j for i <= j, 1)."""

    def __call__(self, token: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Row by row: the gradient of taking entries by their indices would be a slow scatter."""
        rows = [token[..., i : i + 1] * token[..., i:] for i in range(token.shape[-1])]
        return jnp.concatenate([*rows, jnp.ones_like(token[..., :1])], -1)


@dataclass(frozen=True)
class StepMoments(Lift):
    """(m m^T, e m^T, e, 1) of a token (s, e, 1), s a sample and e its change: for root `OneStep`.

    m are the coordinates, or the monomials up to a degree, of the sample before, s - e, or their
    mean over both. A first sample, whose change is all of it, has none before it: m is 0. Nothing
    is learned.
    """

    degree: int = 1
    """Of the monomials."""
    intercept: bool = False
    """Whether m begins with a constant."""
    trapezoid: bool = False
    """Take the mean of both ends of a step, so that e = D m is the trapezoidal rule of s' = D m(s),
    for a field that is carried on (`CarriedField`), and not for a map."""

    def __post_init__(self):
        check_positive(self, "degree")

    @property
    def keeps_zero(self):
        """The token's own 1 is the count."""
        return True

    def channels(self, d_in, d_out):
        """An upper triangle, d rows, d changes and 1."""
        d = d_in // 2
        K = monomials.count(d, self.degree, self.intercept)
        return K * (K + 1) // 2 + d * K + d + 1

    def build(self, d_in, d_out, *, rngs):
        """For tokens of samples, changes and a flag."""
        if d_in % 2 == 0:
            raise ValueError(
                f"lift StepMoments reads tokens (sample, change, 1), and d_in = {d_in} is even: "
                "set task.strategy Direct(changes=True)"
            )
        return ProductsOfSteps(self)


class ProductsOfSteps(nnx.Module):
    """(m m^T, e m^T, e, 1)."""

    def __init__(self, lift: StepMoments):
        self.lift = lift

    def __call__(self, token: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Row by row."""
        rows = jnp.moveaxis(token, -1, 0)
        d = len(rows) // 2
        s, e = rows[:d], rows[d:-1]
        one = ((s - e) != 0).any(0).astype(token.dtype)
        m = self._features(s - e, one)
        if self.lift.trapezoid:
            m = (m + self._features(s, one)) / 2 * one[None]
        left = [(m[i], m[i:]) for i in range(len(m))] + [(change, m) for change in e]
        products = [a[None] * b for a, b in left]
        return jnp.moveaxis(jnp.concatenate([*products, e, rows[-1:]]), 0, -1)

    def _features(self, s: Float[Array, "d *N"], one: Float[Array, "*N"]) -> Float[Array, "K *N"]:
        return monomials.monomials(s, self.lift.degree, one if self.lift.intercept else None)


LIFTS: tuple[type[Lift], ...] = (MlpLift, Bilinear, Moments, LowRankLift, Outer, StepMoments)
