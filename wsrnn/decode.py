"""The hot path: run the recurrence over a batch and evaluate the root network at its states.

The states of a batch, N T P floats, are never held at once outside the mode `scan`: what all
sequences share is computed once, then a few sequences at a time are unrolled and read. `read`
returns the outputs; `fold` returns a sum of scores of them and takes the gradients in the same
pass, so that the states are computed once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, ArrayLike, Float, Int

from wsrnn.recurrence import Mode, Plan, Recurrence, Trajectories, WholeScan, plan
from wsrnn.root import Readout

Steps = Literal["all", "last"] | Int[ArrayLike, "*N"]
"""Which steps are read: every one, the last, or one of each sequence by its index."""


def read(
    recurrence: Recurrence,
    root: Readout,
    z: Float[Array, "N T d_in"],
    *,
    steps: Steps = "all",
    mode: Mode = "auto",
    bound: float | None = None,
) -> Float[Array, "N T O"] | Float[Array, "N O"]:
    """Return y_t = root(theta_t, z_t) at `steps`.

    Indices of steps are [N], within 0..T-1 and not checked (`models.check_steps` does). `bound`
    clips every weight to +-bound after every step, which only `scan` can do: it is not linear in
    the state.

    Cost of `scan` with a dense A: T steps, and N T P floats held when differentiated. Cost of the
    other modes: see `recurrence.methods`; memory for a few sequences' states, which the backward
    pass computes again. Raises ValueError for an unknown mode, one that A cannot run, and for
    `bound` with another mode than `scan`.
    """
    if bound is not None and mode not in ("scan", "auto"):
        raise ValueError(
            f"clipping the weights is not linear in the state: mode {mode} cannot, use scan"
        )
    N, T, _ = recurrence.u.shape
    at: Int[Array, " N"] | None = None  # the one step that is read
    if not isinstance(steps, str):
        at = jnp.asarray(steps)
    elif steps == "last":
        at = jnp.full(N, T - 1)
    if at is not None:
        z = jnp.take_along_axis(z, at[:, None, None], 1)[:, 0]
        # What comes after the step that is read may be anything, also not a number.
        seen = (jnp.arange(T)[None] <= at[:, None])[..., None]
        recurrence = recurrence._replace(u=jnp.where(seen, recurrence.u, 0))
    how = _plan(recurrence, mode, bound, at is not None)
    if isinstance(how.method, WholeScan) or bound is not None:
        return _scan(recurrence, root, z, at, bound)
    if at is not None:
        return root.apply(how.method.state_at(recurrence, at).T, z.T).T
    trajectories, v, h = how.method.trajectories(recurrence)
    outputs = jax.checkpoint(partial(_outputs, root, trajectories))
    return _ungrouped(
        jax.lax.map(lambda group: outputs(*group), _in_groups(how.at_once, (v, h, z)))
    )


def fold(
    recurrence: Recurrence,
    root: Readout,
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
    how = _plan(recurrence, mode, bound, one=False)
    if isinstance(how.method, WholeScan) or bound is not None:
        y = read(recurrence, root, z, mode=mode, bound=bound)
        total, more = score(y, *labels)
        return total, jax.lax.stop_gradient(more)
    trajectories, v, h = how.method.trajectories(recurrence)
    inputs = jax.tree.map(lambda x: x[: how.at_once], (v, h, z, labels))
    y = jax.eval_shape(lambda v, h, z, _: _outputs(root, trajectories, v, h, z), *inputs)
    score, constants = jax.closure_convert(score, y, *inputs[3])
    return _fold(score, root, how.at_once, (trajectories, constants), (v, h, z, labels))


def _plan(recurrence: Recurrence, mode: Mode, bound: float | None, one: bool) -> Plan:
    mode = mode if bound is None else "scan"
    return plan(recurrence.A, recurrence.sizes, mode, one=one)


def _in_groups(size: int, tree: Any) -> Any:
    """Split the leading axis N of every leaf into [N / size, size]."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)


def _ungrouped(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _sums(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sum(0), tree)


def _outputs(root, trajectories: Trajectories, v, h, z) -> Float[Array, "n T O"]:
    """Of one group of sequences."""
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
    return score(_outputs(root, trajectories, v, h, z), *labels, *constants)


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
    scale = cotangent[0]
    return jax.tree.map(lambda g: scale.astype(g.dtype) * g, gradients)


_fold.defvjp(_fold_forward, _fold_backward, symbolic_zeros=True)


def _scan(recurrence: Recurrence, root, z, at, bound):
    """All sequences at once, the root read within the loop."""
    A, (_, B, u, start) = recurrence.A.whole(), recurrence

    def limit(theta):
        return theta if bound is None else jnp.clip(theta, -bound, bound)

    def step(theta, inputs):
        u_t, z_t = inputs
        theta = limit(A.apply(theta) + B.apply(u_t))
        return theta, root.apply(theta.T, z_t.T).T

    def step_and_keep(carry, inputs):
        theta, kept = carry
        t, u_t = inputs
        theta = limit(A.apply(theta) + B.apply(u_t))
        return (theta, jnp.where((t == at)[:, None], theta, kept)), None

    first = limit(start.theta + B.apply(u[:, 0]))
    later = jnp.swapaxes(u[:, 1:], 0, 1)
    if at is None:
        y_0 = root.apply(first.T, z[:, 0].T).T
        _, y = jax.lax.scan(step, first, (later, jnp.swapaxes(z[:, 1:], 0, 1)))
        return jnp.concatenate([y_0[:, None], jnp.swapaxes(y, 0, 1)], 1)
    steps = jnp.arange(1, u.shape[1])
    (_, theta), _ = jax.lax.scan(step_and_keep, (first, first), (steps, later))
    return root.apply(theta.T, z.T).T
