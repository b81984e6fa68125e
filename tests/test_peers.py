"""The models that WARP is measured against, each against itself written in plain numpy."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import close

from wsrnn.models.peers import rnn
from wsrnn.models.peers.fast_weights import Delta, FastWeightsConfig, Ttt
from wsrnn.models.peers.oscillator import OscillatorConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig, hippo, recurrence
from wsrnn.models.peers.transformer import TransformerConfig
from wsrnn.models.warp import Bilinear, Head, MlpLift, Scale, Tanh, WarpConfig
from wsrnn.models.warp.selective import DeltaWarpConfig, SelectiveConfig
from wsrnn.root import Mlp

N, T, D, O = 3, 19, 3, 2  # noqa: E741
PEERS = {
    "gru": RnnConfig(cell="gru", width=6, layers=2),
    "lstm": RnnConfig(cell="lstm", width=6, layers=2),
    "ssm": SsmConfig(width=6, states=4, layers=2, spectra=2),
    "oscillator": OscillatorConfig(width=6, states=4, layers=2),
    "transformer": TransformerConfig(width=8, depth=2, heads=2),
    "delta": FastWeightsConfig(rule=Delta(), width=8, depth=1),
    "gated_delta": FastWeightsConfig(rule=Delta(gated=True), width=8, depth=2),
    "ttt": FastWeightsConfig(rule=Ttt(batch=4), width=8, depth=1),
    "delta_warp": DeltaWarpConfig(psi=MlpLift(width=5, size=4), gated=True),
    "selective": SelectiveConfig(root=Mlp(4, 1), lift=MlpLift(width=5, size=3)),
}
# Of the size of the WARP that they are measured against, for one channel in and one out.
MATCHED = {
    "gru": RnnConfig(cell="gru", width=736),
    "lstm": RnnConfig(cell="lstm", width=640),
    "ssm": SsmConfig(width=320, states=160, layers=4, spectra=5),
    "transformer": TransformerConfig(width=184, depth=4, heads=4),
    "delta": FastWeightsConfig(rule=Delta(), width=184, depth=4, heads=4),
    "gated_delta": FastWeightsConfig(rule=Delta(gated=True), width=184, depth=4, heads=4),
    "ttt": FastWeightsConfig(rule=Ttt(), width=182, depth=4, heads=7),
}
each = pytest.mark.parametrize("name", PEERS)
each_matched = pytest.mark.parametrize("name", MATCHED)
each_layout = pytest.mark.parametrize(
    ("name", "layout"),
    [
        (name, layout)
        for name in PEERS
        # what the layouts do is the same for all that Peer splits no further
        for layout in ("standard", "read_before_write")
        if layout == ("read_before_write" if name == "delta_warp" else "standard")
        or name in ("gru", "selective")
    ],
)


def laid_out(name, layout, **more):
    """The config in a layout; one has no other than reading before writing."""
    layouts = {} if name == "delta_warp" else {"layout": layout}
    return replace(PEERS[name], **layouts, **more)


@lru_cache
def build(config):
    """A model with every parameter moved off its start, in float64 where that is enabled."""
    graph, params = nnx.split(config.build(D, O, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    return nnx.merge(
        graph,
        jax.tree.map(lambda p: jnp.asarray(p + 0.1 * rng.normal(size=p.shape), float), params),
    )


@pytest.fixture(autouse=True)
def _float64(x64):
    """Every test here is of mathematics."""
    build.cache_clear()


def batch():
    rng = np.random.default_rng(1)
    times = np.linspace(0, 1, T) + rng.uniform(0, 0.01, size=(N, 1))
    return jnp.asarray(rng.normal(size=(N, T, D))), jnp.asarray(times)


def value_and_gradients(model, *args, **options):
    graph, params = nnx.split(model)

    def loss(params):
        y = nnx.merge(graph, params)(*args, **options)
        return jnp.sum(jnp.cos(jnp.arange(y.size)).reshape(y.shape) * (y + y**2)), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return y, gradients


# The equations once more, one step or one token at a time


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def linear(layer, x):
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def norm(layer, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])


def recurrent(model, xs):
    for layer in model.layers:
        U = np.asarray(layer.U[...])
        H = len(U)
        h, c, hs = np.zeros(H), np.zeros(H), []
        for x in xs:
            gate = linear(layer.inputs, x).reshape(-1, H)
            pull = [h @ U[:, i * H : (i + 1) * H] for i in range(len(gate))]
            if layer.cell == "gru":
                r, z = sigmoid(gate[0] + pull[0]), sigmoid(gate[1] + pull[1])
                h = (1 - z) * np.tanh(gate[2] + r * pull[2]) + z * h
            else:
                i, f, g, o = (a + b for a, b in zip(gate, pull, strict=True))
                c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            hs.append(h)
        xs = np.array(hs)
    return xs


def state_space(model, xs):
    us = linear(model.encoder, xs)
    for block in model.blocks:
        P = block.log_step[...].size
        rate = -np.exp(np.asarray(block.log_rate[...])) + 1j * np.asarray(block.frequency[...])
        step = np.exp(np.asarray(block.log_step[...]))
        B, C = np.asarray(block.B[...]).T, np.asarray(block.C[...]).T
        B, C = B[:P] + 1j * B[P:], C[:, :P] - 1j * C[:, P:]
        held = (B.T * (np.exp(rate * step) - 1) / rate).T
        x, outputs = np.zeros(P, complex), []
        for u in us:
            v = norm(block.norm, u)
            x = np.exp(rate * step) * x + held @ v
            a, b = np.split(
                linear(block.gates, gelu(2 * (C @ x).real + np.asarray(block.D[...]) * v)), 2
            )
            outputs.append(u + a * sigmoid(b))
        us = np.array(outputs)
    return us


def oscillating(model, xs):
    us = linear(model.encoder, xs)
    for block in model.blocks:
        A, s = np.maximum(np.asarray(block.a[...]), 0), sigmoid(np.asarray(block.b[...]))
        B, C, D = (np.asarray(p[...]) for p in (block.B, block.C, block.D))
        z, y, outputs = np.zeros(len(A)), np.zeros(len(A)), []
        for u in us:
            v = norm(block.norm, u)
            y = (y + s * z + s**2 * (v @ B)) / (1 + s**2 * A)
            z = z + s * (v @ B - A * y)
            a, b = np.split(linear(block.gates, gelu(y @ C + D * v)), 2)
            outputs.append(u + a * sigmoid(b))
        us = np.array(outputs)
    return us


def attention(model, xs):
    xs, heads = linear(model.embed, xs), model.config.heads
    size = xs.shape[1] // heads

    def turned(x, t):
        z = x[: size // 2] + 1j * x[size // 2 :]
        z = z * np.exp(1j * t / 1e4 ** (np.arange(size // 2) / (size // 2)))
        return np.concatenate([z.real, z.imag])

    for layer in model.layers:
        q, k, v = np.split(linear(layer.qkv, norm(layer.norm, xs)), 3, 1)
        mixed = np.zeros_like(xs)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for t in range(len(xs)):
                scores = [turned(q[t, part], t) @ turned(k[s, part], s) for s in range(t + 1)]
                weights = np.exp(np.array(scores) / size**0.5)
                mixed[t, part] = weights @ v[: t + 1, part] / weights.sum()
        xs = xs + linear(layer.mixed, mixed)
        xs = xs + linear(layer.down, gelu(linear(layer.up, norm(layer.mlp_norm, xs))))
    return norm(model.norm, xs)


def silu(x):
    return x * sigmoid(x)


def unit(x):
    return x / np.sqrt(x @ x + 1e-6)


def corrected(rule, head, size, x, q, k, v):
    """What DeltaNet's queries read of one head."""
    W, outputs = np.zeros((size, size)), []
    for x_t, q_t, k_t, v_t in zip(x, q, k, v, strict=True):
        key = unit(silu(k_t))
        if rule.decay is not None:
            W = W * sigmoid(-(linear(rule.decay, x_t)[head] - 4.6))
        rate = sigmoid(linear(rule.rate, x_t)[head])
        W = W + rate * np.outer(silu(v_t) - W @ key, key)
        outputs.append(W @ unit(silu(q_t)))
    return outputs


