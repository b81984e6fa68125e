"""WARP, in every execution and configuration, against the same model written in plain numpy."""

import dataclasses
import importlib
from functools import lru_cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import FORM, OWN, close, modes

from wsrnn.models.head import FINALS
from wsrnn.models.warp import (
    Clip,
    Direct,
    DynamicTanh,
    Features,
    FromFirst,
    Head,
    Impulse,
    Learned,
    LowRankLift,
    Matrix,
    MlpLift,
    Outer,
    Query,
    Scale,
    Tanh,
    WarpConfig,
    Waves,
)
from wsrnn.models.warp.textbook import TextbookConfig
from wsrnn.recurrence import MODES, BlockDiagonal, Dense, LowRank, Rotation
from wsrnn.root import ConjugateGradients, Descent, Evidence, Formula, Linear, Mlp, Residual

N, T, D, O = 3, 33, 3, 2  # noqa: E741

DRIVES = ["difference", "value"]
LIFTS = {"bare": None, "lift": MlpLift(width=5, size=4)}
STARTS = {
    "learned": Learned(),
    "mlp": FromFirst(depth=1, width=2, activation="tanh"),
    "paper": FromFirst(depth=1, width=None, activation="tanh"),
    "impulse": Impulse(),
}
LAYOUTS = ["standard", "read_before_write"]
TRANSITIONS = FORM | {"LowRank": LowRank(rank=2)}
# Every mode, with the paper's A where it can run.
EXECUTIONS = [("Dense" if mode in modes("Dense") else "Rotation", mode) for mode in MODES]
executions = pytest.mark.parametrize(("form", "mode"), EXECUTIONS)


ROOT = Mlp(width=3, depth=1, activation="tanh")


def small(**options):
    """A model of few weights whose B is not 0 and whose functions are smooth."""
    return WarpConfig(**{"root": ROOT, "write": Matrix(scale=0.2), **options})


