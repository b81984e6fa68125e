"""A linear RNN with an ordinary readout: the control of root networks."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wsrnn.models.head import Head, Scale
from wsrnn.models.warp import Matrix, Query, WarpConfig
from wsrnn.models.warp.ordinary import OrdinaryConfig
from wsrnn.recurrence import Dense
from wsrnn.root import Mlp

INNER = WarpConfig(
    root=Mlp(width=3, depth=1), transition=Dense(start="decay"), write=Matrix(scale=0.3)
)
N, T, D = 2, 6, 3
RNG = np.random.default_rng(0)
INPUTS, TIMES = jnp.asarray(RNG.normal(size=(N, T, D))), jnp.asarray(RNG.uniform(size=(N, T)))


@pytest.mark.parametrize("mode", ["scan", "conv"])
def test_it_is_an_mlp_of_the_states_and_the_time(x64, mode):
    model = OrdinaryConfig(INNER, width=5, depth=2).build(D, 2, rngs=nnx.Rngs(0))
    states = jax.jit(lambda x: model.inner.states(x, TIMES))(INPUTS)
    y = np.concatenate([states, TIMES[..., None]], -1)
    for i, layer in enumerate(model.layers):
        W, b = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
        y = (np.maximum(y, 0) if i else y) @ W + b
    found = jax.jit(lambda x: model(x, TIMES, mode=mode))(INPUTS)
    np.testing.assert_allclose(found, y, atol=1e-6)
    last = jax.jit(lambda x: model(x, TIMES, steps="last", mode=mode))(INPUTS)
    np.testing.assert_allclose(last, y[:, -1], atol=1e-6)


def test_its_sizes_count_the_readout_in_place_of_the_root():
    model = OrdinaryConfig(INNER, width=5, depth=1).build(D, 2, rngs=nnx.Rngs(0))
    root = model.inner.sizes(T)["operations per token"] - model.inner.network.operations
    P = model.inner.network.size
    assert model.sizes(T)["operations per token"] == root + 2 * ((P + 1) * 5 + 5 * 2)


def test_a_predicted_scale_doubles_the_outputs():
    config = OrdinaryConfig(INNER, head=Head(scale=Scale()))
    assert config.uncertain
    outputs = jax.eval_shape(lambda: config.build(D, 2, rngs=nnx.Rngs(0))(INPUTS, TIMES))
    assert outputs.shape == (N, T, 4)


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="width 0"):
        OrdinaryConfig(width=0)


@pytest.mark.parametrize(
    "change", [{"residual": True}, {"head": Head(scale=Scale())}, {"query": Query(points=2)}]
)
def test_what_the_readout_would_not_obey_is_refused(change):
    with pytest.raises(ValueError, match=r"inner\.head to its defaults"):
        OrdinaryConfig(replace(INNER, **change))


def test_it_is_counted_without_arrays():
    config = OrdinaryConfig(INNER)
    shapes = nnx.eval_shape(lambda: config.build(D, 2, rngs=nnx.Rngs(0)))
    assert shapes.sizes(T) == config.build(D, 2, rngs=nnx.Rngs(0)).sizes(T)
