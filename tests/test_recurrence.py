"""The recurrence in every mode, for every form of A, against a plain loop in float64."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from numerics import FORM, FORM_NAMES, OWN, close, dense, modes, transition

from wsrnn.recurrence import (
    MODES,
    BlockDiagonal,
    Blocked,
    Dense,
    LinearMap,
    LowRank,
    Projection,
    Rows,
    Shift,
    Sizes,
    Spectral,
    kernel_powers,
    linear_scan,
    plan,
    plans,
    state_at,
    unroll,
)
from wsrnn.recurrence.costs import RATES

P, D = 12, 3
LENGTHS = [1, 300]
STARTS = ["identity", "orthogonal", "decay", "delay"]
SIZES = Sizes(4, 50, P, D, 1, D)


@pytest.fixture(params=["float32", "float64"])
def tolerances(request):
    """Of values and of gradients, relative to an array's largest value."""
    with jax.enable_x64(request.param == "float64"):
        yield (5e-5, 2e-4) if request.param == "float32" else (1e-9, 1e-9)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def generic(form, seed=0, size=P):
    """An A whose parameters are all random: no symmetry for an error to hide behind."""
    return jax.tree.map(lambda p: normal(seed, *p.shape), transition(form, size, key=seed))


def small(form, seed=0):
    """A generic A whose powers stay small."""
    return jax.tree.map(lambda p: p / 4, generic(form, seed))


def starts(form):
    """The starts that a form offers; None for one without a choice."""
    return [start for start in STARTS if can(form, start=start)] or [None]


def can(form, **options):
    """Whether a form has such an option."""
    try:
        transition(form, P, **options)
    except (TypeError, ValueError):
        return False
    return True


def regimes(form, T):
    """Decaying, orthogonal and growing transitions: all the starts that the form has."""
    rng, found = np.random.default_rng(2), {}

    def signed(p):
        return p * jnp.asarray(np.broadcast_to(rng.choice([-1, 1], p.shape[-1:]), p.shape), p.dtype)

    for start, radius in product(starts(form), (0.9, 1.0, 30 ** (1 / T))):
        options = {"start": start} if start else {}
        if can(form, radius=radius):
            options["radius"] = radius
        A = transition(form, P, key=1, **options)
        A = LinearMap(FORM[form], A.parameters)  # one form, one program
        found[f"{start} of radius {radius:.3f}"] = A
        if start != "orthogonal" and form in ("Dense", "Scalar", "Diagonal", "BlockDiagonal"):
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
        theta = unroll(A, Projection(B), u, theta0, mode)
        linear, nonlinear = weights
        return (linear * theta + nonlinear * jnp.sin(theta / scale)).sum(), theta

    return loss


@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("form", FORM_NAMES)
def test_every_mode_is_the_loop_and_has_its_gradients(form, T, tolerances):
    B, u, theta0 = normal(3, P, D), normal(4, T, D), normal(5, P)
    weights = normal(6, T, P), normal(7, T, P)
    derivatives = {
        m: jax.value_and_grad(functional(m), (0, 1, 2, 3), has_aux=True) for m in modes(form)
    }
    run = {m: jax.jit(f) for m, f in derivatives.items()}
    for name, A in regimes(form, T).items():
        truth = loop(A.dense(P), B, u, theta0)
        scale = jnp.asarray(np.abs(truth).max(), B.dtype)
        results = {mode: f(A, B, u, theta0, weights, scale) for mode, f in run.items()}
        for mode, ((_, theta), gradients) in results.items():
            assert theta.dtype == B.dtype
            close(theta, truth, tolerances[0], f"{mode}, {name}")
            close(gradients, results["scan"][1], tolerances[1], f"gradients of {mode}, {name}")


@pytest.mark.parametrize(("form", "mode"), [(f, "scan") for f in FORM_NAMES])
def test_gradients_are_finite_differences(form, mode, x64):
    """Those of the other modes are compared with these above."""
    T, step = 7, 1e-6
    A = small(form)
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


