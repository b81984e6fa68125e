"""One sequence, every state: the oracle against which the batched hot path is tested."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.convolution import convolution
from wsrnn.recurrence.transition import PRECISION, Transition

Mode = Literal["scan", "conv"]
MODES: tuple[Mode, ...] = get_args(Mode)


def check_mode(mode: str) -> None:
    """Raise a ValueError that lists the modes if `mode` is none of them."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is unknown: use {' or '.join(MODES)}")


def unroll(
    transition: Transition,
    B: Float[Array, "P D"],
    u: Float[Array, "T D"],
    theta0: Float[Array, " P"],
    mode: Mode = "scan",
) -> Float[Array, "T P"]:
    """Return every theta_t = A theta_{t-1} + B u_t, with theta_0 = theta0 + B u_0.

    `scan` takes T steps in order; `conv` convolves the drive with A^t [B, theta0]. Same values,
    same gradients. Raises ValueError for an unknown mode.
    """
    check_mode(mode)
    if mode == "conv":
        V = jnp.concatenate([B, theta0[:, None]], 1)
        impulse = jnp.zeros_like(u[:, :1]).at[0].set(1)
        return convolution(transition, V, len(u))(jnp.concatenate([u, impulse], 1)).T

    drive = jnp.matmul(u, B.T, precision=PRECISION)

    def step(theta, Bu):
        theta = transition.apply(theta) + Bu
        return theta, theta

    first = theta0 + drive[0]
    return jnp.concatenate([first[None], jax.lax.scan(step, first, drive[1:])[1]])
