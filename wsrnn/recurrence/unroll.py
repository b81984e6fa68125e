"""One sequence, every state, in any mode: for tests and for looking at a trajectory."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.plan import Mode, plan
from wsrnn.recurrence.scan import driven, recur
from wsrnn.recurrence.transition import Transition


def unroll(
    transition: Transition,
    B: Float[Array, "P D"] | None,
    u: Float[Array, "T D"],
    theta0: Float[Array, " P"],
    mode: Mode = "scan",
) -> Float[Array, "T P"]:
    """Return every theta_t = A theta_{t-1} + B u_t, with theta_0 = theta0 + B u_0.

    `scan` takes T steps in order; `conv` convolves the drive with A^t [B, theta0]; `parallel` joins
    neighbours in log2 T rounds. Same values, same gradients. Raises ValueError for an unknown mode
    and one that the transition cannot run.
    """
    P = len(theta0)
    how = plan(transition, (1, len(u), P, u.shape[1], 1, B is None), mode)
    if how.mode == "scan":
        return recur(transition, driven(B, u, P).at[0].add(theta0))
    one = jnp.ones((1, 1), u.dtype)
    trajectories, v, h = how.trajectories(transition, B, theta0[:, None], u[None], one)
    return trajectories.join(trajectories.states(v, h), len(u))[0]