SQUARED = [form for form in FORM_NAMES if FORM[form].squaring != "none"]
DOUBLED = [(form, k) for form in SQUARED for k in (0, 1, 3)] + [(OWN, 0)]


@pytest.mark.parametrize(("form", "doublings"), DOUBLED)
def test_the_kernel_is_the_powers_of_A(form, doublings, x64):
    A, V = generic(form), normal(1, D, P)
    powers = [np.linalg.matrix_power(np.asarray(A.dense(P)), t) @ V.T for t in range(6)]
    close(kernel_powers(A, V, 6, doublings), np.stack(powers).swapaxes(1, 2), 1e-12)


@pytest.mark.parametrize("T", [9])
@pytest.mark.parametrize(("form", "doublings"), DOUBLED)
def test_the_adjoint_of_the_kernel_is_that_of_a_naive_loop(form, T, doublings, x64):
    A, V, weights = small(form), normal(1, D, P), normal(2, T, D, P)

    def naive(A, V):
        kernel = [V]
        for _ in range(T - 1):
            kernel.append(A.apply(kernel[-1]))
        return jnp.sin(weights * jnp.stack(kernel)).sum()

    def custom(A, V):
        return jnp.sin(weights * kernel_powers(A, V, T, doublings)).sum()

    derivatives = [jax.jit(jax.grad(f, (0, 1))) for f in (custom, naive)]
    close(derivatives[0](A, V), derivatives[1](A, V), 1e-11)


@pytest.mark.parametrize("T", [1, 7])
@pytest.mark.parametrize("form", FORM_NAMES)
def test_the_recurrence_and_its_adjoint_are_a_naive_loop(form, T, x64):
    A, drive, weights = small(form), normal(1, T, D, P), normal(2, T, D, P)

    def naive(A, drive):
        theta = [drive[0]]
        for drive_t in drive[1:]:
            theta.append(A.apply(theta[-1]) + drive_t)
        return jnp.stack(theta)

    def in_log_depth(A, drive):
        return A.parallel_scan(drive)

    runs = [naive, linear_scan, in_log_depth]
    if FORM[form].squaring == "none":
        runs.pop()

    results = [
        jax.jit(jax.value_and_grad(lambda *a, f=f: jnp.sin(weights * f(*a)).sum(), (0, 1)))(
            A, drive
        )
        for f in runs
    ]
    for result in results[1:]:
        close(result, results[0], 1e-11)


@pytest.mark.parametrize("T", [1, 2, 5, 17, 100, 129, 1000])
@pytest.mark.parametrize("method", [Spectral, Blocked])
def test_the_convolution_never_wraps_around(method, T):
    # A = 1, a drive at the last step alone: whatever wraps around lands in the zeros before it
    v = jnp.zeros((1, T, 1)).at[0, -1].set(1)
    kernel = jnp.ones((T, 2, 1)).at[:, 1].set(0)

    @jax.jit
    def states(kernel, v):
        trajectories = method.of(kernel, 1, *[8] * (method is Blocked))
        return trajectories.join(trajectories.states(v, jnp.ones((1, 1))), T)

    theta = states(kernel, v)
    np.testing.assert_allclose(theta[0, :, 0], v[0, :, 0], atol=2e-6)


@pytest.mark.parametrize(("block", "channels"), [(1, 3), (3, 1), (8, 3), (40, 1)])
def test_both_convolutions_are_the_plain_sum_with_its_gradients(block, channels, x64):
    T, n, R, size = 37, 2, 2, 5
    kernel, v, h = normal(1, T, channels + R, size), normal(2, n, T, channels), normal(3, n, R)
    weights = normal(4, n, T, size)

    def plain(kernel, v, h):
        lags = np.arange(T)[:, None] - np.arange(T)
        toeplitz = jnp.where((lags >= 0)[..., None, None], kernel[lags, :channels], 0)
        driven = jnp.einsum("tscp,nsc->ntp", toeplitz, v)
        return driven + jnp.einsum("tcp,nc->ntp", kernel[:, channels:], h)

    def spectral(kernel, v, h):
        return ordered(Spectral.of(kernel, channels), v, h)

    def blocked(kernel, v, h):
        return ordered(Blocked.of(kernel, channels, block), v, h)

    def ordered(trajectories, v, h):
        v = trajectories.join(trajectories.split(v), T)  # nothing but another order, and back
        return trajectories.join(trajectories.states(v, h), T)

    def derivatives(f):
        def loss(*args):
            return (weights * f(*args)).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(kernel, v, h)

    close(spectral(kernel, v, h), plain(kernel, v, h), 1e-12)
    close(blocked(kernel, v, h), plain(kernel, v, h), 1e-12)
    close(derivatives(spectral), derivatives(plain), 1e-12)
    close(derivatives(blocked), derivatives(plain), 1e-12)


