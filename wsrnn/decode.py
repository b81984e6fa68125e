"""The hot path: run the recurrence over a batch and read the root network from its states.

The states of a batch, N T P floats, are never held at once outside the mode `scan`: what all
sequences share is built once, then a few sequences at a time are unrolled and read. `read` returns
the outputs; `fold` goes on to a sum of scores of them and takes the gradients while the states are
at hand, so that they are computed once and never again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from wsrnn.recurrence import Mode, Plan, Trajectories, Transition, driven, plan
from wsrnn.recurrence.transition import PRECISION
from wsrnn.root import Root


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
    B: Float[Array, "P D"] | None,
    u: Float[Array, "N T D"],
    start: Shared | Affine,
    root: Root,
    z: Float[Array, "N T d_in"],
    *,
    mode: Mode = "auto",
    read: Literal["all", "last"] | Int[Array, " N"] = "all",
    bound: float | None = None,
) -> Float[Array, "N T O"] | Float[Array, "N O"]:
    """Return y_t = root(theta_t, z_t), theta_t = A theta_{t-1} + B u_t, theta_0 = start + B u_0.

    Without a B the channels of u are added to the first weights, one to one.

    `read` says which steps: "all", the "last", or one step of each sequence by its index in
    0..T-1 (not checked: it may be traced). `bound` clips every weight to +-bound after every step,
    which only `scan` can do: it is not linear in the state.

    Cost of `scan` with a dense A: T steps, and N T P floats held when differentiated. Cost of the
    other modes: see `recurrence.plan`; memory for a few sequences' states, which the backward pass
    computes again. Raises ValueError for an unknown mode, one that the transition cannot run, and
    for `bound` with another mode than `scan`.
    """
    if bound is not None and mode not in ("scan", "auto"):
        raise ValueError(
            f"clipping the weights is not linear in the state: mode {mode} cannot, use scan"
        )
    if isinstance(read, str):
        at = jnp.full(len(u), u.shape[1] - 1) if read == "last" else None
    else:
        at = read
    if at is not None:
        z = jnp.take_along_axis(z, at[:, None, None], 1)[:, 0]
        # What comes after the step that is read may be anything, also not a number.
        u = jnp.where((jnp.arange(u.shape[1])[None] <= at[:, None])[..., None], u, 0)
    how = _plan(transition, B, u, start, mode if bound is None else "scan", last=at is not None)
    if how.method == "whole" or bound is not None:
        return _scan(transition.whole(), B, u, start, root, z, at, bound)
    S, h = _channels(start, len(u))
    if at is not None:
        return root.apply(how.state_at(transition, B, S, u, h, at).T, z.T).T
    trajectories, v, h = how.trajectories(transition, B, S, u, h)
    return _outputs(root, how.at_once, trajectories, v, h, z)


def fold(
    transition: Transition,
    B: Float[Array, "P D"] | None,
    u: Float[Array, "N T D"],
    start: Shared | Affine,
    root: Root,
    z: Float[Array, "N T d_in"],
    score: Callable[..., tuple[Float[Array, ""], Any]],
    labels: tuple[Any, ...],
    *,
    mode: Mode = "auto",
    bound: float | None = None,
) -> tuple[Float[Array, ""], Any]:
    """Return score(y, *labels) for the outputs y of `read`, where both of its results are sums.

    `score` takes the outputs and the labels of any number of sequences to a scalar and a tree of
    more numbers, all of which add up over sequences. Gradients flow through the scalar alone, also
    to what `score` closes over, and are taken a few sequences at a time in the same pass: the
    states are computed once, and neither they nor anything of their size is kept.
    """
    how = _plan(transition, B, u, start, mode if bound is None else "scan", last=False)
    if how.method == "whole" or bound is not None:
        y = read(transition, B, u, start, root, z, mode=mode, bound=bound)
        total, more = score(y, *labels)
        return total, jax.lax.stop_gradient(more)
    S, h = _channels(start, len(u))
    trajectories, v, h = how.trajectories(transition, B, S, u, h)
    inputs = jax.tree.map(lambda x: x[: how.at_once], (v, h, z, labels))
    y = jax.eval_shape(lambda v, h, z, _: _some(root, trajectories, v, h, z), *inputs)
    score, constants = jax.closure_convert(score, y, *inputs[3])
    return _fold(score, root, how.at_once, (trajectories, constants), (v, h, z, labels))


def initial(start: Shared | Affine) -> Float[Array, "#N P"]:
    """theta_0 of each sequence, before B u_0; one row if all share it."""
    if isinstance(start, Shared):
        return start.theta[None]
    return jnp.matmul(start.h, start.W.T, precision=PRECISION) + start.b[None]


def _plan(transition, B, u, start, mode, last) -> Plan:
    rank = 1 if isinstance(start, Shared) else start.W.shape[1] + 1
    sizes = (*u.shape[:2], len(start[0]), u.shape[2], rank, B is None)
    return plan(transition, sizes, mode, last=last)


def _channels(start: Shared | Affine, N: int) -> tuple[Array, Array]:
    """theta_0 = S h: the columns S [P, R] and the weights h [N, R]."""
    if isinstance(start, Shared):
        return start.theta[:, None], jnp.ones((N, 1), start.theta.dtype)
    ones = jnp.ones((N, 1), start.h.dtype)
    return jnp.concatenate([start.W, start.b[:, None]], 1), jnp.concatenate([start.h, ones], 1)


def _in_groups(size: int, tree: Any) -> Any:
    """Split the leading axis N of every leaf into [N / size, size]."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)