def descended(rule, head, size, x, q, k, v):
    """What TTT's queries read of one head: gradients by finite differences of the inner loss."""
    W, c = np.array(rule.W[...][head]), np.array(rule.c[...][head])
    scale, shift = np.asarray(rule.scale[...][head]), np.asarray(rule.shift[...][head])

    def inner(W, c, k):
        z = W @ k + c
        return scale * (z - z.mean()) / np.sqrt(z.var() + 1e-6) + shift

    def loss(parameters, k, v):
        W, c = parameters[:-size].reshape(size, size), parameters[-size:]
        return np.sum((inner(W, c, k) - (v - k)) ** 2) / 2

    outputs, flat = [], np.concatenate([W.ravel(), c])
    for t in range(len(x)):
        if t % rule.batch == 0:
            begin = flat
        rate = sigmoid(linear(rule.rate, x[t])[head]) / size
        steps = 1e-5 * np.eye(len(flat))
        slope = [loss(begin + s, k[t], v[t]) - loss(begin - s, k[t], v[t]) for s in steps]
        flat = flat - rate * np.array(slope) / 2e-5
        outputs.append(q[t] + inner(flat[:-size].reshape(size, size), flat[-size:], q[t]))
    return outputs


def fast_weights(model, xs):
    xs = linear(model.embed, xs)
    size = model.config.width // model.config.heads
    read = descended if isinstance(model.config.rule, Ttt) else corrected
    for layer in model.layers:
        x = norm(layer.norm, xs)
        parts = linear(layer.qkv, x).reshape(len(x), 3, -1, size)
        mixed = [read(layer.rule, h, size, x, *parts[:, :, h].swapaxes(0, 1)) for h in range(2)]
        mixed = np.array(mixed)
        mixed = mixed / np.sqrt(np.square(mixed).mean(-1, keepdims=True) + 1e-6)
        mixed = np.concatenate([*(mixed * np.asarray(layer.out_norm.scale[...]))], 1)
        xs = xs + linear(layer.mixed, mixed)
        xs = xs + linear(layer.down, gelu(linear(layer.up, norm(layer.mlp_norm, xs))))
    return norm(model.norm, xs)