@pytest.mark.parametrize("T", [1, 13])
@pytest.mark.parametrize(
    ("form", "doublings"), [(form, k) for form in SQUARED for k in (0, 2, 5)] + [(OWN, 0)]
)
def test_state_at_is_that_row_of_the_trajectory(form, T, doublings, x64):
    N, R = 5, 2
    A = small(form)
    B, S, u, h = normal(1, P, D), normal(4, P, R), normal(2, N, T, D), normal(5, N, R)
    at = np.random.default_rng(3).integers(0, T, N)
    at[:2] = 0, T - 1
    rows = [loop(A.dense(P), B, u[n], S @ h[n])[at[n]] for n in range(N)]
    run = jax.jit(state_at, static_argnums=6)
    close(run(A, B, S, u, h, jnp.asarray(at), doublings), np.stack(rows), 1e-12)


@pytest.mark.parametrize("form", SQUARED)
def test_squaring_is_applying_twice(form, x64):
    A, x = generic(form), normal(1, 4, P)
    close(A.squared.apply(x), A.apply(A.apply(x)), 1e-12)
    close(A.T.squared.dense(P), A.squared.dense(P).T, 1e-12)


@pytest.mark.parametrize("form", FORM_NAMES)
def test_the_factors_span_every_state(form, x64):
    A, X, x = small(form), normal(1, P, D), normal(2, 9, 2, D)
    factors = A.factored(X, x)
    assert (factors is not None) == (form in ("Identity", "Scalar", "LowRank"))
    if factors is not None:
        W, w = factors
        truth = np.stack([loop(A.dense(P), X, x[:, n], np.zeros(P)) for n in range(2)], 1)
        close(w @ W.T, truth, 1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", [form for form in FORM_NAMES if can(form, contract=True)])
def test_contracting_brings_the_radius_to_1_and_leaves_smaller_ones_alone(form, seed, x64):
    A = generic(form, seed)
    radius = np.abs(np.linalg.eigvals(np.asarray(A.dense(P)))).max()
    contracted = A.contracted(P)
    now = np.abs(np.linalg.eigvals(np.asarray(contracted.dense(P)))).max()
    np.testing.assert_allclose(now, min(radius, 1), rtol=1e-3)
    if form in ("Dense", "BlockDiagonal", "Scalar", "Diagonal"):
        tame = jax.tree.map(lambda p: 0.9 * p / max(radius, 1), A)
        close(tame.contracted(P), tame, 1e-12)


@pytest.mark.parametrize("form", FORM_NAMES)
def test_the_transpose_is_the_adjoint(form, x64):
    A, x, y = generic(form), normal(1, 4, P), normal(2, 4, P)
    np.testing.assert_allclose((A.apply(x) * y).sum(1), (x * A.T.apply(y)).sum(1), rtol=1e-12)
    close(A.T.dense(P), A.dense(P).T, 1e-14)


@pytest.mark.parametrize("form", FORM_NAMES)
def test_the_dense_view_is_what_apply_does_to_basis_vectors(form, x64):
    A = generic(form)
    close(A.apply(jnp.eye(P)).T, A.dense(P), 1e-14)
    close(A.apply(jnp.eye(P).reshape(3, 4, P)).reshape(P, P).T, A.dense(P), 1e-14)
    close(A.apply(jnp.eye(P)[5]), A.dense(P)[:, 5], 1e-14)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("form", FORM_NAMES)
def test_spectral_radius_and_distance_to_identity(form, seed):
    A = generic(form, seed)
    matrix = np.asarray(A.dense(P), np.float64)
    # the eigenvalues of largest modulus may be a pair, around which the norms of powers oscillate
    expected = np.abs(np.linalg.eigvals(matrix)).max()
    np.testing.assert_allclose(A.spectral_radius(P), expected, rtol=1e-3, atol=1e-6)
    expected = np.linalg.norm(matrix - np.eye(P))
    np.testing.assert_allclose(A.distance_to_identity(P), expected, rtol=1e-5)


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
    np.testing.assert_allclose(dense(matrix).spectral_radius(P), radius, rtol=1e-4)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("form", [form for form in FORM_NAMES if starts(form) != [None]])
def test_every_start_is_what_its_name_says_or_is_refused(form, start, unchecked):
    if start not in starts(form):
        with pytest.raises(ValueError, match=f"{form}.start '{start}' is unknown"):
            transition(form, P, start=start)
        return
    for radius in (1.0, 0.7):
        options = {"radius": radius} if can(form, radius=radius) else {}
        if radius != 1 and not options:
            continue
        A = np.asarray(transition(form, P, start=start, **options).dense(P), np.float64)
        if start == "delay":
            np.testing.assert_allclose(A, radius * np.eye(P, k=-1), rtol=1e-6)
            continue
        np.testing.assert_allclose(A @ A.T, A.T @ A, atol=1e-6)
        moduli = np.sort(np.abs(np.linalg.eigvals(A)))
        if start == "decay":
            decays = np.unique(np.round(moduli[moduli < radius * (1 - 1e-4)], 5))
            scales = 1 / (1 - decays / radius)
            step = np.log(500) / (len(scales) - 1)
            np.testing.assert_allclose(np.diff(np.log(scales)), step, rtol=3e-2)
            np.testing.assert_allclose(scales[[0, -1]], [2, 1000], rtol=3e-2)
        else:
            np.testing.assert_allclose(moduli, radius, rtol=1e-5)
        assert (start == "orthogonal") == (np.abs(A - np.diag(np.diag(A))).max() > 0.1) or (
            start == "decay" and form == "LowRank"
        )
        if start == "identity":
            np.testing.assert_allclose(A, radius * np.eye(P), rtol=1e-6, atol=1e-7)


def test_options_that_do_not_fit_are_refused(unchecked):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="block 5 does not divide the root network's P = 12"):
        LinearMap.init(BlockDiagonal(block=5), key, (P,))
    with pytest.raises(ValueError, match="rank of 1 to P, got 13"):
        LinearMap.init(LowRank(rank=13), key, (P,))
    for form, options in [(Dense, {"radius": 0.0}), (LowRank, {"rank": 0})]:
        with pytest.raises(ValueError, match=f"{form.__name__}.{next(iter(options))} must be"):
            form(**options)
    with pytest.raises(ValueError, match="'orthogonol' is unknown: did you mean orthogonal"):
        Dense(start="orthogonol")


