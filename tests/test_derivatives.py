"""Derivatives in mode scan: forwards, backwards and again, against each other and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import FORM, OWN, close

from wsrnn.models.warp import Matrix, WarpConfig
from wsrnn.recurrence import Diagonal, LinearMap, linear_scan
from wsrnn.root import Gated, Linear, Mlp, Residual
from wsrnn.root.base import contraction

ROOTS = [Mlp(width=3, depth=2, activation="tanh"), Gated(3, 1, "tanh"), Residual(3, 2, "tanh")]
FORMS = [FORM[name] for name in ("Dense", "Rotation", "LowRank", "BlockDiagonal", OWN)]
CASES = [(ROOTS[0], form) for form in FORMS] + [(root, Diagonal()) for root in ROOTS[1:]]


def like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), tree)


def dot(a, b):
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), a, b)))


def check(f, point):
    """jvp is the gradient's product; both products with the Hessian are its finite difference."""
    direction, step = like(point, 1), 1e-5
    gradient = jax.jit(jax.grad(f))

    @jax.jit
    def both(point):
        slope = jax.jvp(f, (point,), (direction,))[1]
        forward = jax.jvp(jax.grad(f), (point,), (direction,))[1]
        backward = jax.grad(lambda point: jax.jvp(f, (point,), (direction,))[1])(point)
        return slope, forward, backward

    slope, forward, backward = both(point)
    close(slope, dot(gradient(point), direction), 1e-10)
    close(forward, backward, 1e-9)
    near = [jax.tree.map(lambda p, d, s=s: p + s * d, point, direction) for s in (step, -step)]
    difference = jax.tree.map(lambda a, b: (a - b) / (2 * step), *map(gradient, near))
    close(forward, difference, 1e-4)


@pytest.mark.parametrize(
    ("root", "form"), CASES, ids=[f"{type(r).__name__}-{type(f).__name__}" for r, f in CASES]
)
def test_a_warp_has_derivatives_of_both_directions_and_of_second_order(root, form, x64):
    config = WarpConfig(root, form, write=Matrix(scale=0.2), mode="scan")
    graph, params = nnx.split(config.build(2, 1, rngs=nnx.Rngs(0)))
    params = jax.tree.map(lambda p: jnp.asarray(p, float), nnx.as_pure(params))
    inputs, times = like(jnp.zeros((2, 5, 2)), 0), jnp.tile(jnp.linspace(0, 1, 5), (2, 1))
    check(lambda params: jnp.square(nnx.merge(graph, params)(inputs, times)).sum(), params)


@pytest.mark.parametrize("axis", [-2, -3])
def test_contractions_in_batches_are_contractions_one_by_one(axis, x64):
    W, a = like(jnp.zeros((4, 2, 3, 5)), 0), like(jnp.zeros((4, 3 if axis == -2 else 2, 5)), 1)

    def derivatives(W, a):
        return jax.value_and_grad(lambda W, a: jnp.sin(contraction(W, a, axis)).sum(), (0, 1))(W, a)

    one = jax.jit(derivatives)
    for axes in ((0, 0), (0, None), (None, 0)):
        rows = [x if axis_ == 0 else x[0] for x, axis_ in zip((W, a), axes, strict=True)]
        batched = jax.jit(jax.vmap(derivatives, axes))(*rows)
        single = [
            one(*(x[i] if axis_ == 0 else x for x, axis_ in zip(rows, axes, strict=True)))
            for i in range(4)
        ]
        close(batched, jax.tree.map(lambda *x: jnp.stack(x), *single), 1e-12)
        plain = jnp.einsum("noiz,niz->noz" if axis == -2 else "noiz,noz->niz", W, a)
    close(jax.vmap(lambda W, a: contraction(W, a, axis))(W, a), plain, 1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_scans_in_batches_are_scans_one_by_one(reverse, x64):
    A = LinearMap(Diagonal(), {"decays": like(jnp.zeros((3, 4)), 0)})
    assert (
        A.parameters.keys() == LinearMap.init(Diagonal(), jax.random.key(0), (4,)).parameters.keys()
    )
    drive = like(jnp.zeros((3, 6, 2, 4)), 1)

    def loss(A, drive):
        return jnp.sin(linear_scan(A, drive, reverse)).sum()

    gradient = jax.grad(loss, (0, 1))
    batched = jax.jit(jax.vmap(gradient))(A, drive)
    outside = jax.jit(jax.grad(lambda *args: jax.vmap(loss)(*args).sum(), (0, 1)))(A, drive)
    gradient = jax.jit(gradient)
    single = [gradient(jax.tree.map(lambda x, i=i: x[i], A), drive[i]) for i in range(3)]
    single = jax.tree.map(lambda *x: jnp.stack(x), *single)
    close(batched, single, 1e-12)
    close(outside, single, 1e-12)


def test_the_convolution_says_that_it_has_reverse_mode_alone():
    graph, params = nnx.split(WarpConfig(Linear(), mode="conv").build(2, 1, rngs=nnx.Rngs(0)))
    given = jnp.ones((1, 64, 2)), jnp.ones((1, 64))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda params: nnx.merge(graph, params)(*given), (params,), (params,))
