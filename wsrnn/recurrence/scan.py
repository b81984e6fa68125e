"""The recurrence step by step, with an adjoint that adds up the gradient of A once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.transition import LinearMap


@jax.custom_vjp
def linear_scan(A: LinearMap, drive: Float[Array, "T *N P"]) -> Float[Array, "T *N P"]:
    """Return theta_t = A theta_{t-1} + drive_t for all t, theta_{-1} being 0.

    Automatic differentiation would add a P x P outer product to dA at every step. The adjoint runs
    lambda_t = A^T lambda_{t+1} + g_t backwards, which is ddrive, and then takes
    dA = sum_t lambda_{t+1} theta_t^T, the pullback of one application of A to all states.
    """
    return _run(A, drive)


def _run(A, drive, reverse=False):
    apply = A.prepared()

    def step(theta, drive_t):
        theta = apply(theta) + drive_t
        return theta, theta

    return jax.lax.scan(step, jnp.zeros_like(drive[0]), drive, reverse=reverse)[1]


def _forward(A, drive):
    theta = _run(A, drive)
    return theta, (A, theta)


def _backward(residuals, g):
    A, theta = residuals
    adjoint = adjoints(A, g)
    return pull_transition(A, theta, adjoint), adjoint


linear_scan.defvjp(_forward, _backward)


def adjoints(A: LinearMap, g: Float[Array, "T *N P"]) -> Float[Array, "T *N P"]:
    """lambda_t = A^T lambda_{t+1} + g_t."""
    return _run(A.T, g, reverse=True)


def pull_transition(
    A: LinearMap, theta: Float[Array, "T *N P"], adjoint: Float[Array, "T *N P"]
) -> LinearMap:
    """dA = sum_t lambda_{t+1} theta_t^T: theta_{t+1} = A theta_t for all t is one application."""
    _, pull = jax.vjp(lambda A: A.apply(theta[:-1]), A)
    return pull(adjoint[1:])[0]