def test_blocks_of_one_size_take_the_place_of_layers():
    A = LinearMap.init(BlockDiagonal(block=4, start="orthogonal"), jax.random.key(0), (5, 7))
    assert [len(block) for block in A.parameters["blocks"]] == [4, 4, 4]


@pytest.mark.parametrize("by", [-1, 2, 12, 20])
def test_a_delay_line_moves_by_so_many_places(by):
    A = LinearMap(Shift(by), {})
    np.testing.assert_array_equal(
        A.apply(jnp.arange(1.0, P + 1)), np.eye(P, k=-by) @ np.arange(1, P + 1)
    )


def test_two_keys_give_two_rotations():
    one, two = (transition("Dense", P, k, start="orthogonal").dense(P) for k in (0, 1))
    assert np.abs(one - two).max() > 0.1


def test_an_unknown_mode_is_refused_with_the_list_of_modes(unchecked):
    args = dense(np.eye(P)), Projection(jnp.ones((P, D))), jnp.ones((4, D)), jnp.ones(P)
    with pytest.raises(ValueError, match="'fft' is unknown") as refused:
        unroll(*args, mode="fft")
    assert all(mode in str(refused.value) for mode in MODES)


@pytest.mark.parametrize("form", FORM_NAMES)
def test_theorem_1_of_the_paper(form, x64):
    # With B of full row rank any theta_0 is B u_0 for some u_0, so a convolution alone suffices.
    T, D = 20, P + 4
    A = small(form)
    B, theta0 = normal(1, P, D), normal(3, P)
    u = normal(2, T, D).at[0].set(0)
    du_0 = np.linalg.lstsq(B, theta0)[0]
    convolve = jax.jit(lambda *args: unroll(*args, mode="conv"))
    alone = convolve(A, Projection(B), u.at[0].set(du_0), jnp.zeros(P))
    close(alone, loop(A.dense(P), B, u, theta0), 1e-9)


