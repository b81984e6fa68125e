"""A recurrence over a batch as one value, `Recurrence(A, B, u, start)`, which every layer takes."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.costs import Sizes
from wsrnn.recurrence.transition import PRECISION, LinearMap
from wsrnn.recurrence.write import Projection, Write


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

    def strided(self, doublings: int) -> "Recurrence":
        """The recurrence of its states at the steps 0, c, 2 c, ..., with c = 2^doublings.

        theta_{jc} = A^c theta_{(j-1)c} + sum_{i<c} A^i B u_{jc-i} is a recurrence again: of A^c,
        of the columns A^i B side by side, and of the c inputs up to step j c as one of c D
        channels. Exact; the states between are never formed. Cost: `doublings` squarings of A,
        2 N T D P operations for the drive, and 1 + (T - 1) / c steps in place of T. Inputs after
        the last of these steps have no influence.
        """
        N, T, D = self.u.shape
        c, first = 1 << doublings, self.u[:, :1]
        blocks = (T - 1) // c
        later = self.u[:, 1 : 1 + blocks * c].reshape(N, blocks, c, D)[:, :, ::-1]
        alone = jnp.pad(first, ((0, 0), (0, 0), (0, (c - 1) * D)))
        u = jnp.concatenate([alone, later.reshape(N, blocks, c * D)], 1)
        A, columns = self.A, self.B.matrix(D, self.start.S).T
        for _ in range(doublings):
            columns, A = jnp.concatenate([columns, A.apply(columns)]), A.squared
        return Recurrence(A, Projection(columns.T), u, self.start)
