"""A full matrix: the paper's form."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from wsrnn.checks import check_fields
from wsrnn.recurrence.transition.base import (
    PRECISION,
    Learned,
    LinearMap,
    check_radius,
    gelfand_radius,
    time_scales,
)

DenseStart = Literal["identity", "orthogonal", "decay", "delay"]


@dataclass(frozen=True)
class Dense(Learned):
    """A full matrix, as in the paper (section 2): P^2 parameters, 2 P^2 operations a step."""

    start: DenseStart = "identity"
    """identity is the paper's; orthogonal is a random rotation; decay is a diagonal of time scales
    from 2 to 1,000 steps; delay is a delay line."""
    radius: float = 1.0
    """Spectral radius at the start, a factor of all of them."""

    squaring = "product"

    def __post_init__(self):
        check_fields(self)
        check_radius(self)

    def init(self, key, blocks):
        """{matrix [P, P]}."""
        return {"matrix": dense_start(key, sum(blocks), self.start, self.radius)}

    def apply(self, A, theta):
        """One matrix product over all leading axes."""
        return self.prepared(A)(theta)

    def prepared(self, A):
        """With the transpose laid out once: a few rows times it run at the speed of reading it."""
        transposed = A["matrix"].T
        return lambda theta: jnp.matmul(theta, transposed, precision=PRECISION)

    def transpose(self, A):
        """The transposed matrix."""
        return LinearMap(self, {"matrix": A["matrix"].T})

    def square(self, A):
        """2 P^3 operations."""
        return LinearMap(self, {"matrix": square(A["matrix"])})

    def dense(self, A, size):
        """The matrix itself."""
        return A["matrix"]

    def contracted(self, A, size):
        """Divided by its radius where that is above 1; costs as much as the radius does."""
        return {"matrix": contracted(A["matrix"])}


def dense_start(key, size: int, start: DenseStart, radius: float):
    """A matrix [size, size] of spectral radius `radius`, started as the options of `Dense` say."""
    match start:
        case "orthogonal":
            return radius * jax.random.orthogonal(key, size)
        case "decay":
            return jnp.diag(time_scales(size, radius))
        case "delay":
            return radius * jnp.eye(size, k=-1)
        case "identity":
            return radius * jnp.eye(size)


def square(matrix):
    """matrix @ matrix in full precision."""
    return jnp.matmul(matrix, matrix, precision=PRECISION)


def contracted(matrix):
    """The matrix divided by its spectral radius where that is above 1."""
    return matrix / jnp.maximum(gelfand_radius(matrix), 1)
