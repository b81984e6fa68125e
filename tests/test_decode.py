"""The hot path over a batch, in every mode, against a plain loop and a root network in numpy."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import FORM_NAMES, close, modes, transition

from wsrnn import decode
from wsrnn.recurrence import MODES, InitialState, Injection, Projection, Recurrence
from wsrnn.recurrence.costs import RATES
from wsrnn.recurrence.methods import BlockedConvolution, SpectralConvolution
from wsrnn.root import Mlp, Network

N, D, RANK = 5, 3, 2
ROOT = Network(Mlp(width=3, depth=1, activation="tanh"), 2, 2)
P = ROOT.size
STARTS = ["shared", "affine"]
STEPS = ["all", "last", "index"]


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def case(form, start, T, direct=False):
    """A random recurrence, and queries."""
    A = transition(form, P)
    A = jax.tree.map(lambda p: 0.9 * p + 0.1 * P**-0.5 * normal(1, *p.shape), A)
    theta0 = InitialState(normal(4, P, RANK), normal(6, N, RANK))
    if start == "shared":
        theta0 = InitialState.shared(normal(4, P), N)
    B = Injection(P) if direct else Projection(0.3 * normal(2, P, D))
    return Recurrence(A, B, normal(3, N, T, D), theta0), normal(7, N, T, 2)


def chosen(steps, T):
    """What `decode.read` takes as `steps`, and the step of each sequence (None for all)."""
    if steps == "index":
        at = np.random.default_rng(8).integers(0, T, N)
        at[:2] = 0, T - 1
        return jnp.asarray(at), at
    return steps, np.full(N, T - 1) if steps == "last" else None


def network(theta, z):
    """tanh layer of 3 and linear layer of 2, kernels [out, in] row-major before their biases."""
    hidden = np.tanh(theta[:6].reshape(3, 2) @ z + theta[6:9])
    return theta[9:15].reshape(2, 3) @ hidden + theta[15:17]


def loop(recurrence, z, at=None, bound=np.inf):
    """The recurrence and its readings, one step of one sequence at a time, in float64."""
    A, B, u, (S, h) = recurrence
    B = np.eye(P, D) if isinstance(B, Injection) else B.B
    A, B, u, z = (np.asarray(x, np.float64) for x in (A.dense(P), B, u, z))
    outputs = []
    for n in range(len(u)):
        theta = np.asarray(S @ h[n])
        ys = []
        for t in range(len(u[n])):
            theta = np.clip((A @ theta if t else theta) + B @ u[n, t], -bound, bound)
            ys.append(network(theta, z[n, t]))
        outputs.append(ys if at is None else ys[at[n]])
    return np.array(outputs)


def values_and_gradients(mode, steps):
    """The outputs, and the gradients of a random functional of them for every argument."""

    def loss(recurrence, z):
        y = decode.read(recurrence, ROOT, z, mode=mode, steps=steps)
        return (normal(9, *y.shape) * jnp.sin(y)).sum(), y

    derivatives = jax.value_and_grad(loss, (0, 1), has_aux=True)
    return jax.jit(derivatives)


def check(form, start, steps, T, tolerances, direct=False):
    args = case(form, start, T, direct)
    steps, at = chosen(steps, T)
    truth = loop(*args, at)
    results = {mode: values_and_gradients(mode, steps)(*args) for mode in modes(form)}
    for mode, ((_, y), gradients) in results.items():
        close(y, truth, tolerances[0], mode)
        close(gradients, results["scan"][1], tolerances[1], f"gradients of {mode}")


@pytest.mark.parametrize(
    ("start", "steps"), [("shared", "last"), ("affine", "all"), ("affine", "index")]
)
@pytest.mark.parametrize("form", FORM_NAMES)
def test_every_mode_reads_the_loop_and_has_its_gradients(form, start, steps, x64):
    check(form, start, steps, 11, (1e-9, 1e-9))


@pytest.mark.parametrize(("start", "steps"), [("affine", "all"), ("shared", "index")])
@pytest.mark.parametrize("form", FORM_NAMES)
def test_without_a_matrix_channels_are_added_to_the_first_weights(form, start, steps, x64):
    check(form, start, steps, 11, (1e-9, 1e-9), direct=True)


@pytest.mark.parametrize("form", ["Dense", "Rotation", "LowRank"])
def test_every_mode_reads_the_loop_in_float32(form):
    """Every form's states in float32 are tested in test_recurrence."""
    check(form, "affine", "all", 64, (2e-5, 2e-3))


@pytest.mark.parametrize("steps", STEPS)
def test_a_single_step(steps, x64):
    check("Dense", "affine", steps, 1, (1e-9, 1e-9))


@pytest.mark.parametrize("mode", modes("Dense"))
def test_gradients_are_finite_differences(mode, x64):
    args, step = case("Dense", "affine", 6), 1e-6
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

    def f(recurrence, z, target, scale):
        def scaled(y, *labels):
            return score(y, *labels, scale)

        labels = target, jnp.arange(N)
        return decode.fold(recurrence, ROOT, z, scaled, labels, mode=mode)

    return f


def plain(recurrence, z, target, scale):
    return score(decode.read(recurrence, ROOT, z, mode="scan"), target, jnp.arange(N), scale)


