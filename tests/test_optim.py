"""Optimisation: each part against optax by hand, and all of them through a run's whole life."""

import dataclasses
import re
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import wsrnn
from wsrnn import data, loop, optim
from wsrnn.checkpoint import Checkpoints
from wsrnn.copies import Copies, program
from wsrnn.errors import UserError
from wsrnn.metrics_log import read_metrics
from wsrnn.optim import (
    AdaBelief,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Ending,
    Momentum,
    OptimConfig,
    Rule,
    Schedule,
    Sgd,
)
from wsrnn.optim.groups import factors
from wsrnn.recipe import Recipe
from wsrnn.step import to_devices
from wsrnn.validation import evaluate

TINY = Path(__file__).with_name("tiny.py")
# All at once: groups of rates, frozen and decayed parameters, accumulation, an average.
ALL = ("--optim.rates", "A=1/P", "lift=0.5", "--optim.freeze", "phi.*", "--optim.accumulate", "2",
       "--optim.average", "0.9")  # fmt: skip
PARAMS = {
    "A": {"A": jnp.full((4, 4), 2.0)},
    "B": jnp.full((4, 2), 3.0),
    "lift": {"bias": jnp.full(2, 5.0), "kernel": jnp.full((3, 2), 7.0)},
}
GRADS = jax.tree.map(lambda p: 0.1 * p, PARAMS)


def recipe(*flags, variant=None):
    return Recipe.read(TINY, variant, flags)


def losses(run):
    return np.array([row["loss"] for row in read_metrics(run) if "loss" in row])


def one_step(config):
    """What a first step subtracts from PARAMS, but for the rate."""
    rule = config.build(PARAMS)
    return rule.update(GRADS, rule.init(PARAMS), PARAMS)[0]


def same(a, b, rtol=0.0):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@pytest.fixture
def split_all(monkeypatch):
    """Split small parameters too."""
    monkeypatch.setattr("wsrnn.sharding.WORTH_SPLITTING", 30)


@pytest.mark.parametrize(
    ("rule", "by_hand"),
    [
        (Adam(b1=0.8, b2=0.9, eps=1e-3), optax.adam(1.0, 0.8, 0.9, 1e-3)),
        (AdaBelief(b1=0.8), optax.adabelief(1.0, 0.8)),
        (AdamW(weight_decay=0.1), optax.adamw(1.0, weight_decay=0.1)),
        (Sgd(Momentum(0.9, nesterov=True)), optax.sgd(1.0, 0.9, nesterov=True)),
    ],
)
def test_a_rule_takes_the_steps_of_the_optimiser_it_is_named_after(rule, by_hand):
    config = OptimConfig(rule, clip_norm=None)
    found, wanted, ours = PARAMS, PARAMS, config.build(PARAMS)
    state, hand = ours.init(found), by_hand.init(wanted)
    for k in range(4):
        grads = jax.tree.map(lambda p, k=k: jnp.cos(k + p), found)
        updates, state = ours.update(grads, state, found)
        found = jax.tree.map(lambda p, u: p - u, found, updates)
        updates, hand = by_hand.update(grads, hand, wanted)
        wanted = optax.apply_updates(wanted, updates)
    same(found, wanted, 1e-6)


def test_sgd_is_plain_gradient_descent():
    same(one_step(OptimConfig(Sgd(), clip_norm=None)), GRADS)


def test_the_gradient_is_clipped_by_value_and_then_by_norm():
    norm = np.sqrt(sum(np.sum(np.minimum(g, 0.25) ** 2) for g in jax.tree.leaves(GRADS)))
    clipped = jax.tree.map(lambda g: jnp.minimum(g, 0.25) / norm, GRADS)
    same(one_step(OptimConfig(Sgd(), clip_value=0.25)), clipped, 1e-6)


def test_the_cosine_is_half_a_cosine_after_a_linear_warm_up():
    rate = OptimConfig(Adam(), Cosine(10, 0.1, steps=30), learning_rate=2.0).rate()
    found = [float(rate(step)) for step in (0, 5, 10, 20, 30, 99)]
    np.testing.assert_allclose(found, [0, 1, 2, 1.1, 0.2, 0.2], rtol=1e-6)
    constant = OptimConfig(Adam(), Constant(warmup=4), learning_rate=2.0).rate()
    np.testing.assert_allclose([float(constant(step)) for step in (1, 4, 99)], [0.5, 2, 2])


