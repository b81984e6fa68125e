"""The convolution kernel K_t = A^t V, a block Krylov sequence, with its own adjoint."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.transition import Transition


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def krylov(transition: Transition, V: Float[Array, "C P"], length: int) -> Float[Array, "T C P"]:
    """Return K_t = A^t V for t < length, the columns of V lying in its rows.

    Cost: T products of A with C vectors (2 T C P^2 operations for a dense A), and T C P floats,
    here and in the adjoint. Automatic differentiation would instead add a P x P outer product to dA
    at every step; the adjoint below does it in one matrix product.
    """
    return jax.lax.scan(lambda K, _: (transition.apply(K), K), V, length=length)[1]


def _forward(transition, V, length):
    K = krylov(transition, V, length)
    return K, (transition, K)


def _backward(length, residuals, g):
    """lambda_t = A^T lambda_{t+1} + g_t; dV = lambda_0; dA = sum_t lambda_{t+1} K_t^T.

    K_{t+1} = A K_t for all t at once is a single application of A, so its pullback sums dA over
    time.
    """
    transition, K = residuals

    def step(later, g_t):
        now = transition.T.apply(later) + g_t
        return now, now

    dV, adjoints = jax.lax.scan(step, jnp.zeros_like(g[0]), g, reverse=True)
    _, pull = jax.vjp(lambda A: A.apply(K[:-1]), transition)
    return *pull(adjoints[1:]), dV


krylov.defvjp(_forward, _backward)
