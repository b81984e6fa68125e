"""The contract of a form of A, and A itself: a form together with its parameters.

A form needs `init` and `apply`. What it does not override is derived from `apply`, exactly but
slowly; the forms of this package override it for speed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from wsrnn.errors import naming

# Powers of A amplify every rounding error, and accelerators round products to TF32 or bfloat16
# unless told otherwise: every product on the path of the state asks for full precision.
PRECISION = jax.lax.Precision.HIGHEST

Parameters = dict[str, Any]
Apply = Callable[[Float[Array, "*N P"]], Float[Array, "*N P"]]


class Transition(ABC):
    """A form of the P x P matrix A in theta_t = A theta_{t-1} + B u_t.

    A new form is one frozen dataclass with `init` and `apply`, in this package (then named in
    ``FORMS``, which enrols it in every test of equality) or in an experiment file. Modes scan and
    conv then execute it; parallel needs a cheap `square` too. The other methods have defaults that
    are derived from `apply`, exact but slow. A form is stateless: its parameters are a dict of
    arrays, made by `init` and passed to every method as `A`.
    """

    squaring: ClassVar[Literal["none", "product", "cheap"]] = "none"
    """The cost of `square`. none: not implemented. product: 2 P^3 operations. cheap: little more
    than an `apply`."""
    contract: bool = False
    """Whether A is shrunk to a spectral radius of 1, by `contracted`, after every update."""

    @abstractmethod
    def init(self, key: Array, blocks: tuple[int, ...]) -> Parameters:
        """Draw parameters, for a root network of `blocks` weights in each layer; P is their sum.

        Raises ValueError, with the cure, for sizes that the form does not support.
        """

    @abstractmethod
    def apply(self, A: Parameters, theta: Float[Array, "*N P"]) -> Float[Array, "*N P"]:
        """A theta for each theta [P] of a batch [*N, P]; it must be linear in theta."""

    def prepared(self, A: Parameters) -> Apply:
        """`apply` for a loop: what does not depend on the state is computed here, before it."""
        return partial(self.apply, A)

    def transpose(self, A: Parameters) -> "LinearMap":
        """A^T, which carries the adjoint backwards in time; by transposing `apply`."""
        return LinearMap(Transposed(self), A)

    def square(self, A: Parameters) -> "LinearMap":
        """A A, for forms that are closed under it: those whose `squaring` is not none."""
        raise TypeError(f"{type(self).__name__} has no square")

    def parallel_scan(
        self, A: Parameters, drive: Float[Array, "T *N P"]
    ) -> Float[Array, "T *N P"] | None:
        """`LinearMap.parallel_scan` by a shorter way than squaring; None if there is none."""
        return None

    def factored(
        self, A: Parameters, X: Float[Array, "P C"], x: Float[Array, "T N C"]
    ) -> tuple[Float[Array, "P R"], Float[Array, "T N R"]] | None:
        """W [P, R] and w_t with theta_t = W w_t for the drive X x_t, where R directions suffice.

        The recurrence then runs in R numbers, and one product gives every state. None if the form
        has no such factors.
        """
        return None

    def factored_at(
        self,
        A: Parameters,
        X: Float[Array, "P C"],
        x: Float[Array, "T N C"],
        at: Int[Array, " N"],
    ) -> tuple[Float[Array, "P R"], Float[Array, "N R"]]:
        """W and w of `factored` at each sequence's step `at` alone."""
        factors = self.factored(A, X, x)
        assert factors is not None  # only forms that have them are asked
        W, w = factors
        return W, w[at, jnp.arange(len(at))]

    def dense(self, A: Parameters, size: int) -> Float[Array, "P P"]:
        """A as a matrix: for reports and default operations, never on the hot path."""
        return self.apply(A, jnp.eye(size)).T

    def operations(self, A: Parameters, size: int) -> int:
        """Floating-point operations of one `apply`: a multiply-add for each parameter."""
        return 2 * sum(leaf.size for leaf in jax.tree.leaves(A))

    def spectral_radius(self, A: Parameters, size: int) -> Float[Array, ""]:
        """The largest modulus of an eigenvalue of A; of the dense matrix, 32 P^3 operations."""
        return gelfand_radius(self.dense(A, size))

    def distance_to_identity(self, A: Parameters, size: int) -> Float[Array, ""]:
        """The Frobenius norm of A - I: 0 is a model without memory under the difference drive."""
        return jnp.linalg.norm(self.dense(A, size) - jnp.eye(size))

    def contracted(self, A: Parameters, size: int) -> Parameters:
        """The parameters of A where its spectral radius is at most 1, else of A shrunk to it."""
        raise ValueError(f"{type(self).__name__} has no `contracted`: set contract False")

    # A form whose parameters lie in parts on several devices (`split.Rows`) overrides these.

    def whole(self, A: Parameters) -> "LinearMap":
        """The same A, all of it on every device."""
        return LinearMap(self, A)

    def local_rows(self, A: Parameters, V: Float[Array, "P C"]) -> Float[Array, "p C"]:
        """The rows of V that belong to this device's part of A: all, where A is whole."""
        return V

    def exchanged(self, trajectories: Any) -> Any:
        """The `Trajectories` of all weights, from those of this device's part of A."""
        return trajectories