def lifted(lift, x):
    return linear(lift.out, np.maximum(linear(lift.hidden, x), 0))


def corrected_root(model, xs):
    d, W, outputs = D - O, np.array(model.W[...]), []
    for t, x in enumerate(xs):
        token = np.concatenate([x[:D], x[D + d :]])
        if t:
            k, rate = lifted(model.psi, x[:d]), 2 * sigmoid(linear(model.rate, token))
            W = W * sigmoid(4.6 - linear(model.decay, token))
            v = np.pad(x[d:D], (0, len(W) - O))
            W = W + rate * np.outer(v - W @ k, k) / (k @ k + 1e-12)
        else:
            W = W * sigmoid(4.6 - linear(model.decay, token))
        outputs.append(W @ lifted(model.psi, x[D : D + d]))
    return np.array(outputs)


def selected(model, xs):
    theta, before = np.array(model.theta[...]), model.config.layout == "read_before_write"
    outputs, network = [], model.network
    for t, x in enumerate(xs):
        token = np.concatenate([x[:D], x[2 * D - O :]]) if before else x
        z = x[D:] if before else x
        u = lifted(model.lift, token)
        if t or not before:
            theta = sigmoid(linear(model.decay, u) + 4) * theta + u @ np.asarray(model.B[...])
        layers = network.root.unflatten(jnp.asarray(theta)[:, None], network.d_in, network.d_out)
        for i, (kernel, bias) in enumerate(layers):
            z = np.asarray(kernel)[..., 0] @ z + np.asarray(bias)[..., 0]
            z = np.maximum(z, 0) if i < network.root.depth else z
        outputs.append(z)
    return np.array(outputs)