def test_a_rate_is_multiplied_by_the_first_pattern_that_matches():
    found = factors(PARAMS, ("A=1/P", "lift.bias=0.25", "lift=3/P", "*=0.5"))
    assert found["A"]["A"] == 1 / 4 and found["B"] == 0.5 and found["lift"]["bias"] == 0.25
    assert found["lift"]["kernel"] == pytest.approx(3 / 6**0.5)
    scaled = one_step(OptimConfig(Sgd(), clip_norm=None, rates=("A=1/P", "B=0.1")))
    same(scaled["A"]["A"], GRADS["A"]["A"] / 4, 1e-6)
    same(scaled["B"], GRADS["B"] / 10, 1e-6)
    same(scaled["lift"], GRADS["lift"])


@pytest.mark.parametrize("P", [4, 32, 128])
def test_the_rule_for_A_bounds_the_move_of_its_norm_at_every_size(P):
    moved = {}
    for rates in ((), ("A=1/P",)):
        params = {"A": {"A": jnp.eye(P)}}
        built = OptimConfig(clip_norm=None, rates=rates).build(params)
        grads = {"A": {"A": jnp.ones((P, P))}}  # the worst: all entries move alike
        update, _ = built.update(grads, built.init(params), params)
        moved[rates] = np.linalg.norm(update["A"]["A"], 2)
    assert moved[()] == pytest.approx(P, rel=1e-5)
    assert moved["A=1/P",] == pytest.approx(1, rel=1e-5)


def test_weight_decay_takes_what_its_mask_selects():
    def decayed(**mask):
        rule = AdamW(weight_decay=0.5, **mask)
        with_decay, without = (one_step(OptimConfig(r)) for r in (rule, Adam()))
        parts = jax.tree.map(lambda a, b, p: (a - b) / p, with_decay, without, PARAMS)
        return [float(leaf.mean()) for leaf in jax.tree.leaves(parts)]  # A, B, bias, kernel

    np.testing.assert_allclose(decayed(), [0.5] * 4, rtol=1e-5)
    np.testing.assert_allclose(decayed(matrices_only=True), [0.5, 0.5, 0, 0.5], rtol=1e-5)
    np.testing.assert_allclose(decayed(decay=("lift", "B")), [0, 0.5, 0.5, 0.5], rtol=1e-5)


def test_frozen_parameters_have_no_moments_and_no_part_in_the_norm():
    config = OptimConfig(freeze=("A", "lift.*"))
    state = config.build(PARAMS).init(PARAMS)
    assert {x.shape for x in jax.tree.leaves(state)} == {(), (4, 2)}
    limited = OptimConfig(Sgd(), freeze=("A", "lift.*")).build(PARAMS)
    zeroed = jax.tree.map(jnp.zeros_like, GRADS) | {"B": 100 * GRADS["B"]}
    update, _ = limited.update(zeroed, limited.init(PARAMS), PARAMS)
    assert np.linalg.norm(update["B"]) == pytest.approx(1, rel=1e-5)