def combinations():
    """Two of each form, one of each layout; every two choices but of forms meet with some form."""
    for i, form in enumerate(TRANSITIONS):
        drive, lift, start = DRIVES[i % 2], [*LIFTS][i // 2 % 2], [*STARTS][(i + i // 4) % 4]
        other_drive, other_lift = DRIVES[(i + 1) % 2], [*LIFTS][(i // 2 + 1) % 2]
        for names in [
            (drive, lift, start, form, "standard"),
            (other_drive, other_lift, "learned", form, "read_before_write"),
        ]:
            yield pytest.param(configured(*names), id="-".join(names))


def configured(drive, lift, start, form, layout):
    return small(
        drive=drive,
        lift=LIFTS[lift],
        start=STARTS[start],
        transition=TRANSITIONS[form],
        layout=layout,
        query=Query(waves=Waves(count=2), inputs=True),
    )


def form_of(config):
    """The name of its form of A."""
    return type(config.transition).__name__


@lru_cache
def build(config, d_in=D, d_out=O, noise=0.02):
    """A model with every parameter moved off its start: A is not the identity, nor symmetric."""
    model = config.build(d_in, d_out, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    graph, params = nnx.split(model)
    moved = jax.tree.map(
        lambda p: p + noise * jnp.asarray(rng.normal(size=p.shape), p.dtype), params
    )
    return nnx.merge(graph, moved)


def batch(d_in=D, length=T, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, length, d_in)).cumsum(1) / length**0.5
    times = np.linspace(0, 1, length) + rng.uniform(0, 0.01, size=(N, 1))
    return jnp.asarray(x, jnp.float32), jnp.asarray(times, jnp.float32)


def call(model, *args, method="__call__", **options):
    """One compiled call of a method of the model."""
    graph, params = nnx.split(model)

    def f(params, *args):
        return getattr(nnx.merge(graph, params), method)(*args, **options)

    return jax.jit(f)(params, *args)


def stream(model, inputs, times):
    """The states and outputs of `advance`, step by step; a missing input is the last mean."""
    graph, params = nnx.split(model)
    advance = jax.jit(lambda params, *args: nnx.merge(graph, params).advance(*args))
    state, states, outputs = call(model, inputs[:, 0], method="start"), [], []
    for t in range(times.shape[1]):
        x = inputs[:, t] if t < inputs.shape[1] else outputs[-1][:, : model.d_out]
        state, y = advance(params, state, x, times[:, t])
        states.append(state)
        outputs.append(y)
    return states, jnp.stack(outputs, 1)


def layers(z, weights, activation=np.tanh, last=True):
    """An MLP of (kernel [in, out], bias) pairs, activated after its last layer too if `last`."""
    for i, (kernel, bias) in enumerate(weights):
        z = z @ kernel + bias
        z = activation(z) if last or i < len(weights) - 1 else z
    return z


def f64(param):
    return np.asarray(param[...], np.float64)


def linear(layer):
    return f64(layer.kernel), f64(layer.bias)


def first_weights(model, x0):
    """phi(x_0)."""
    match model.config.start:
        case Learned():
            return f64(model.phi.theta)
        case FromFirst():
            return layers(x0, [linear(layer) for layer in model.phi.layers], last=False)
        case Impulse():
            return f64(model.B) @ f64(model.phi.W) @ x0


def root(model, theta, z):
    """The root network: kernels [out, in] row-major before their biases."""
    weights, config = [], model.config
    hidden = [] if isinstance(config.root, Linear) else [config.root.width] * config.root.depth
    sizes = [len(z), *hidden, model.d_out * (1 + config.uncertain)]
    for i, o in pairwise(sizes):
        weights.append((theta[: i * o].reshape(o, i).T, theta[i * o : i * o + o]))
        theta = theta[i * o + o :]
    assert not len(theta)
    return layers(z, weights, last=False)


def reference(model, inputs, times):
    """theta_t and y_t of every sequence, by loops over plain numpy arrays in float64."""
    config, thetas, outputs = model.config, [], []
    A = np.asarray(model.transition.dense(model.network.size), np.float64)
    clip = np.inf if config.weight_clip is None else config.weight_clip
    inputs, times = np.asarray(inputs, np.float64), np.asarray(times, np.float64)
    for x, tau in zip(inputs, times, strict=True):
        tokens = x
        if model.lift is not None:
            relu = layers(x, [linear(model.lift.hidden)], lambda z: np.maximum(z, 0))
            tokens = layers(relu, [linear(model.lift.out)], last=False)
        theta = first_weights(model, x[0])
        for t in range(len(x)):
            s = t - 1 if config.layout == "read_before_write" else t
            u = np.zeros_like(tokens[0])
            if config.drive == "value" and s >= 0:
                u = tokens[s]
            elif config.drive == "difference" and s >= 1:
                u = tokens[s] - tokens[s - 1]
            elif config.drive == "difference" and s == 0 and config.layout == "read_before_write":
                u = tokens[0]  # nothing has been seen before it
            theta = np.clip((A @ theta if t else theta) + f64(model.B) @ u, -clip, clip)
            z, waves = [tau[t]] if config.query.time else [], config.query.waves
            for i in range(0, waves.count if waves else 0, 2):
                angle = t / waves.base ** (i / waves.count)
                z += [np.sin(angle), np.cos(angle)]
            if config.query.inputs:
                z += list(x[t][: -model.d_out] if config.layout == "read_before_write" else x[t])
            thetas.append(theta)
            outputs.append(root(model, theta, np.array(z)))
    shape = *inputs.shape[:2], -1
    return np.reshape(thetas, shape), np.reshape(outputs, shape)


# One model, several executions


@pytest.mark.parametrize("config", [*combinations()])
def test_every_mode_is_the_reference_and_has_the_same_gradients(config):
    model = build(config)
    graph, params = nnx.split(model)
    inputs, times = batch()
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(N, T, O)), jnp.float32)

    def loss(params, mode):
        y = nnx.merge(graph, params)(inputs, times, mode=mode)
        return (weights * (y + jnp.sin(y))).sum(), y

    f = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    results = {mode: f(params, mode) for mode in modes(form_of(config))}
    truth = reference(model, inputs, times)[1]
    for mode, ((_, y), gradients) in results.items():
        close(y, truth, 2e-5, mode)
        gradients, expected = (dict(nnx.to_flat_state(g)) for g in (gradients, results["scan"][1]))
        cancels = config.drive == "difference" and config.layout == "standard"
        if cancels and model.lift is not None:
            # differences cancel this bias: its gradient is zero but for rounding
            for tree in (gradients, expected):
                assert np.abs(tree.pop(("lift", "out", "bias"))[...]).max() < 1e-3
        for path, e in expected.items():
            assert np.abs(e[...]).max() > 1e-3, f"{path} gets no gradient"
            close(gradients[path], e, 2e-4, f"gradient of {path}, {mode}")


STREAMED = [
    pytest.param(
        configured(drive, lift, start, form, layout), id=f"{form}-{drive}-{layout}-{start}"
    )
    for form, drive, layout, lift, start in [
        ("Dense", "difference", "standard", "lift", "mlp"),
        ("Dense", "difference", "read_before_write", "bare", "learned"),
        ("Dense", "value", "standard", "bare", "impulse"),
        ("Dense", "value", "read_before_write", "lift", "learned"),
        ("Rotation", "difference", "read_before_write", "lift", "learned"),
        ("LowRank", "value", "standard", "bare", "mlp"),
    ]
]
STREAMED_IN_EVERY_MODE = [
    pytest.param(*case.values, mode, id=f"{case.id}-{mode}")
    for case in STREAMED
    for mode in modes(form_of(case.values[0]))
]


@pytest.mark.parametrize("config", STREAMED)
def test_streaming_gives_the_outputs_of_the_full_call_one_by_one(config):
    model = build(config)
    inputs, times = batch(length=9)
    states, y = stream(model, inputs, times)
    assert len({str(jax.tree.map(jnp.shape, state)) for state in states}) == 1
    for mode in ("auto", *modes(form_of(config))):
        close(y, call(model, inputs, times, mode=mode), 1e-5, mode)


@pytest.mark.parametrize(("config", "mode"), STREAMED_IN_EVERY_MODE)
def test_reading_one_step_is_that_step_of_the_full_output(config, mode):
    model = build(config)
    inputs, times = batch()
    at = jnp.array([0, T - 1, 12])
    expected = call(model, inputs, times, mode=mode)[jnp.arange(N), at]
    close(call(model, inputs, times, steps=at, mode=mode), expected, 1e-5)


@pytest.mark.parametrize(("config", "mode"), STREAMED_IN_EVERY_MODE)
def test_no_output_depends_on_the_future(config, mode):
    model = build(config)
    inputs, times = batch()
    # round-off of the transforms reaches every step
    zero = 0 if mode == "scan" else 1e-5

    def loss(x, t):
        return jnp.sin(jnp.take(model(x, times, mode=mode), t, axis=1)).sum()

    gradient = jax.jit(jax.grad(loss))
    for t in (0, 1, 16, T - 2):
        g = np.abs(gradient(inputs, jnp.asarray(t)))
        assert g[:, t + 1 :].max() <= zero * g.max()
        assert g[:, t].max() > 0
        if t > 1:
            assert (g[:, : t + 1].max(axis=(0, 2)) > 1e-4 * g.max()).all()
        if config.layout == "read_before_write":
            # the value at step t is what y_t predicts
            assert g[:, t, -O:].max() <= zero * g.max()
            assert (g[:, t, :-O] > 0).any()


@executions
@pytest.mark.parametrize("start", STARTS)
def test_A_is_not_applied_before_the_first_output(start, form, mode):
    transition = dataclasses.replace(FORM[form], start="orthogonal", radius=3.0)
    model = build(small(start=STARTS[start], transition=transition))
    inputs, times = batch()
    y = call(model, inputs, times, mode=mode)[:, 0] if mode == "scan" else None
    only = call(model, inputs[:, :1], times[:, :1], mode=mode)[:, 0]
    for n in range(N):
        theta = first_weights(model, np.asarray(inputs[n, 0], np.float64))
        expected = root(model, theta, np.asarray(times[n, :1]))
        np.testing.assert_allclose(only[n], expected, rtol=1e-4)
        if mode == "scan":  # where the growth of later states brings no round-off to the first
            np.testing.assert_allclose(y[n], expected, rtol=1e-4)


@pytest.mark.parametrize(("form", "mode"), [*EXECUTIONS, ("Rotation", "auto")])
def test_the_total_is_the_score_of_the_outputs_with_the_same_gradients(form, mode):
    config = small(
        drive="value",
        lift=LIFTS["lift"],
        start=STARTS["mlp"],
        head=Head(DynamicTanh(), Scale()),
        residual=True,
        transition=TRANSITIONS[form],
        mode=mode,
    )
    graph, params = nnx.split(build(config, D, D))
    inputs, times = batch()
    labels = jnp.roll(inputs, -1, 1), jnp.arange(N)

    def score(outputs, targets, number):
        mean, scale = jnp.split(outputs, 2, -1)
        nll = (jnp.log(scale) + ((targets - mean) / scale) ** 2 / 2).sum()
        return nll, {"scales": scale.sum(), "numbers": number.sum()}

    def total(params):
        return nnx.merge(graph, params).total(score, inputs, times, labels)

    def scored(params):
        return score(nnx.merge(graph, params)(inputs, times, mode="scan"), *labels)

    (value, gradients), (expected, expected_gradients) = (
        jax.jit(jax.value_and_grad(f, has_aux=True))(params) for f in (total, scored)
    )
    close(value, expected, 2e-5)
    expected_gradients = dict(nnx.to_flat_state(expected_gradients))
    for path, gradient in nnx.to_flat_state(gradients):
        assert np.abs(gradient[...]).max() > 1e-3, f"{path} gets no gradient"
        close(gradient, expected_gradients[path], 2e-4, f"gradient of {path}")


@pytest.mark.parametrize("form", TRANSITIONS)
def test_auto_is_the_cheapest_mode_that_the_form_can_run(form):
    config = small(transition=TRANSITIONS[form])
    assert config.mode == "auto" == WarpConfig().mode
    for steps in ("all", "last"):
        plans = config.plans(D, O, batch=N, length=T, steps=steps)
        assert {plan.mode for plan in plans} == set(modes(form))
        named = dataclasses.replace(config, mode="scan")
        assert [p.mode for p in named.plans(D, O, batch=N, length=T, steps=steps)] == ["scan"]


def test_bfloat16_rounds_what_is_read_and_not_the_states():
    config = small(transition=TRANSITIONS["Rotation"], lift=LIFTS["lift"], start=STARTS["mlp"])
    narrow = dataclasses.replace(config, root=dataclasses.replace(ROOT, bfloat16=True))
    inputs, times = batch()
    change = {}
    for mode in modes("Rotation"):
        full, rounded = (call(build(c), inputs, times, mode=mode) for c in (config, narrow))
        assert rounded.dtype == full.dtype == jnp.float32
        change[mode] = np.abs(rounded - full)
        assert 0 < change[mode].max() < 0.05 * np.abs(full).max()
    for mode, moved in change.items():
        # where the round-off of a mode tips a weight to the next bfloat16, a few outputs differ
        assert np.abs(moved - change["scan"]).mean() < 0.1 * change["scan"].mean(), mode
    states = [build(c).diagnostics(inputs, times)["theta"] for c in (config, narrow)]
    np.testing.assert_array_equal(*states)
    rounded = build(narrow)
    close(stream(rounded, inputs, times)[1], call(rounded, inputs, times, mode="scan"), 1e-2)


# Where it starts, and what the root sees


def test_the_defaults_start_as_the_paper_does():
    model = WarpConfig().build(1, 1, rngs=nnx.Rngs(0))
    P = 1273
    np.testing.assert_array_equal(model.A["matrix"][...], np.eye(P))
    np.testing.assert_array_equal(model.B[...], np.zeros((P, 1)))
    assert model.phi.theta.shape == (P,)
    assert 0.9 < np.abs(model.phi.theta[...]).max() <= 1
    inputs, times = batch(1, 5)
    y = call(model, inputs, jnp.broadcast_to(times[:1], times.shape))
    close(y[1:], jnp.broadcast_to(y[:1], y[1:].shape), 1e-6)
    assert np.abs(np.diff(y[0, :, 0])).max() > 0


@executions
def test_with_A_the_identity_the_model_has_no_memory(form, mode):
    config = small(mode=mode, transition=dataclasses.replace(FORM[form], start="identity"))
    model = config.build(D, O, rngs=nnx.Rngs(0))
    inputs, times = batch()
    for t in (0, 1, T - 1):
        seen = model.diagnostics(inputs[:, : t + 1], times[:, : t + 1])
        moved = (inputs[:, t] - inputs[:, 0]) @ model.B[...].T
        close(seen["theta"], model.phi.theta[...][None] + moved, 1e-5)
        assert seen["A/norm of A - I"] == 0
        assert seen["A/spectral radius"] == pytest.approx(1)


@pytest.mark.parametrize("config", STREAMED)
def test_diagnostics_show_the_last_weights(config):
    model = build(config)
    inputs, times = batch()
    seen = model.diagnostics(inputs, times)
    close(seen["theta"], reference(model, inputs, times)[0][:, -1], 2e-5)
    A = np.asarray(model.transition.dense(model.network.size), np.float64)
    assert seen["A/norm of A - I"] == pytest.approx(np.linalg.norm(A - np.eye(len(A))), rel=1e-4)
    radius = np.abs(np.linalg.eigvals(A)).max()
    assert seen["A/spectral radius"] == pytest.approx(radius, rel=1e-2)


def root_inputs(config, inputs, times, d_out):
    """What the root is fed: a linear root with B = 0 and theta_0 the identity map returns it."""
    model = dataclasses.replace(config, root=Linear()).build(
        inputs.shape[-1], d_out, rngs=nnx.Rngs(0)
    )
    model.phi.theta[...] = jnp.concatenate([jnp.eye(d_out).ravel(), jnp.zeros(d_out)])
    return call(model, inputs, times, mode="scan")


@pytest.mark.parametrize("base", [100.0, 7.0])
def test_the_root_is_fed_the_time_and_sines_and_cosines_of_the_step(base):
    inputs, times = batch(5, 50)
    z = root_inputs(WarpConfig(query=Query(waves=Waves(4, base))), inputs, times, 5)
    step = np.arange(50.0)
    expected = np.zeros((N, 50, 5))
    expected[..., 0] = times
    for i in (0, 2):
        expected[..., 1 + i] = np.sin(step / base ** (i / 4))
        expected[..., 2 + i] = np.cos(step / base ** (i / 4))
    np.testing.assert_allclose(z, expected, atol=1e-5)


def test_the_root_is_fed_the_inputs_last():
    inputs, times = batch(2, 6)
    z = root_inputs(WarpConfig(query=Query(waves=Waves(2), inputs=True)), inputs, times, 5)
    np.testing.assert_allclose(z[..., 3:], inputs, atol=1e-6)
    np.testing.assert_allclose(z[..., 0], times, atol=1e-6)


def test_the_root_is_fed_the_query_alone_where_it_reads_before_it_writes():
    inputs, times = batch(6, 6)
    config = WarpConfig(layout="read_before_write", query=Query(time=False, inputs=True))
    np.testing.assert_allclose(root_inputs(config, inputs, times, 3), inputs[..., :3], atol=1e-6)


def test_the_drives_differ():
    inputs, times = batch()
    y = [call(build(small(drive=drive)), inputs, times) for drive in DRIVES]
    assert np.abs(y[0] - y[1]).max() > 1e-2


# The head


RAW = np.random.default_rng(5).normal(size=(4, 6)) * 3
EXPECTED = {
    None: lambda y: y,
    Tanh(): np.tanh,
    Clip(bound=0.5): lambda y: np.minimum(np.maximum(y, -0.5), 0.5),
    DynamicTanh(): lambda y: 4 * np.tanh((y - 3) / 2) + 5,
}
finals = pytest.mark.parametrize("final", EXPECTED, ids=str)


def test_every_final_activation_is_tested():
    assert {type(final) for final in EXPECTED} == {type(None), *FINALS}


@pytest.mark.parametrize("uncertain", [False, True])
@finals
def test_the_final_activation_is_of_the_mean_alone(final, uncertain):
    head = Head(final, Scale(floor=0.1) if uncertain else None).build()
    if final == DynamicTanh():
        np.testing.assert_array_equal(head.parameters[...], [1, 0, 1, 0])
        head.parameters[...] = jnp.array([2.0, 3.0, 4.0, 5.0])
    means = 3 if uncertain else 6
    expected = EXPECTED[final](RAW[:, :means])
    if uncertain:
        scale = np.maximum(np.log(1 + np.exp(RAW[:, 3:])), 0.1)
        assert (scale == 0.1).any() and (scale > 0.1).any()
        expected = np.concatenate([expected, scale], 1)
    np.testing.assert_allclose(head(jnp.asarray(RAW, jnp.float32)), expected, rtol=2e-5, atol=1e-6)


@executions
def test_an_uncertain_model_returns_means_and_then_scales(form, mode):
    head = Head(Tanh(), Scale(floor=0.6))
    config = small(head=head, transition=TRANSITIONS[form])
    assert config.uncertain and not small().uncertain
    model = build(config)
    inputs, times = batch()
    raw = reference(model, inputs, times)[1]
    mean, scale = np.tanh(raw[..., :O]), np.maximum(np.log(1 + np.exp(raw[..., O:])), 0.6)
    close(call(model, inputs, times, mode=mode), np.concatenate([mean, scale], -1), 2e-5)


# What is not linear in the state


@pytest.mark.parametrize("uncertain", [False, True])
def test_generate_feeds_its_means_back_after_the_context(uncertain):
    L, length = 4, 9
    model = build(small(head=Head(scale=Scale() if uncertain else None), start=STARTS["mlp"]), 2, 2)
    inputs, times = batch(2, length)
    context = inputs[:, :L]
    generated = call(model, context, times, method="generate")
    close(generated, stream(model, context, times)[1], 1e-5)
    close(generated[:, :L], call(model, context, times[:, :L]), 1e-5)
    # once its own outputs are known, generating is one full call on them
    fed = jnp.concatenate([context, generated[:, L - 1 : -1, :2]], 1)
    close(generated, call(model, fed, times), 1e-5)


def test_generate_of_a_whole_context_is_the_full_call():
    model = build(small(), 2, 2)
    inputs, times = batch(2, 6)
    generated = call(model, inputs, times, method="generate")
    close(generated, call(model, inputs, times, mode="scan"), 1e-6)


@pytest.mark.parametrize("mode", ["scan", "auto"])
def test_weights_are_clipped_in_the_scan_and_in_streaming(mode):
    config = small(weight_clip=0.4, mode=mode, drive="value")
    plans = config.plans(D, O, batch=N, length=T, steps="all")
    assert [plan.mode for plan in plans] == ["scan"]
    model = build(config)
    inputs, times = batch()
    truth = reference(model, inputs, times)
    assert np.abs(truth[0]).max() == 0.4
    close(call(model, inputs, times), truth[1], 2e-5)
    states, y = stream(model, inputs, times)
    close(y, truth[1], 2e-5)
    close(states[-1].theta, truth[0][:, -1], 2e-5)


PLAIN = {
    "plain": {},
    "clipped": {"weight_clip": 0.4},
    "bfloat16": {"root": dataclasses.replace(ROOT, bfloat16=True)},
    "checkpointed": {"layout": "read_before_write"},
}


@pytest.mark.parametrize("case", PLAIN)
def test_the_textbook_is_the_same_model(case, x64):
    model = build(small(drive="value", mode="scan", **PLAIN[case]))
    graph, params = nnx.split(jax.tree.map(lambda p: p.astype(jnp.float64), model))
    options = {f.name: getattr(model.config, f.name) for f in dataclasses.fields(WarpConfig)}
    config = TextbookConfig(**options, checkpoint=case == "checkpointed")
    plain = nnx.graphdef(config.build(D, O, rngs=nnx.Rngs(0)))
    inputs, times = (x.astype(jnp.float64) for x in batch())
    # numbers in bfloat16 have 8 bits, and the two add them up in different orders
    tolerance = 6e-2 if case == "bfloat16" else 1e-12

    def values(graph, at):
        def loss(params):
            y = nnx.merge(graph, params)(inputs, times, steps="all" if at is None else at)
            return jnp.sin(y).sum(), y

        f = jax.value_and_grad(loss, has_aux=True)
        return jax.jit(f)(params)

    for at in (None, jnp.arange(N) * 10):
        (_, y), gradients = values(plain, at)
        (_, expected), expected_gradients = values(graph, at)
        assert y.dtype == jnp.float64
        close(y, expected, tolerance)
        close(nnx.as_pure(gradients), nnx.as_pure(expected_gradients), tolerance)
    seen, expected = (nnx.merge(g, params).diagnostics(inputs, times) for g in (plain, graph))
    close(seen, expected, 1e-12)
    assert (np.abs(seen["theta"]).max() == 0.4) == (case == "clipped")


@pytest.mark.parametrize("case", ["bfloat16", "clipped"])
def test_what_the_textbook_is_asked_for_changes_its_outputs(case):
    inputs, times = batch()
    configs = [
        TextbookConfig(**{"root": ROOT, "write": Matrix(scale=0.2)} | PLAIN[c])
        for c in ("plain", case)
    ]
    y, other = (call(config.build(D, O, rngs=nnx.Rngs(0)), inputs, times) for config in configs)
    assert np.abs(y - other).max() > 1e-3


NONLINEAR = [mode for mode in MODES if mode != "scan"]


@pytest.mark.parametrize("mode", NONLINEAR)
def test_generate_is_refused_where_states_must_be_linear(mode):
    inputs, times = batch(2, 6)
    with pytest.raises(ValueError, match="use scan"):
        build(small(), 2, 2).generate(inputs, times, mode=mode)


@pytest.mark.parametrize("mode", NONLINEAR)
def test_a_clipped_model_is_refused_where_states_must_be_linear(mode):
    options = {"weight_clip": 1.0, "transition": TRANSITIONS["Rotation"]}
    with pytest.raises(ValueError, match="set mode scan or auto, or weight_clip None"):
        small(mode=mode, **options)
    for own in ("scan", "auto"):
        with pytest.raises(ValueError, match="use scan"):
            build(small(mode=own, **options))(*batch(), mode=mode)


def test_generate_is_refused_by_a_model_that_does_not_predict_its_inputs():
    with pytest.raises(ValueError, match="d_in is 3, d_out 2"):
        build(small()).generate(*batch())


# What is refused, and the cure


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"start": Impulse(), "write": Matrix()}, "set write Matrix with a scale above 0"),
        ({"start": Impulse(), "write": Direct()}, "set write Matrix with a scale above 0"),
        ({"layout": "read_before_write", "start": STARTS["mlp"]}, "set start Learned"),
        ({"layout": "read_before_write", "start": Impulse()}, "set start Learned"),
        ({"features": Features()}, "set layout read_before_write"),
        ({"weight_clip": 0.0, "mode": "scan"}, "above 0"),
        ({"weight_clip": -1.0, "mode": "scan"}, "above 0"),
        ({"weight_clip": 1.0, "mode": "conv"}, "set mode scan or auto"),
        ({"mode": "parallel"}, "set mode auto, scan or conv, or another form"),
        ({"root": Descent()}, "reads the query and nothing else"),
        ({"root": Formula(jnp.add, Descent())}, "root Formula reads the query and nothing else"),
        ({"root": ConjugateGradients(), "query": Query(inputs=True)}, "query.time False"),
        (
            {
                "root": Descent(),
                "query": Query(time=False, inputs=True),
                "layout": "read_before_write",
                "head": Head(scale=Scale()),
            },
            "set head.scale None",
        ),
        (
            {
                "root": Evidence(),
                "query": Query(time=False, inputs=True),
                "layout": "read_before_write",
            },
            "set lift Moments, write Direct and transition Identity",
        ),
        (
            {
                "root": Formula(jnp.add, Evidence()),
                "query": Query(time=False, inputs=True),
                "layout": "read_before_write",
            },
            "root Formula needs sums of products: set lift Moments",
        ),
    ],
)
def test_parts_that_cannot_work_together_are_refused_with_the_cure(options, cure):
    with pytest.raises(ValueError, match=cure):
        small(**options)


