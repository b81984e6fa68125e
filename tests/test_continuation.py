"""Forecasts and completions: what a strategy feeds, scores and feeds back."""

from dataclasses import dataclass, replace

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wsrnn import UserError, data, fit
from wsrnn.evaluations.continuation import continued, whole
from wsrnn.experiment import Experiment
from wsrnn.metrics_log import read_metrics
from wsrnn.models.peers.dlinear import DLinearConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.warp import Head, Impulse, Matrix, Positions, Scale, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.recurrence import Dense, Identity, Rotation
from wsrnn.root import Gated, Linear, Mlp, Network, Residual
from wsrnn.sharding import MeshConfig
from wsrnn.tasks import SPLITS
from wsrnn.tasks.check import check_examples
from wsrnn.tasks.continuation import Continuation, Direct, Recursive, Sequence
from wsrnn.tasks.systems import LotkaVolterra

S, D = 9, 2


@dataclass(frozen=True)
class Waves(Continuation):
    """Sines of random phase."""

    channels = D
    samples = S

    def sequences(self, split, seed):
        def one(i):
            phase = np.random.default_rng([seed, i, SPLITS.index(split)]).uniform(0, 6)
            t = phase + np.arange(S) / 2
            return Sequence(
                np.stack([np.sin(t), np.cos(t)], 1).astype(np.float32), {"phase": phase}
            )

        return grain.MapDataset.range(8).map(one)


MODEL = WarpConfig(
    root=Mlp(width=4, depth=1),
    transition=Dense(start="decay"),
    write=Matrix(scale=0.3),
    drive="value",
)
UNCERTAIN = replace(MODEL, head=Head(scale=Scale()))


def batch(task, split="train"):
    return data.examples(task, split, 0, 8)