def test_frozen_parameters_stay_and_the_others_train(tmp_path):
    start = recipe().experiment().resolve().build_model()
    loop.fit(recipe("--steps", "3", "--optim.freeze", "A.*", "lift.hidden"), tmp_path / "run")
    model, _ = wsrnn.load(tmp_path / "run", "last")
    before, after = (nnx.as_pure(nnx.state(m)) for m in (start, model))
    same(after["A"], before["A"])
    same(after["lift"]["hidden"], before["lift"]["hidden"])
    assert np.any(np.asarray(after["B"]) != np.asarray(before["B"]))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--optim.freeze", "phii.*"), r"optim\.freeze 'phii\.\*' .* 'phi\.\*'"),
        (("--optim.freeze", "lift.hidden.kernal"), r"nearest is 'lift\.hidden\.kernel'"),
        (("--optim.rates", "Aa=1/P"), r"optim\.rates 'Aa' matches no parameter.* 'A(\.matrix)?'"),
        (("--optim.rates", "A=1/Q"), r"'A=1/Q' is not PATTERN=FACTOR"),
        (("--optim.rates", "A"), r"'A' is not PATTERN=FACTOR"),
        (("--optim.rates", "A=0"), r"0 is optim\.freeze"),
        (("--optim.average", "1.5"), r"optim\.average must lie in \(0, 1\)"),
        (("--optim.accumulate", "3"), r"batch_size 8 is not divisible by optim\.accumulate 3"),
        (("--optim.rule.b1", "1"), r"optim\.rule\.b1 must lie in \[0, 1\), got 1"),
        (("--optim.schedule.warmup", "-1"), r"optim\.schedule\.warmup must be at least 0"),
    ],
)
def test_mistakes_are_answered_with_the_cure(flags, said):
    with pytest.raises(UserError, match=said):
        recipe(*flags).experiment()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AdamW(weight_decay=-1.0), "weight_decay"),
        (lambda: Momentum(1.0), "momentum.decay must lie in (0, 1)"),
        (lambda: Cosine(steps=0), "schedule.steps must be at least 1"),
        (lambda: Cosine(final_fraction=-0.1), "final_fraction"),
        (lambda: OptimConfig(learning_rate=-1.0), "learning_rate"),
        (lambda: OptimConfig(clip_norm=0.0), "clip_norm"),
        (lambda: OptimConfig(AdamW(decay=("C",))).check(PARAMS), "optim.rule.decay 'C'"),
    ],
)
def test_a_part_refuses_what_it_cannot_be(make, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        make()


@dataclass(frozen=True)
class Lion(Rule):
    """A rule of an experiment's own."""

    b1: float = 0.9

    def build(self):
        return optax.scale_by_lion(self.b1)


@dataclass(frozen=True)
class Plateau(Rule):
    """A transformation that looks at the loss."""

    def build(self):
        return optax.chain(
            optax.scale_by_adam(), optax.contrib.reduce_on_plateau(0.5, patience=1, cooldown=0)
        )


@dataclass(frozen=True)
class Uphill(Rule):
    """A complete optimiser, whose updates are to be added."""

    def build(self):
        return optax.lion(1.0)


@dataclass(frozen=True)
class Triangle(Ending):
    """A schedule of an experiment's own."""

    rise: float = 0.5

    def build(self, peak):
        steps = self.steps
        top = int(self.rise * steps)
        return optax.join_schedules(
            [optax.linear_schedule(0.0, peak, top), optax.linear_schedule(peak, 1e-3, steps - top)],
            [top],
        )


def test_any_optax_transformation_and_schedule_train_sharded_and_in_trials(split_all):
    experiment = recipe("--steps", "6").experiment().resolve()
    own = OptimConfig(Lion(b1=0.8), Triangle(rise=0.25, steps=8), clip_norm=None)
    experiment = replace(experiment, optim=own)
    rates = [float(own.rate()(step)) for step in (0, 1, 2, 5, 8)]
    np.testing.assert_allclose(rates, [0, 5e-4, 1e-3, 1e-3, 1e-3], rtol=1e-5)
    logs = {mesh: train(experiment, mesh)[1] for mesh in ((1, 1), (2, 4))}
    same(logs[1, 1], logs[2, 4], 1e-4)
    copies = Copies((1e-3, 1e-2), (0,))
    init, step, _ = program(experiment, copies)
    training, batches = init(), data.train_stream(experiment.task, 8, 0)
    for wanted in logs[1, 1]["loss"]:
        training, found = step(training, next(batches)._replace(latents={}))
        np.testing.assert_allclose(found[0], wanted, rtol=1e-5)


def test_a_rule_may_look_at_the_loss():
    experiment = recipe("--steps", "4").experiment().resolve()
    stopped = replace(experiment.optim, rule=Plateau(), freeze=("*",))  # the loss only fluctuates
    state, _ = train(replace(experiment, optim=stopped), (1, 1))
    found = [x for x in jax.tree.leaves(state.opt_state) if x.dtype == jnp.float32]
    assert any(float(x) not in (0.0, 1.0) for x in found if x.shape == ())


def test_a_rule_that_negates_is_refused():
    with pytest.raises(ValueError, match=r"Uphill\.build\(\) negates the gradient"):
        OptimConfig(Uphill()).check(PARAMS)
    OptimConfig(Lion()).check(PARAMS)


def train(experiment, mesh, steps=None, batches=None):
    """The state and the logs after some steps on a mesh."""
    experiment = replace(
        experiment, mesh=replace(experiment.mesh, data=mesh[0], model=mesh[1]), batch_size=8
    )
    mesh = experiment.mesh.build(8)
    program = loop.compose(experiment, mesh)
    state, logs = program.init(), []
    batches = batches or data.train_stream(experiment.task, 8, 0)
    for _ in range(steps or experiment.steps):
        state, log = program.train_step(state, to_devices(next(batches), mesh))
        logs.append(log)
    return state, jax.tree.map(lambda *x: np.stack(x), *logs)


def test_micro_batches_are_one_batch():
    experiment = recipe("--optim.clip-norm", "None", "--mesh.data", "1").experiment().resolve()
    whole, logs = train(experiment, (1, 1), 4)
    for parts, mesh in ((4, (1, 1)), (2, (4, 1))):
        config = replace(experiment.optim, accumulate=parts)
        state, found = train(replace(experiment, optim=config), mesh, 4)
        same(found, logs, 1e-4)
        same(state.params, whole.params, 1e-4)


def test_micro_batches_must_divide_what_a_device_has():
    experiment = recipe("--optim.accumulate", "4").experiment().resolve()
    with pytest.raises(UserError, match=r"8 is not divisible by 4 device\(s\) x optim.accumulate"):
        loop.compose(experiment, replace(experiment.mesh, data=4).build(8))


def test_the_average_is_that_of_the_parameters_after_each_update():
    experiment = recipe("--optim.average", "0.7").experiment().resolve()
    program = loop.compose(experiment, mesh := experiment.mesh.build(8))
    state, seen = program.init(), []
    stream = data.train_stream(experiment.task, 8, 0)
    same(state.evaluated, state.params)
    for n in range(1, 5):
        state, _ = program.train_step(state, to_devices(next(stream), mesh))
        seen.append(jax.device_get(state.params))
        weights = 0.7 ** np.arange(n)[::-1]
        wanted = jax.tree.map(lambda *p, w=weights: np.average(p, 0, w), *seen)
        same(state.evaluated, wanted, 1e-5)


def test_validation_load_and_a_start_elsewhere_use_the_average(tmp_path):
    flags = ("--steps", "4", "--optim.average", "0.9")
    loop.fit(recipe(*flags), tmp_path / "run")
    experiment = recipe(*flags).experiment().resolve()
    program = loop.compose(experiment, mesh := experiment.mesh.build(8))
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as saved:
        state = saved.restore(4, program.abstract, program.layouts)
    model, _ = wsrnn.load(tmp_path / "run", "last")
    same(nnx.as_pure(nnx.state(model)), state.average.params)
    assert np.any(np.asarray(state.average.params["B"]) != np.asarray(state.params["B"]))
    stream = data.eval_stream(experiment.task, "valid", 8, 0, batches=2)
    measured = evaluate(program.eval_step, mesh, state.average.params, stream)
    rows = [row for row in read_metrics(tmp_path / "run") if "valid/loss" in row]
    assert rows[-1]["valid/loss"] == measured["loss"]
    still = ("--steps", "1", "--optim.freeze", "*", "--optim.average", "0.5")
    loop.fit(recipe(*still), tmp_path / "next", tmp_path / "run")
    begun, _ = wsrnn.load(tmp_path / "next", "last")
    same(nnx.as_pure(nnx.state(begun)), state.average.params)


def test_a_skipped_step_leaves_no_trace_in_any_part():
    experiment = recipe(*ALL, "--mesh.data", "1").experiment().resolve()
    program = loop.compose(experiment, mesh := experiment.mesh.build(8))
    batch = to_devices(next(data.train_stream(experiment.task, 8, 0)), mesh)
    # not a number in one example of one micro-batch
    poisoned = batch._replace(targets=batch.targets.at[5].set(jnp.nan))
    after, _ = program.train_step(program.init(), batch)
    kept = jax.device_get(after)
    again, log = program.train_step(after, poisoned)
    assert log["skipped"] == 1 and again.step == kept.step + 1
    assert again.average.updates == 1
    same(again._replace(step=0), kept._replace(step=0))


def test_a_run_of_all_parts_continues_as_if_uninterrupted(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def dying(*args, start=0, **kwargs):
        for i, batch in enumerate(original(*args, start=start, **kwargs)):
            if start + i == 7:
                raise Killed
            yield batch

    flags = (*ALL, "--mesh.data", "1")
    loop.fit(recipe(*flags), tmp_path / "whole")
    original = data.train_stream
    with monkeypatch.context() as patched:
        patched.setattr(data, "train_stream", dying)
        with pytest.raises(Killed):
            loop.fit(recipe(*flags), tmp_path / "run")
    loop.fit(recipe(*flags), tmp_path / "run")
    written = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "run")]
    assert written[0] == written[1]
    models = [wsrnn.load(tmp_path / name, "last")[0] for name in ("whole", "run")]
    same(*(nnx.as_pure(nnx.state(model)) for model in models))