@dataclass(frozen=True)
class Learned(Transition):
    """A form with parameters that gradient descent can push out of the unit circle."""

    contract: bool = field(default=False, kw_only=True)
    """After every update shrink A to a spectral radius of 1 where it is larger. For a dense A this
    takes 32 P^3 operations on every device, longer than the rest of a small batch."""


@dataclass(frozen=True)
class Transposed(Transition):
    """The transpose of a form that has no own one; see `Transition.transpose`."""

    form: Transition

    def init(self, key, blocks):
        """Those of the form."""
        return self.form.init(key, blocks)

    def apply(self, A, theta):
        """By transposing the linear map `form.apply`."""
        shape = jax.ShapeDtypeStruct(theta.shape, theta.dtype)
        return jax.linear_transpose(partial(self.form.apply, A), shape)(theta)[0]

    def transpose(self, A):
        """Back to the form."""
        return LinearMap(self.form, A)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LinearMap:
    """A: a form and its parameters, as a pytree whose leaves are the parameters."""

    form: Transition = field(metadata={"static": True})
    parameters: Parameters

    @classmethod
    def init(cls, form: Transition, key: Array, blocks: tuple[int, ...]) -> "LinearMap":
        """A fresh A of P = sum(blocks); ValueError for a form that does not keep its contract."""
        _check_form(form, blocks)
        return cls(form, form.init(key, blocks))

    def apply(self, theta: Float[Array, "*N P"]) -> Float[Array, "*N P"]:
        """A theta, for every leading axis."""
        return self.form.apply(self.parameters, theta)

    def prepared(self) -> Apply:
        """`apply`, for a loop."""
        return self.form.prepared(self.parameters)

    @property
    def T(self) -> "LinearMap":
        """The transpose of A."""
        return self.form.transpose(self.parameters)

    @property
    def squared(self) -> "LinearMap":
        """A A."""
        return self.form.square(self.parameters)

    def parallel_scan(self, drive: Float[Array, "T *N P"]) -> Float[Array, "T *N P"]:
        """Return theta_t = A theta_{t-1} + drive_t for all t, theta_{-1} being 0, in log depth.

        Neighbours are joined: theta_{2k+1} = A^2 theta_{2k-1} + (A drive_{2k} + drive_{2k+1}) is
        the same problem of half the length; then theta_{2k} = A theta_{2k-1} + drive_{2k}. About
        2 T products with powers of A in 2 log2 T batches (Blelloch 1990): a constant A needs no
        products of matrices other than squarings.
        """
        if len(drive) == 1:
            return drive
        if (theta := self.form.parallel_scan(self.parameters, drive)) is not None:
            return theta
        even, odd = drive[::2], drive[1::2]
        odd = self.squared.parallel_scan(self.apply(even[: len(odd)]) + odd)
        even = even.at[1:].add(self.apply(odd[: len(even) - 1]))
        pairs = jnp.stack([even[: len(odd)], odd], 1).reshape(2 * len(odd), *drive.shape[1:])
        return pairs if len(even) == len(odd) else jnp.concatenate([pairs, even[-1:]])

    def factored(self, X, x):
        """See `Transition.factored`."""
        return self.form.factored(self.parameters, X, x)

    def factored_at(self, X, x, at):
        """See `Transition.factored_at`."""
        return self.form.factored_at(self.parameters, X, x, at)

    def dense(self, size: int) -> Float[Array, "P P"]:
        """A as a matrix."""
        return self.form.dense(self.parameters, size)

    def operations(self, size: int) -> int:
        """Floating-point operations of one `apply`."""
        return self.form.operations(self.parameters, size)

    def spectral_radius(self, size: int) -> Float[Array, ""]:
        """The largest modulus of an eigenvalue."""
        return self.form.spectral_radius(self.parameters, size)

    def distance_to_identity(self, size: int) -> Float[Array, ""]:
        """The Frobenius norm of A - I."""
        return self.form.distance_to_identity(self.parameters, size)

    def contracted(self, size: int) -> "LinearMap":
        """The same A where its spectral radius is at most 1, else shrunk to that radius."""
        return LinearMap(self.form, self.form.contracted(self.parameters, size))

    def whole(self) -> "LinearMap":
        """The same A, all of it on every device."""
        return self.form.whole(self.parameters)

    def local_rows(self, V: Float[Array, "P C"]) -> Float[Array, "p C"]:
        """The rows of V that belong to this device's part of A."""
        return self.form.local_rows(self.parameters, V)

    def exchanged(self, trajectories: Any) -> Any:
        """The `Trajectories` of all weights, from those of this device's part of A."""
        return self.form.exchanged(trajectories)


