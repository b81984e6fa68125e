"""The forms of A: what multiplies the state at every step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Powers of A amplify every rounding error, and accelerators round products to TF32 or bfloat16
# unless told otherwise: each product on the path of the state asks for full precision.
PRECISION = jax.lax.Precision.HIGHEST

TransitionStart = Literal["identity", "orthogonal", "decay"]


class Transition(ABC):
    """A linear map A of the state, as a pytree whose leaves are its parameters.

    A new form is one class with these operations and one entry in ``FORMS``, which enrols it in
    every test of equality.
    """

    @classmethod
    @abstractmethod
    def init(
        cls, key: Array, size: int, start: TransitionStart = "identity", radius: float = 1.0
    ) -> "Transition":
        """A fresh A of P = size with spectral radius `radius`, from the start named by `start`."""

    @abstractmethod
    def apply(self, theta: Float[Array, "*N P"]) -> Float[Array, "*N P"]:
        """A theta, for every leading axis."""

    @property
    @abstractmethod
    def T(self) -> "Transition":
        """The transpose of A, which carries the adjoint backwards in time."""

    @abstractmethod
    def dense(self, size: int) -> Float[Array, "P P"]:
        """A as a matrix: for tests and reports, never on the hot path."""

    @abstractmethod
    def spectral_radius(self) -> float:
        """The largest modulus of an eigenvalue, computed on the host."""

    @abstractmethod
    def distance_to_identity(self) -> float:
        """The Frobenius norm of A - I: 0 is a model without memory under the difference drive."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dense(Transition):
    """A full matrix, as in the paper (section 2): P^2 parameters, 2 P^2 operations a step."""

    A: Any  # [P, P]; not always an array: jax also builds trees of shapes and of placeholders

    @classmethod
    def init(cls, key, size, start="identity", radius=1.0):
        """Start at I, at a random rotation, or at decays over time scales, times radius."""
        if start == "orthogonal":
            return cls(radius * jax.random.orthogonal(key, size))
        if start == "decay":
            return cls(jnp.diag(_decays(size, radius)))
        return cls(radius * jnp.eye(size))

    def apply(self, theta):
        """A theta, as one matrix product over all leading axes."""
        return jnp.matmul(theta, self.A.T, precision=PRECISION)

    @property
    def T(self):
        """The transposed matrix."""
        return Dense(self.A.T)

    def dense(self, size):
        """The matrix itself."""
        return self.A

    def spectral_radius(self):
        """By Gelfand's formula: |A^2m| / |A^m| grows like radius^m; ten squarings give m = 512.

        20 P^3 operations, all in matrix products, where an eigensolver takes as many slow ones. A
        matrix far from normal whose powers still grow by themselves at m = 512 is overestimated.
        """
        power, log_norm = self.A, 0.0
        for _ in range(10):
            # A^m = e^log_norm power, and |power| = 1 before each squaring
            norm = jnp.linalg.norm(power)
            if norm == 0:
                return 0.0
            before = log_norm + jnp.log(norm)
            power = jnp.matmul(power / norm, power / norm, precision=PRECISION)
            log_norm = 2 * before
        growth = log_norm + jnp.log(jnp.linalg.norm(power)) - before
        return float(jnp.exp(growth / 512))

    def distance_to_identity(self):
        """Of the matrix."""
        return float(jnp.linalg.norm(self.A - jnp.eye(len(self.A))))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Diagonal(Transition):
    """One real decay for each weight: P parameters, P operations a step."""

    a: Any  # [P]

    @classmethod
    def init(cls, key, size, start="identity", radius=1.0):
        """Start at `radius` everywhere, or at decays spread over time scales."""
        if start == "orthogonal":
            raise ValueError("a diagonal A has no orthogonal start: use identity or decay")
        return cls(_decays(size, radius) if start == "decay" else jnp.full((size,), radius))

    def apply(self, theta):
        """A theta, elementwise."""
        return theta * jnp.broadcast_to(self.a, theta.shape)

    @property
    def T(self):
        """Itself: a diagonal is symmetric."""
        return self

    def dense(self, size):
        """The diagonal matrix."""
        return jnp.diag(self.a)

    def spectral_radius(self):
        """The largest modulus on the diagonal."""
        return float(np.abs(np.asarray(self.a)).max())

    def distance_to_identity(self):
        """Of the diagonal."""
        return float(jnp.linalg.norm(self.a - 1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Identity(Transition):
    """A = I: the state is theta_0 plus the sum of all drives. No parameters."""

    @classmethod
    def init(cls, key, size, start="identity", radius=1.0):
        """Nothing to draw; any other start than the identity of radius 1 is refused."""
        if start != "identity" or radius != 1.0:
            raise ValueError("transition form identity has one start: identity, radius 1")
        return cls()

    def apply(self, theta):
        """Theta, unchanged."""
        return theta

    @property
    def T(self):
        """Itself."""
        return self

    def dense(self, size):
        """The identity matrix."""
        return jnp.eye(size)

    def spectral_radius(self):
        """One."""
        return 1.0

    def distance_to_identity(self):
        """Zero."""
        return 0.0


FORMS: dict[str, type[Transition]] = {"dense": Dense, "diagonal": Diagonal, "identity": Identity}


def _decays(size: int, radius: float) -> Float[Array, " P"]:
    """Decays of time scales 1 / (1 - a) from 2 to 1,000 steps, even in the logarithm."""
    return radius * (1 - jnp.logspace(jnp.log10(0.5), -3, size))
