"""The convolution kernel K_t = A^t V, a block Krylov sequence, with its own adjoint."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.scan import adjoints, pull_transition
from wsrnn.recurrence.transition import Transition


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def krylov(
    transition: Transition, V: Float[Array, "C P"], length: int, doublings: int = 0
) -> Float[Array, "T C P"]:
    """Return K_t = A^t V for t < length, the columns of V lying in its rows.

    The first m = 2^doublings powers come by doubling, [K, A^(m/2) K], the others by one product of
    A^m with m C vectors after another: each doubling costs one squaring of A and halves the number
    of thin products. Cost for a dense A: 2 T C P^2 operations, and 2 P^3 for each doubling, here
    and once more (the same, transposed) in the adjoint; T C P floats.

    Automatic differentiation would go through the squarings and add a P x P outer product to dA at
    every step; the adjoint below does it in one matrix product.
    """
    K, power = V, transition
    for _ in range(doublings):
        K, power = jnp.concatenate([K, power.apply(K)]), power.squared
    blocks = -(-length >> doublings)
    step = power.repeatedly()
    K = jax.lax.scan(lambda K, _: (step(K), K), K, length=blocks)[1]
    return K.reshape(-1, *V.shape)[:length]


def _forward(transition, V, length, doublings):
    K = krylov(transition, V, length, doublings)
    return K, (transition, K)


def _backward(length, doublings, residuals, g):
    """lambda_t = A^T lambda_{t+1} + g_t; dV = lambda_0; dA = sum_t lambda_{t+1} K_t^T.

    Doubling: lambda_t = (A^T)^m lambda_{t+m} + sum_{i<m} (A^T)^i g_{t+i}, the sums by wide
    products.
    """
    transition, K = residuals
    _, C, P = g.shape
    blocks = -(-length >> doublings)
    power = transition.T
    sums = jnp.pad(g, ((0, (blocks << doublings) - length), (0, 0), (0, 0)))
    for i in range(doublings):
        later = jnp.pad(sums[1 << i :], ((0, 1 << i), (0, 0), (0, 0)))
        sums, power = sums + power.apply(later), power.squared

    adjoint = adjoints(power.T, sums.reshape(blocks, -1, P)).reshape(-1, C, P)[:length]
    return pull_transition(transition, K, adjoint), adjoint[0]


krylov.defvjp(_forward, _backward)
