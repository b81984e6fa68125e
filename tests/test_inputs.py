"""What models take: the same steps, types and shapes in each, and a line for what is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import close

from wsrnn.models.peers.fast_weights import FastWeightsConfig
from wsrnn.models.peers.linear_attention import LinearAttentionConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.peers.transformer import TransformerConfig
from wsrnn.models.warp import Matrix, Query, WarpConfig
from wsrnn.models.warp.selective import DeltaWarpConfig, SelectiveConfig
from wsrnn.models.warp.stack import StackConfig
from wsrnn.root import Mlp

N, T, D, O = 3, 7, 4, 1  # noqa: E741
ROOT = Mlp(width=3, depth=1)


def warp(**options):
    return WarpConfig(ROOT, write=Matrix(scale=0.3), **options)


CONFIGS = {
    "warp, scan": warp(mode="scan"),
    "warp, conv": warp(mode="conv"),
    "clipped": warp(weight_clip=0.5),
    "stack": StackConfig(last=warp(mode="scan", query=Query(inputs=True))),
    "selective": SelectiveConfig(root=ROOT),
    "delta": DeltaWarpConfig(),
    "gru": RnnConfig(width=4),
    "ssm": SsmConfig(width=4, states=4, layers=1, spectra=1),
    "transformer": TransformerConfig(width=4, depth=1, heads=1),
    "fast weights": FastWeightsConfig(width=4, heads=1, depth=1),
    "linear attention": LinearAttentionConfig(),
}
models = pytest.mark.parametrize("name", CONFIGS)


def build(name):
    return CONFIGS[name].build(D, O, rngs=nnx.Rngs(0))


def sequences():
    inputs = np.random.default_rng(0).normal(size=(N, T, D)).astype(np.float32)
    return inputs, np.linspace(0, 1, T, dtype=np.float32) * np.ones((N, 1), np.float32)


@models
def test_steps_mean_the_same_in_every_model(name, unchecked):
    model, given = build(name), sequences()
    graph, params = nnx.split(model)
    call = jax.jit(lambda params, steps: nnx.merge(graph, params)(*given, steps=steps))
    whole = jax.jit(lambda params: nnx.merge(graph, params)(*given))(params)
    for steps, rows in [(-1, [T - 1] * N), (2, [2] * N), ([0, -2, 3], [0, T - 2, 3])]:
        expected = whole[np.arange(N), np.array(rows)]
        close(call(params, jnp.asarray(steps)), expected, 1e-5)  # where they are traced
    for steps in (-1, "last"):
        read = jax.jit(lambda params, steps=steps: nnx.merge(graph, params)(*given, steps=steps))
        close(read(params), whole[:, -1], 1e-5)
    for steps in (T, -T - 1, [0, T, 0], "lats", [0, 1], 1.0, [[0], [0], [0]]):
        with pytest.raises(ValueError, match=r"steps .*(unknown|must)"):
            model(*given, steps=steps)


@models
def test_any_real_type_and_byte_order_is_taken(name, unchecked):
    model, (inputs, times) = build(name), sequences()
    whole = np.round(4 * inputs)
    expected = model(whole, times)
    for dtype in (">f4", ">f8", "<i8", ">i2", "f2", "i1"):
        close(model(whole.astype(dtype), times.astype(">f8")), expected, 1e-5, dtype)
    with pytest.raises(ValueError, match="real numbers"):
        model(inputs + 1j, times)


@models
def test_wrong_and_empty_shapes_are_named(name, unchecked):
    model, (inputs, times) = build(name), sequences()
    wrong = [
        (inputs[..., :1], times), (inputs[:0], times[:0]), (inputs[:, :0], times[:, :0]),
        (inputs[0], times[0]), (inputs, times[:, :-1]), (inputs, times[0]),
    ]  # fmt: skip
    for given in wrong:
        for method in (model, model.states):
            if method is model or model.states(inputs, times) is not None:
                with pytest.raises(ValueError, match=r"inputs must be \[N, T, 4\]"):
                    method(*given)


STREAMS = ["warp, scan", "clipped"]


@pytest.mark.parametrize("name", STREAMS)
def test_a_step_takes_what_a_call_takes(name, unchecked):
    model, (inputs, times) = build(name), sequences()
    state = model.start(inputs[:, 0])
    expected = model.advance(state, inputs[:, 0], times[:, 0])
    for dtype in (">f4", ">f8"):
        x = inputs[:, 0].astype(dtype)
        close(model.advance(model.start(x), x, times[:, 0].astype(dtype)), expected, 1e-6)
    for x in (inputs[:, 0, :1], inputs[:0, 0], inputs[0, 0], inputs):
        with pytest.raises(ValueError, match=r"input must be \[(N|3|0)?.*, 4\]"):
            model.start(x)
        with pytest.raises(ValueError, match=r"input must be \[3, 4\]"):
            model.advance(state, x, 0.0)
    for time in (times[:2, 0], times):
        with pytest.raises(ValueError, match="a number for all"):
            model.advance(state, inputs[:, 0], time)


def test_generating_and_queries_name_wrong_shapes(unchecked):
    model = warp().build(D, D, rngs=nnx.Rngs(0))
    inputs, times = sequences()
    for context, at in [
        (inputs, times[:, :3]), (inputs[..., :1], times), (inputs[:, :0], times),
        (inputs[:0], times[:0]), (inputs[:2], times),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=r"context must be \[N, L, 4\]"):
            model.generate(context, at)
    theta = model.states(inputs, times)[:, -1]
    for weights in (theta[:, 1:], theta[0], theta[:0]):
        with pytest.raises(ValueError, match=r"theta must be \[N, "):
            model.query(weights, 0.5)
