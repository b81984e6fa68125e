"""Training: continued equals uninterrupted; the mesh does not matter; nothing bad is kept."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import wsrnn
from wsrnn import data, loop
from wsrnn.checkpoint import Checkpoints
from wsrnn.damaged import damage
from wsrnn.errors import RunError, UserError
from wsrnn.metrics import LOSSES
from wsrnn.metrics_log import read_metrics, training_seconds
from wsrnn.models.warp import WarpConfig
from wsrnn.recipe import Recipe
from wsrnn.recurrence import Dense, Diagonal, LowRank
from wsrnn.report import report
from wsrnn.run import open_checkpoints
from wsrnn.step import to_devices
from wsrnn.tasks.regression import LinearRegression

TINY = Path(__file__).with_name("tiny.py")


def recipe(*flags, variant=None):
    return Recipe.read(TINY, variant, flags)


def metrics(run):
    return (run / "metrics.jsonl").read_bytes()


def losses(run):
    return np.array([row["loss"] for row in read_metrics(run) if "loss" in row])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run that others are compared with."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert loop.fit(recipe(), run)["step"] == 12
    return run


def test_training_a_finished_run_again_tells_its_validation(whole):
    before, last = metrics(whole), [row for row in read_metrics(whole) if "valid/loss" in row][-1]
    told = loop.fit(recipe(), whole)
    assert told == {
        "step": 12,
        "stopped": False,
        "exit code": 0,
        "validation loss": last["valid/loss"],
    }
    assert metrics(whole) == before


def test_a_run_leaves_what_it_promises(whole):
    rows = read_metrics(whole)
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 13))
    assert [row["step"] for row in rows if "valid/loss" in row] == [4, 8, 12]
    assert losses(whole)[-4:].mean() < losses(whole)[:4].mean()
    with open_checkpoints(whole) as saved:
        validation = {r["step"]: r["valid/loss"] for r in rows if "valid/loss" in r}
        best = min(validation, key=validation.get)
        assert saved.find("best") == best and saved.find("last") == 12
        assert saved.find(9) == 9  # the last two are kept whatever the best is


@pytest.mark.parametrize("dies_at", [1, 5, 8])
def test_continued_equals_uninterrupted(whole, tmp_path, monkeypatch, dies_at):
    class Killed(BaseException):
        pass

    original = data.train_stream

    def dying(*args, start=0, **kwargs):
        for i, batch in enumerate(original(*args, start=start, **kwargs)):
            if start + i == dies_at:
                raise Killed
            yield batch

    monkeypatch.setattr(data, "train_stream", dying)
    with pytest.raises(Killed):
        loop.fit(recipe(), tmp_path / "run")
    monkeypatch.setattr(data, "train_stream", original)
    loop.fit(recipe(), tmp_path / "run")
    assert metrics(tmp_path / "run") == metrics(whole)


def test_batches_drawn_in_the_step_depend_on_seed_and_step_alone(whole, tmp_path):
    flags = ("--draw", "step", "--optim.schedule.steps", "12")
    loop.fit(recipe(*flags), tmp_path / "whole")
    loop.fit(recipe(*flags, "--steps", "5"), tmp_path / "parts")
    loop.fit(recipe(*flags), tmp_path / "parts")
    drawn = losses(tmp_path / "whole")
    assert losses(tmp_path / "parts").tolist() == drawn.tolist()
    loop.fit(recipe(*flags, "--mesh.data", "2", "--steps", "4"), tmp_path / "mesh")
    np.testing.assert_allclose(losses(tmp_path / "mesh"), drawn[:4], rtol=1e-4)
    assert np.all(drawn != losses(whole))
    one, other = (data.batches_in_step(recipe().experiment().task, 8, seed) for seed in (0, 1))
    assert np.all(np.asarray(one(jnp.array(3)).inputs) != np.asarray(other(jnp.array(3)).inputs))


def start(out, *flags):
    environment = os.environ | {"PYTHONPATH": str(TINY.parents[1])}
    command = [sys.executable, "-m", "wsrnn", "train", str(TINY), "--out", str(out), *flags]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_lines(out, count):
    deadline = time.monotonic() + 120
    while len(read_metrics(out)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


LONG = ("--steps", "300", "--eval-every", "100", "--save-every", "50")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    loop.fit(recipe(*LONG), out)
    return metrics(out)


def test_interrupted_and_continued_equals_uninterrupted(tmp_path, uninterrupted):
    """By Ctrl-C; SIGKILL, at random moments, is among the faults."""
    process = start(tmp_path / "run", *LONG)
    wait_for_lines(tmp_path / "run", 80)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    done = len(losses(tmp_path / "run"))
    assert 60 < done < 300
    again = start(tmp_path / "run", *LONG)
    assert again.wait() == 0, again.stderr.read()
    assert metrics(tmp_path / "run") == uninterrupted


def test_one_compilation(whole):
    experiment = recipe().experiment().resolve()
    mesh = experiment.mesh.build(8)
    program = loop.compose(experiment, mesh)
    state = program.init()
    stream = data.train_stream(experiment.task, 8, 0)
    for _ in range(3):
        batch = to_devices(next(stream), mesh)
        state, _ = program.train_step(state, batch)
    assert program.train_step._cache_size() == 1


def test_modes_are_one_flag(tmp_path):
    for mode in ("scan", "conv"):
        loop.fit(recipe("--model.mode", mode), tmp_path / mode)
    np.testing.assert_allclose(losses(tmp_path / "scan"), losses(tmp_path / "conv"), rtol=1e-4)
    scan, _ = wsrnn.load(tmp_path / "conv", flags=["--model.mode", "scan"])
    conv, experiment = wsrnn.load(tmp_path / "conv")
    batch = data.examples(experiment.task, "test", 0, 4)
    a, b = (np.asarray(model(batch.inputs, batch.times)) for model in (scan, conv))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_mode_left_open_is_chosen_once_and_kept(tmp_path, monkeypatch):
    run = tmp_path / "run"
    assert recipe().experiment().model.mode == "auto"

    def resolved():
        return json.loads((run / "config.json").read_text())["experiment"]["model"]["mode"]

    def prefers(mode):
        def plans(self, *args, **sizes):
            return [replace(p, seconds=p.mode != mode) for p in all_plans(self, *args, **sizes)]

        all_plans = WarpConfig.plans
        monkeypatch.setattr(WarpConfig, "plans", plans)

    prefers("conv")
    loop.fit(recipe("--steps", "4"), run)
    assert resolved() == "conv"
    monkeypatch.undo()
    prefers("scan")  # as on another machine, or with another version's counts
    assert recipe().experiment().resolve().model.mode == "scan"
    loop.fit(recipe("--steps", "8"), run)
    assert resolved() == "conv" and wsrnn.load(run)[1].model.mode == "conv"
    loop.fit(recipe("--steps", "12", "--model.mode", "conv"), run)
    assert len(losses(run)) == 12
    with pytest.raises(UserError, match=r"model\.mode conv -> scan"):
        loop.fit(recipe("--steps", "12", "--model.mode", "scan"), run)
    # a mode that the changed model cannot run does not hide what was changed
    with pytest.raises(UserError, match=r"conv -> scan; model\.weight_clip None -> 0\.5"):
        loop.fit(recipe("--steps", "12", "--model.weight-clip", "0.5"), run)


def test_a_recorded_mode_does_not_ask_for_the_devices_of_the_mesh():
    experiment = recipe("--mesh.data", "2", "--mesh.model", "64").experiment()
    assert experiment.resolve({"model.mode": "scan"}).model.mode == "scan"
    with pytest.raises(UserError, match="visible device"):
        experiment.resolve()


def test_a_clipped_run_with_the_mode_left_open_is_a_scan():
    experiment = recipe("--model.weight-clip", "0.5").experiment()
    assert experiment.model.mode == "auto" and experiment.resolve().model.mode == "scan"


@pytest.mark.parametrize("contract", [False, True])
@pytest.mark.parametrize(
    "transition", [Dense("orthogonal", radius=1.2), Diagonal(radius=1.2), LowRank(rank=3)], ids=str
)
def test_a_contracted_A_stays_within_radius_1_through_updates(transition, contract):
    transition = replace(transition, contract=contract)
    experiment = recipe("--optim.learning-rate", "0.1").experiment().resolve()
    experiment = replace(experiment, model=replace(experiment.model, transition=transition))
    mesh = experiment.mesh.build(8)
    program = loop.compose(experiment, mesh)
    state, radii = program.init(), []
    if isinstance(transition, LowRank):  # which starts at a radius of 1 and no other
        state.params["A"]["U"] = 0.2 * state.params["A"]["V"]
    for batch in islice(data.train_stream(experiment.task, 8, 0), 4):
        state, log = program.train_step(state, to_devices(batch, mesh))
        assert log["skipped"] == 0
        A = nnx.merge(program.graphdef, state.params).transition.dense(17)
        radii.append(np.abs(np.linalg.eigvals(np.asarray(A, np.float64))).max())
    assert (max(radii) < 1 + 1e-3) if contract else (radii[-1] > 1.02)


def test_a_frozen_A_is_not_contracted():
    experiment = recipe("--optim.freeze", "A").experiment().resolve()
    transition = Dense("orthogonal", radius=1.2, contract=True)
    experiment = replace(experiment, model=replace(experiment.model, transition=transition))
    mesh = experiment.mesh.build(8)
    program = loop.compose(experiment, mesh)
    state = program.init()
    before = np.asarray(state.params["A"]["matrix"])
    batch = next(data.train_stream(experiment.task, 8, 0))
    state, _ = program.train_step(state, to_devices(batch, mesh))
    np.testing.assert_array_equal(state.params["A"]["matrix"], before)


@pytest.mark.parametrize("draw", ["host", "step"])
def test_a_run_of_bad_steps_alone_has_failed(tmp_path, draw):
    flags = ["--task.noise", "1e60", "--steps", "2", "--eval-every", "6", "--draw", draw]
    with pytest.raises(RunError, match=r"no step of 2 had .*; the data are finite"):
        loop.fit(recipe(*flags), tmp_path / "run")


def test_bad_steps_are_skipped_and_counted_and_too_many_stop_the_run(tmp_path, caplog):
    run = tmp_path / "run"
    with pytest.raises(RunError, match="stopped at step 10: 4 steps in a row"):
        loop.fit(recipe("--eval-every", "6", variant="poisoned"), run)
    rows = [row for row in read_metrics(run) if "skipped" in row]
    assert [row["skipped"] for row in rows] == [0] * 6 + [1] * 4
    assert "step 7 changes nothing: the batch of step 7 has targets[0, " in caplog.text
    assert rows[-1]["loss"] is None
    with Checkpoints(run / "checkpoints") as saved:
        restored = {}
        for number in (6, 9):
            experiment = recipe(variant="poisoned").experiment().resolve()
            program = loop.compose(experiment, experiment.mesh.build(8))
            restored[number] = saved.restore(number, program.abstract)
    for a, b in zip(*(jax.tree.leaves(s._replace(step=0)) for s in restored.values()), strict=True):
        np.testing.assert_array_equal(a, b)  # skipped steps leave no trace, in the moments neither


@dataclass(frozen=True)
class Steep(LinearRegression):
    """A loss of finite value and infinite slope."""

    def loss(self, outputs, targets, mask):
        measures = LOSSES["mse"](outputs, targets, mask)
        root = jnp.sqrt(outputs - jax.lax.stop_gradient(outputs))  # 0, of slope 1 / 0
        total = measures["loss"].total + root.sum()
        return measures | {"loss": measures["loss"]._replace(total=total)}


def test_an_infinite_gradient_of_a_finite_loss_is_skipped_and_counted(tmp_path):
    experiment = replace(recipe().experiment(), task=Steep(d=2, examples=3), max_skipped=3)
    with pytest.raises(RunError, match=r"at step 3: 3 steps in a row .*; the data are finite"):
        loop.fit(experiment, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    assert [row["skipped"] for row in rows] == [1, 1, 1]
    assert all(row["loss"] > 0 and row["grad_norm"] is None for row in rows)


def test_a_changed_config_is_refused_with_the_difference(whole):
    with pytest.raises(UserError, match=r"batch_size 8 -> 16; model\.root\.width 4 -> 5"):
        loop.fit(recipe("--model.root.width", "5", "--batch-size", "16"), whole)
    with pytest.raises(UserError, match="steps 12 -> 6"):
        loop.fit(recipe("--steps", "6"), whole)


def test_what_cannot_change_the_result_may_change_and_is_logged(whole, caplog):
    caplog.set_level("INFO", logger="wsrnn")
    before = metrics(whole)
    loop.fit(recipe("--save-every", "5", "--mesh.data", "4"), whole)
    assert "save_every 3 -> 5" in caplog.text and "mesh.data -1 -> 4" in caplog.text
    assert metrics(whole) == before
    loop.fit(recipe(), whole)


def test_starting_from_another_run(whole, tmp_path, monkeypatch):
    gentle = recipe("--steps", "4", "--save-every", "2", "--optim.learning-rate", "1e-9")
    loop.fit(gentle, tmp_path / "run", whole)
    before, _ = wsrnn.load(whole)
    after, _ = wsrnn.load(tmp_path / "run")
    np.testing.assert_allclose(before.B[...], after.B[...], atol=1e-7)
    with pytest.raises(UserError, match=r"A\.matrix is \[17, 17\] there and \[21, 21\]"):
        loop.fit(recipe("--model.root.width", "5"), tmp_path / "other", whole)
    assert not (tmp_path / "other").exists()
    # Where it started belongs to the run: it goes on without the flag, but not from elsewhere.
    loop.fit(gentle, tmp_path / "run")
    with pytest.raises(UserError, match="init_from"):
        loop.fit(gentle, tmp_path / "run", tmp_path / "run")
    loop.fit(gentle, tmp_path / "run", whole / ".." / whole.name)  # the same by another path
    monkeypatch.chdir(whole)
    with pytest.raises(UserError, match="init_from"):  # this one began from nothing
        loop.fit(recipe(), whole, Path())
    # Begun, but killed before the first checkpoint: it still starts where it was to start.
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    loop.fit(gentle, tmp_path / "run")
    again, _ = wsrnn.load(tmp_path / "run")
    np.testing.assert_array_equal(after.B[...], again.B[...])


def test_tensorboard_shows_everything(whole):
    report(whole)
    events = EventAccumulator(str(whole), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert tags >= {
        "train/loss", "train/grad norm", "train/learning rate", "train/skipped steps",
        "valid/loss", "speed/step ms", "speed/tokens per s", "A/spectral radius",
        "A/norm of A - I", "theta", "config", "custom_scalars__config__",
    }  # fmt: skip
    final = EventAccumulator(str(whole / "final"), size_guidance={"tensors": 0})
    final.Reload()
    assert set(final.Tags()["tensors"]) >= {
        "result/error", "result/n=3", "test/loss", "valid/loss, best step",
        "speed/step ms, median",        "_hparams_/session_start_info",
    }  # fmt: skip
    speeds = [e.tensor_proto.float_val[0] for e in events.Tensors("speed/step ms")]
    speeds = dict(zip([e.step for e in events.Tensors("speed/step ms")], speeds, strict=True))
    assert [*speeds] == [2, 4, 6, 8, 10, 12]
    spent = sum(2 * speeds[step] for step in (2, 4, 6, 8, 10))
    np.testing.assert_allclose(training_seconds(whole, np.array([10.0])), spent / 1e3, rtol=1e-5)
    steps = [event.step for event in events.Tensors("train/loss")]
    assert steps == sorted(set(steps)) == list(range(2, 13, 2))
    assert "tensorflow" not in sys.modules


def test_a_resumed_run_has_every_point_once_in_tensorboard(tmp_path):
    loop.fit(recipe("--steps", "6"), tmp_path / "run")
    loop.fit(recipe("--steps", "12"), tmp_path / "run")
    loop.fit(recipe("--steps", "12"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"tensors": 0})
    events.Reload()
    steps = {
        tag: [e.step for e in events.Tensors(tag)]
        for tag in ("train/loss", "valid/loss", "theta", "config")
    }
    validated = [4, 6, 8, 12]
    assert steps.pop("train/loss") == list(range(2, 13, 2))
    assert steps == {"valid/loss": validated, "theta": validated, "config": [0]}


def test_a_schedule_that_has_ended_is_said(tmp_path, caplog):
    caplog.set_level("INFO", logger="wsrnn")
    loop.fit(recipe("--steps", "3"), tmp_path / "run")
    assert "schedule ends" not in caplog.text
    loop.fit(recipe("--steps", "4"), tmp_path / "run")
    assert "schedule ends at step 3: from there the rate stays at 0" in caplog.text


def test_workers_know_the_tasks_of_an_experiment_file(tmp_path):
    flags = ("--workers", "1", "--steps", "2")
    loop.fit(recipe(*flags, variant="poisoned"), tmp_path / "with")
    loop.fit(recipe(*flags[2:], variant="poisoned"), tmp_path / "without")
    assert metrics(tmp_path / "with") == metrics(tmp_path / "without")


def test_results_are_kept_beside_the_run(whole):
    document = report(whole)
    kept = json.loads((whole / "results.json").read_text())
    assert kept["rows"]["this model"] == document["rows"]["this model"]
    assert (whole / "figures" / "error.png").read_bytes()[:4] == b"\x89PNG"
    np.testing.assert_allclose(kept["rows"]["zero"], [1, 1], rtol=1e-6)


def test_two_processes_train_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = (
        "import sys, jax; jax.distributed.initialize(sys.argv.pop(1), 2, int(sys.argv.pop(1)));"
        "from wsrnn.cli import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": str(TINY.parents[1]), "JAX_NUM_CPU_DEVICES": "4"}
    arguments = ["train", str(TINY), "--out", str(tmp_path / "two")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", command, address, str(i), *arguments], env=environment
        )
        for i in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    step = tmp_path / "two" / "checkpoints" / "12"
    assert (step / "SHA256SUMS").is_file() and damage(step) is None
    loop.fit(recipe(), tmp_path / "one")
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5)