def test_a_run_of_all_parts_does_not_depend_on_the_mesh(tmp_path, split_all):
    flags, end = (*ALL, "--batch-size", "24"), ("--optim.schedule.steps", "6")
    loop.fit(recipe("--mesh.data", "1", *flags, *end), tmp_path / "reference")
    # P = 17 is padded to 18, then to 20; the number of micro-batches may change with the mesh.
    for steps, mesh, parts in ((6, (2, 3), 2), (12, (1, 4), 1)):
        on_mesh = ("--mesh.data", str(mesh[0]), "--mesh.model", str(mesh[1]))
        more = ("--steps", str(steps), "--optim.accumulate", str(parts))
        loop.fit(recipe(*flags, *on_mesh, *more, *end), tmp_path / "run")
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(tmp_path / "reference"), rtol=1e-4)
    found = [wsrnn.load(tmp_path / name, "last")[0] for name in ("run", "reference")]
    assert found[0].A["matrix"].shape == (17, 17)
    same(*(nnx.as_pure(nnx.state(model)) for model in found), 1e-4)


def test_averages_and_moments_lie_in_parts_and_padding_stays_zero(split_all):
    experiment = recipe(*ALL[:2], "lift=0.5", "--optim.average", "0.9").experiment().resolve()
    own = replace(experiment.optim, rule=Noisy())  # which moves what has no gradient
    state, _ = train(replace(experiment, optim=own), (2, 4), 3)
    for array in (state.params["A"]["matrix"], state.average.params["A"]["matrix"]):
        assert array.shape == (20, 17)
        assert {part.data.shape for part in array.addressable_shards} == {(5, 17)}
        np.testing.assert_array_equal(array[17:], 0)
        assert np.all(np.asarray(array[:17]) != 0)


