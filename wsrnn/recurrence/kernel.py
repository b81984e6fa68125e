"""The convolution kernel K_t = A^t V, a block Krylov sequence, with its own adjoint."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.scan import adjoints, pull_transition
from wsrnn.recurrence.transition import LinearMap


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def kernel_powers(
    A: LinearMap, V: Float[Array, "C P"], length: int, doublings: int = 0
) -> Float[Array, "T C P"]:
    """Return K_t = A^t V for t < length, the columns of V lying in its rows.

    The first m = 2^doublings powers come by doubling, [K, A^(m/2) K], the others by one product of
    A^m with m C vectors after another: each doubling costs one squaring of A and halves the number
    of thin products. Cost for a dense A: 2 T C P^2 operations, and 2 P^3 and P^2 floats for each
    doubling; T C P floats.

    Automatic differentiation would go through the squarings and add a P x P outer product to dA at
    every step; the adjoint below takes the powers as they are and adds up dA in one product.
    """
    return _built(A, V, length, doublings)[0]


def _built(A, V, length, doublings):
    K, powers = V, [A]
    for _ in range(doublings):
        K = jnp.concatenate([K, powers[-1].apply(K)])
        powers.append(powers[-1].squared)
    step = powers[-1].prepared()
    blocks = -(-length >> doublings)
    K = jax.lax.scan(lambda K, _: (step(K), K), K, length=blocks)[1]
    return K.reshape(-1, *V.shape)[:length], powers


def _forward(A, V, length, doublings):
    K, powers = _built(A, V, length, doublings)
    return K, (K, powers)


def _backward(length, doublings, residuals, g):
    """lambda_t = A^T lambda_{t+1} + g_t; dV = lambda_0; dA = sum_t lambda_{t+1} K_t^T.

    Doubling: lambda_t = (A^T)^m lambda_{t+m} + sum_{i<m} (A^T)^i g_{t+i}, the sums by wide
    products.
    """
    K, powers = residuals
    _, C, P = g.shape
    blocks = -(-length >> doublings)
    sums = jnp.pad(g, ((0, (blocks << doublings) - length), (0, 0), (0, 0)))
    for i, power in enumerate(powers[:-1]):
        later = jnp.pad(sums[1 << i :], ((0, 1 << i), (0, 0), (0, 0)))
        sums += power.T.apply(later)

    adjoint = adjoints(powers[-1], sums.reshape(blocks, -1, P)).reshape(-1, C, P)[:length]
    return pull_transition(powers[0], K, adjoint), adjoint[0]


kernel_powers.defvjp(_forward, _backward)