REFERENCES = {
    "delta_warp": corrected_root,
    "selective": selected,
    "gru": recurrent,
    "lstm": recurrent,
    "ssm": state_space,
    "oscillator": oscillating,
    "transformer": attention,
    "delta": fast_weights,
    "gated_delta": fast_weights,
    "ttt": fast_weights,
}


def reference(name, model, inputs, times):
    inputs, times = np.asarray(inputs), np.asarray(times)
    config, outputs = model.config, []
    for x, tau in zip(inputs, times, strict=True):
        if config.reads_before_writing:
            query = x[:, : -model.d_out]
            x = np.concatenate([np.concatenate([0 * x[:1], x[:-1]]), query], 1)
        if config.read_time:
            x = np.concatenate([x, tau[:, None]], 1)
        h = REFERENCES[name](model, x)
        outputs.append(h if model.readout is None else linear(model.readout, h))
    return np.array(outputs)


@each_layout
def test_the_outputs_are_those_of_the_equations(name, layout, monkeypatch):
    read_time = layout == "standard" or name == "delta_warp"
    monkeypatch.setattr(
        "wsrnn.models.peers.transformer.BLOCK", 8
    )  # several, the last of them short
    model = build(laid_out(name, layout, read_time=read_time))
    y = jax.jit(model)(*batch())
    # the reference's gradients are differences
    close(y, reference(name, model, *batch()), 1e-7 if name == "ttt" else 1e-12)


# One model, several executions


def test_every_mode_of_the_state_space_model_has_the_same_values_and_gradients():
    model = build(PEERS["ssm"])
    results = {mode: value_and_gradients(model, *batch(), mode=mode) for mode in SsmConfig.modes}
    for mode, (y, gradients) in results.items():
        close(y, results["scan"][0], 1e-12, mode)
        paths = dict(nnx.to_flat_state(results["scan"][1]))
        for path, gradient in nnx.to_flat_state(gradients):
            assert np.abs(gradient[...]).max() > 1e-4, f"{path} gets no gradient"
            close(gradient[...], paths[path][...], 1e-10, f"gradient of {path}, {mode}")
        other = build(replace(PEERS["ssm"], mode=mode))
        np.testing.assert_array_equal(value_and_gradients(other, *batch())[0], y)


@pytest.mark.parametrize("mode", SsmConfig.modes)
def test_the_recurrence_of_one_step_and_of_many_is_its_sum(mode):
    rng = np.random.default_rng(0)
    log_a = jnp.asarray(-rng.uniform(0.01, 1, 4) + 3j * rng.normal(size=4))
    for length in (1, 2, 31):
        v = rng.normal(size=(2, length, N, 4))
        real, imaginary = recurrence(log_a, (jnp.asarray(v[0]), jnp.asarray(v[1])), mode)
        v, powers = v[0] + 1j * v[1], np.exp(np.arange(length)[:, None] * np.asarray(log_a))
        x = [sum(powers[t - s] * v[s] for s in range(t + 1)) for t in range(length)]
        close([real, imaginary], [np.real(x), np.imag(x)], 1e-12)


def test_the_spectrum_is_that_of_the_matrix():
    n = np.arange(8)
    q = np.sqrt(n + 0.5)
    legs = -np.tril(np.outer(2 * q, q), -1) - np.diag(n + 1.0)  # HiPPO-LegS, and its rank-one part
    eigenvalues = np.linalg.eigvals(legs + np.outer(q, q))
    upper = eigenvalues[eigenvalues.imag > 0]
    close(upper[np.argsort(upper.imag)].imag, hippo(4).imag, 1e-12)
    close(upper.real, hippo(4).real, 1e-10)


