"""Linear attention against its formula and closed form; studies of it in every layout."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import prompts
from flax import nnx

from wsrnn.choices import name_of
from wsrnn.evaluations.prefix_errors import predictions
from wsrnn.icl import errors, probes, robustness
from wsrnn.models.peers.linear_attention import LinearAttentionConfig
from wsrnn.tasks.layouts import Interleaved, JointMasked, ReadBeforeWrite
from wsrnn.tasks.prompts import Prompts
from wsrnn.tasks.regression import LinearRegression

CONFIGS = {"merged": LinearAttentionConfig(3), "rank 2": LinearAttentionConfig(3, rank=2)}
each = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def moved(config, d_in, d_out):
    """A model with no parameter at its start, and W^V and W^KQ as Zhang et al. write them."""
    graph, params = nnx.split(config.build(d_in, d_out, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
    model, D = nnx.merge(graph, params), d_in - d_out
    value, key_query = np.zeros((2, config.heads, d_in, d_in))
    value[:, D:] = model.value[...]
    for head in range(config.heads):
        if config.rank is None:
            key_query[head, :, :D] = model.merged[head]
        else:
            key_query[head, :, :D] = np.asarray(model.key[head]).T @ np.asarray(model.query[head])
    return model, value, key_query


@each
@pytest.mark.parametrize("d_out", [1, 2])
def test_it_is_the_formula_at_every_prefix(config, d_out, x64):
    """X + sum_h W^V_h (X X^T / n) W^KQ_h X, with the query's values masked: plain numpy."""
    N, T, d_in = 4, 6, 5
    model, value, key_query = moved(config, d_in, d_out)
    tokens = np.random.default_rng(1).normal(size=(N, T, d_in))
    expected = np.zeros((N, T, d_out))
    for i in range(N):
        for n in range(T):
            X = tokens[i, : n + 1].T.copy()
            X[d_in - d_out :, n] = 0
            layer = X.copy()
            for V, KQ in zip(value, key_query, strict=True):
                layer += V @ (X @ X.T / max(n, 1)) @ KQ @ X
            expected[i, n] = layer[d_in - d_out :, n]
    times = np.zeros((N, T))
    np.testing.assert_allclose(model(tokens, times), expected, rtol=1e-9)
    at = np.array([0, 3, 5, 1])
    read = model(tokens, times, steps=at)
    np.testing.assert_allclose(read, expected[np.arange(N), at], rtol=1e-9)


def one_step(d, shrink):
    """W^V reads the label, W^KQ is a multiple of the unit matrix: one step of gradient descent."""
    model = LinearAttentionConfig(heads=1).build(d + 1, 1, rngs=nnx.Rngs(0))
    model.value[...] = jnp.zeros((1, 1, d + 1)).at[0, 0, d].set(1)
    model.merged[...] = shrink * jnp.eye(d + 1)[None, :, :d]
    return model


@pytest.mark.parametrize(("layout", "noise"), [(JointMasked(), 0.5), (ReadBeforeWrite(), 0.0)])
def test_with_the_best_weights_the_error_is_the_closed_form(layout, noise):
    d, n = 3, 8
    task = LinearRegression(d=d, examples=n, noise=noise, layout=layout)
    model = one_step(d, n / (n + d + 1 + noise))
    batch = prompts(task, 60_000)
    truth = batch.targets[:, -1:, 0].astype(np.float64)
    found = errors.error_interval(predictions(model, task, batch)[:, -1:], truth)
    expected = (d + 1 + noise) / (n + d + 1 + noise)
    assert found["error"][0] == pytest.approx(expected, rel=0.03)
    assert found["low"][0] < expected < found["high"][0]


@each
def test_the_start_is_as_small_as_asked_and_two_blocks_are_zero(config):
    config = replace(config, start=1e-3, heads=100)
    model = config.build(8, 2, rngs=nnx.Rngs(0))
    value, key_query = np.asarray(model.value[...]), np.asarray(model.key_query())
    assert not value[..., :6].any() and not key_query[:, 6:].any()
    assert value[..., 6:].std() == pytest.approx(1e-3, rel=0.15)
    expected = 1e-3 if config.rank is None else 2**0.5 * 1e-6
    assert key_query[:, :6].std() == pytest.approx(expected, rel=0.15)


def test_the_state_is_all_that_a_prediction_knows_of_the_examples():
    model, *_ = moved(CONFIGS["merged"], 4, 1)
    tokens = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    states = model.states(tokens, np.zeros((2, 5)))
    products = [tokens[:, :n].swapaxes(1, 2) @ tokens[:, :n] for n in range(5)]
    np.testing.assert_allclose(states, np.stack(products, 1).reshape(2, 5, -1), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: LinearAttentionConfig(rank=0), "rank must be at least 1"),
        (lambda: LinearAttentionConfig(start=0.0), "start above 0"),
        (lambda: LinearAttentionConfig().build(2, 2, rngs=nnx.Rngs(0)), "leaves no query"),
        (lambda: one_step(3, 1.0)(np.zeros((1, 2, 5)), np.zeros((1, 2))), r"\[N, T, 4\]"),
        (lambda: one_step(3, 1.0)(np.zeros((1, 2, 4)), np.zeros((1, 2)), mode="scan"), "one exec"),
    ],
)
def test_what_it_cannot_serve_is_refused(make, cure, unchecked):
    with pytest.raises(ValueError, match=cure):
        make()


# The study of a run, in every layout.


@pytest.fixture(scope="module")
def tasks() -> dict[str, Prompts]:
    task = LinearRegression(d=3, examples=6, noise=0.25)
    layouts = (ReadBeforeWrite(), JointMasked(), Interleaved())
    return {name_of(type(layout)): replace(task, layout=layout) for layout in layouts}


def test_points_and_labels_are_read_from_the_tokens_of_every_layout(tasks):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 7, 1))
    for layout, task in tasks.items():
        points, shown = task.shown(task.tokens(x, labels))
        np.testing.assert_array_equal(points, x)
        np.testing.assert_array_equal(shown[:, :-1], labels[:, :-1, 0])
        assert np.all(shown[:, -1] == (labels[:, -1, 0] if layout == "read-before-write" else 0))


def test_every_layout_is_evaluated_on_the_same_prompts(tasks):
    """Curves of the algorithms, changed prompts and probes agree where they read the same."""
    model, found = one_step(3, 0.6), {}
    for layout, task in tasks.items():
        batch = prompts(task, 400)
        curves = errors.error_curves(model, task, batch)
        assert len(curves["zero"]["error"]) == (1 if layout == "joint-masked" else 7)
        rows = robustness.interventions(model, task, batch)
        found[layout] = (
            curves["ridge (0.25)"]["error"][-1],
            curves["3 nearest"]["error"][-1],
            rows["one left out"]["error"] if layout != "interleaved" else None,
            rows["labels zero"]["error"],
        )
        implied = probes.implied_weights(model, task, batch) if layout == "interleaved" else {}
        assert list(implied) in ([], ["n = 1", "n = 3", "n = 6"])
        if layout == "joint-masked":
            scores = probes.states(model, task, batch).probes
            assert min(scores["sum of x x^T"] + scores["sum of y x"]) > 0.99
    ours, joint, turns = found.values()
    assert ours[3] == joint[3] == 1
    np.testing.assert_allclose(joint, ours, rtol=1e-5)
    np.testing.assert_allclose(turns[:2], ours[:2], rtol=1e-5)