@lru_cache(maxsize=256)
def _check_form(form: Transition, blocks: tuple[int, ...]) -> None:
    """Raise ValueError where a form fails for a root of these layers, or gives wrong shapes."""
    name, size = f"transition {type(form).__name__}", sum(blocks)

    def init():
        A = form.init(jax.random.key(0), blocks)
        for path, leaf in jax.tree_util.tree_leaves_with_path(A):
            array = isinstance(leaf, jax.Array | np.ndarray)
            if not array or not jnp.issubdtype(leaf.dtype, jnp.inexact):
                kind = leaf.dtype if array else type(leaf).__name__
                at = jax.tree_util.keystr(path)
                raise ValueError(f"init must return arrays of floats, and A{at} is of {kind}")
        return A

    with naming(name):
        A = jax.eval_shape(init)
    dtype = jnp.result_type(*(jax.tree.leaves(A) or [jnp.float32]))
    theta = jax.ShapeDtypeStruct((2, size), dtype)
    given = f"theta [2, {size}] and A of shapes {jax.tree.map(lambda leaf: [*leaf.shape], A)}"
    with naming(f"{name}: apply fails for {given}"):
        shape = jax.eval_shape(form.apply, A, theta).shape
    if shape != theta.shape:
        raise ValueError(f"{name}: apply must return [2, {size}], got {list(shape)} for {given}")
    with naming(f"{name}: transpose fails, which needs an apply that is linear, for {given}"):
        jax.eval_shape(lambda A, theta: form.transpose(A).apply(theta), A, theta)
    if type(form).__module__.startswith("wsrnn.") or size > 4096:
        return
    with jax.ensure_compile_time_eval():  # a constant that is added has the transpose of 0
        moved = form.apply(form.init(jax.random.key(0), blocks), jnp.zeros((1, size), dtype))
        if jnp.any(moved != 0):
            raise ValueError(f"{name}: apply must be linear, and A 0 is {moved[0, 0]:.3g}, not 0")


def gelfand_radius(matrix: Float[Array, "P P"]) -> Float[Array, ""]:
    """The spectral radius by Gelfand's formula: |A^2m| / |A^m| nears radius^m, up to m = 2^15.

    32 P^3 operations, all in matrix products, where an eigensolver takes as many slow ones. Exact
    to about 1e-4 except for matrices far from normal, whose powers still grow or decay at m by
    their transients, and whose eigenvalues rounding moves in any method.
    """

    def norm_of(power):  # the largest row sum: a norm, and 1 for a delay line
        return jnp.abs(power).sum(1).max()

    def squared(carry):
        k, power, log_norm, _, _ = carry  # A^m = e^log_norm power, m = 2^k, |power| = 1
        power = jnp.matmul(power, power, precision=PRECISION)
        norm = norm_of(power)
        after = 2 * log_norm + jnp.log(norm)
        # The norm itself is a bound: all that is left where the square is lost to rounding.
        growth = jnp.minimum(jnp.where(norm > 0, after - log_norm, jnp.inf), log_norm)
        return k + 1, power / norm, after, jnp.exp(growth / 2.0**k), norm > 0

    def unfinished(carry):
        return (carry[0] < 16) & carry[-1]

    norm = norm_of(matrix)
    first = jnp.zeros((), int), matrix / norm, jnp.log(norm), norm, norm > 0
    return jax.lax.while_loop(unfinished, squared, first)[3]


def time_scales(size: int, radius: float) -> Float[Array, " P"]:
    """Decays of time scales 1 / (1 - a) from 2 to 1,000 steps, even in the logarithm."""
    return radius * (1 - jnp.logspace(jnp.log10(0.5), -3, size))


def check_radius(form: Any) -> None:
    """Raise ValueError for a starting radius that is not above 0 and finite."""
    if not 0 < form.radius < float("inf"):
        raise ValueError(
            f"{type(form).__name__}.radius must be above 0 and finite, got {form.radius}"
        )