# Plans


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("backend", RATES)
@pytest.mark.parametrize("form", FORM_NAMES)
def test_auto_is_the_cheapest_of_what_the_transition_can_run(form, backend, one):
    offered = plans(generic(form), SIZES, one=one, backend=backend)
    assert {p.mode for p in offered} == set(modes(form))
    chosen = plan(generic(form), SIZES, one=one, backend=backend)
    assert chosen.seconds == min(p.seconds for p in offered)
    for mode in modes(form):
        assert plan(generic(form), SIZES, mode, one=one, backend=backend).mode == mode


def test_parallel_is_refused_where_powers_are_dear():
    for form in ("Dense", OWN):
        with pytest.raises(ValueError, match=f"{form} makes as costly as P steps"):
            plan(generic(form), SIZES, "parallel")


@pytest.mark.parametrize("N", [1, 6, 7, 32])
def test_sequences_in_flight_divide_the_batch_and_fit_the_room(N):
    for T in (3, 1000, 100_000):
        at_once = plan(generic("Diagonal"), Sizes(N, T, P, D, 1, D), "conv").at_once
        assert N % at_once == 0
        assert at_once == 1 or 4 * at_once * T * P <= RATES["cpu"].room


@pytest.mark.parametrize("doublings", [0, 2])
def test_rows_of_A_on_several_devices_make_the_kernel_of_the_whole(doublings, x64):
    devices, size, length = 3, 17, 9
    A, V, weights = 0.2 * normal(0, size, size), normal(1, 2, size), normal(2, length, 2, size)
    padded = jnp.pad(A, ((0, 1), (0, 0))), V, jnp.pad(weights, ((0, 0), (0, 0), (0, 1)))

    def whole(A, V, weights):
        return jnp.sin(weights * kernel_powers(dense(A), V, length, doublings)).sum()

    def part(A, V, weights):
        rows = LinearMap(Rows(), {"matrix": A})
        mine = kernel_powers(rows, rows.local_rows(V.T).T, length, doublings)
        return jnp.sin(weights * mine).sum()

    def split(A, V, weights):
        value, (dA, dV) = jax.value_and_grad(part, (0, 1))(A, V, weights)
        return jax.lax.psum(value, "model"), (dA, jax.lax.psum(dV, "model"))

    mesh = Mesh(np.array(jax.devices()[:devices]), ("model",))
    of_rows, of_all = PartitionSpec("model"), PartitionSpec()
    split = jax.shard_map(
        split, mesh=mesh, in_specs=(of_rows, of_all, PartitionSpec(None, None, "model")),
        out_specs=(of_all, (of_rows, of_all)), check_vma=False,
    )  # fmt: skip
    value, (dA, dV) = jax.jit(split)(*padded)
    np.testing.assert_array_equal(dA[size:], 0)
    expected = jax.value_and_grad(whole, (0, 1))(A, V, weights)
    close((value, (dA[:size], dV)), expected, 1e-12)