@pytest.mark.parametrize(
    ("part", "options", "cure"),
    [
        (Dense, {"radius": 0.0}, "above 0"),
        (Dense, {"radius": float("nan")}, "above 0"),
        (LowRank, {"rank": 0}, "rank must be at least 1"),
        (BlockDiagonal, {"block": 0}, "block must be at least 1"),
        (FromFirst, {"depth": -1}, "at least 0"),
        (FromFirst, {"width": 0}, "at least 1"),
        (MlpLift, {"width": 0}, "at least 1"),
        (MlpLift, {"size": 0}, "at least 1"),
        (LowRankLift, {"size": 0}, "at least 1"),
        (Outer, {"size": 0}, "at least 1"),
        (Features, {"units": 0}, "at least 1"),
        (Clip, {"bound": 0.0}, "above 0"),
        (Scale, {"floor": 0.0}, "above 0"),
        (Matrix, {"scale": -1.0}, "at least 0"),
        (Waves, {"count": 3}, "even number"),
        (Waves, {"count": -2}, "even number"),
        (Waves, {"base": 0.0}, "base above 0"),
        (Query, {"time": False}, "set query.time, waves or inputs"),
    ],
)
def test_a_part_that_cannot_work_is_refused_with_the_cure(part, options, cure):
    with pytest.raises(ValueError, match=cure):
        part(**options)


