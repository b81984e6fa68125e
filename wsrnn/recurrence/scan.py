"""The recurrence step by step, with an adjoint that adds up the gradient of A once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.transition import PRECISION, Transition


def driven(
    B: Float[Array, "P D"] | None, u: Float[Array, "*N D"], size: int
) -> Float[Array, "*N P"]:
    """Return B u for P = size; without a B, u itself and zeros after it."""
    if B is None:
        return jnp.pad(u, [(0, 0)] * (u.ndim - 1) + [(0, size - u.shape[-1])])
    return jnp.matmul(u, B.T, precision=PRECISION)


@jax.custom_vjp
def recur(transition: Transition, drive: Float[Array, "T *N P"]) -> Float[Array, "T *N P"]:
    """Return theta_t = A theta_{t-1} + drive_t for all t, theta_{-1} being 0.

    Automatic differentiation would add a P x P outer product to dA at every step. The adjoint runs
    lambda_t = A^T lambda_{t+1} + g_t backwards, which is ddrive, and then takes
    dA = sum_t lambda_{t+1} theta_t^T, the pullback of one application of A to all states.
    """
    return _run(transition, drive)


def _run(transition, drive, reverse=False):
    apply = transition.repeatedly()

    def step(theta, drive_t):
        theta = apply(theta) + drive_t
        return theta, theta

    return jax.lax.scan(step, jnp.zeros_like(drive[0]), drive, reverse=reverse)[1]


def _forward(transition, drive):
    theta = _run(transition, drive)
    return theta, (transition, theta)


def _backward(residuals, g):
    transition, theta = residuals
    adjoint = adjoints(transition, g)
    return pull_transition(transition, theta, adjoint), adjoint


recur.defvjp(_forward, _backward)


def adjoints(transition: Transition, g: Float[Array, "T *N P"]) -> Float[Array, "T *N P"]:
    """lambda_t = A^T lambda_{t+1} + g_t."""
    return _run(transition.T, g, reverse=True)


def pull_transition(
    transition: Transition, theta: Float[Array, "T *N P"], adjoint: Float[Array, "T *N P"]
) -> Transition:
    """dA = sum_t lambda_{t+1} theta_t^T: theta_{t+1} = A theta_t for all t is one application."""
    _, pull = jax.vjp(lambda A: A.apply(theta[:-1]), transition)
    return pull(adjoint[1:])[0]
