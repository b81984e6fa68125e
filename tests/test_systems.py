"""Dynamical systems against SciPy, formulas of physics, and the regression inside a WARP."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.integrate import solve_ivp

from wsrnn import data
from wsrnn.evaluations.continuation import whole
from wsrnn.evaluations.systems import SystemErrors
from wsrnn.experiment import Experiment
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.warp import Direct as DirectWrite
from wsrnn.models.warp import FromFirst, Matrix, StepMoments, WarpConfig
from wsrnn.recurrence import Identity
from wsrnn.root import Constant, Formula, Network, OneStep, physics
from wsrnn.tasks import SPLITS
from wsrnn.tasks.check import check_examples
from wsrnn.tasks.continuation import Direct, Recursive
from wsrnn.tasks.dynamics import LinearSystem
from wsrnn.tasks.systems import Lorenz, LotkaVolterra, MassSpringDamper, Sine, Spirals, oscillations

FEW = dict(trained=12, validated=6, tested=40)
SYSTEMS = [
    Sine(**FEW), MassSpringDamper(**FEW), MassSpringDamper(start=0.5, **FEW), Spirals(**FEW),
    LotkaVolterra(**FEW), Lorenz(points=120, context=(60,), **FEW),
]  # fmt: skip
SIX = [type(system).__name__ for system in SYSTEMS]
REGIMES = [(0.0, 20.0), (0.3, 20.0), (0.999999, 5.0), (1.0, 5.0), (1.000001, 5.0), (4.0, 30.0)]


def damped(m, k, c):
    return lambda x, v: (v, -(k * x + c * v) / m)


def predation(a, b, c, d):
    return lambda p, q: (a * p - b * p * q, c * p * q - d * q)


def solved(slope, start, times):
    found = solve_ivp(
        lambda t, y: slope(*y), (0, times[-1]), start, t_eval=times, rtol=1e-11, atol=1e-13
    )
    return found.y.T


@pytest.mark.parametrize("task", SYSTEMS, ids=SIX)
def test_sequences_are_a_function_of_the_seed_and_apart_in_every_split(task):
    values = {split: whole(task, split, 0)[0] for split in SPLITS}
    assert [len(part) for part in values.values()] == [12, 6, 40]
    assert all(part.dtype == np.float32 and np.isfinite(part).all() for part in values.values())
    last = {tuple(sequence[10]) for part in values.values() for sequence in part}
    assert len(last) == 12 + 6 + 40
    again, other = (whole(replace(task, tested=39), "test", seed)[0] for seed in (0, 1))
    np.testing.assert_allclose(again, values["test"][:39], atol=1e-3)
    assert not np.array_equal(again, other)
    for split in SPLITS:
        check_examples(task, split, 0)


def test_the_sine_has_its_phase_and_its_sizes_are_nested():
    values, latents = whole(Sine(trained=100), "train", 0)
    assert np.abs(latents["phase"]).max() <= np.pi / 6
    t = np.arange(16) / 15
    expected = np.sin(2 * np.pi * t + latents["phase"][:, None])
    np.testing.assert_allclose(values[..., 0], expected, atol=1e-6)
    assert np.array_equal(whole(Sine(trained=10), "train", 0)[0], values[:10])


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_the_oscillator_is_integrated_exactly_and_tested_more_widely(start):
    task = MassSpringDamper(start=start, **FEW)
    values, of = whole(task, "test", 0)
    for n in range(5):
        begin = of["x"][n], of["v"][n]
        slope = damped(of["m"][n], of["k"][n], of["c"][n])
        truth = solved(slope, begin, np.linspace(0, 1, 256))
        np.testing.assert_allclose(values[n] * [1, 28], truth, atol=1e-5)
    assert np.all(of["x"] == 1) == (start == 0)
    _, narrow = whole(replace(task, wide=False), "test", 0)
    _, trained = whole(task, "train", 0)
    low, high = task.m
    assert all(low <= part["m"].min() and part["m"].max() <= high for part in (narrow, trained))
    assert of["m"].min() < low and of["m"].max() > high


@pytest.mark.parametrize(("zeta", "omega"), REGIMES)
def test_the_tasks_closed_form_holds_in_every_regime(zeta, omega):
    t = np.linspace(0, 1, 50)
    truth = solved(damped(1, omega**2, 2 * zeta * omega), (1.0, -3.0), t)
    one = np.ones(1)
    found = oscillations(omega**2 * one, 2 * zeta * omega * one, one, -3 * one, t)[0]
    np.testing.assert_allclose(found, truth, atol=1e-4 if abs(zeta - 1) < 1e-3 else 1e-8)


def test_spirals_solve_their_equation():
    values, of = whole(Spirals(**FEW), "train", 0)
    assert set(of["sign"]) == {-1, 1}
    for n in range(4):
        begin = np.cos(of["angle"][n]), np.sin(of["angle"][n])
        t = np.linspace(0, 4 * np.pi, 100)
        truth = solved(lambda p, q: (-0.3 * p + 2 * q, -2 * p - 0.3 * q), begin, t)
        np.testing.assert_allclose(values[n] * [of["sign"][n], 1], truth, atol=1e-6)


def test_lotka_volterra_repeats_a_fragment_of_its_context_with_gaps():
    task = LotkaVolterra(**FEW)
    values, of = whole(task, "test", 0)
    contexts = data.examples(task, "test", 0, 40).inputs[..., -1].sum(1).astype(int)
    assert 32 <= contexts.min() < contexts.max() <= 63
    for n in range(4):
        r, slope = contexts[n], predation(*(of[name][n] for name in "abcd"))
        truth = solved(slope, (1, 1), np.arange(r) / 255)
        period = np.concatenate([truth / 1.1, np.zeros((50, 2))])
        np.testing.assert_allclose(values[n], np.tile(period, (4, 1))[:256], atol=1e-5)


def test_lorenz_solves_its_equation_and_stays_on_its_attractor():
    values, _ = whole(Lorenz(points=120, context=(60,), **FEW), "test", 0)
    states = values * [7.9, 9.0, 8.6] + [0, 0, 23.5]
    t = np.arange(40) * 0.01
    for one in states[:3]:
        truth = solved(
            lambda x, y, z: (10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z), one[0], t
        )
        np.testing.assert_allclose(one[:40], truth, atol=1e-2)
    assert np.abs(values).max() < 4


@pytest.mark.parametrize(("zeta", "omega"), REGIMES)
def test_the_exact_oscillator_agrees_with_scipy_and_its_gradient_with_differences(zeta, omega, x64):
    t = np.linspace(0, 1.5, 40)
    amplitude, phase = 1.3, 0.4
    begin = amplitude * np.cos(phase), -omega * amplitude * np.sin(phase)
    truth = solved(damped(1, omega**2, 2 * zeta * omega), begin, t)

    def states(p):
        return jnp.stack(jax.vmap(lambda t: jnp.stack(physics.oscillation(*p, t)))(t))

    p = jnp.array([zeta, omega, amplitude, phase])
    np.testing.assert_allclose(states(p), truth, atol=1e-8)
    found = jax.jacfwd(states)(p)
    back = jax.jacrev(states)(p)
    np.testing.assert_allclose(back, found, atol=1e-9)
    for k in range(4):
        h = jnp.zeros(4).at[k].set(1e-6)
        np.testing.assert_allclose(found[..., k], (states(p + h) - states(p - h)) / 2e-6, atol=2e-6)
    given = jnp.array([0.5, 0.5 * omega**2, zeta * omega, *begin])
    again = jax.vmap(lambda t: jnp.stack(physics.mass_spring_damper(*given, t)))(t)
    np.testing.assert_allclose(again, truth, atol=1e-8)


def test_the_exact_oscillator_is_finite_in_float32_for_all_parameters_and_times():
    zeta, omega, t = np.meshgrid(
        [0, 1e-6, 0.1, 1 - 1e-7, 1, 1 + 1e-7, 3, 1e3], np.geomspace(1e-3, 1e3, 30),
        [0, 1e-6, 0.01, 1, 50],
    )  # fmt: skip

    def one(zeta, omega, t):
        return jnp.stack(physics.oscillation(zeta, omega, jnp.float32(1.0), jnp.float32(0.5), t))

    given = [np.float32(part.ravel()) for part in (zeta, omega, t)]
    values = jax.jit(jax.vmap(one))(*given)
    slopes = jax.jit(jax.vmap(jax.jacrev(one, (0, 1, 2))))(*given)
    assert np.abs(values[:, 0]).max() < 1.001
    assert all(np.isfinite(part).all() for part in (values, *slopes))


def test_forecasts_of_any_outputs_are_finite():
    o = np.float32(np.random.default_rng(0).choice([-1e6, -50, 0, 3, 1e3], (500, 7)))
    z = np.float32(np.linspace(0, 1, 500))[:, None]
    every = (
        (physics.Oscillator(), 4),
        (physics.CarriedOscillator(63), 7),
        (physics.CarriedLinear(), 7),
    )
    for formula in (physics.CarriedPolynomial, physics.CarriedField):
        wild = np.float32(np.random.default_rng(1).choice([-1e6, -50, 0, 3, 1e3], (500, 15)))
        assert np.isfinite(jax.vmap(formula(2, 63, 2, intercept=True))(wild, z)).all()
    for formula, K in every:
        values = jax.vmap(formula)(o[:, :K], z)
        slopes = jax.vmap(jax.jacrev(formula))(o[:, :K], z)
        assert np.isfinite(values).all() and np.isfinite(slopes).all()


def test_the_square_of_the_angle_is_one_function_through_zero(x64):
    u = jnp.array([-5.0, -0.5, -0.1, -1e-9, 0.0, 1e-9, 0.0999, 0.1001, 0.9])
    expected = np.emath.arcsin(np.emath.sqrt(u)) ** 2
    np.testing.assert_allclose(jax.vmap(physics.squared_angle)(u), expected.real, atol=1e-12)
    slope = jax.vmap(jax.grad(physics.squared_angle))(u)
    assert slope[4] == 1 and np.isfinite(slope).all()


def carried(task, formula):
    degree, intercept = getattr(formula, "degree", 1), getattr(formula, "intercept", False)
    inner = OneStep(task.channels, degree=degree, intercept=intercept)
    root = Formula(formula, inner, outputs=inner.outputs)
    lift = StepMoments(degree, intercept)
    config = WarpConfig(root, Identity(), lift, write=DirectWrite(), drive="value")
    return config.build(task.d_in, task.d_out, rngs=nnx.Rngs(0))


SHOWN = Direct(changes=True)


@pytest.mark.parametrize(
    ("task", "formula"),
    [
        (MassSpringDamper(SHOWN, **FEW), physics.CarriedOscillator(255, 28.0)),
        (MassSpringDamper(SHOWN, start=0.5, **FEW), physics.CarriedOscillator(255, 28.0)),
        (MassSpringDamper(SHOWN, (25,), points=64, **FEW), physics.CarriedOscillator(63, 28.0)),
        (MassSpringDamper(SHOWN, **FEW), physics.CarriedLinear(2, 255)),
        (Spirals(SHOWN, **FEW), physics.CarriedLinear(2, 99)),
        (Spirals(SHOWN, **FEW), physics.CarriedPolynomial(2, 99, degree=1)),
    ],
)
def test_the_regression_inside_a_warp_forecasts_to_rounding_before_any_training(task, formula):
    model = carried(task, formula)
    batch = data.examples(task, "test", 0, 40)
    scored = batch.mask > 0
    call = nnx.jit(
        lambda model, mode: model(batch.inputs, batch.times, mode=mode), static_argnums=1
    )
    for mode in ("scan", "conv"):
        y = np.asarray(call(model, mode))
        assert np.isfinite(y).all()
        assert np.square(y - batch.targets)[scored].mean() < 1e-6
    assert model.holds
    hold = nnx.jit(lambda model: model.held(batch.inputs, batch.times, batch.last))
    held = np.asarray(hold(model))
    assert np.square(held - batch.targets)[scored].mean() < 1e-6
    loss = nnx.jit(nnx.grad(lambda m: (m(batch.inputs, batch.times) ** 2).sum()))(model)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loss))


def test_the_numbers_of_the_regression_are_those_of_least_squares(x64):
    task = MassSpringDamper(SHOWN, (30,), **FEW)
    values, _ = whole(task, "test", 0, 3)
    batch = data.examples(task, "test", 0, 3)
    model = carried(task, physics.CarriedLinear(2, 255))
    theta = np.array(model.states(batch.inputs.astype(float), batch.times.astype(float)))[:, -1]
    inner = Network(OneStep(penalty=1e-12), 1, 7)
    theta[:, -1] = 1e-12
    o = inner.apply(jnp.asarray(theta.T), jnp.zeros((1, 3))).T
    for n in range(3):
        seen = values[n, :30].astype(np.float64)
        W, *_ = np.linalg.lstsq(seen[:-1], seen[1:], rcond=None)
        np.testing.assert_allclose(np.reshape(o[n, :4], (2, 2)), W.T - np.eye(2), atol=1e-3)
        np.testing.assert_allclose(o[n, 4:6], seen[-1], atol=1e-6)
        assert o[n, 6] == 30


@pytest.mark.parametrize("prior", [False, True])
def test_a_quadratic_map_is_identified_from_its_trajectory(x64, prior):
    """Henon's map, whose orbit is chaotic: D m(s) by hand, the orbit by a loop in float64."""
    orbit = [np.array([0.1, 0.3])]
    for _ in range(59):
        x, y = orbit[-1]
        orbit.append(np.array([1 - 1.4 * x * x + y, 0.3 * x]))
    samples = np.stack(orbit)
    inner = OneStep(2, 1e-12, degree=2, intercept=True, prior=prior)
    assert inner.features == 6
    config = WarpConfig(
        Formula(physics.CarriedPolynomial(2, 59, 2, intercept=True), inner, inner.outputs),
        Identity(), StepMoments(2, intercept=True), write=DirectWrite(), drive="value",
    )  # fmt: skip
    model = config.build(5, 2, rngs=nnx.Rngs(0))
    token = np.concatenate([samples, np.diff(samples, axis=0, prepend=0 * samples[:1])], 1)
    token = np.concatenate([token, np.ones((60, 1))], 1)
    token[40:] = 0
    if prior:  # what the sums do not determine is taken from it
        model.phi.theta[...] = model.phi.theta[...].at[1:].set(0.3)
    y = model(token[None], np.arange(60)[None] / 59, mode="scan")[0]
    np.testing.assert_allclose(y[40:46], samples[40:46], atol=1e-6)
    theta = model.states(token[None], np.arange(60)[None] / 59)[0, -1]
    D = np.reshape(
        Network(inner, 1, inner.outputs).apply(theta[:, None], jnp.zeros((1, 1)))[:12, 0], (2, 6)
    )
    np.testing.assert_allclose(D, [[1, -1, 1, -1.4, 0, 0], [0, 0.3, -1, 0, 0, 0]], atol=1e-6)