@pytest.mark.parametrize(
    ("part", "field", "value", "nearest"),
    [
        (WarpConfig, "mode", "cnv", "conv"),
        (WarpConfig, "drive", "values", "value"),
        (WarpConfig, "layout", "read_befor_write", "read_before_write"),
        (Mlp, "activation", "rellu", "relu"),
        (Mlp, "start", "unifrom", "uniform"),
        (Linear, "start", "hee", "he"),
        (Residual, "activation", "tan", "tanh"),
        (Dense, "start", "idenity", "identity"),
        (Rotation, "start", "orthogonl", "orthogonal"),
        (BlockDiagonal, "start", "decays", "decay"),
        (LowRank, "start", "identty", "identity"),
        (FromFirst, "activation", "swich", "swish"),
    ],
)
def test_a_misspelt_choice_is_refused_with_the_nearest(part, field, value, nearest, unchecked):
    with pytest.raises(ValueError, match=f"{field} '{value}' is unknown: did you mean {nearest}"):
        part(**{field: value})


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"transition": BlockDiagonal(block=4)}, "4 does not divide .* P = 14 .* a divisor"),
        ({"transition": LowRank(rank=15)}, "P = 14 needs a rank of 1 to P, got 15"),
        ({"transition": LowRank()}, "of 1 to P, got 16: set transition.rank to at most 14"),
        ({"root": Residual(4), "start": Impulse()}, "B writes only a part of the weights of Resid"),
        ({"write": Direct()}, "first 14 weights, and the lift has 3: set write Matrix"),
        ({"write": Direct(), "lift": Outer(size=5)}, "lift has 25"),
    ],
)
def test_parts_that_do_not_fit_the_sizes_are_refused(options, cure):
    config = small(**options)
    with pytest.raises(ValueError, match=cure) as refused:
        nnx.eval_shape(lambda: config.build(D, O, rngs=nnx.Rngs(0)))
    assert "\n" not in str(refused.value)


