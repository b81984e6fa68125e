"""Roots that solve least squares: weights that are sums over tokens, layers that are steps."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.root.base import Network, contract


@dataclass(frozen=True)
class Descent(Network):
    """Steps from w = 0 towards ridge regression S w = s, then y = w.z.

    theta = (S [d, d], s [O, d], p): with tokens lifted to x x^T and y x^T the recurrence adds up S
    and s, in theta_0 S is prior I. So S w = s is ridge regression with the penalty `prior`, and the
    posterior mean where that is the noise and w is normal.

    tied: w <- w + p_k (s - S w) / |S|, a deep linear residual network whose layers are all made of
    the same weights. |S| is Frobenius' norm: never less than the largest eigenvalue, so that steps
    p_k below 2 converge for every prompt, however short and whatever its scale, and a polynomial of
    eigenvalues within 0 and 1 is all there is to learn. Its depth is the number of steps of
    gradient descent in context (von Oswald et al. 2023).
    cg: conjugate gradients, exact after d steps, nothing to learn but the prior (as in Mesa layers,
    von Oswald et al. 2024).
    """

    d_in: int
    d_out: int
    method: Literal["tied", "cg"] = "tied"
    steps: int = 8
    prior: float = 0.25
    """S at the start, times the identity."""

    def __post_init__(self):
        if self.steps < 1 or not self.prior > 0:
            raise ValueError(
                f"a root that solves least squares needs at least 1 step and a prior above 0, "
                f"got {self.steps} and {self.prior}"
            )

    @property
    def written(self):
        """S and s."""
        return self.d_in * (self.d_in + self.d_out)

    @property
    def blocks(self):
        """S, s, and the steps of `tied`."""
        steps = (self.steps,) if self.method == "tied" else ()
        return (self.d_in**2, self.d_in * self.d_out, *steps)

    @property
    def operations(self):
        """A product with S in each step but the first of `tied`, and with the query."""
        products = self.steps - (self.method == "tied")
        return 2 * self.d_out * self.d_in * (products * self.d_in + 1)

    def init(self, key, start="uniform"):
        """The logarithm of the prior and, for `tied`, the steps, at first 1."""
        steps = jnp.ones(self.steps) if self.method == "tied" else jnp.zeros(0)
        return jnp.concatenate([jnp.log(jnp.full(1, self.prior)), steps])

    def start(self, numbers):
        """theta_0: (prior I, 0, steps)."""
        S = jnp.exp(numbers[0]) * jnp.eye(self.d_in, dtype=numbers.dtype)
        s = jnp.zeros(self.d_in * self.d_out, numbers.dtype)
        return jnp.concatenate([S.reshape(-1), s, numbers[1:]])

    def apply(self, theta, z):
        """Solve, then y = w.z; rows of theta beyond the first P are ignored."""
        d, O = self.d_in, self.d_out  # noqa: E741
        *M, _, N = theta.shape
        S = theta[..., : d * d, :].reshape(*M, d, d, N)
        s = theta[..., d * d : self.written, :].reshape(*M, O, d, N)
        steps = theta[..., self.written : self.size, :]
        solve = self._descend if self.method == "tied" else self._conjugate
        outputs = [(solve(S, s[..., o, :, :], steps) * z).sum(-2) for o in range(O)]
        return jnp.stack(outputs, -2)

    def _descend(self, S, s, steps) -> Float[Array, "*M d N"]:
        norm = jnp.sqrt((S**2).sum((-2, -3)))[..., None, :]
        w = steps[..., :1, :] / norm * s
        for k in range(1, self.steps):
            w += steps[..., k : k + 1, :] / norm * (s - contract(S, w, -2))
        return w

    def _conjugate(self, S, s, steps) -> Float[Array, "*M d N"]:
        def dot(a, b):
            return (a * b).sum(-2, keepdims=True)

        w, r, p = jnp.zeros_like(s), s, s
        square = dot(r, r)
        # Once r is no more than the rounding of S w its directions mean nothing, their gradients
        # are large for nothing, and 0 / 0 is near. In eps |S| |w| that is about 1; 8 is a margin.
        floor = (8 * jnp.finfo(s.dtype).eps) ** 2 * (S**2).sum((-2, -3))[..., None, :]
        for _ in range(self.steps):
            q = contract(S, p, -2)
            going = square > floor * dot(w, w)
            rate = jnp.where(going, square, 0) / jnp.where(going, dot(p, q), 1)
            w, r = w + rate * p, r - rate * q
            before, square = square, dot(r, r)
            p = r + jnp.where(going, square, 0) / jnp.where(going, before, 1) * p
        return w