def test_a_field_is_identified_by_the_trapezoidal_rule_and_carried_on_as_scipy_does(x64):
    D = 0.005 * np.array([[-10.0, 10, 0, 0, 0, 0, 0, 0, 0], [28, -1, 0, 0, 0, -1, 0, 0, 0],
                          [0, 0, -8 / 3, 0, 1, 0, 0, 0, 0]])  # fmt: skip

    def slope(_, s):  # of Lorenz, by hand, 0.005 units of time in a step
        x, y, z = s
        return 0.005 * np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 * z / 3])

    start, t = np.array([1.0, 2.0, 20.0]), np.arange(801.0)
    samples = solve_ivp(slope, (0, 800), start, "DOP853", t, rtol=1e-12, atol=1e-12).y.T
    formula = physics.CarriedField(3, 40, 2, most=100.0)
    o = np.concatenate([D.ravel(), samples[5], [6.0]])
    y = formula.at_all(jnp.asarray(o), jnp.asarray(t[None, :41] / 40)).T
    np.testing.assert_allclose(y[5:], samples[5:41], rtol=1e-6)
    np.testing.assert_allclose(y[20], formula(jnp.asarray(o), jnp.asarray(t[20:21] / 40)))

    e = np.diff(samples, axis=0, prepend=0 * samples[:1])
    tokens = np.concatenate([samples, e, np.ones((801, 1))], 1)
    sums = StepMoments(2, trapezoid=True).build(7, 3, rngs=nnx.Rngs(0))(jnp.asarray(tokens)).sum(0)
    x, y, z = samples.T
    m = np.stack([x, y, z, x * x, x * y, x * z, y * y, y * z, z * z], 1)
    m = (m[:-1] + m[1:]) / 2
    products = m.T @ m
    expected = [products[np.triu_indices(9)], (e[1:].T @ m).ravel(), samples[-1], [801]]
    np.testing.assert_allclose(sums, np.concatenate(expected), rtol=1e-9)
    inner = OneStep(3, 1e-12, degree=2)
    theta = jnp.concatenate([sums, jnp.full(1, 1e-14)])[:, None]
    found = Network(inner, 1, inner.outputs).apply(theta, jnp.zeros((1, 1)))[:27, 0]
    solved = np.linalg.lstsq(m, e[1:], rcond=None)[0].T
    np.testing.assert_allclose(np.reshape(found, (3, 9)), solved, atol=1e-5)