def test_a_layout_without_a_query_is_refused():
    config = small(layout="read_before_write")
    assert config.network(3, 2).d_in == 1
    with pytest.raises(ValueError, match="d_in 2 leaves no query beside d_out 2"):
        config.network(2, 2)
    with pytest.raises(ValueError, match="no query"):
        config.build(1, 1, rngs=nnx.Rngs(0))


# Sizes


@pytest.mark.parametrize("form", TRANSITIONS)
@pytest.mark.parametrize(
    "start", [*STARTS.values(), FromFirst(depth=0), FromFirst(depth=2, width=None)], ids=str
)
def test_sizes_are_those_of_the_arrays(start, form, monkeypatch):
    config = small(start=start, transition=TRANSITIONS[form], lift=LIFTS["lift"])
    inputs, times = batch()
    kernels, methods = [], importlib.import_module("wsrnn.recurrence.methods")
    kernel_powers = methods.kernel_powers

    def spy(A, V, length, doublings):
        kernel = kernel_powers(A, V, length, doublings)
        kernels.append(4 * kernel.size)
        return kernel

    def states():
        model = config.build(D, O, rngs=nnx.Rngs(0))
        model(inputs, times, mode="conv")
        return model.start(inputs[:, 0])

    monkeypatch.setattr(methods, "kernel_powers", spy)
    theta = jax.eval_shape(states).theta
    model = nnx.eval_shape(lambda: config.build(D, O, rngs=nnx.Rngs(0)))
    sizes = model.sizes(T)
    assert sizes["kernel bytes"] == sum(kernels)
    assert (sizes["kernel bytes"] == 0) == (form in ("Identity", "Scalar", "LowRank"))
    assert sizes["P"] == model.B.shape[0] == theta.shape[1]