@dataclass(frozen=True)
class Noisy(Rule):
    """Adam with noise."""

    def build(self):
        return optax.chain(optax.scale_by_adam(), optax.add_noise(0.1, 0.5, key=0))


def test_a_copy_of_trials_is_the_run_it_would_be_alone_with_all_parts():
    experiment = recipe(*ALL).experiment()
    optim = replace(experiment.optim, schedule=Cosine(3, 0.1))
    experiment = replace(experiment, optim=optim).resolve()
    copies = Copies((0.01, 0.03), (0, 1))  # of which the second and the third
    init, step, evaluate = program(experiment, copies)
    training, stream = init(), data.train_stream(experiment.task, 8, 0)
    poisoned = [next(stream)._replace(latents={}) for _ in range(4)]
    poisoned[2].targets[3] = np.nan
    for batch in poisoned:
        training, _ = step(training, batch)
    assert training.skipped.tolist() == [1] * 4
    for at, rate, seed in ((1, 0.01, 1), (2, 0.03, 0)):
        alone = replace(
            experiment, seed=seed, optim=dataclasses.replace(experiment.optim, learning_rate=rate)
        )
        state, _ = train(alone, (1, 1), 4, iter(poisoned))
        same(jax.tree.map(lambda x, at=at: x[at], training.state), state, 1e-5)
    total, count = evaluate(training.state.evaluated, poisoned[0])["loss"]
    assert total.shape == (4,) and np.all(np.isfinite(total)) and np.all(count > 0)


def test_the_package_lists_its_rules_and_schedules():
    for part in (*optim.RULES, *optim.SCHEDULES):
        assert dataclasses.is_dataclass(part) and part() == part()
        assert issubclass(part, Rule | Schedule)