def test_changes_stand_between_samples_and_flag_within_the_context_alone():
    values, _ = whole(MassSpringDamper(**FEW), "test", 0)
    for unseen in ("zero", "last"):
        task = MassSpringDamper(Direct(unseen, changes=True), (10,), **FEW)
        x = data.examples(task, "test", 0, 40).inputs
        assert x.shape == (40, 255, 5) == (40, task.length, task.d_in)
        assert np.array_equal(x[:, 0, 2:4], values[:, 0])
        assert np.array_equal(x[:, 1:10, 2:4], np.diff(values[:, :10], axis=1))
        assert not x[:, 10:, 2:].any()


def test_errors_are_those_after_the_context_in_both_ranges_beside_baselines():
    task = MassSpringDamper(SHOWN, **FEW)
    score = SystemErrors(sequences=10, unit=1e-2)
    result = score(carried(task, physics.CarriedOscillator(255, 28.0)), task, 0)
    assert result.columns == ["MAE, narrow", "MSE/0.01, narrow", "MAE, wide", "MSE/0.01, wide"]
    values = whole(task, "test", 0, 10)[0].astype(np.float64)
    error = values[:, 99:100] - values[:, 100:]
    expected = [np.abs(error).mean(), np.square(error).mean() * 100]
    np.testing.assert_allclose(result.rows["hold the last sample"][2:], expected, rtol=1e-6)
    assert max(result.rows["this model"]) < 1e-2
    assert max(result.rows["linear model of the context"]) < 1e-2
    assert set(result.figures) == {"forecast-narrow", "forecast-wide"}