def built(task, config=MODEL):
    return config.build(task.d_in, task.d_out, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("task", [Waves(context=(3,)), Waves(Direct("last"), (3,))])
def test_a_direct_forecast_sees_the_context_and_nothing_after_it(task):
    values, _ = whole(task, "test", 0)
    seen = batch(task, "test")
    assert np.array_equal(seen.inputs[:, :3, :D], values[:, :3])
    last = values[:, 2:3] if task.strategy.unseen == "last" else 0
    assert np.array_equal(seen.inputs[:, 3:, :D], np.broadcast_to(last, values[:, 3:-1].shape))
    assert np.array_equal(seen.inputs[0, :, D], [1, 1, 1, 0, 0, 0, 0, 0])
    assert np.array_equal(seen.mask[0], [0, 0, 1, 1, 1, 1, 1, 1])
    assert np.array_equal(seen.targets, values[:, 1:])
    model = built(task)
    forecast = continued(model, task, values, 3)
    changed = values.copy()
    changed[:, 3:] += 100
    assert np.array_equal(forecast, continued(model, task, changed, 3))


def test_the_time_of_a_step_is_that_of_the_sample_it_predicts():
    np.testing.assert_allclose(batch(Waves(context=(3,))).times[0], np.arange(1, S) / (S - 1))


def test_contexts_are_drawn_anew_in_each_epoch_from_the_whole_range():
    stream = data.train_stream(Waves(context=(2, 5)), 8, 0)
    lengths = np.array([next(stream).inputs[..., D].sum(1) for _ in range(20)])
    assert set(lengths.ravel()) == {2, 3, 4, 5}
    again = data.train_stream(Waves(context=(2, 5)), 8, 0, start=7)
    assert np.array_equal(next(again).inputs[..., D].sum(1), lengths[7])


@dataclass(frozen=True)
class OwnContexts(Waves):
    """Sequence i has a context of i + 1."""

    def sequences(self, split, seed):
        return super().sequences(split, seed).map_with_index(lambda i, s: s._replace(context=i + 1))


def test_a_sequence_may_have_a_context_of_its_own():
    seen = batch(OwnContexts()).inputs[..., D].sum(1)
    assert np.array_equal(seen, np.arange(1, 9))


class Careless(Direct):
    """Says that nothing is fed after the context, and feeds something."""

    def steps(self, values, L, rng):
        return super().steps(values, L, rng)._replace(inputs=np.ones((S - 1, D + 1), np.float32))


def test_a_strategy_that_feeds_what_it_says_it_does_not_is_found_out():
    with pytest.raises(UserError, match="inputs after it that are not 0"):
        check_examples(Waves(Careless(), (3,)), "train", 0)


def test_forced_training_feeds_the_true_samples_in_their_share():
    task = Waves(Recursive(forcing=0.3, sampled=True), (3,), loss="nll")
    stream = data.train_stream(task, 8, 0)
    feedback = [next(stream).feedback for _ in range(100)]
    given = np.stack([part.given for part in feedback])
    assert given[..., 0].all()
    assert abs(given[..., 1:].mean() - 0.3) < 0.02
    noise = np.stack([part.noise for part in feedback])
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02


def test_a_recursive_forecast_is_the_models_free_run():
    task = Waves(Recursive(), (3,))
    values, _ = whole(task, "test", 0)
    model = built(task)
    times = batch(task, "test").times
    expected = model.generate(values[:, :3], times)[:, 2:]
    np.testing.assert_allclose(continued(model, task, values, 3), expected, atol=1e-6)


def test_a_rollout_is_a_loop_of_steps_that_draws_from_the_predicted_scale():
    task = Waves(Recursive(forcing=0.5, sampled=True), (3,), loss="nll")
    model, drawn = built(task, UNCERTAIN), batch(task)
    given, noise = drawn.feedback
    state, x, expected = model.start(drawn.inputs[:, 0]), drawn.inputs[:, 0], []
    for t in range(S - 1):
        x = np.where(given[:, t, None], drawn.inputs[:, t], x)
        state, y = model.advance(state, x, drawn.times[:, t])
        expected.append(y)
        if t + 1 < S - 1:
            x = y[:, :D] + y[:, D:] * noise[:, t + 1]
    outputs = model.rollout(drawn.inputs, drawn.times, given, noise)
    np.testing.assert_allclose(outputs, np.stack(expected, 1), atol=1e-5)


def test_gradients_flow_through_what_is_fed_back():
    task = Waves(Recursive(forcing=0.5), (3,))
    drawn = batch(task)

    def last(scale):
        inputs = drawn.inputs.at[:, 0].multiply(scale)
        given = jnp.arange(S - 1)[None] == 0 * drawn.times.astype(int)
        return built(task).rollout(inputs, drawn.times, given)[:, -1].sum()

    drawn = jax.tree.map(jnp.asarray, drawn)
    assert abs(jax.grad(last)(1.0)) > 1e-6


@pytest.mark.parametrize(
    ("task", "config"),
    [
        (Waves(context=(2, 5)), MODEL),
        (Waves(Recursive(), (3,)), MODEL),
        (Waves(Recursive(forcing=0.5), (3,)), MODEL),
        (Waves(Recursive(forcing=0.5, sampled=True), (3,), loss="nll"), UNCERTAIN),
    ],
)
def test_every_strategy_trains(tmp_path, task, config):
    for split in ("train", "valid", "test"):
        check_examples(task, split, 0)
    experiment = Experiment(
        task, config, optim=OptimConfig(learning_rate=1e-2), steps=60, batch_size=8,
        eval_every=30, eval_batches=None,
    )  # fmt: skip
    fit(experiment, tmp_path)
    losses = [row["loss"] for row in read_metrics(tmp_path) if "loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Waves(context=(0,)), "within 1 and 8, got 0"),
        (lambda: Waves(context=(5, 2)), "one or two rising numbers"),
        (lambda: Waves(context=()), "got none"),
        (lambda: Waves(Recursive(forcing=0.5, sampled=True)), "set loss nll"),
        (lambda: Recursive(forcing=1.5), "within 0 and 1, got 1.5"),
        (lambda: Recursive(sampled=True), "lower forcing"),
        (lambda: Experiment(Waves(Recursive()), RnnConfig()), "task.strategy:direct"),
    ],
)
def test_what_does_not_go_together_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


HOLDING = WarpConfig(
    root=Mlp(width=4, depth=2), transition=Identity(), write=Matrix(scale=0.3), drive="value",
    positions=Positions(size=5),
)  # fmt: skip