@pytest.mark.parametrize("config", STREAMED)
def test_the_floats_of_streaming(config):
    state = build(config).start(batch()[0][:, 0])
    carried = state.theta[0].size + state.token[0].size + state.drive[0].size
    assert build(config).sizes(T)["state floats"] == carried


@finals
@pytest.mark.parametrize("config", STREAMED)
def test_a_model_holds_parameters_and_nothing_else(config, final):
    model = dataclasses.replace(config, head=Head(final)).build(D, O, rngs=nnx.Rngs(0))
    variables = [variable for _, variable in nnx.to_flat_state(nnx.state(model))]
    assert variables
    assert all(type(variable) is nnx.Param for variable in variables)
    assert len(variables) == len(jax.tree.leaves(nnx.split(model)[1]))


COUNTS = {
    "Dense": 13**2,
    "Identity": 0,
    "Scalar": 1,
    "Diagonal": 13,
    "Rotation": 13,
    "Shift": 0,
    "BlockDiagonal": 4**2 + 9**2,
    "LowRank": 2 * 2 * 13,
    OWN: 3 * 13,
}


@pytest.mark.parametrize("form", TRANSITIONS)
def test_the_parameters_are_those_of_the_equations(form):
    config = small(root=Mlp(2, 1), transition=TRANSITIONS[form])
    model = config.build(4, 3, rngs=nnx.Rngs(0))
    P, count = 1 * 2 + 2 + 2 * 3 + 3, COUNTS[form]
    total = sum(p.size for p in jax.tree.leaves(nnx.state(model)))
    assert total == P + 4 * P + count


