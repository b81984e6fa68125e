"""A root that is Bayesian regression: weights that are sums over tokens, averaged over priors."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wsrnn.checks import check_positive
from wsrnn.root.base import Root

SPREAD = (0.3, 300.0)
"""Penalties at the start: from the one to the other, evenly in their logarithm."""


@dataclass(frozen=True)
class Evidence(Root):
    """Ridge regressions with K penalties for each coordinate, weighed by their evidence; y = w.z.

    theta = (G, n, p): with tokens lifted to their products and 1 (the lift `moments`) the
    recurrence adds up G = sum a a^T, a = (x, y), as its upper triangle, and the count n; the rest
    of theta_0 is p. Prior k is w ~ N(0, s2 / P_k) with P_k diagonal and s2, the noise, unknown.
    With S = sum x x^T, s = sum y x and q = sum y^2 (Bishop 2006, sections 3.4 and 3.5.1)

        w_k = (S + P_k)^-1 s
        2 e_k = log |P_k| - log |S + P_k| - (n + n_0) log(q + q_0 - s.w_k) + c_k
        w = sum_k softmax(e)_k w_k

    is the posterior mean where one of the priors, each as likely as c says, is true. P, c, n_0 and
    q_0 are learned; n_0 and q_0 are where n and q start, as if so many examples had been seen.
    What ridge regression leaves to cross-validation is here read from the state.
    """

    priors: int = 8
    """K, the number of priors that are weighed."""

    reads_query_alone = True
    reads_sums_of = "Moments"
    predicts_scale = False

    def __post_init__(self):
        check_positive(self, "priors")

    def check(self, d_in, d_out):
        """It predicts one number."""
        if d_out != 1:
            raise ValueError(f"root Evidence predicts one number, and d_out is {d_out}")

    def written(self, d_in, d_out):
        """G's upper triangle and n."""
        return (d_in + 1) * (d_in + 2) // 2 + 1

    def blocks(self, d_in, d_out):
        """G and n, the logarithms of P, c."""
        return (self.written(d_in, d_out), self.priors * d_in, self.priors)

    def operations(self, d_in, d_out):
        """K factors of d x d matrices, of d^3 / 3 operations each."""
        return self.priors * d_in**3 // 3

    def init(self, key, d_in, d_out):
        """log n_0, log q_0, log P, c."""
        least, most = np.log(SPREAD)
        penalties = jnp.repeat(jnp.linspace(least, most, self.priors), d_in)
        return jnp.concatenate([jnp.full(2, np.log(0.1)), penalties, jnp.zeros(self.priors)])

    def initial(self, parameters, d_in, d_out):
        """theta_0: no example, but for q_0 and n_0."""
        nothing = jnp.zeros(self.written(d_in, d_out) - 2, parameters.dtype)
        return jnp.concatenate([nothing, jnp.exp(parameters[1::-1]), parameters[2:]])

    def apply(self, theta, z, d_out):
        """Solve with every prior, weigh, then y = w.z."""
        w = self._solved(jnp.moveaxis(theta, -2, -1), z.shape[-2])
        return (w * jnp.moveaxis(z, -2, -1)).sum(-1)[..., None, :]

    def _solved(self, theta: Float[Array, "*N L"], d: int) -> Float[Array, "*N d"]:
        K, written, size = self.priors, self.written(d, 1), sum(self.blocks(d, 1))
        G, n, p = jnp.split(theta[..., :size], [written - 1, written], -1)
        at = np.zeros((d + 1, d + 1), int)
        at[np.triu_indices(d + 1)] = np.arange(written - 1)
        G = G[..., np.maximum(at, at.T)]
        S, s, q = G[..., None, :d, :d], G[..., None, :d, d], G[..., None, d, d]
        log_P = p[..., : K * d].reshape(*p.shape[:-1], K, d)
        P = jnp.exp(log_P).reshape(-1, d)
        root = jnp.linalg.cholesky(S + jax.vmap(jnp.diag)(P).reshape(*log_P.shape, d))
        half = jax.lax.linalg.triangular_solve(
            root, jnp.broadcast_to(s, log_P.shape)[..., None], left_side=True, lower=True
        )
        w = jax.lax.linalg.triangular_solve(
            root, half, left_side=True, lower=True, transpose_a=True
        )[..., 0]
        left = jnp.maximum(q - (half[..., 0] ** 2).sum(-1), 1e-6 * q)
        size = 2 * jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
        evidence = log_P.sum(-1) - size - n * jnp.log(left) + p[..., K * d :]
        return (jax.nn.softmax(evidence / 2, -1)[..., None] * w).sum(-2)
