"""A recurrence over a batch as one value, `Recurrence(A, B, u, start)`, which every layer takes."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.costs import Sizes
from wsrnn.recurrence.transition import PRECISION, LinearMap
from wsrnn.recurrence.write import Write


class InitialState(NamedTuple):
    """theta_0 = S h: a few columns, and how much of each a sequence starts with.

    One learned theta_0 for all is a single column with h = 1.
    """

    S: Float[Array, "P R"]
    h: Float[Array, "N R"]

    @classmethod
    def shared(cls, theta: Float[Array, " P"], N: int) -> "InitialState":
        """The same theta_0 for N sequences."""
        return cls(theta[:, None], jnp.ones((N, 1), theta.dtype))

    @property
    def theta(self) -> Float[Array, "N P"]:
        """theta_0 of each sequence, before B u_0."""
        return jnp.matmul(self.h, self.S.T, precision=PRECISION)


class Recurrence(NamedTuple):
    """theta_t = A theta_{t-1} + B u_t with theta_0 = S h + B u_0, for N sequences of T steps."""

    A: LinearMap
    B: Write
    u: Float[Array, "N T D"]
    start: InitialState

    @property
    def sizes(self) -> Sizes:
        """For the counts of costs."""
        (N, T, D), (P, R) = self.u.shape, self.start.S.shape
        return Sizes(N, T, P, D, R, self.B.multiplied(D))

    @property
    def columns(self) -> Float[Array, "P DR"]:
        """[B, S]: what the kernel starts with."""
        S = self.start.S
        return jnp.concatenate([self.B.matrix(self.u.shape[2], S), S], 1)