def derivatives(f, args):
    """Of all arguments; and of some of them only, scaled by what comes after."""
    of_all = jax.jit(jax.value_and_grad(f, range(4), has_aux=True))
    of_some = jax.jit(jax.grad(lambda *args: 3 * f(*args)[0], 0))
    return of_all(*args), of_some(*args)


@lru_cache(1)
def by_reading(form, start):
    """The arguments of `fold`, and what reading and scoring makes of them."""
    args = (*case(form, start, 11), normal(20, N, 11, 2), jnp.asarray(0.7))
    return args, derivatives(plain, args)


@pytest.mark.parametrize(
    ("form", "mode"), [(form, mode) for form in FORM_NAMES for mode in modes(form)]
)
def test_folding_is_reading_and_scoring_with_the_same_gradients(form, mode, x64, monkeypatch):
    number = FORM_NAMES.index(form)  # every mode meets every start, in one piece and in many
    start, room = STARTS[number % 2], [1, 2**23][(number // 2 + MODES.index(mode)) % 2]
    monkeypatch.setitem(RATES, "cpu", RATES["cpu"]._replace(room=room))
    args, truth = by_reading(form, start)
    close(derivatives(folded(mode), args), truth, 1e-9)


@pytest.mark.parametrize("mode", modes("Diagonal"))
def test_only_the_scalar_of_a_fold_has_gradients(mode):
    args = (*case("Diagonal", "shared", 11), normal(20, N, 11, 2), jnp.asarray(0.7))
    gradients = jax.grad(lambda *a: folded(mode)(*a)[1]["worst"], range(4))(*args)
    assert not any(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("mode", modes("Diagonal"))
def test_float32_stays_where_float64_is_enabled(mode, x64):
    args = (*case("Diagonal", "affine", 11), normal(20, N, 11, 2), jnp.asarray(0.7))
    args = jax.tree.map(lambda x: x.astype(jnp.float32), args)
    results = jax.value_and_grad(folded(mode), range(4), has_aux=True)(*args)
    del results[0][1]["numbers"]
    assert {leaf.dtype for leaf in jax.tree.leaves(results)} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("form", "mode"), [(f, m) for f in ("Dense", "Diagonal", "LowRank") for m in modes(f)]
)
def test_what_comes_after_the_step_that_is_read_may_be_anything(form, mode):
    recurrence, z = case(form, "shared", 11)
    at = jnp.asarray([4] * N)

    def loss(recurrence, z):
        return decode.read(recurrence, ROOT, z, mode=mode, steps=at).sum()

    gradients = jax.jit(jax.grad(loss, (0, 1)))
    broken = recurrence._replace(u=recurrence.u.at[:, 5:].set(np.nan))
    close(gradients(broken, z), gradients(recurrence, z), 1e-5)


@pytest.mark.parametrize(
    "method", [SpectralConvolution(2), BlockedConvolution(2, 8)], ids=["spectral", "blocked"]
)
def test_nothing_is_transformed_for_gradients_that_nobody_wants(method):
    """The drive's gradient takes products of its own: without a lift before B they are left out."""
    recurrence, z = case("Dense", "shared", 64)

    def loss(weights, u):
        def sums(y):
            return (y**2).sum(), None

        A, B = weights
        made = recurrence._replace(A=A, B=B, u=u)
        return decode.fold(made, ROOT, z, sums, (), mode="conv")[0]

    def operations(arguments):
        gradient = jax.jit(jax.grad(loss, arguments))
        lowered = gradient.lower((recurrence.A, recurrence.B), recurrence.u)
        return lowered.compile().cost_analysis()["flops"]

    planned = decode.plan

    def choose(*args, **options):
        return replace(planned(*args, **options), method=method)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "plan", choose)
        assert operations((0,)) < 0.99 * operations((0, 1))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("start", STARTS)
def test_bound_clips_the_weights_after_every_step(start, steps, x64):
    recurrence, z = case("Dense", start, 8)
    steps, at = chosen(steps, 8)
    bounded = decode.read(recurrence, ROOT, z, mode="scan", steps=steps, bound=0.5)
    close(bounded, loop(recurrence, z, at, bound=0.5), 1e-12)
    assert np.abs(bounded - loop(recurrence, z, at)).max() > 0.1


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "scan"])
def test_bound_is_refused_where_states_must_be_linear(mode):
    recurrence, z = case("Dense", "shared", 4)
    with pytest.raises(ValueError, match="use scan"):
        decode.read(recurrence, ROOT, z, mode=mode, bound=1.0)


def test_by_default_every_step_is_read_in_the_cheapest_mode(x64):
    recurrence, z = case("Dense", "shared", 4)
    y = decode.read(recurrence, ROOT, z)
    close(y, loop(recurrence, z), 1e-9)


def test_a_mode_that_the_transition_cannot_run_is_refused(unchecked):
    recurrence, z = case("Dense", "shared", 4)
    with pytest.raises(ValueError, match="Dense makes as costly as P steps"):
        decode.read(recurrence, ROOT, z, mode="parallel")
    with pytest.raises(ValueError, match="'fft' is unknown: use auto or scan or conv or parallel"):
        decode.read(recurrence, ROOT, z, mode="fft")