@pytest.mark.parametrize("task", [LotkaVolterra(SHOWN, **FEW), Sine(Recursive(), **FEW)])
def test_contexts_of_their_own_and_feedback_are_evaluated(task):
    config = WarpConfig() if isinstance(task, Sine) else RnnConfig(width=4)
    model = config.build(task.d_in, task.d_out, rngs=nnx.Rngs(0))
    result = SystemErrors(sequences=10)(model, task, 0)
    assert np.isfinite(result.rows["this model"]).all()


def test_a_constant_root_returns_its_weights():
    network = Network(Constant(), 1, 3)
    theta = jnp.arange(8.0).reshape(4, 2)
    assert np.array_equal(network.apply(theta, jnp.zeros((1, 2))), theta[:3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MassSpringDamper(m=(0.0, 1.0)), "m must be above 0"),
        (lambda: MassSpringDamper(c=(-1.0, 1.0)), "at least 0"),
        (lambda: MassSpringDamper(points=50), "within 1 and 49, got 100"),
        (lambda: Sine(trained=0), "trained 0"),
        (lambda: LotkaVolterra(fragment=(63, 32)), "rising numbers"),
        (lambda: Network(OneStep(2), 1, 2), "= 7 numbers"),
        (lambda: OneStep(penalty=0.0), "penalty above 0"),
        (
            lambda: WarpConfig(
                Formula(physics.CarriedLinear(), OneStep(), 7),
                Identity(),
                StepMoments(2),
                write=DirectWrite(),
                drive="value",
            ).build(5, 2, rngs=nnx.Rngs(0)),
            "the lift has 28",
        ),
        (lambda: Network(Formula(physics.sine, Constant(), 1), 1, 2), "must return an array"),
        (lambda: WarpConfig(Formula(physics.sine, OneStep(), 7)), "drive value"),
        (
            lambda: Experiment(LinearSystem(), RnnConfig(), SystemErrors()),
            "sequences with a known context",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def cooling(o, z):
    room, first, k = o[0], o[1], jax.nn.softplus(o[2])
    return (room + (first - room) * jnp.exp(-k * z[0]))[None]


def test_a_formula_of_numbers_that_do_not_read_the_time_is_a_warp():
    config = WarpConfig(
        Formula(cooling, Constant(), outputs=3), Identity(), start=FromFirst(depth=2),
        write=Matrix(scale=0.1), drive="value",
    )  # fmt: skip
    model = config.build(1, 1, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 6, 1)).astype(np.float32)
    times = np.broadcast_to(np.linspace(0, 1, 6, dtype=np.float32), (2, 6))
    o = model.states(x, times)
    expected = jax.vmap(jax.vmap(cooling))(o, times[..., None])
    np.testing.assert_allclose(model(x, times, mode="conv"), expected, atol=1e-6)
    np.testing.assert_allclose(model(x, times, mode="scan"), expected, atol=1e-6)
