"""The identity plus a matrix of low rank."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.checks import check_fields
from wsrnn.recurrence.transition.base import (
    PRECISION,
    Learned,
    LinearMap,
    gelfand_radius,
    time_scales,
)
from wsrnn.recurrence.transition.dense import Dense, contracted


@dataclass(frozen=True)
class LowRank(Learned):
    """A = I + U V^T with r columns in each: 2 P r parameters, 4 P r operations a step.

    Never formed as a matrix. All but r directions of the state only add up, as with A = I.
    """

    rank: int = 16
    """r, the rank of A - I."""
    start: Literal["identity", "orthogonal", "decay"] = "identity"
    """On r random orthonormal directions: nothing (U = 0), a random rotation, or decays of time
    scales from 2 to 1,000 steps."""

    squaring = "cheap"

    def __post_init__(self):
        check_fields(self)
        if self.rank < 1:
            raise ValueError(f"LowRank.rank must be at least 1, got {self.rank}")

    def init(self, key, blocks):
        """{U [P, r], V [P, r]}."""
        size = sum(blocks)
        if self.rank > size:
            raise ValueError(
                f"P = {size} needs a rank of 1 to P, got {self.rank}: set "
                f"transition.rank to at most {size}, or choose a larger root network"
            )
        turn, key = jax.random.split(key)
        V = jnp.linalg.qr(jax.random.normal(key, (size, self.rank)))[0]
        match self.start:
            case "orthogonal":
                core = jax.random.orthogonal(turn, self.rank)
            case "decay":
                core = jnp.diag(time_scales(self.rank, 1.0))
            case "identity":
                return {"U": jnp.zeros_like(V), "V": V}
        return {"U": jnp.matmul(V, core - jnp.eye(self.rank), precision=PRECISION), "V": V}

    def apply(self, A, theta):
        """Theta + U (V^T theta)."""
        inner = jnp.matmul(theta, A["V"], precision=PRECISION)
        return theta + jnp.matmul(inner, A["U"].T, precision=PRECISION)

    def transpose(self, A):
        """I + V U^T."""
        return LinearMap(self, {"U": A["V"], "V": A["U"]})

    def square(self, A):
        """I + U (2 I + V^T U) V^T, of the same rank."""
        twice = core(A) + jnp.eye(A["U"].shape[1], dtype=A["U"].dtype)
        return LinearMap(self, {"U": jnp.matmul(A["U"], twice, precision=PRECISION), "V": A["V"]})

    def factored(self, A, X, x):
        """theta_t = X sum_{s<=t} x_s + U sum_{s<t} p_s, where p_t = V^T theta_t.

        V^T A = (I + V^T U) V^T, so p_t = (I + V^T U) p_{t-1} + V^T X x_t: r numbers.
        """
        inner = jnp.matmul(A["V"].T, X, precision=PRECISION)
        p = LinearMap(Dense(), {"matrix": core(A)}).parallel_scan(
            jnp.matmul(x, inner.T, precision=PRECISION)
        )
        before = jnp.pad(jnp.cumsum(p, 0)[:-1], ((1, 0), (0, 0), (0, 0)))
        return jnp.concatenate([X, A["U"]], 1), jnp.concatenate([jnp.cumsum(x, 0), before], -1)

    def dense(self, A, size):
        """The matrix."""
        return jnp.eye(size) + jnp.matmul(A["U"], A["V"].T, precision=PRECISION)

    def spectral_radius(self, A, size):
        """Of I + V^T U, and 1 on the complement of V's columns."""
        inner = gelfand_radius(core(A))
        return inner if A["U"].shape[1] == size else jnp.maximum(inner, 1)

    def distance_to_identity(self, A, size):
        """|U V^T|, from the r x r products of U and of V."""
        products = [jnp.matmul(M.T, M, precision=PRECISION) for M in (A["U"], A["V"])]
        return jnp.sqrt(jnp.maximum((products[0] * products[1]).sum(), 0))

    def contracted(self, A, size):
        """U moved along the columns of V until I + V^T U is contracted."""
        excess = contracted(core(A)) - core(A)
        inverse = jnp.linalg.pinv(A["V"])  # V may be of lower rank, or become so
        return {"U": A["U"] + jnp.matmul(inverse.T, excess, precision=PRECISION), "V": A["V"]}


def core(A: dict) -> Float[Array, "r r"]:
    """I + V^T U: what A does to V^T theta, since V^T A = (I + V^T U) V^T."""
    inner = jnp.matmul(A["V"].T, A["U"], precision=PRECISION)
    return jnp.eye(A["U"].shape[1], dtype=A["U"].dtype) + inner
