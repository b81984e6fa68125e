"""The hot path: run the recurrence over a batch and read the root network from its states.

The states of a batch, N T P floats, are never held at once in convolution mode: the kernel is built
once, then a few sequences at a time are convolved and read, and only the outputs are kept. The
backward pass recomputes the states.
"""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wsrnn.recurrence import Transition, check_mode, convolution, state_at
from wsrnn.recurrence.transition import PRECISION
from wsrnn.recurrence.unroll import Mode

STATES_AT_ONCE = 2**21  # floats of theta in flight: 8 MiB in float32, about a core's cache


@runtime_checkable
class Root(Protocol):
    """What is read from the state: see `wsrnn.root`."""

    def apply(
        self, theta: Float[Array, "P *N"], z: Float[Array, "d_in *N"]
    ) -> Float[Array, "d_out *N"]:
        """The network whose weights are theta, at z."""


class Shared(NamedTuple):
    """One theta_0 for every sequence."""

    theta: Float[Array, " P"]


class Affine(NamedTuple):
    """theta_0 = W h + b, an own one for each sequence; its rank r is the width of h."""

    W: Float[Array, "P r"]
    b: Float[Array, " P"]
    h: Float[Array, "N r"]


def read(
    transition: Transition,
    B: Float[Array, "P D"],
    u: Float[Array, "N T D"],
    start: Shared | Affine,
    root: Root,
    z: Float[Array, "N T d_in"],
    *,
    mode: Mode = "conv",
    read: Literal["all", "last"] | Int[Array, " N"] = "all",
    bound: float | None = None,
) -> Float[Array, "N T O"] | Float[Array, "N O"]:
    """Return y_t = root(theta_t, z_t), theta_t = A theta_{t-1} + B u_t, theta_0 = start + B u_0.

    `read` says which steps: "all", the "last", or one step of each sequence by its index in
    0..T-1 (not checked: it may be traced). `bound` clips every weight to +-bound after every step,
    which only `scan` can do: it is not linear in the state.

    Cost of `scan`: T steps one after another; memory N T P floats when differentiated. Cost of
    `conv`: one kernel for the batch (see `krylov`), then transforms; memory for a few sequences'
    states. Raises ValueError for an unknown mode and for `bound` with `conv`.
    """
    check_mode(mode)
    if bound is not None and mode != "scan":
        raise ValueError(
            f"clipping the weights is not linear in the state: mode {mode} cannot, use scan"
        )
    if isinstance(read, str):
        at = jnp.full(len(u), u.shape[1] - 1) if read == "last" else None
    else:
        at = read
    if at is not None:
        z = jnp.take_along_axis(z, at[:, None, None], 1)[:, 0]
    run = _scan if mode == "scan" else _conv
    return run(transition, B, u, start, root, z, at, bound)


def initial(start: Shared | Affine) -> Float[Array, "#N P"]:
    """theta_0 of each sequence, before B u_0; one row if all share it."""
    if isinstance(start, Shared):
        return start.theta[None]
    return jnp.matmul(start.h, start.W.T, precision=PRECISION) + start.b[None]


def _scan(transition, B, u, start, root, z, at, bound):
    def limit(theta):
        return theta if bound is None else jnp.clip(theta, -bound, bound)

    def drive(u_t):
        return jnp.matmul(u_t, B.T, precision=PRECISION)

    def step(theta, inputs):
        u_t, z_t = inputs
        theta = limit(transition.apply(theta) + drive(u_t))
        return theta, root.apply(theta.T, z_t.T).T

    def step_and_keep(carry, inputs):
        theta, kept = carry
        t, u_t = inputs
        theta = limit(transition.apply(theta) + drive(u_t))
        return (theta, jnp.where((t == at)[:, None], theta, kept)), None

    first = limit(initial(start) + drive(u[:, 0]))
    later = jnp.swapaxes(u[:, 1:], 0, 1)
    if at is None:
        y_0 = root.apply(first.T, z[:, 0].T).T
        _, y = jax.lax.scan(step, first, (later, jnp.swapaxes(z[:, 1:], 0, 1)))
        return jnp.concatenate([y_0[:, None], jnp.swapaxes(y, 0, 1)], 1)
    steps = jnp.arange(1, u.shape[1])
    (_, theta), _ = jax.lax.scan(step_and_keep, (first, first), (steps, later))
    return root.apply(theta.T, z.T).T


def _conv(transition, B, u, start, root, z, at, bound):
    N, T, _ = u.shape
    # The start becomes channels driven by an impulse at t = 0: see recurrence/convolution.py.
    if isinstance(start, Shared):
        V, h = start.theta[:, None], jnp.ones((N, 1), u.dtype)
    else:
        V = jnp.concatenate([start.W, start.b[:, None]], 1)
        h = jnp.concatenate([start.h, jnp.ones((N, 1), u.dtype)], 1)
    V = jnp.concatenate([B, V], 1)
    impulse = jnp.zeros((N, T, h.shape[1]), u.dtype).at[:, 0].set(h)
    v = jnp.concatenate([u, impulse], 2)
    if at is not None:
        return root.apply(state_at(transition, V, v, at).T, z.T).T

    states = convolution(transition, V, T)

    @jax.checkpoint
    def sequence(inputs):
        v, z = inputs
        return root.apply(states(v), z.T).T

    at_once = max(1, min(N, STATES_AT_ONCE // (T * len(B))))
    return jax.lax.map(sequence, (v, z), batch_size=at_once)
