"""The hot path over a batch, in every mode, against a plain loop and a root network in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import close

from wsrnn import decode
from wsrnn.decode import Affine, Shared
from wsrnn.recurrence import FORMS, MODES
from wsrnn.root import RootNet

N, D, RANK = 5, 3, 2
ROOT = RootNet(2, 3, 1, 2, "tanh")
P = ROOT.size
STARTS = ["shared", "affine"]
READS = ["all", "last", "index"]
# Compiling a hundred small programs well would take longer than all their runs.
QUICK = {"xla_backend_optimization_level": 0}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def case(form, start, T):
    """Random arguments of `decode.read` up to its start, root inputs, and weights of a loss."""
    A = FORMS[form].init(jax.random.key(0), P)
    A = jax.tree.map(lambda p: 0.9 * p + 0.1 * P**-0.5 * normal(1, *p.shape), A)
    theta0 = Affine(normal(4, P, RANK), normal(5, P), normal(6, N, RANK))
    if start == "shared":
        theta0 = Shared(normal(4, P))
    return A, 0.3 * normal(2, P, D), normal(3, N, T, D), theta0, normal(7, N, T, 2)


def steps(read, T):
    """What `decode.read` takes as `read`, and the step of each sequence (None for all)."""
    if read == "index":
        at = np.random.default_rng(8).integers(0, T, N)
        at[:2] = 0, T - 1
        return jnp.asarray(at), at
    return read, np.full(N, T - 1) if read == "last" else None


def network(theta, z):
    """tanh layer of 3 and linear layer of 2, kernels [out, in] row-major before their biases."""
    hidden = np.tanh(theta[:6].reshape(3, 2) @ z + theta[6:9])
    return theta[9:15].reshape(2, 3) @ hidden + theta[15:17]


def loop(A, B, u, start, z, at=None, bound=np.inf):
    """The recurrence and its readings, one step of one sequence at a time, in float64."""
    A, B, u, z = (np.asarray(x, np.float64) for x in (A.dense(P), B, u, z))
    outputs = []
    for n in range(len(u)):
        theta = np.asarray(
            start[0] if isinstance(start, Shared) else start.W @ start.h[n] + start.b
        )
        ys = []
        for t in range(len(u[n])):
            theta = np.clip((A @ theta if t else theta) + B @ u[n, t], -bound, bound)
            ys.append(network(theta, z[n, t]))
        outputs.append(ys if at is None else ys[at[n]])
    return np.array(outputs)


def values_and_gradients(mode, read):
    """The outputs, and the gradients of a random functional of them for every argument."""

    def loss(A, B, u, start, z):
        y = decode.read(A, B, u, start, ROOT, z, mode=mode, read=read)
        return (normal(9, *y.shape) * jnp.sin(y)).sum(), y

    derivatives = jax.value_and_grad(loss, range(5), has_aux=True)
    return jax.jit(derivatives, compiler_options=QUICK)


def check(form, start, read, T, tolerances):
    args = case(form, start, T)
    read, at = steps(read, T)
    truth = loop(*args, at)
    results = {mode: values_and_gradients(mode, read)(*args) for mode in MODES}
    for mode, ((_, y), gradients) in results.items():
        close(y, truth, tolerances[0], mode)
        close(gradients, results["scan"][1], tolerances[1], f"gradients of {mode}")


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("form", FORMS)
def test_every_mode_reads_the_loop_and_has_its_gradients(form, start, read, x64):
    check(form, start, read, 11, (1e-9, 1e-9))


@pytest.mark.parametrize("read", ["all", "index"])
@pytest.mark.parametrize("form", FORMS)
def test_every_mode_reads_the_loop_in_float32(form, read):
    check(form, "affine", read, 64, (2e-5, 2e-4))


@pytest.mark.parametrize("read", READS)
def test_a_single_step(read, x64):
    check("dense", "affine", read, 1, (1e-9, 1e-9))


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_finite_differences(mode, x64):
    args, step = case("dense", "affine", 6), 1e-6
    f = values_and_gradients(mode, "all")
    gradients = f(*args)[1]
    for leaf, (x, g) in enumerate(
        zip(jax.tree.leaves(args), jax.tree.leaves(gradients), strict=True)
    ):
        direction = normal(10 + leaf, *x.shape)

        def moved(by, leaf=leaf, direction=direction):
            leaves, tree = jax.tree.flatten(args)
            leaves[leaf] = leaves[leaf] + by * direction
            return f(*jax.tree.unflatten(tree, leaves))[0][0]

        slope = (moved(step) - moved(-step)) / (2 * step)
        np.testing.assert_allclose((g * direction).sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_how_many_sequences_are_convolved_at_once_does_not_matter(at_once, x64, monkeypatch):
    T, sizes = 9, []
    args = case("dense", "affine", T)
    expected = values_and_gradients("scan", "all")(*args)
    map_over = jax.lax.map

    def spy(f, xs, *, batch_size):
        sizes.append(batch_size)
        return map_over(f, xs, batch_size=batch_size)

    monkeypatch.setattr(jax.lax, "map", spy)
    monkeypatch.setattr(decode, "STATES_AT_ONCE", at_once * T * P + 1)
    close(values_and_gradients("conv", "all")(*args), expected, 1e-9)
    assert sizes == [min(N, at_once)]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("start", STARTS)
def test_bound_clips_the_weights_after_every_step(start, read, x64):
    args = case("dense", start, 8)
    read, at = steps(read, 8)
    bounded = decode.read(*args[:4], ROOT, args[4], mode="scan", read=read, bound=0.5)
    close(bounded, loop(*args, at, bound=0.5), 1e-12)
    assert np.abs(bounded - loop(*args, at)).max() > 0.1


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "scan"])
def test_bound_is_refused_where_states_must_be_linear(mode):
    args = case("dense", "shared", 4)
    with pytest.raises(ValueError, match="use scan"):
        decode.read(*args[:4], ROOT, args[4], mode=mode, bound=1.0)


def test_the_default_mode_is_the_convolution_of_every_step(x64):
    args = case("dense", "shared", 4)
    y = decode.read(*args[:4], ROOT, args[4])
    explicit = decode.read(*args[:4], ROOT, args[4], mode="conv", read="all")
    np.testing.assert_array_equal(y, explicit)
