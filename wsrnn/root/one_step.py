"""A root that identifies a system: least squares of each sample's change on the last one."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from wsrnn.checks import check_positive
from wsrnn.root import monomials
from wsrnn.root.base import Root

TINY = 1e-30  # a sum of squares that is none


@dataclass(frozen=True)
class OneStep(Root):
    """From sums over samples s_t [d]: D of s_t = s_{t-1} + D m(s_{t-1}), the last sample, L.

    m [K] are the sample's coordinates, or its monomials up to a degree. Tokens (s_t, e_t, 1) with
    e_t = s_t - s_{t-1} and s_{-1} = 0 (`tasks.continuation.Direct` with `changes`), lifted to
    `StepMoments` and added up by A = I, give theta = (S, C, s_L, L, p, D_0):

        S = sum m m^T                                   C = sum e_t m^T
        D = D_0 + (C - D_0 S) (S + p diag S)^-1         s_L = sum e_t        L = sum 1

    a ridge regression around D_0, which is 0, or learned if `prior`. What follows the context is 0
    and adds nothing. The changes are regressed, not the samples, for in float32 these are too close
    to one another. The outputs (D row by row, s_L, L) do not depend on z: a `Formula` carries the
    last sample on. Without noise a system of this degree is found exactly, up to rounding; only p
    and D_0 are learned. K^3 / 3 operations, and the gradient is finite for any tokens.
    """

    d: int = 2
    """Coordinates of a sample."""
    penalty: float = 1e-6
    """p at the start: of each feature's sum of squares."""
    degree: int = 1
    """Of the polynomial; that of the lift."""
    intercept: bool = False
    """Whether m has a constant; as in the lift."""
    prior: bool = False
    """Learn D_0: what is common to all sequences."""

    predicts_scale = False

    def __post_init__(self):
        check_positive(self, "d", "degree")
        if not self.penalty > 0:
            raise ValueError(f"OneStep needs a penalty above 0, got {self.penalty}")

    @property
    def reads_sums_of(self):
        """Those that the sums are of."""
        return "StepMoments"

    @property
    def features(self) -> int:
        """K, of m."""
        return monomials.count(self.d, self.degree, self.intercept)

    @property
    def outputs(self) -> int:
        """Of D, s_L and L."""
        return self.d * self.features + self.d + 1

    def check(self, d_in, d_out):
        """It has outputs of its own number."""
        if d_out != self.outputs:
            raise ValueError(
                f"root OneStep returns d K + d + 1 = {self.outputs} numbers to a formula, not "
                f"{d_out}: write Formula(f, root, outputs=root.outputs)"
            )

    def written(self, d_in, d_out):
        """S's upper triangle, C, s_L and L."""
        K = self.features
        return K * (K + 1) // 2 + self.d * K + self.d + 1

    def blocks(self, d_in, d_out):
        """What is written, the penalty, D_0."""
        prior = (self.d * self.features,) if self.prior else ()
        return (self.written(d_in, d_out), 1, *prior)

    def operations(self, d_in, d_out):
        """Elimination and d substitutions."""
        K = self.features
        return K**3 // 3 + 2 * self.d * K**2

    def init(self, key, d_in, d_out):
        """The logarithm of the penalty, and a D_0 of 0."""
        prior = jnp.zeros(self.d * self.features * self.prior)
        return jnp.concatenate([jnp.log(jnp.full(1, self.penalty)), prior])

    def initial(self, parameters, d_in, d_out):
        """theta_0: no sums yet."""
        nothing = jnp.zeros(self.written(d_in, d_out), parameters.dtype)
        return jnp.concatenate([nothing, jnp.exp(parameters[:1]), parameters[1:]])

    def apply(self, theta, z, d_out):
        """Solve, for every read."""
        d, K = self.d, self.features
        triangle = K * (K + 1) // 2
        at = np.zeros((K, K), int)
        at[np.triu_indices(K)] = np.arange(triangle)
        rows = jnp.moveaxis(theta, -2, 0)
        S, after = rows[np.maximum(at, at.T)], triangle + d * K
        C = rows[triangle:after].reshape(d, K, *rows.shape[1:])
        last, p = rows[after : after + d + 1], rows[after + d + 1]
        D_0 = 0.0
        if self.prior:
            D_0 = rows[after + d + 2 : after + d + 2 + d * K].reshape(C.shape)
            C = C - sum(D_0[:, i, None] * S[None, i] for i in range(K))
        unit = jax.lax.rsqrt(jnp.maximum(S[np.arange(K), np.arange(K)], TINY))
        S = S * unit[:, None] * unit[None] + p[None, None] * jnp.eye(K, dtype=p.dtype).reshape(
            K, K, *[1] * p.ndim
        )
        first = (*range(2, S.ndim), 0, 1)
        X = jnp.linalg.solve(S.transpose(first), (C * unit[None]).swapaxes(0, 1).transpose(first))
        D = D_0 + unit[None] * jnp.moveaxis(X, (-1, -2), (0, 1))
        return jnp.moveaxis(jnp.concatenate([D.reshape(d * K, *rows.shape[1:]), last]), 0, -2)
