"""The forms of A: what multiplies the state at every step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# Powers of A amplify every rounding error, and accelerators round products to TF32 or bfloat16
# unless told otherwise: each product on the path of the state asks for full precision.
PRECISION = jax.lax.Precision.HIGHEST

TransitionStart = Literal["identity", "orthogonal", "decay", "delay"]


class Transition(ABC):
    """A linear map A of the state, as a pytree whose leaves are its parameters.

    A new form is one class with these operations and one entry in ``FORMS``, which enrols it in
    every test of equality. Forms are closed under squaring and under transposition: with `apply`,
    all that the fast executions ask for.
    """

    starts: ClassVar[tuple[TransitionStart, ...]]
    """The starts that the form offers; the first is its default."""
    structured: ClassVar[bool] = True
    """Whether a product of A with itself costs little more than one with a state."""
    scaled: ClassVar[bool] = True
    """Whether the form can start at a radius other than 1."""

    @classmethod
    def init(
        cls,
        key: Array,
        size: int,
        start: TransitionStart | None = None,
        radius: float = 1.0,
        **sizes,
    ) -> "Transition":
        """A fresh A of P = size with spectral radius `radius`, from the start named by `start`.

        Raises ValueError, naming the cure, for a start or a radius that the form does not have.
        """
        start = start or cls.starts[0]
        if start not in cls.starts:
            raise ValueError(
                f"a transition of form {cls.name()} has no start {start!r}: "
                f"use {' or '.join(cls.starts)}, or None for its own"
            )
        if radius != 1 and not cls.scaled:
            raise ValueError(
                f"a transition of form {cls.name()} has radius 1 and no other: got {radius}"
            )
        return cls.begin(key, size, start, radius, **sizes)

    @classmethod
    @abstractmethod
    def begin(cls, key: Array, size: int, start: str, radius: float) -> "Transition":
        """`init` after its checks."""

    @classmethod
    def name(cls) -> str:
        """What ``FORMS`` calls this class, or the one it is derived from."""
        return next(name for name, form in FORMS.items() if issubclass(cls, form))

    @abstractmethod
    def apply(self, theta: Float[Array, "*N P"]) -> Float[Array, "*N P"]:
        """A theta, for every leading axis."""

    def repeatedly(self) -> Callable[[Float[Array, "*N P"]], Float[Array, "*N P"]]:
        """`apply`, for a loop: what does not depend on the state is done here, before it."""
        return self.apply

    def whole(self) -> "Transition":
        """The same A, where its parts lie on several devices (`split.Rows`) on each of them."""
        return self

    def mine(self, V: Float[Array, "P C"]) -> Float[Array, "p C"]:
        """The rows of V that belong to this device's part of A: all, where A is whole."""
        return V

    def gathered(self, states: Any) -> Any:
        """The `Trajectories` of all weights, from those of this device's part of A."""
        return states

    @property
    @abstractmethod
    def T(self) -> "Transition":
        """The transpose of A, which carries the adjoint backwards in time."""

    @property
    @abstractmethod
    def squared(self) -> "Transition":
        """A A, in the same form."""

    def cumulate(self, drive: Float[Array, "T *N P"]) -> Float[Array, "T *N P"]:
        """Return theta_t = A theta_{t-1} + drive_t for all t, theta_{-1} being 0, in log depth.

        Neighbours are joined: theta_{2k+1} = A^2 theta_{2k-1} + (A drive_{2k} + drive_{2k+1}) is
        the same problem of half the length; then theta_{2k} = A theta_{2k-1} + drive_{2k}. About
        2 T products with powers of A in 2 log2 T batches (Blelloch 1990): a constant A needs no
        products of transitions other than squarings.
        """
        if len(drive) == 1:
            return drive
        even, odd = drive[::2], drive[1::2]
        odd = self.squared.cumulate(self.apply(even[: len(odd)]) + odd)
        even = even.at[1:].add(self.apply(odd[: len(even) - 1]))
        pairs = jnp.stack([even[: len(odd)], odd], 1).reshape(2 * len(odd), *drive.shape[1:])
        return pairs if len(even) == len(odd) else jnp.concatenate([pairs, even[-1:]])

    def narrow(
        self, X: Float[Array, "P C"], x: Float[Array, "T N C"]
    ) -> tuple[Float[Array, "P R"], Float[Array, "T N R"]] | None:
        """Return W, w with theta_t = W w_t for the drive X x_t, where R directions suffice for all.

        None if the form has no such directions. The recurrence then runs in R numbers, and a single
        product gives every state.
        """
        return None

    def narrow_at(
        self, X: Float[Array, "P C"], x: Float[Array, "T N C"], at: Int[Array, " N"]
    ) -> tuple[Float[Array, "P R"], Float[Array, "N R"]]:
        """W, w of `narrow` at each sequence's step `at` alone."""
        W, w = self.narrow(X, x)
        return W, w[at, jnp.arange(len(at))]

    @abstractmethod
    def dense(self, size: int) -> Float[Array, "P P"]:
        """A as a matrix: for tests and reports, never on the hot path."""

    @abstractmethod
    def operations(self, size: int) -> int:
        """Floating-point operations of one product with a state of P = size."""

    @abstractmethod
    def spectral_radius(self) -> Float[Array, ""]:
        """The largest modulus of an eigenvalue."""

    @abstractmethod
    def distance_to_identity(self, size: int) -> Float[Array, ""]:
        """The Frobenius norm of A - I: 0 is a model without memory under the difference drive."""

    @abstractmethod
    def contracted(self) -> "Transition":
        """The same A where its spectral radius is at most 1, else shrunk to that radius."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dense(Transition):
    """A full matrix, as in the paper (section 2): P^2 parameters, 2 P^2 operations a step."""

    A: Any  # [P, P]; not always an array: jax also builds trees of shapes and of placeholders

    starts = ("identity", "orthogonal", "decay", "delay")
    structured = False

    @classmethod
    def begin(cls, key, size, start, radius):
        """I, a random rotation, decays over time scales, or a delay line, times radius."""
        match start:
            case "orthogonal":
                return cls(radius * jax.random.orthogonal(key, size))
            case "decay":
                return cls(jnp.diag(_decays(size, radius)))
            case "delay":
                return cls(radius * jnp.eye(size, k=-1))
        return cls(radius * jnp.eye(size))

    def apply(self, theta):
        """A theta, as one matrix product over all leading axes."""
        return self.repeatedly()(theta)

    def repeatedly(self):
        """With the transpose laid out once: a few rows times it run at the speed of reading it."""
        transposed = self.A.T
        return lambda theta: jnp.matmul(theta, transposed, precision=PRECISION)

    @property
    def T(self):
        """The transposed matrix."""
        return Dense(self.A.T)

    @property
    def squared(self):
        """2 P^3 operations."""
        return Dense(jnp.matmul(self.A, self.A, precision=PRECISION))

    def dense(self, size):
        """The matrix itself."""
        return self.A

    def operations(self, size):
        """A multiplication and an addition for each entry."""
        return 2 * size**2

    def spectral_radius(self):
        """By Gelfand's formula: |A^2m| / |A^m| nears radius^m; sixteen squarings give m = 2^15.

        32 P^3 operations, all in matrix products, where an eigensolver takes as many slow ones.
        Exact to about 1e-4 but for matrices far from normal, whose powers still grow or fall by
        themselves at m, and whose eigenvalues rounding moves in any method.
        """

        def largest(power):  # row sum: a norm, and 1 for a delay line
            return jnp.abs(power).sum(1).max()

        def squared(carry):
            k, power, log_norm, _, _ = carry  # A^m = e^log_norm power, m = 2^k, |power| = 1
            power = jnp.matmul(power, power, precision=PRECISION)
            norm = largest(power)
            after = 2 * log_norm + jnp.log(norm)
            # The norm itself is a bound: all that is left where the square is lost to rounding.
            growth = jnp.minimum(jnp.where(norm > 0, after - log_norm, jnp.inf), log_norm)
            return k + 1, power / norm, after, jnp.exp(growth / 2.0**k), norm > 0

        def unfinished(carry):
            return (carry[0] < 16) & carry[-1]

        size = largest(self.A)
        start = jnp.zeros((), int), self.A / size, jnp.log(size), size, size > 0
        return jax.lax.while_loop(unfinished, squared, start)[3]

    def distance_to_identity(self, size):
        """Of the matrix."""
        return jnp.linalg.norm(self.A - jnp.eye(size))

    def contracted(self):
        """Divided by its radius where that is above 1; costs as much as the radius does."""
        return Dense(self.A / jnp.maximum(self.spectral_radius(), 1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Identity(Transition):
    """A = I: the state is theta_0 plus the sum of all drives. No parameters."""

    starts = ("identity",)
    scaled = False

    @classmethod
    def begin(cls, key, size, start, radius):
        """Nothing to draw."""
        return cls()

    def apply(self, theta):
        """Theta, unchanged."""
        return theta

    def cumulate(self, drive):
        """Running sums."""
        return jnp.cumsum(drive, 0)

    def narrow(self, X, x):
        """The running sums of the channels."""
        return X, self.cumulate(x)

    def narrow_at(self, X, x, at):
        """One sum of each channel: running ones take log T passes."""
        until = (jnp.arange(len(x))[:, None] <= at[None]).astype(x.dtype)
        return X, jnp.einsum("tnc,tn->nc", x, until, precision=PRECISION)

    @property
    def T(self):
        """Itself."""
        return self

    @property
    def squared(self):
        """Itself."""
        return self

    def dense(self, size):
        """The identity matrix."""
        return jnp.eye(size)

    def operations(self, size):
        """None."""
        return 0

    def spectral_radius(self):
        """One."""
        return jnp.ones(())

    def distance_to_identity(self, size):
        """Zero."""
        return jnp.zeros(())

    def contracted(self):
        """Itself."""
        return self


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scalar(Transition):
    """A = a I: one decay for all weights, a learned rate of forgetting."""

    a: Any  # []

    starts = ("identity",)

    @classmethod
    def begin(cls, key, size, start, radius):
        """Start at `radius`."""
        return cls(jnp.asarray(radius, float))

    def apply(self, theta):
        """A theta, elementwise."""
        return self.a * theta

    def narrow(self, X, x):
        """Each channel forgets by itself."""
        return X, self.cumulate(x)

    @property
    def T(self):
        """Itself."""
        return self

    @property
    def squared(self):
        """The decay squared."""
        return Scalar(self.a**2)

    def dense(self, size):
        """A multiple of the identity matrix."""
        return self.a * jnp.eye(size)

    def operations(self, size):
        """One multiplication for each weight."""
        return size

    def spectral_radius(self):
        """The modulus of a."""
        return jnp.abs(self.a)

    def distance_to_identity(self, size):
        """Of P equal entries."""
        return size**0.5 * jnp.abs(self.a - 1)

    def contracted(self):
        """Clipped."""
        return Scalar(jnp.clip(self.a, -1, 1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Diagonal(Transition):
    """One real decay for each weight: P parameters, P operations a step."""

    a: Any  # [P]

    starts = ("identity", "decay")

    @classmethod
    def begin(cls, key, size, start, radius):
        """Start at `radius` everywhere, or at decays spread over time scales."""
        return cls(_decays(size, radius) if start == "decay" else jnp.full((size,), radius))

    def apply(self, theta):
        """A theta, elementwise."""
        return theta * jnp.broadcast_to(self.a, theta.shape)

    @property
    def T(self):
        """Itself: a diagonal is symmetric."""
        return self

    @property
    def squared(self):
        """The squares of the entries."""
        return Diagonal(self.a**2)

    def dense(self, size):
        """The diagonal matrix."""
        return jnp.diag(self.a)

    def operations(self, size):
        """One multiplication for each weight."""
        return size

    def spectral_radius(self):
        """The largest modulus on the diagonal."""
        return jnp.abs(self.a).max()

    def distance_to_identity(self, size):
        """Of the diagonal."""
        return jnp.linalg.norm(self.a - 1)

    def contracted(self):
        """Clipped."""
        return Diagonal(jnp.clip(self.a, -1, 1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rotation(Transition):
    """Weights in pairs, each pair turned and shrunk: the real form of a complex diagonal.

    Weight i and weight i + P // 2 are the real and the imaginary part of one number, which a step
    multiplies by radius_i e^(i angle_i). With an odd P the last weight stands alone and has a
    radius only. P parameters, about 3 P operations a step.
    """

    radius: Any  # [P - P // 2]
    angle: Any  # [P // 2]

    starts = ("orthogonal", "identity", "decay")

    @classmethod
    def begin(cls, key, size, start, radius):
        """Random angles at one radius, none, or none at decays spread over time scales."""
        pairs, rows = size // 2, size - size // 2
        angle = jnp.zeros(pairs)
        if start == "orthogonal":
            angle = jax.random.uniform(key, (pairs,), minval=-jnp.pi, maxval=jnp.pi)
        return cls(_decays(rows, radius) if start == "decay" else jnp.full(rows, radius), angle)

    def apply(self, theta):
        """A theta, pair by pair."""
        pairs = len(self.angle)
        real, imaginary, alone = jnp.split(theta, (pairs, 2 * pairs), -1)
        cos, sin = (
            jnp.broadcast_to(self.radius[:pairs] * f(self.angle), real.shape)
            for f in (jnp.cos, jnp.sin)
        )
        turned = [real * cos - imaginary * sin, real * sin + imaginary * cos]
        return jnp.concatenate(
            [*turned, alone * jnp.broadcast_to(self.radius[pairs:], alone.shape)], -1
        )

    @property
    def T(self):
        """Turns the other way."""
        return Rotation(self.radius, -self.angle)

    @property
    def squared(self):
        """Twice the angle, the square of the radius."""
        return Rotation(self.radius**2, 2 * self.angle)

    def dense(self, size):
        """The matrix of what `apply` does."""
        return self.apply(jnp.eye(size, dtype=self.radius.dtype)).T

    def operations(self, size):
        """Four multiplications and two additions for each pair."""
        return 3 * size

    def spectral_radius(self):
        """The largest radius."""
        return jnp.abs(self.radius).max()

    def contracted(self):
        """With its radii clipped."""
        return Rotation(jnp.clip(self.radius, -1, 1), self.angle)

    def distance_to_identity(self, size):
        """Each pair gives 2 |radius e^(i angle) - 1|^2."""
        pairs = len(self.angle)
        turned = self.radius[:pairs] * jnp.exp(1j * self.angle) - 1
        square = 2 * (jnp.abs(turned) ** 2).sum() + ((self.radius[pairs:] - 1) ** 2).sum()
        return jnp.sqrt(square)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shift(Transition):
    """A delay line: every step moves the weights `by` places on, and zeros follow. No parameters.

    What B writes is forgotten once it has been shifted out, after P steps at most.
    """

    by: int = field(default=1, metadata={"static": True})

    starts = ("delay",)
    scaled = False

    @classmethod
    def begin(cls, key, size, start, radius):
        """Nothing to draw."""
        return cls()

    def apply(self, theta):
        """Theta, moved and filled up with zeros."""
        size = theta.shape[-1]
        by = max(-size, min(self.by, size))
        moved = theta[..., : size - by] if by >= 0 else theta[..., -by:]
        return jnp.pad(moved, [(0, 0)] * (theta.ndim - 1) + [(max(by, 0), max(-by, 0))])

    @property
    def T(self):
        """Moves the other way."""
        return Shift(-self.by)

    @property
    def squared(self):
        """Twice as far."""
        return Shift(2 * self.by)

    def dense(self, size):
        """Ones on one diagonal."""
        return jnp.eye(size, k=-self.by)

    def operations(self, size):
        """None: weights are copied."""
        return 0

    def spectral_radius(self):
        """Zero: some power of A is."""
        return jnp.zeros(())

    def distance_to_identity(self, size):
        """Ones on two diagonals."""
        return jnp.sqrt(jnp.asarray(size + max(size - abs(self.by), 0), float))

    def contracted(self):
        """Itself."""
        return self


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BlockDiagonal(Transition):
    """A dense block for each group of weights, such as a layer of the root network."""

    blocks: Any  # a tuple of [p, p], their sizes adding up to P

    starts = ("identity", "orthogonal", "decay")

    @classmethod
    def begin(cls, key, size, start, radius, *, blocks=None):
        """Blocks of the given sizes (one block if none are given), each as `Dense` starts."""
        blocks = blocks or (size,)
        if sum(blocks) != size:
            raise ValueError(f"blocks of {list(blocks)} do not add up to P = {size}")
        if start == "decay":
            bounds = np.cumsum([0, *blocks])
            decays = _decays(size, radius)
            return cls(tuple(jnp.diag(decays[a:b]) for a, b in pairwise(bounds)))
        keys = jax.random.split(key, len(blocks))
        return cls(
            tuple(Dense.begin(k, b, start, radius).A for k, b in zip(keys, blocks, strict=True))
        )

    def apply(self, theta):
        """A theta, block by block."""
        bounds = np.cumsum([0, *map(len, self.blocks)])
        parts = [theta[..., a:b] for a, b in pairwise(bounds)]
        return jnp.concatenate(
            [
                jnp.matmul(x, A.T, precision=PRECISION)
                for x, A in zip(parts, self.blocks, strict=True)
            ],
            -1,
        )

    @property
    def T(self):
        """Every block transposed."""
        return BlockDiagonal(tuple(A.T for A in self.blocks))

    @property
    def squared(self):
        """Every block squared."""
        return BlockDiagonal(tuple(Dense(A).squared.A for A in self.blocks))

    def dense(self, size):
        """The blocks on the diagonal."""
        return jax.scipy.linalg.block_diag(*self.blocks)

    def operations(self, size):
        """A multiplication and an addition for each entry."""
        return sum(2 * len(A) ** 2 for A in self.blocks)

    def spectral_radius(self):
        """The largest of the blocks'."""
        return jnp.stack([Dense(A).spectral_radius() for A in self.blocks]).max()

    def distance_to_identity(self, size):
        """Of the blocks together."""
        parts = [Dense(A).distance_to_identity(len(A)) for A in self.blocks]
        return jnp.linalg.norm(jnp.stack(parts))

    def contracted(self):
        """Every block by itself."""
        return BlockDiagonal(tuple(Dense(A).contracted().A for A in self.blocks))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowRank(Transition):
    """A = I + U V^T with r columns in each: 2 P r parameters, 4 P r operations a step.

    Never formed as a matrix. All but r directions of the state only add up, as with A = I.
    """

    U: Any  # [P, r]
    V: Any  # [P, r]

    starts = ("identity", "orthogonal", "decay")
    scaled = False

    @classmethod
    def begin(cls, key, size, start, radius, *, rank=16):
        """On r random orthonormal directions: I (U = 0), a random rotation, or decays."""
        if not 1 <= rank <= size:
            raise ValueError(
                f"a low rank transition of P = {size} needs a rank of 1 to P, got {rank}: set "
                f"transition.rank to at most {size}, or choose a larger root network"
            )
        turn, key = jax.random.split(key)
        V = jnp.linalg.qr(jax.random.normal(key, (size, rank)))[0]
        match start:
            case "orthogonal":
                core = jax.random.orthogonal(turn, rank)
            case "decay":
                core = jnp.diag(_decays(rank, 1.0))
            case _:
                return cls(jnp.zeros_like(V), V)
        return cls(jnp.matmul(V, core - jnp.eye(rank), precision=PRECISION), V)

    def apply(self, theta):
        """Theta + U (V^T theta)."""
        inner = jnp.matmul(theta, self.V, precision=PRECISION)
        return theta + jnp.matmul(inner, self.U.T, precision=PRECISION)

    def narrow(self, X, x):
        """theta_t = X sum_{s<=t} x_s + U sum_{s<t} p_s, where p_t = V^T theta_t.

        V^T A = (I + V^T U) V^T, so p_t = (I + V^T U) p_{t-1} + V^T X x_t: r numbers.
        """
        inner = jnp.matmul(self.V.T, X, precision=PRECISION)
        p = Dense(self.core).cumulate(jnp.matmul(x, inner.T, precision=PRECISION))
        before = jnp.pad(jnp.cumsum(p, 0)[:-1], ((1, 0), (0, 0), (0, 0)))
        return jnp.concatenate([X, self.U], 1), jnp.concatenate([jnp.cumsum(x, 0), before], -1)

    @property
    def T(self):
        """I + V U^T."""
        return LowRank(self.V, self.U)

    @property
    def squared(self):
        """I + U (2 I + V^T U) V^T, of the same rank."""
        core = self.core + jnp.eye(self.U.shape[1], dtype=self.U.dtype)
        return LowRank(jnp.matmul(self.U, core, precision=PRECISION), self.V)

    @property
    def core(self) -> Float[Array, "r r"]:
        """I + V^T U: what A does to V^T theta, since V^T A = (I + V^T U) V^T."""
        inner = jnp.matmul(self.V.T, self.U, precision=PRECISION)
        return jnp.eye(self.U.shape[1], dtype=self.U.dtype) + inner

    def dense(self, size):
        """The matrix."""
        return jnp.eye(size) + jnp.matmul(self.U, self.V.T, precision=PRECISION)

    def operations(self, size):
        """Two thin products."""
        return 4 * size * self.U.shape[1]

    def spectral_radius(self):
        """Of I + V^T U, and 1 on what V does not see."""
        size, rank = self.U.shape
        inner = Dense(self.core).spectral_radius()
        return inner if rank == size else jnp.maximum(inner, 1)

    def distance_to_identity(self, size):
        """|U V^T|, from the r x r products of U and of V."""
        products = [jnp.matmul(M.T, M, precision=PRECISION) for M in (self.U, self.V)]
        return jnp.sqrt(jnp.maximum((products[0] * products[1]).sum(), 0))

    def contracted(self):
        """U moved along the columns of V until I + V^T U is contracted."""
        excess = Dense(self.core).contracted().A - self.core
        inverse = jnp.linalg.pinv(self.V)  # V may be of lower rank, or become so
        return LowRank(self.U + jnp.matmul(inverse.T, excess, precision=PRECISION), self.V)


FORMS: dict[str, type[Transition]] = {
    "dense": Dense,
    "identity": Identity,
    "scalar": Scalar,
    "diagonal": Diagonal,
    "rotation": Rotation,
    "shift": Shift,
    "block_diagonal": BlockDiagonal,
    "low_rank": LowRank,
}


def _decays(size: int, radius: float) -> Float[Array, " P"]:
    """Decays of time scales 1 / (1 - a) from 2 to 1,000 steps, even in the logarithm."""
    return radius * (1 - jnp.logspace(jnp.log10(0.5), -3, size))
