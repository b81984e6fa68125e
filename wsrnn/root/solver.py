"""Roots that solve least squares: weights that are sums over tokens, layers that are iterations."""

from abc import abstractmethod
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.checks import check_positive
from wsrnn.root.base import Root, contraction


@dataclass(frozen=True)
class Solver(Root):
    """Iterations from w = 0 towards ridge regression S w = s, then y = w.z.

    theta = (S [d, d], s [O, d], p): with tokens lifted to x x^T and y x^T (`Bilinear`) the
    recurrence adds up S and s, in theta_0 S is prior I. So S w = s is ridge regression with the
    penalty `prior`, and the posterior mean where that is the noise and w is normal.
    """

    steps: int = 8
    """Iterations."""
    prior: float = 0.25
    """S at the start, times the identity; learned."""

    reads_query_alone = True
    predicts_scale = False

    def __post_init__(self):
        check_positive(self, "steps")
        if not self.prior > 0:
            raise ValueError(f"{type(self).__name__}.prior must be above 0, got {self.prior}")

    @abstractmethod
    def solve(
        self, S: Float[Array, "*M d d N"], s: Float[Array, "*M d N"], p: Float[Array, "*M k N"]
    ) -> Float[Array, "*M d N"]:
        """An approximate solution of S w = s."""

    def written(self, d_in, d_out):
        """S and s."""
        return d_in * (d_in + d_out)

    def blocks(self, d_in, d_out):
        """S and s."""
        return (d_in**2, d_in * d_out)

    def operations(self, d_in, d_out):
        """A product with S in each step, and with the query."""
        return 2 * d_out * d_in * (self.steps * d_in + 1)

    def init(self, key, d_in, d_out):
        """The logarithm of the prior."""
        return jnp.log(jnp.full(1, self.prior))

    def initial(self, parameters, d_in, d_out):
        """theta_0 = (prior I, 0, what follows the prior)."""
        S = jnp.exp(parameters[0]) * jnp.eye(d_in, dtype=parameters.dtype)
        s = jnp.zeros(d_in * d_out, parameters.dtype)
        return jnp.concatenate([S.reshape(-1), s, parameters[1:]])

    def apply(self, theta, z, d_out):
        """Solve, then y = w.z."""
        d, O = z.shape[-2], d_out  # noqa: E741
        *M, _, N = theta.shape
        size, written = sum(self.blocks(d, O)), self.written(d, O)
        S = theta[..., : d * d, :].reshape(*M, d, d, N)
        s = theta[..., d * d : written, :].reshape(*M, O, d, N)
        p = theta[..., written:size, :]
        outputs = [(self.solve(S, s[..., o, :, :], p) * z).sum(-2) for o in range(O)]
        return jnp.stack(outputs, -2)


@dataclass(frozen=True)
class Descent(Solver):
    """Gradient descent, w <- w + p_k (s - S w) / |S|: a deep linear residual network.

    All its layers are made of the same weights, and its depth is the number of steps of gradient
    descent in context (von Oswald et al. 2023). |S| is the Frobenius norm: never less than the
    largest eigenvalue, so that steps p_k below 2 converge for every prompt, however short and at
    any scale, and a polynomial of eigenvalues within 0 and 1 is all there is to learn.
    """

    def blocks(self, d_in, d_out):
        """S, s, and the step sizes."""
        return (*super().blocks(d_in, d_out), self.steps)

    def operations(self, d_in, d_out):
        """The first step, from w = 0, takes no product."""
        return 2 * d_out * d_in * ((self.steps - 1) * d_in + 1)

    def init(self, key, d_in, d_out):
        """The logarithm of the prior and the step sizes, at first 1."""
        return jnp.concatenate([super().init(key, d_in, d_out), jnp.ones(self.steps)])

    def solve(self, S, s, p):
        """The steps."""
        norm = jnp.sqrt((S**2).sum((-2, -3)))[..., None, :]
        w = p[..., :1, :] / norm * s
        for k in range(1, self.steps):
            w += p[..., k : k + 1, :] / norm * (s - contraction(S, w, -2))
        return w


@dataclass(frozen=True)
class ConjugateGradients(Solver):
    """Conjugate gradients, exact after d steps; only the prior is learned.

    As in Mesa layers (von Oswald et al. 2024).
    """

    def solve(self, S, s, p):
        """The steps; sequences that have converged stand still."""

        def dot(a, b):
            return (a * b).sum(-2, keepdims=True)

        w, r, p = jnp.zeros_like(s), s, s
        square = dot(r, r)
        # Once r is no more than the rounding of S w its directions mean nothing, their gradients
        # are large for nothing, and 0 / 0 is near. In eps |S| |w| that is about 1; 8 is a margin.
        floor = (8 * jnp.finfo(s.dtype).eps) ** 2 * (S**2).sum((-2, -3))[..., None, :]
        for _ in range(self.steps):
            q = contraction(S, p, -2)
            going = square > floor * dot(w, w)
            rate = jnp.where(going, square, 0) / jnp.where(going, dot(p, q), 1)
            w, r = w + rate * p, r - rate * q
            before, square = square, dot(r, r)
            p = r + jnp.where(going, square, 0) / jnp.where(going, before, 1) * p
        return w