def _sums(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sum(0), tree)


def _ungrouped(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _outputs(root, at_once, trajectories: Trajectories, v, h, z):
    one = jax.checkpoint(partial(_some, root, trajectories))
    return _ungrouped(jax.lax.map(lambda xs: one(*xs), _in_groups(at_once, (v, h, z))))


def _some(root, trajectories, v, h, z) -> Float[Array, "n T O"]:
    y = root.apply(trajectories.states(v, h), trajectories.split(z))
    return trajectories.join(y, v.shape[1])


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _fold(score, root, at_once, shared, each):
    """`shared`: trajectories and constants; `each`: v, h, z and labels, of every sequence."""

    def some(each):
        return _score(score, root, shared, each)

    return _sums(jax.lax.map(some, _in_groups(at_once, each)))


def _score(score, root, shared, each):
    (trajectories, constants), (v, h, z, labels) = shared, each
    return score(_some(root, trajectories, v, h, z), *labels, *constants)


def _fold_forward(score, root, at_once, shared, each):
    """The value, and as residuals the gradients for a cotangent of 1."""
    needed = jax.tree.map(lambda x: x.perturbed, each)
    shared, each = jax.tree.map(lambda x: x.value, (shared, each))

    def some(shared, each):
        each = jax.tree.map(lambda x, n: x if n else jax.lax.stop_gradient(x), each, needed)
        return _score(score, root, shared, each)

    def add(total, each):
        value, pull, more = jax.vjp(some, shared, each, has_aux=True)
        dshared, deach = pull(jnp.ones_like(value))
        deach = jax.tree.map(lambda g, n: g if n else None, deach, needed)
        return jax.tree.map(jnp.add, total, dshared), ((value, more), deach)

    zeros = jax.tree.map(jnp.zeros_like, shared)
    dshared, (sums, deach) = jax.lax.scan(add, zeros, _in_groups(at_once, each))
    return _sums(sums), (dshared, _ungrouped(deach))


def _fold_backward(score, root, at_once, gradients, cotangent):
    if isinstance(cotangent[0], SymbolicZero):
        return None, None
    return jax.tree.map(lambda g: cotangent[0] * g, gradients)


_fold.defvjp(_fold_forward, _fold_backward, symbolic_zeros=True)


def _scan(transition, B, u, start, root, z, at, bound):
    def limit(theta):
        return theta if bound is None else jnp.clip(theta, -bound, bound)

    size = len(start[0])

    def step(theta, inputs):
        u_t, z_t = inputs
        theta = limit(transition.apply(theta) + driven(B, u_t, size))
        return theta, root.apply(theta.T, z_t.T).T

    def step_and_keep(carry, inputs):
        theta, kept = carry
        t, u_t = inputs
        theta = limit(transition.apply(theta) + driven(B, u_t, size))
        return (theta, jnp.where((t == at)[:, None], theta, kept)), None

    first = limit(initial(start) + driven(B, u[:, 0], size))
    later = jnp.swapaxes(u[:, 1:], 0, 1)
    if at is None:
        y_0 = root.apply(first.T, z[:, 0].T).T
        _, y = jax.lax.scan(step, first, (later, jnp.swapaxes(z[:, 1:], 0, 1)))
        return jnp.concatenate([y_0[:, None], jnp.swapaxes(y, 0, 1)], 1)
    steps = jnp.arange(1, u.shape[1])
    (_, theta), _ = jax.lax.scan(step_and_keep, (first, first), (steps, later))
    return root.apply(theta.T, z.T).T
