"""A root that identifies a linear system: least squares of each sample's change on the last one."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wsrnn.root.base import Root


@dataclass(frozen=True)
class OneStep(Root):
    """From sums over samples s_t [d]: D of s_t = (I + D) s_{t-1}, the last sample, their number.

    Tokens (s_t, e_t, 1), e_t = s_t - s_{t-1} and s_{-1} = 0 (`tasks.continuation.Direct` with
    `changes`), lifted to `Moments` and added up by A = I, give theta = (G, n, p): G = sum a a^T as
    its upper triangle, n is not used, p the penalty. G holds S = sum s_{t-1} s_{t-1}^T and
    C = sum e_t s_{t-1}^T, and

        D = C (S + p I)^-1        s_L = sum e_t        L = sum 1

    What follows the context is 0 and adds nothing. The changes are regressed, not the samples, for
    in float32 these are too close to one another. The outputs (D row by row, s_L, L) do not depend
    on z: a `Formula` carries the last sample on. Exact, up to rounding, without noise; only the
    logarithm of p is learned. d^3 / 3 operations, and the gradient is finite for any tokens.
    """

    d: int = 2
    """Coordinates of a sample."""
    penalty: float = 1e-6
    """p at the start."""

    reads_moments = True
    predicts_scale = False

    def __post_init__(self):
        if self.d < 1 or not self.penalty > 0:
            raise ValueError(
                f"OneStep needs d of at least 1 and a penalty above 0, got {self.d} and "
                f"{self.penalty}"
            )

    @property
    def outputs(self) -> int:
        """Of D, s_L and L."""
        return self.d**2 + self.d + 1

    def check(self, d_in, d_out):
        """It has outputs of its own number."""
        if d_out != self.outputs:
            raise ValueError(
                f"root OneStep returns d^2 + d + 1 = {self.outputs} numbers to a formula, not "
                f"{d_out}: write Formula(f, OneStep({self.d}), outputs={self.outputs})"
            )

    def written(self, d_in, d_out):
        """G's upper triangle and n."""
        return (self.d + 1) * (2 * self.d + 1) + 1

    def blocks(self, d_in, d_out):
        """G and n, the penalty."""
        return (self.written(d_in, d_out), 1)

    def operations(self, d_in, d_out):
        """Elimination and d substitutions."""
        return self.d**3 // 3 + 2 * self.d**3

    def init(self, key, d_in, d_out):
        """The logarithm of the penalty."""
        return jnp.log(jnp.full(1, self.penalty))

    def initial(self, parameters, d_in, d_out):
        """theta_0: nothing but the penalty."""
        nothing = jnp.zeros(self.written(d_in, d_out), parameters.dtype)
        return jnp.concatenate([nothing, jnp.exp(parameters)])

    def apply(self, theta, z, d_out):
        """Solve, for every read."""
        d, written = self.d, self.written(0, 0)
        at = np.zeros((2 * d + 1, 2 * d + 1), int)
        at[np.triu_indices(2 * d + 1)] = np.arange(written - 1)
        rows = jnp.moveaxis(theta, -2, 0)
        G = [[rows[k] for k in row] for row in np.maximum(at, at.T)]
        s, e, one = range(d), range(d, 2 * d), 2 * d
        S = [[G[i][j] - G[i][d + j] - G[j][d + i] + G[d + i][d + j] for j in s] for i in s]
        C = [[G[i][j] - G[i][d + j] for j in s] for i in e]
        D = solve(S, C, rows[written])
        outputs = [*(entry for row in D for entry in row), *(G[i][one] for i in e), G[one][one]]
        return jnp.stack(outputs, -2)


def solve(
    S: list[list[Float[Array, "*N"]]], C: list[list[Float[Array, "*N"]]], p: Float[Array, "*N"]
) -> list[list[Float[Array, "*N"]]]:
    """X [K][d] with X (S + p I) = C, for symmetric S >= 0, each entry an array.

    By elimination without pivots, which a positive matrix needs none of, and vectorised over the
    arrays. Pivots are at least p, as they would be without rounding.
    """
    d = len(S)
    S = [[S[i][j] + p if i == j else S[i][j] for j in range(d)] for i in range(d)]
    X = [list(row) for row in C]
    for i in range(d):
        pivot = jnp.maximum(S[i][i], p)
        S[i][i] = pivot
        for j in range(i + 1, d):
            ratio = S[i][j] / pivot
            for k in range(j, d):
                S[j][k] = S[j][k] - ratio * S[i][k]
            for row in X:
                row[j] = row[j] - ratio * row[i]
    for row in X:
        for i in reversed(range(d)):
            known = sum((S[i][j] * row[j] for j in range(i + 1, d)), jnp.zeros_like(row[i]))
            row[i] = (row[i] - known) / S[i][i]
    return X