@pytest.mark.parametrize("cell", rnn.CELLS)
def test_the_adjoint_is_that_of_the_scan(cell):
    equations, gates, carried = rnn.CELLS[cell]
    rng = np.random.default_rng(0)
    U = jnp.asarray(rng.normal(size=(5, gates * 5)))
    inputs = jnp.asarray(rng.normal(size=(T, N, gates * 5)))
    start = tuple(jnp.asarray(rng.normal(size=(N, 5))) for _ in range(carried))

    def plain(U, start, inputs):
        h, state = [], start
        for x in inputs:
            state = equations(state, x, jnp.matmul(state[0], U))
            h.append(state[0])
        return jnp.stack(h)

    def gradients(f):
        return jax.jit(jax.grad(lambda *args: jnp.sum(f(*args) ** 2), argnums=(0, 1, 2)))(
            U, start, inputs
        )

    close(gradients(lambda *args: rnn.unroll(equations, *args)), gradients(plain), 1e-12)


# What every model promises


@each_layout
def test_no_output_depends_on_the_future(name, layout):
    model = build(laid_out(name, layout))
    inputs, times = batch()
    k = 7
    later = inputs.at[:, k + 1 :].add(1.0), times.at[:, k + 1 :].add(1.0)
    values = inputs.at[:, k, D - O :].add(1.0), times
    for mode in (None, *model.config.modes):
        f = jax.jit(lambda *args, mode=mode: model(*args, mode=mode))
        before, after, answered = f(inputs, times), f(*later), f(*values)
        close(after[:, : k + 1], before[:, : k + 1], 1e-12, mode)
        assert (np.abs(after - before)[:, k + 1 :].max((1, 2)) > 1e-4).all()
        # of its own token a step sees the values too, or the query alone and the values from then
        seen = k if layout == "standard" else k + 1
        close(answered[:, :seen], before[:, :seen], 1e-12, mode)
        assert (np.abs(answered - before)[:, seen].max(1) > 1e-6).all()


@pytest.mark.parametrize("name", ["gru", "transformer", "delta_warp"])
def test_an_uncertain_model_predicts_means_and_scales(name):
    config = replace(PEERS[name], head=Head(Tanh(), Scale()))
    assert config.uncertain and not PEERS[name].uncertain
    y = jax.jit(build(config))(*batch())
    assert y.shape == (N, T, 2 * O)
    raw = reference(name, build(config), *batch())
    tolerance = 1e-7 if name == "ttt" else 1e-12
    close(y[..., :O], np.tanh(raw[..., :O]), tolerance)
    close(y[..., O:], np.log1p(np.exp(raw[..., O:])), tolerance)


@each
def test_a_model_holds_parameters_and_nothing_else_and_all_of_them_learn(name):
    model = build(PEERS[name])
    variables = [variable for _, variable in nnx.to_flat_state(nnx.state(model))]
    assert all(type(variable) is nnx.Param for variable in variables)
    for path, gradient in nnx.to_flat_state(value_and_gradients(model, *batch())[1]):
        assert np.isfinite(gradient[...]).all()
        assert np.abs(gradient[...]).max() > 1e-5, f"{path} gets no gradient"


@each
def test_the_start_is_drawn_from_the_seed(name):
    one, same, other = (
        jax.tree.leaves(nnx.state(PEERS[name].build(D, O, rngs=nnx.Rngs(seed))))
        for seed in (0, 0, 1)
    )
    close(one, same, 0)
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


# Sizes


def parameters(config):
    model = nnx.eval_shape(lambda: config.build(1, 1, rngs=nnx.Rngs(0)))
    return sum(p.size for p in jax.tree.leaves(nnx.state(model)))


