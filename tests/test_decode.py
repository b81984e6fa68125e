"""The hot path over a batch, in every mode, against a plain loop and a root network in numpy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import close, modes, small_sizes

from wsrnn import decode
from wsrnn.decode import Affine, Shared
from wsrnn.recurrence import FORMS, MODES
from wsrnn.recurrence.plan import RATES
from wsrnn.root import RootNet

N, D, RANK = 5, 3, 2
ROOT = RootNet(2, 3, 1, 2, "tanh")
P = ROOT.size
STARTS = ["shared", "affine"]
READS = ["all", "last", "index"]


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def case(form, start, T):
    """Random arguments of `decode.read` up to its start, and root inputs."""
    A = FORMS[form].init(jax.random.key(0), P, **small_sizes(form, P))
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
    B = np.eye(P, D) if B is None else B
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
    return jax.jit(derivatives)


def check(form, start, read, T, tolerances, direct=False):
    args = case(form, start, T)
    if direct:
        args = args[0], None, *args[2:]
    read, at = steps(read, T)
    truth = loop(*args, at)
    results = {mode: values_and_gradients(mode, read)(*args) for mode in modes(form)}
    for mode, ((_, y), gradients) in results.items():
        close(y, truth, tolerances[0], mode)
        close(gradients, results["scan"][1], tolerances[1], f"gradients of {mode}")


@pytest.mark.parametrize(
    ("start", "read"), [("shared", "last"), ("affine", "all"), ("affine", "index")]
)
@pytest.mark.parametrize("form", FORMS)
def test_every_mode_reads_the_loop_and_has_its_gradients(form, start, read, x64):
    check(form, start, read, 11, (1e-9, 1e-9))


@pytest.mark.parametrize(("start", "read"), [("affine", "all"), ("shared", "index")])
@pytest.mark.parametrize("form", FORMS)
def test_without_a_matrix_channels_are_added_to_the_first_weights(form, start, read, x64):
    check(form, start, read, 11, (1e-9, 1e-9), direct=True)


@pytest.mark.parametrize("form", ["dense", "rotation", "low_rank"])
def test_every_mode_reads_the_loop_in_float32(form):
    """Every form's states in float32 are tested in test_recurrence."""
    check(form, "affine", "all", 64, (2e-5, 2e-3))


@pytest.mark.parametrize("read", READS)
def test_a_single_step(read, x64):
    check("dense", "affine", read, 1, (1e-9, 1e-9))


@pytest.mark.parametrize("mode", modes("dense"))
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


def score(y, target, number, scale):
    """A scalar with gradients, and more numbers: all add up over sequences."""
    error = jnp.sin(scale * y) - target
    return (error**2).sum(), {"worst": jnp.abs(error).sum(), "numbers": number.sum()}


def folded(mode):
    """`fold` as a function of all that it can be differentiated for, also by closure."""

    def f(A, B, u, start, z, target, scale):
        def scaled(y, *labels):
            return score(y, *labels, scale)

        labels = target, jnp.arange(N)
        return decode.fold(A, B, u, start, ROOT, z, scaled, labels, mode=mode)

    return f


def plain(A, B, u, start, z, target, scale):
    return score(decode.read(A, B, u, start, ROOT, z, mode="scan"), target, jnp.arange(N), scale)


EVERY = [(form, mode) for form in FORMS for mode in modes(form)]


@pytest.mark.parametrize(("form", "mode"), EVERY)
def test_folding_is_reading_and_scoring_with_the_same_gradients(form, mode, x64, monkeypatch):
    start, room = [("shared", 1), ("affine", 2**23)][EVERY.index((form, mode)) % 2]
    monkeypatch.setitem(RATES, "cpu", RATES["cpu"]._replace(room=room))
    args = (*case(form, start, 11), normal(20, N, 11, 2), jnp.asarray(0.7))
    both = folded(mode), plain
    derivatives = [jax.jit(jax.value_and_grad(f, range(7), has_aux=True)) for f in both]
    close(derivatives[0](*args), derivatives[1](*args), 1e-9)
    # of some of the arguments only, and scaled by what comes after
    some = [jax.jit(jax.grad(lambda *a, f=f: 3 * f(*a)[0], (0, 1))) for f in both]
    close(some[0](*args), some[1](*args), 1e-9)


@pytest.mark.parametrize("mode", modes("diagonal"))
def test_only_the_scalar_of_a_fold_has_gradients(mode):
    args = (*case("diagonal", "shared", 11), normal(20, N, 11, 2), jnp.asarray(0.7))
    gradients = jax.grad(lambda *a: folded(mode)(*a)[1]["worst"], range(7))(*args)
    assert not any(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("mode", modes("diagonal"))
def test_float32_stays_where_float64_is_enabled(mode, x64):
    args = (*case("diagonal", "affine", 11), normal(20, N, 11, 2), jnp.asarray(0.7))
    args = jax.tree.map(lambda x: x.astype(jnp.float32), args)
    results = jax.value_and_grad(folded(mode), range(7), has_aux=True)(*args)
    del results[0][1]["numbers"]
    assert {leaf.dtype for leaf in jax.tree.leaves(results)} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("form", "mode"), [(f, m) for f in ("dense", "diagonal", "low_rank") for m in modes(f)]
)
def test_what_comes_after_the_step_that_is_read_may_be_anything(form, mode):
    A, B, u, start, z = case(form, "shared", 11)
    at = jnp.asarray([4] * len(u))

    def loss(A, B, u, start, z):
        return decode.read(A, B, u, start, ROOT, z, mode=mode, read=at).sum()

    gradients = jax.grad(loss, range(5))
    close(gradients(A, B, u.at[:, 5:].set(np.nan), start, z), gradients(A, B, u, start, z), 1e-5)


@pytest.mark.parametrize("method", ["spectral", "blocked"])
def test_nothing_is_transformed_for_gradients_that_nobody_wants(method):
    """The drive's gradient takes products of its own: without a lift before B they are left out."""
    A, B, u, start, z = case("dense", "shared", 64)

    def loss(A, B, u, start, z):
        def sums(y):
            return (y**2).sum(), None

        return decode.fold(A, B, u, start, ROOT, z, sums, (), mode="conv")[0]

    def operations(arguments):
        gradient = jax.jit(jax.grad(loss, arguments))
        return gradient.lower(A, B, u, start, z).compile().cost_analysis()["flops"]

    chosen = decode.plan

    def choose(*args, **options):
        return replace(chosen(*args, **options), method=method, block=8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "plan", choose)
        assert operations((0, 1)) < 0.99 * operations((0, 1, 2))


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


def test_by_default_every_step_is_read_in_the_cheapest_mode(x64):
    args = case("dense", "shared", 4)
    y = decode.read(*args[:4], ROOT, args[4])
    close(y, loop(*args), 1e-9)


def test_a_mode_that_the_transition_cannot_run_is_refused(unchecked):
    args = case("dense", "shared", 4)
    with pytest.raises(ValueError, match="form dense makes as dear as P steps"):
        decode.read(*args[:4], ROOT, args[4], mode="parallel")
    with pytest.raises(ValueError, match="'fft' is unknown: use auto or scan or conv or parallel"):
        decode.read(*args[:4], ROOT, args[4], mode="fft")
