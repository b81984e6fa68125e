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
from numerics import close, modes

from wsrnn.models.head import Head, HeadConfig
from wsrnn.models.lift import LiftConfig
from wsrnn.models.phi import PhiConfig
from wsrnn.models.textbook import TextbookConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.recurrence import FORMS, MODES

N, T, D, O = 3, 33, 3, 2  # noqa: E741

DRIVES = ["difference", "value"]
LIFTS = {"bare": LiftConfig(), "lift": LiftConfig("mlp", 5, 4)}
PHIS = {
    "none": PhiConfig(),
    "mlp": PhiConfig("mlp", depth=1, width=2),
    "paper": PhiConfig("mlp", depth=1, width=None),
    "impulse": PhiConfig("impulse"),
}
LAYOUTS = ["standard", "read_before_write"]
TRANSITIONS = {form: TransitionConfig(form) for form in FORMS} | {
    "low_rank": TransitionConfig("low_rank", rank=2)
}
# Every mode, with the paper's A where it can run.
EXECUTIONS = [("dense" if mode in modes("dense") else "rotation", mode) for mode in MODES]
executions = pytest.mark.parametrize(("form", "mode"), EXECUTIONS)


def small(**options):
    """A model of few weights whose B is not 0 and whose functions are smooth."""
    defaults = {"width": 3, "depth": 1, "activation": "tanh", "input_scale": 0.2}
    return WarpConfig(**{**defaults, **options})


