"""The recurrence in every mode, for every form of A, against a plain loop in float64."""

from itertools import product
from typing import get_args

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from numerics import close

from wsrnn.recurrence import FORMS, MODES, Dense, convolution, krylov, state_at, unroll
from wsrnn.recurrence.transition import TransitionStart

P, D = 12, 3
LENGTHS = [1, 2, 7, 64, 784]
STARTS = get_args(TransitionStart)
# Compiling a hundred small programs well would take longer than all their runs.
QUICK = {"xla_backend_optimization_level": 0}


@pytest.fixture(params=["float32", "float64"])
def tolerances(request):
    """Of values and of gradients, relative to an array's largest value."""
    with jax.enable_x64(request.param == "float64"):
        yield (2e-5, 2e-4) if request.param == "float32" else (1e-9, 1e-9)


@pytest.fixture
def unchecked():
    """Without runtime type checks, so that a wrong literal reaches the package's own check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def generic(form, seed=0, size=P):
    """A transition whose parameters are all random: no symmetry for an error to hide behind."""
    start = FORMS[form].init(jax.random.key(seed), size)
    return jax.tree.map(lambda p: normal(seed, *p.shape), start)


def regimes(form, T):
    """Decaying, orthogonal and growing transitions: all the starts that the form has."""
    signs, found = np.random.default_rng(2).choice([-1, 1], P), {}

    def signed(p):
        return p * jnp.asarray(np.broadcast_to(signs, p.shape), p.dtype)

    for start, radius in product(STARTS, (0.9, 1.0, 30 ** (1 / T))):
        try:
            A = FORMS[form].init(jax.random.key(1), P, start, radius)
        except ValueError:
            continue
        found[f"{start} of radius {radius:.3f}"] = A
        if start != "orthogonal":
            found[f"{start} of radius {radius:.3f} with signs"] = jax.tree.map(signed, A)
    return found


def loop(A, B, u, theta0):
    """theta_0 = theta0 + B u_0, theta_t = A theta_{t-1} + B u_t, in numpy and float64."""
    A, B, u, theta0 = (np.asarray(x, np.float64) for x in (A, B, u, theta0))
    states = [theta0 + B @ u[0]]
    for u_t in u[1:]:
        states.append(A @ states[-1] + B @ u_t)
    return np.stack(states)


def functional(mode):
    """A random functional of the trajectory, linear and not, and the trajectory."""

    def loss(A, B, u, theta0, weights, scale):
        theta = unroll(A, B, u, theta0, mode)
        linear, nonlinear = weights
        return (linear * theta + nonlinear * jnp.sin(theta / scale)).sum(), theta

    return loss


@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("form", FORMS)
def test_every_mode_is_the_loop_and_has_its_gradients(form, T, tolerances):
    B, u, theta0 = normal(3, P, D), normal(4, T, D), normal(5, P)
    weights = normal(6, T, P), normal(7, T, P)
    derivatives = [jax.value_and_grad(functional(m), (0, 1, 2, 3), has_aux=True) for m in MODES]
    run = {m: jax.jit(f, compiler_options=QUICK) for m, f in zip(MODES, derivatives, strict=True)}
    for name, A in regimes(form, T).items():
        truth = loop(A.dense(P), B, u, theta0)
        scale = jnp.asarray(np.abs(truth).max(), B.dtype)
        results = {mode: f(A, B, u, theta0, weights, scale) for mode, f in run.items()}
        for mode, ((_, theta), gradients) in results.items():
            assert theta.dtype == B.dtype
            close(theta, truth, tolerances[0], f"{mode}, {name}")
            close(gradients, results["scan"][1], tolerances[1], f"gradients of {mode}, {name}")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_differences(form, mode, x64):
    T, step = 7, 1e-6
    A = jax.tree.map(lambda p: p / 4, generic(form))
    args = A, normal(3, P, D), normal(4, T, D), normal(5, P)
    weights = normal(6, T, P), normal(7, T, P)

    def loss(args):
        return functional(mode)(*args, weights, jnp.asarray(1.0))[0]

    f = jax.jit(loss)
    gradients = jax.jit(jax.grad(loss))(args)
    for leaf, (x, g) in enumerate(
        zip(jax.tree.leaves(args), jax.tree.leaves(gradients), strict=True)
    ):
        direction = normal(8 + leaf, *x.shape)

        def moved(by, leaf=leaf, direction=direction):
            leaves, tree = jax.tree.flatten(args)
            leaves[leaf] = leaves[leaf] + by * direction
            return f(jax.tree.unflatten(tree, leaves))

        slope = (moved(step) - moved(-step)) / (2 * step)
        np.testing.assert_allclose((g * direction).sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_the_kernel_is_the_powers_of_A(form, x64):
    A, V = generic(form), normal(1, D, P)
    powers = [np.linalg.matrix_power(np.asarray(A.dense(P)), t) @ V.T for t in range(6)]
    close(krylov(A, V, 6), np.stack(powers).swapaxes(1, 2), 1e-12)


@pytest.mark.parametrize("T", [1, 2, 9])
@pytest.mark.parametrize("form", FORMS)
def test_the_adjoint_of_the_kernel_is_that_of_a_naive_loop(form, T, x64):
    A, V, weights = generic(form), normal(1, D, P), normal(2, T, D, P)

    def naive(A, V):
        kernel = [V]
        for _ in range(T - 1):
            kernel.append(A.apply(kernel[-1]))
        return jnp.sin(weights * jnp.stack(kernel)).sum()

    def custom(A, V):
        return jnp.sin(weights * krylov(A, V, T)).sum()

    close(jax.grad(custom, (0, 1))(A, V), jax.grad(naive, (0, 1))(A, V), 1e-12)


@pytest.mark.parametrize("T", [1, 2, 5, 17, 100, 129, 1000])
def test_the_convolution_never_wraps_around(T):
    # A = 1, a drive at the last step alone: whatever wraps around lands in the zeros before it
    v = jnp.zeros((T, 1)).at[-1].set(1)
    theta = convolution(Dense(jnp.eye(1)), jnp.ones((1, 1)), T)(v)
    np.testing.assert_allclose(theta[0], v[:, 0], atol=1e-6)


@pytest.mark.parametrize("T", [1, 13])
@pytest.mark.parametrize("form", FORMS)
def test_state_at_is_that_row_of_the_trajectory(form, T, x64):
    N = 5
    A = jax.tree.map(lambda p: p / 4, generic(form))
    V, v = normal(1, P, D), normal(2, N, T, D)
    at = np.random.default_rng(3).integers(0, T, N)
    at[:2] = 0, T - 1
    rows = [loop(A.dense(P), V, v[n], np.zeros(P))[at[n]] for n in range(N)]
    close(state_at(A, V, v, jnp.asarray(at)), np.stack(rows), 1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_transpose_is_the_adjoint(form, x64):
    A, x, y = generic(form), normal(1, 4, P), normal(2, 4, P)
    np.testing.assert_allclose((A.apply(x) * y).sum(1), (x * A.T.apply(y)).sum(1), rtol=1e-12)
    np.testing.assert_array_equal(A.T.dense(P), A.dense(P).T)


@pytest.mark.parametrize("form", FORMS)
def test_the_dense_view_is_what_apply_does_to_basis_vectors(form, x64):
    A = generic(form)
    close(A.apply(jnp.eye(P)).T, A.dense(P), 1e-14)
    close(A.apply(jnp.eye(P).reshape(3, 4, P)).reshape(P, P).T, A.dense(P), 1e-14)
    close(A.apply(jnp.eye(P)[5]), A.dense(P)[:, 5], 1e-14)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("form", FORMS)
def test_spectral_radius_and_distance_to_identity(form, seed):
    A = generic(form, seed)
    matrix = np.asarray(A.dense(P), np.float64)
    # the eigenvalues of largest modulus may be a pair, around which the norms of powers oscillate
    expected = np.abs(np.linalg.eigvals(matrix)).max()
    np.testing.assert_allclose(A.spectral_radius(), expected, rtol=1e-2)
    expected = np.linalg.norm(matrix - np.eye(P))
    np.testing.assert_allclose(A.distance_to_identity(), expected, rtol=1e-5)


@pytest.mark.parametrize("radius", [0.0, 1e-3, 0.99, 1.0, 1.2, 50.0])
def test_spectral_radius_of_matrices_that_commute_with_their_transpose(radius):
    # a random rotation of 2 x 2 blocks: their eigenvalues are r e^(+-i w), all known
    rng = np.random.default_rng(0)
    blocks = np.zeros((P, P))
    for i, r in enumerate(radius * np.linspace(0.1, 1, P // 2)):
        w = rng.uniform(0, np.pi)
        blocks[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = r * np.array(
            [[np.cos(w), -np.sin(w)], [np.sin(w), np.cos(w)]]
        )
    Q = np.linalg.qr(rng.normal(size=(P, P)))[0]
    matrix = jnp.asarray(Q @ blocks @ Q.T, jnp.float32)
    np.testing.assert_allclose(Dense(matrix).spectral_radius(), radius, rtol=1e-4)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("form", FORMS)
def test_every_start_is_what_its_name_says_or_is_refused(form, start):
    for radius in (1.0, 0.7):
        try:
            A = FORMS[form].init(jax.random.key(0), P, start, radius).dense(P)
        except ValueError as refused:
            assert (form, start) != ("dense", start), refused
            continue
        A = np.asarray(A, np.float64)
        np.testing.assert_allclose(A @ A.T, A.T @ A, atol=1e-6)
        moduli = np.sort(np.abs(np.linalg.eigvals(A)))
        if start == "decay":
            scales = 1 / (1 - moduli / radius)
            np.testing.assert_allclose(np.diff(np.log(scales)), np.log(500) / (P - 1), rtol=1e-2)
            np.testing.assert_allclose(scales[0], 2, rtol=1e-4)
        else:
            np.testing.assert_allclose(moduli, radius, rtol=1e-5)
        assert (start == "orthogonal") == (np.abs(A - np.diag(np.diag(A))).max() > 0.1)
        if start == "identity":
            np.testing.assert_allclose(A, radius * np.eye(P), rtol=1e-6)


def test_two_keys_give_two_rotations():
    one, two = (FORMS["dense"].init(jax.random.key(k), P, "orthogonal").A for k in (0, 1))
    assert np.abs(one - two).max() > 0.1


@pytest.mark.parametrize(
    ("form", "start", "radius", "cure"),
    [
        ("diagonal", "orthogonal", 1.0, "use identity or decay"),
        ("identity", "orthogonal", 1.0, "identity, radius 1"),
        ("identity", "decay", 1.0, "identity, radius 1"),
        ("identity", "identity", 0.9, "identity, radius 1"),
    ],
)
def test_a_start_that_the_form_lacks_is_refused(form, start, radius, cure):
    with pytest.raises(ValueError, match=cure):
        FORMS[form].init(jax.random.key(0), P, start, radius)


def test_an_unknown_mode_is_refused_with_the_list_of_modes(unchecked):
    args = Dense(jnp.eye(P)), jnp.ones((P, D)), jnp.ones((4, D)), jnp.ones(P)
    with pytest.raises(ValueError, match="'fft' is unknown") as refused:
        unroll(*args, mode="fft")
    assert all(mode in str(refused.value) for mode in MODES)


@pytest.mark.parametrize("form", FORMS)
def test_theorem_1_of_the_paper(form, x64):
    # With B of full row rank any theta_0 is B u_0 for some u_0, so a convolution alone suffices.
    T, D = 20, P + 4
    A = jax.tree.map(lambda p: p / 4, generic(form))
    B, theta0 = normal(1, P, D), normal(3, P)
    u = normal(2, T, D).at[0].set(0)
    du_0 = np.linalg.lstsq(B, theta0)[0]
    alone = unroll(A, B, u.at[0].set(du_0), jnp.zeros(P), "conv")
    close(alone, loop(A.dense(P), B, u, theta0), 1e-9)
