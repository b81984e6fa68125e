"""The recurrence step by step, as one operation with derivatives of its own, of any order."""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from wsrnn.recurrence.transition import LinearMap


def linear_scan(
    A: LinearMap, drive: Float[Array, "T *N P"], reverse: bool = False
) -> Float[Array, "T *N P"]:
    """Return theta_t = A theta_{t-1} + drive_t for all t, theta_{-1} being 0.

    With `reverse` from the end: theta_t = A theta_{t+1} + drive_t.

    Differentiating the loop would add a P x P outer product to dA at every step. The derivative is
    the same recurrence, dtheta_t = A dtheta_{t-1} + (dA theta_{t-1} + ddrive_t), and its transpose
    runs in A^T the other way: the gradient of A is taken once, of one application of A to all
    states.
    """
    leaves, tree = jax.tree.flatten(A)
    return linear_scan_p.bind(*leaves, drive, tree=tree, reverse=reverse)


def _run(*operands, tree, reverse):
    *leaves, drive = operands
    apply = jax.tree.unflatten(tree, leaves).prepared()

    def step(theta, drive_t):
        theta = apply(theta) + drive_t
        return theta, theta

    return jax.lax.scan(step, jnp.zeros_like(drive[0]), drive, reverse=reverse)[1]


def _tangent(primals, tangents, *, tree, reverse):
    *leaves, _ = primals
    *dleaves, ddrive = map(ad.instantiate_zeros, tangents)
    theta = linear_scan_p.bind(*primals, tree=tree, reverse=reverse)
    if not all(type(tangent) is ad.Zero for tangent in tangents[:-1]):
        before, after = (slice(1, None), slice(-1)) if reverse else (slice(-1), slice(1, None))
        A, dA = jax.tree.unflatten(tree, leaves), jax.tree.unflatten(tree, dleaves)
        _, moved = jax.jvp(lambda A: A.apply(theta[before]), (A,), (dA,))
        ddrive = ddrive.at[after].add(moved)
    return theta, linear_scan_p.bind(*leaves, ddrive, tree=tree, reverse=reverse)


def _transposed(g, *operands, tree, reverse):
    """With respect to the drive, in which alone it is linear."""
    *leaves, _ = operands
    adjoint = linear_scan(jax.tree.unflatten(tree, leaves).T, g, not reverse)
    return [*[None] * len(leaves), adjoint]


def _batched(operands, axes, **options):
    return jax.vmap(lambda *operands: _run(*operands, **options), axes)(*operands), 0


linear_scan_p = Primitive("linear_scan")
linear_scan_p.def_impl(jax.jit(_run, static_argnames=("tree", "reverse")))
linear_scan_p.def_abstract_eval(lambda *operands, **_: operands[-1])
mlir.register_lowering(linear_scan_p, mlir.lower_fun(_run, multiple_results=False))
ad.primitive_jvps[linear_scan_p] = _tangent
ad.primitive_transposes[linear_scan_p] = _transposed
batching.primitive_batchers[linear_scan_p] = _batched


def adjoints(A: LinearMap, g: Float[Array, "T *N P"]) -> Float[Array, "T *N P"]:
    """lambda_t = A^T lambda_{t+1} + g_t."""
    return linear_scan(A.T, g, reverse=True)


def pull_transition(
    A: LinearMap, theta: Float[Array, "T *N P"], adjoint: Float[Array, "T *N P"]
) -> LinearMap:
    """dA = sum_t lambda_{t+1} theta_t^T: theta_{t+1} = A theta_t for all t is one application."""
    _, pull = jax.vjp(lambda A: A.apply(theta[:-1]), A)
    return pull(adjoint[1:])[0]