@pytest.mark.parametrize("positions", [Positions(size=5), None])
def test_a_state_that_rests_after_the_context_is_computed_once_and_gives_the_same(x64, positions):
    task = Waves(context=(2, 5))
    model = built(task, replace(HOLDING, positions=positions).sized(task))
    drawn = batch(task)
    inputs, times = (np.asarray(x, np.float64) for x in drawn[:2])

    def loss(model, function):
        outputs = function(model)
        return (drawn.mask[..., None] * (outputs - drawn.targets) ** 2).sum()

    assert model.holds
    gradient = nnx.jit(nnx.value_and_grad(loss), static_argnums=1)
    fast = gradient(model, lambda m: m.held(inputs, times, drawn.last))
    slow = gradient(model, lambda m: m(inputs, times, mode="scan"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), fast, slow)


@pytest.mark.parametrize("mode", ["scan", "conv", "parallel"])
def test_a_write_that_depends_on_the_step_is_a_loop_of_its_own_matrices(x64, mode):
    task = Waves(context=(3,))
    model = built(task, replace(HOLDING, transition=Rotation(start="decay")).sized(task))
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(2, S - 1, D + 1)))
    times = np.broadcast_to(np.linspace(0, 1, S - 1), (2, S - 1))
    A, B = model.transition.dense(model.network.size), model.B[...]
    theta, expected = model.phi(inputs[:, 0], model.write).theta, []
    for t in range(S - 1):
        theta = (theta @ A.T if t else theta) + inputs[:, t] @ model.positions.table[t] @ B.T
        expected.append(model.query(theta, times[:, t], step=t))
    expected = np.stack(expected, 1)
    np.testing.assert_allclose(model(inputs, times, mode=mode), expected, atol=1e-10)
    state, streamed = model.start(inputs[:, 0]), []
    for t in range(S - 1):
        state, y = model.advance(state, inputs[:, t], times[:, t])
        streamed.append(y)
    np.testing.assert_allclose(np.stack(streamed, 1), expected, atol=1e-10)


@pytest.mark.parametrize("root", [Mlp(), Linear(), Gated(), Residual(4, 2)])
def test_one_network_at_many_points_is_as_many_networks_of_the_same_weights(root, x64):
    network = Network(root, 3, 2)
    theta, z = (jax.random.normal(jax.random.key(i), shape) for i, shape in
                enumerate([(2, network.size, 1), (2, 3, 5)]))  # fmt: skip
    each = network.apply(jnp.broadcast_to(theta, (2, network.size, 5)), z)
    np.testing.assert_allclose(network.apply(theta, z), each, atol=1e-12)


@pytest.mark.parametrize(
    ("task", "config"),
    [(Waves(context=(2, 5)), HOLDING), (Waves(Recursive(forcing=0.5), (3,)), MODEL)],
)
def test_devices_and_accumulated_gradients_change_nothing(tmp_path, task, config):
    losses = []
    for name, parts in (("one", {"mesh.data": 1}), ("many", {"mesh.data": 2, "accumulate": 2})):
        optim = OptimConfig(learning_rate=1e-2, accumulate=parts.get("accumulate", 1))
        mesh = MeshConfig(data=parts["mesh.data"])
        experiment = Experiment(
            task, config, optim=optim, mesh=mesh, steps=3, batch_size=8, eval_every=3,
            eval_batches=1,
        )  # fmt: skip
        fit(experiment, tmp_path / name)
        losses.append([row["loss"] for row in read_metrics(tmp_path / name) if "loss" in row])
    np.testing.assert_allclose(*losses, rtol=2e-5)


def test_positions_do_not_go_with_a_start_that_has_its_own_use_of_b():
    with pytest.raises(ValueError, match="positions None"):
        replace(HOLDING, start=Impulse())


def test_dlinear_takes_its_sizes_from_a_fixed_context_alone():
    assert DLinearConfig(horizon=4).sized(Waves(context=(3,))).horizon == 4
    assert DLinearConfig().sized(Waves(context=(2, 5))).context is None
    assert DLinearConfig().sized(LotkaVolterra()).context is None