def combinations():
    """Two of each form, one of each layout; every two choices but of forms meet with some form."""
    for i, form in enumerate(FORMS):
        drive, lift, phi = DRIVES[i % 2], [*LIFTS][i // 2 % 2], [*PHIS][(i + i // 4) % len(PHIS)]
        other_drive, other_lift = DRIVES[(i + 1) % 2], [*LIFTS][(i // 2 + 1) % 2]
        for names in [
            (drive, lift, phi, form, "standard"),
            (other_drive, other_lift, "none", form, "read_before_write"),
        ]:
            yield pytest.param(configured(*names), id="-".join(names))


def configured(drive, lift, phi, form, layout):
    return small(
        drive=drive,
        lift=LIFTS[lift],
        phi=PHIS[phi],
        transition=TRANSITIONS[form],
        layout=layout,
        encoding=2,
        read_input=True,
    )


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
    match model.config.phi.form:
        case "none":
            return f64(model.phi.theta)
        case "mlp":
            return layers(x0, [linear(layer) for layer in model.phi.layers], last=False)
        case "impulse":
            return f64(model.B) @ f64(model.phi.W) @ x0


def root(model, theta, z):
    """The root network: kernels [out, in] row-major before their biases."""
    weights, config = [], model.config
    sizes = [len(z), *[config.width] * config.depth, model.d_out * (1 + config.uncertain)]
    for i, o in pairwise(sizes):
        weights.append((theta[: i * o].reshape(o, i).T, theta[i * o : i * o + o]))
        theta = theta[i * o + o :]
    assert not len(theta)
    return layers(z, weights, last=False)


def reference(model, inputs, times):
    """theta_t and y_t of every sequence, by loops over plain numpy arrays in float64."""
    config, thetas, outputs = model.config, [], []
    A = np.asarray(model.transition.dense(model.root.size), np.float64)
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
            z = [tau[t]] if config.read_time else []
            for i in range(0, config.encoding, 2):
                angle = t / config.encoding_base ** (i / config.encoding)
                z += [np.sin(angle), np.cos(angle)]
            if config.read_input:
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
    results = {mode: f(params, mode) for mode in modes(config.transition.form)}
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
    pytest.param(configured(drive, lift, phi, form, layout), id=f"{form}-{drive}-{layout}-{phi}")
    for form, drive, layout, lift, phi in [
        ("dense", "difference", "standard", "lift", "mlp"),
        ("dense", "difference", "read_before_write", "bare", "none"),
        ("dense", "value", "standard", "bare", "impulse"),
        ("dense", "value", "read_before_write", "lift", "none"),
        ("rotation", "difference", "read_before_write", "lift", "none"),
        ("low_rank", "value", "standard", "bare", "mlp"),
    ]
]
STREAMED_IN_EVERY_MODE = [
    pytest.param(*case.values, mode, id=f"{case.id}-{mode}")
    for case in STREAMED
    for mode in modes(case.values[0].transition.form)
]


@pytest.mark.parametrize("config", STREAMED)
def test_streaming_gives_the_outputs_of_the_full_call_one_by_one(config):
    model = build(config)
    inputs, times = batch(length=9)
    states, y = stream(model, inputs, times)
    assert len({str(jax.tree.map(jnp.shape, state)) for state in states}) == 1
    for mode in ("auto", *modes(config.transition.form)):
        close(y, call(model, inputs, times, mode=mode), 1e-5, mode)


@pytest.mark.parametrize(("config", "mode"), STREAMED_IN_EVERY_MODE)
def test_reading_one_step_is_that_step_of_the_full_output(config, mode):
    model = build(config)
    inputs, times = batch()
    at = jnp.array([0, T - 1, 12])
    expected = call(model, inputs, times, mode=mode)[jnp.arange(N), at]
    close(call(model, inputs, times, at=at, mode=mode), expected, 1e-5)


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
@pytest.mark.parametrize("phi", PHIS)
def test_A_is_not_applied_before_the_first_output(phi, form, mode):
    transition = TransitionConfig(form, start="orthogonal", radius=3.0)
    model = build(small(phi=PHIS[phi], transition=transition))
    inputs, times = batch()
    y = call(model, inputs, times, mode=mode)[:, 0] if mode == "scan" else None
    only = call(model, inputs[:, :1], times[:, :1], mode=mode)[:, 0]
    for n in range(N):
        theta = first_weights(model, np.asarray(inputs[n, 0], np.float64))
        expected = root(model, theta, np.asarray(times[n, :1]))
        np.testing.assert_allclose(only[n], expected, rtol=1e-4)
        if mode == "scan":  # where the growth of later states brings no round-off to the first
            np.testing.assert_allclose(y[n], expected, rtol=1e-4)


@pytest.mark.parametrize(("form", "mode"), [*EXECUTIONS, ("rotation", "auto")])
def test_the_total_is_the_score_of_the_outputs_with_the_same_gradients(form, mode):
    config = small(
        drive="value",
        lift=LIFTS["lift"],
        phi=PHIS["mlp"],
        head=HeadConfig("dynamic_tanh", uncertain=True),
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


@pytest.mark.parametrize("form", FORMS)
def test_auto_is_the_cheapest_mode_that_the_form_can_run(form):
    config = small(transition=TRANSITIONS[form])
    assert config.mode == "auto" == WarpConfig().mode
    for last in (False, True):
        plans = config.plans(D, O, batch=N, length=T, last=last)
        assert {plan.mode for plan in plans} == set(modes(form))
        named = dataclasses.replace(config, mode="scan")
        assert [p.mode for p in named.plans(D, O, batch=N, length=T, last=last)] == ["scan"]


def test_bfloat16_rounds_what_is_read_and_not_the_states():
    config = small(transition=TRANSITIONS["rotation"], lift=LIFTS["lift"], phi=PHIS["mlp"])
    narrow = dataclasses.replace(config, bfloat16=True)
    inputs, times = batch()
    change = {}
    for mode in modes("rotation"):
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
    np.testing.assert_array_equal(model.A["A"][...], np.eye(P))
    np.testing.assert_array_equal(model.B[...], np.zeros((P, 1)))
    assert model.phi.theta.shape == (P,)
    assert 0.9 < np.abs(model.phi.theta[...]).max() <= 1
    inputs, times = batch(1, 5)
    y = call(model, inputs, jnp.broadcast_to(times[:1], times.shape))
    close(y[1:], jnp.broadcast_to(y[:1], y[1:].shape), 1e-6)
    assert np.abs(np.diff(y[0, :, 0])).max() > 0


@executions
def test_with_A_the_identity_the_model_has_no_memory(form, mode):
    config = small(mode=mode, transition=TransitionConfig(form, start="identity"))
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
    A = np.asarray(model.transition.dense(model.root.size), np.float64)
    assert seen["A/norm of A - I"] == pytest.approx(np.linalg.norm(A - np.eye(len(A))), rel=1e-4)
    radius = np.abs(np.linalg.eigvals(A)).max()
    assert seen["A/spectral radius"] == pytest.approx(radius, rel=1e-2)


def root_inputs(config, inputs, times, d_out):
    """What the root is fed: a linear root with B = 0 and theta_0 the identity map returns it."""
    model = dataclasses.replace(config, depth=0, input_scale=0.0).build(
        inputs.shape[-1], d_out, rngs=nnx.Rngs(0)
    )
    model.phi.theta[...] = jnp.concatenate([jnp.eye(d_out).ravel(), jnp.zeros(d_out)])
    return call(model, inputs, times, mode="scan")


@pytest.mark.parametrize("base", [100.0, 7.0])
def test_the_root_is_fed_the_time_and_sines_and_cosines_of_the_step(base):
    inputs, times = batch(5, 50)
    z = root_inputs(WarpConfig(encoding=4, encoding_base=base, read_time=True), inputs, times, 5)
    step = np.arange(50.0)
    expected = np.zeros((N, 50, 5))
    expected[..., 0] = times
    for i in (0, 2):
        expected[..., 1 + i] = np.sin(step / base ** (i / 4))
        expected[..., 2 + i] = np.cos(step / base ** (i / 4))
    np.testing.assert_allclose(z, expected, atol=1e-5)


def test_the_root_is_fed_the_inputs_last():
    inputs, times = batch(2, 6)
    z = root_inputs(WarpConfig(encoding=2, read_input=True), inputs, times, 5)
    np.testing.assert_allclose(z[..., 3:], inputs, atol=1e-6)
    np.testing.assert_allclose(z[..., 0], times, atol=1e-6)


def test_the_root_is_fed_the_query_alone_where_it_reads_before_it_writes():
    inputs, times = batch(6, 6)
    config = WarpConfig(layout="read_before_write", read_time=False, read_input=True)
    np.testing.assert_allclose(root_inputs(config, inputs, times, 3), inputs[..., :3], atol=1e-6)


def test_the_drives_differ():
    inputs, times = batch()
    y = [call(build(small(drive=drive)), inputs, times) for drive in DRIVES]
    assert np.abs(y[0] - y[1]).max() > 1e-2


# The head


RAW = np.random.default_rng(5).normal(size=(4, 6)) * 3
FINALS = {
    "none": lambda y: y,
    "tanh": np.tanh,
    "clip": lambda y: np.minimum(np.maximum(y, -0.5), 0.5),
    "dynamic_tanh": lambda y: 4 * np.tanh((y - 3) / 2) + 5,
}


@pytest.mark.parametrize("uncertain", [False, True])
@pytest.mark.parametrize("final", FINALS)
def test_the_final_activation_is_of_the_mean_alone(final, uncertain):
    head = Head(HeadConfig(final, bound=0.5, uncertain=uncertain, floor=0.1))
    if final == "dynamic_tanh":
        np.testing.assert_array_equal(head.tanh[...], [1, 0, 1, 0])
        head.tanh[...] = jnp.array([2.0, 3.0, 4.0, 5.0])
    means = 3 if uncertain else 6
    expected = FINALS[final](RAW[:, :means])
    if uncertain:
        scale = np.maximum(np.log(1 + np.exp(RAW[:, 3:])), 0.1)
        assert (scale == 0.1).any() and (scale > 0.1).any()
        expected = np.concatenate([expected, scale], 1)
    np.testing.assert_allclose(head(jnp.asarray(RAW, jnp.float32)), expected, rtol=2e-5, atol=1e-6)


@executions
def test_an_uncertain_model_returns_means_and_then_scales(form, mode):
    head = HeadConfig("tanh", uncertain=True, floor=0.6)
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
    model = build(small(head=HeadConfig(uncertain=uncertain), phi=PHIS["mlp"]), 2, 2)
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
    plans = config.plans(D, O, batch=N, length=T, last=False)
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
    "bfloat16": {"bfloat16": True},
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
            y = nnx.merge(graph, params)(inputs, times, at=at)
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
        TextbookConfig(width=3, depth=1, input_scale=0.2, **PLAIN[c]) for c in ("plain", case)
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
    options = {"weight_clip": 1.0, "transition": TRANSITIONS["rotation"]}
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
        ({"width": 0}, "at least 1"),
        ({"depth": -1}, "depth of at least 0"),
        ({"encoding": 3}, "even number"),
        ({"encoding": -2}, "even number"),
        ({"encoding_base": 0.0}, "encoding_base above 0"),
        ({"input_scale": -1.0}, "at least 0"),
        ({"input_scale": 0.0, "phi": PhiConfig("impulse")}, "set input_scale above 0"),
        ({"layout": "read_before_write", "phi": PHIS["mlp"]}, "set phi.form none"),
        ({"layout": "read_before_write", "phi": PHIS["impulse"]}, "set phi.form none"),
        ({"read_time": False}, "set read_time, encoding or read_input"),
        ({"weight_clip": 0.0, "mode": "scan"}, "above 0"),
        ({"weight_clip": -1.0, "mode": "scan"}, "above 0"),
        ({"weight_clip": 1.0, "mode": "conv"}, "set mode scan or auto"),
        ({"mode": "parallel"}, "set mode auto, scan or conv, or another form"),
        ({"mode": "fft"}, "'fft' is unknown: use auto or scan or conv or parallel"),
        ({"activation": "gelu"}, "use one of relu, tanh"),
    ],
)
def test_a_config_that_cannot_work_is_refused_with_the_cure(options, cure, unchecked):
    with pytest.raises(ValueError, match=cure):
        small(**options)


@pytest.mark.parametrize(
    ("config", "options", "cure"),
    [
        (TransitionConfig, {"radius": 0.0}, "above 0"),
        (TransitionConfig, {"radius": float("nan")}, "above 0"),
        (TransitionConfig, {"form": "diagonal", "start": "orthogonal"}, "use identity or decay"),
        (TransitionConfig, {"form": "identity", "start": "decay"}, "no start 'decay'"),
        (TransitionConfig, {"form": "identity", "radius": 0.5}, "radius 1 and no other: got 0.5"),
        (TransitionConfig, {"rank": 4}, "rank .* for form low_rank only: got 4 with form dense"),
        (TransitionConfig, {"form": "low_rank", "rank": 0}, "rank must be at least 1"),
        (TransitionConfig, {"form": "low_rank", "block": 4}, "block .* form block_diagonal only"),
        (TransitionConfig, {"form": "block_diagonal", "block": 0}, "block must be at least 1"),
        (PhiConfig, {"depth": -1}, "depth of at least 0"),
        (PhiConfig, {"width": 0}, "width of at least 1"),
        (LiftConfig, {"width": 0}, "at least 1"),
        (LiftConfig, {"size": 0}, "at least 1"),
        (HeadConfig, {"bound": 0.0}, "above 0"),
        (HeadConfig, {"floor": 0.0}, "above 0"),
    ],
)
def test_a_part_that_cannot_work_is_refused_with_the_cure(config, options, cure):
    with pytest.raises(ValueError, match=cure):
        config(**options)


@pytest.mark.parametrize(
    ("transition", "cure"),
    [
        (TransitionConfig("block_diagonal", block=4), "4 does not divide .* P = 14 .* a divisor"),
        (TransitionConfig("low_rank", rank=15), "P = 14 needs a rank of 1 to P, got 15"),
        (TransitionConfig("low_rank"), "of 1 to P, got 16: set transition.rank to at most 14"),
    ],
)
def test_a_transition_that_does_not_fit_the_root_is_refused(transition, cure):
    config = small(transition=transition)
    with pytest.raises(ValueError, match=cure) as refused:
        nnx.eval_shape(lambda: config.build(D, O, rngs=nnx.Rngs(0)))
    assert "\n" not in str(refused.value)


def test_a_layout_without_a_query_is_refused():
    config = small(layout="read_before_write")
    assert config.root(3, 2).d_in == 1
    with pytest.raises(ValueError, match="d_in 2 leaves no query beside d_out 2"):
        config.root(2, 2)
    with pytest.raises(ValueError, match="no query"):
        config.build(1, 1, rngs=nnx.Rngs(0))


# Sizes


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "phi", [*PHIS.values(), PhiConfig("mlp", depth=0), PhiConfig("mlp", depth=2, width=None)]
)
def test_sizes_are_those_of_the_arrays(phi, form, monkeypatch):
    config = small(phi=phi, transition=TRANSITIONS[form], lift=LIFTS["lift"])
    inputs, times = batch()
    kernels, plan = [], importlib.import_module("wsrnn.recurrence.plan")
    krylov = plan.krylov

    def spy(transition, V, length, doublings):
        kernel = krylov(transition, V, length, doublings)
        kernels.append(4 * kernel.size)
        return kernel

    def states():
        model = config.build(D, O, rngs=nnx.Rngs(0))
        model(inputs, times, mode="conv")
        return model.start(inputs[:, 0])

    monkeypatch.setattr(plan, "krylov", spy)
    theta = jax.eval_shape(states).theta
    model = nnx.eval_shape(lambda: config.build(D, O, rngs=nnx.Rngs(0)))
    sizes = model.sizes(T)
    assert sizes["kernel bytes"] == sum(kernels)
    assert (sizes["kernel bytes"] == 0) == (form in ("identity", "scalar", "low_rank"))
    assert sizes["P"] == model.B.shape[0] == theta.shape[1]