@each_matched
def test_the_matched_sizes_are_those_of_a_dense_warp(name):
    warp = parameters(WarpConfig())
    assert warp == 1273**2 + 2 * 1273
    assert abs(parameters(MATCHED[name]) / warp - 1) < 0.05


@each_matched
def test_the_operations_are_those_that_xla_counts(name):
    # XLA counts the body of a loop once, so one step of what loops, and a prefix sum
    length = 300 if name in ("ssm", "transformer") else 1
    config = MATCHED[name]
    if name == "ssm":
        config = replace(config, mode="parallel")
    model = nnx.eval_shape(lambda: config.build(1, 1, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(model)
    shapes = jax.ShapeDtypeStruct((N, length, 1), float), jax.ShapeDtypeStruct((N, length), float)
    lowered = jax.jit(lambda params, *args: nnx.merge(graph, params)(*args)).lower(params, *shapes)
    counted = lowered.compile().cost_analysis()["flops"] / (N * length)
    assert abs(model.operations(length) / counted - 1) < 0.2
    assert model.sizes(length)["operations per token"] == model.operations(length)


@each
def test_the_state_is_what_a_second_part_needs_of_the_first(name):
    sizes = {
        "gru": 2 * 6,
        "lstm": 2 * 6 * 2,
        "ssm": 2 * 4 * 2,
        "oscillator": 2 * 4 * 2,
        "transformer": 2 * 2 * 8 * T,
        "delta": 2 * 4**2,
        "gated_delta": 2 * 2 * 4**2,
        "ttt": 2 * (4**2 + 4),
        "delta_warp": O * 4,
        "selective": (D + 1) * 4 + 4 + 4 * O + O,
    }
    assert build(PEERS[name]).sizes(T)["state floats"] == sizes[name]


# Configs that cannot work


@pytest.mark.parametrize(
    ("name", "options", "cure"),
    [
        ("gru", {"cell": "elman"}, "one of gru, lstm"),
        ("gru", {"width": 0}, "at least 1, got width 0"),
        ("lstm", {"layers": 0, "width": -1}, "got width -1, layers 0"),
        ("ssm", {"states": 0}, "got states 0"),
        ("ssm", {"spectra": 3}, "must divide states, got 3 of 4"),
        ("ssm", {"shortest": 0.0}, "0 < shortest <= longest"),
        ("ssm", {"longest": 1e-4}, "0 < shortest <= longest"),
        ("ssm", {"mode": "fft"}, "one of scan, parallel, conv"),
        ("delta", {"heads": 3}, "multiple of heads, got 8 and 3"),
        ("delta_warp", {"psi": Bilinear()}, "psi sees x alone"),
        ("selective", {"input_scale": 0.0}, "above 0"),
        ("transformer", {"depth": 0}, "got depth 0"),
        ("transformer", {"heads": 3}, "multiple of twice the heads, got 8 and 3"),
        ("transformer", {"heads": 8}, "multiple of twice the heads, got 8 and 8"),
    ],
)
def test_a_config_that_cannot_work_is_refused_with_the_cure(name, options, cure, unchecked):
    with pytest.raises(ValueError, match=cure):
        replace(PEERS[name], **options)


def test_a_mini_batch_has_at_least_one_token():
    with pytest.raises(ValueError, match="at least 1, got batch 0"):
        Ttt(batch=0)


@each
def test_what_a_model_cannot_serve_is_refused(name):
    with pytest.raises(ValueError, match="d_in 2 leaves no query beside d_out 2"):
        laid_out(name, "read_before_write").build(2, 2, rngs=nnx.Rngs(0))
    model = build(PEERS[name])
    inputs, times = batch()
    with pytest.raises(ValueError, match=r"inputs must be \[N, T, 3\]"):
        model(inputs[..., :2], times)
    with pytest.raises(ValueError, match="mode 'fft' is unknown: use"):
        model(inputs, times, mode="fft")