def test_residual_adds_the_current_input_in_every_execution():
    plain = build(small(), D, D)
    residual = build(small(residual=True), D, D)
    inputs, times = batch()
    expected = call(plain, inputs, times) + inputs
    for mode in modes("Dense"):
        close(call(residual, inputs, times, mode=mode), expected, 1e-5)
    at = jnp.arange(N)
    close(call(residual, inputs, times, steps=at), expected[jnp.arange(N), at], 1e-5)
    close(stream(residual, inputs, times)[1], expected, 1e-5)
    with pytest.raises(ValueError, match="set residual False"):
        build(small(residual=True), D, O)


def test_integers_are_read_as_floats():
    model = build(small(query=Query(waves=Waves(4))))
    inputs, times = batch()
    whole = jnp.round(3 * inputs)
    close(call(model, whole.astype(jnp.int32), times), call(model, whole, times), 1e-6)


@pytest.mark.parametrize("drive", DRIVES)
def test_every_example_is_written_before_the_next_is_read(drive):
    model = build(small(drive=drive, layout="read_before_write", query=Query(inputs=True)), D, 1)
    inputs, times = batch()
    other = inputs.at[:, 0, -1].add(1.0)
    a, b = call(model, inputs, times), call(model, other, times)
    np.testing.assert_allclose(a[:, 0], b[:, 0], rtol=1e-5)
    assert (jnp.abs(a[:, 1] - b[:, 1]) > 1e-4).all()


# The weights, asked


@pytest.mark.parametrize("config", STREAMED)
def test_networks_of_given_weights_are_evaluated_at_any_query(config):
    model = build(config)
    inputs, times = batch(length=9)
    theta, y = model.states(inputs, times), call(model, inputs, times)
    for t in (0, 5, 8):
        close(model.query(theta[:, t], times[:, t], inputs[:, t], t), y[:, t], 1e-5)


def test_a_query_needs_no_input_where_the_root_reads_none():
    model = build(small())
    inputs, times = batch(length=9)
    theta = model.states(inputs, times)[:, -1]
    close(model.query(theta, 0.25), model.query(theta, jnp.full(N, 0.25), inputs[:, 0]), 1e-7)
    with pytest.raises(ValueError, match=r"give query x \[N, 3\]"):
        build(small(query=Query(inputs=True))).query(theta, 0.25)