@pytest.mark.parametrize("config", STREAMED)
def test_the_floats_of_streaming(config):
    state = build(config).start(batch()[0][:, 0])
    carried = state.theta[0].size + state.token[0].size + state.drive[0].size
    assert build(config).sizes(T)["state floats"] == carried


@pytest.mark.parametrize("final", FINALS)
@pytest.mark.parametrize("config", STREAMED)
def test_a_model_holds_parameters_and_nothing_else(config, final):
    model = dataclasses.replace(config, head=HeadConfig(final)).build(D, O, rngs=nnx.Rngs(0))
    variables = [variable for _, variable in nnx.to_flat_state(nnx.state(model))]
    assert variables
    assert all(type(variable) is nnx.Param for variable in variables)
    assert len(variables) == len(jax.tree.leaves(nnx.split(model)[1]))


COUNTS = {
    "dense": 13**2,
    "identity": 0,
    "scalar": 1,
    "diagonal": 13,
    "rotation": 13,
    "shift": 0,
    "block_diagonal": 4**2 + 9**2,
    "low_rank": 2 * 2 * 13,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_parameters_are_those_of_the_equations(form):
    model = small(width=2, transition=TRANSITIONS[form]).build(4, 3, rngs=nnx.Rngs(0))
    P, count = 1 * 2 + 2 + 2 * 3 + 3, COUNTS[form]
    total = sum(p.size for p in jax.tree.leaves(nnx.state(model)))
    assert total == P + 4 * P + count


def test_residual_adds_the_current_input_in_every_execution():
    plain = build(small(), D, D)
    residual = build(small(residual=True), D, D)
    inputs, times = batch()
    expected = call(plain, inputs, times) + inputs
    for mode in modes("dense"):
        close(call(residual, inputs, times, mode=mode), expected, 1e-5)
    at = jnp.arange(N)
    close(call(residual, inputs, times, at=at), expected[jnp.arange(N), at], 1e-5)
    close(stream(residual, inputs, times)[1], expected, 1e-5)
    with pytest.raises(ValueError, match="set residual False"):
        build(small(residual=True), D, O)


def test_integers_are_read_as_floats():
    model = build(small(encoding=4))
    inputs, times = batch()
    whole = jnp.round(3 * inputs)
    close(call(model, whole.astype(jnp.int32), times), call(model, whole, times), 1e-6)


@pytest.mark.parametrize("drive", DRIVES)
def test_every_example_is_written_before_the_next_is_read(drive):
    model = build(small(drive=drive, layout="read_before_write", read_input=True), D, 1)
    inputs, times = batch()
    other = inputs.at[:, 0, -1].add(1.0)
    a, b = call(model, inputs, times), call(model, other, times)
    np.testing.assert_allclose(a[:, 0], b[:, 0], rtol=1e-5)
    assert (jnp.abs(a[:, 1] - b[:, 1]) > 1e-4).all()
