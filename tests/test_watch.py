"""Watching: where time goes, what is compiled, what a terminal shows of runs while they train."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wsrnn import cli, clock, costs, loop
from wsrnn.clock import PHASES, Clock
from wsrnn.errors import RunError, UserError
from wsrnn.metrics_log import MetricsLog, read_metrics
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.recipe import Recipe
from wsrnn.report import report
from wsrnn.tensorboard import LAYOUT
from wsrnn.watch import Seen, locked, table


def recipe(*flags, variant=None):
    return Recipe.read(Path(__file__).with_name("tiny.py"), variant, flags)


def losses(run):
    return [row["loss"] for row in read_metrics(run) if "loss" in row]


def timing(run):
    return [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run with three validations before its last log line, and the compilations by step."""
    run, compiled = tmp_path_factory.mktemp("runs") / "run", []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(len(losses(run)) if (run / "metrics.jsonl").is_file() else 0)

    jax.monitoring.register_event_duration_secs_listener(listen)
    loop.fit(recipe("--steps", "14"), run, profile="9:2")
    jax.monitoring.unregister_event_duration_listener(listen)
    return run, compiled


@pytest.fixture(scope="module")
def curves(watched):
    """{tag: {step: value}} of the run."""
    events = EventAccumulator(str(watched[0]), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: {e.step: e.tensor_proto.float_val[0] for e in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
        if events.Tensors(tag)[0].tensor_proto.float_val
    }


def test_nothing_is_compiled_after_the_first_evaluation(watched, curves):
    _, compiled = watched
    assert len(compiled) > 4 and max(compiled) == 4  # which is at step 4
    counted = curves["speed/programs compiled"]
    assert len({counted[step] for step in (6, 8, 10, 12, 14)}) == 1
    assert counted[2] < counted[14] <= len(compiled)


def test_all_time_is_in_a_phase(watched, curves):
    run, _ = watched
    for step in range(2, 15, 2):
        shares = [curves[f"goodput/{phase}"][step] for phase in PHASES]
        np.testing.assert_allclose(sum(shares), 1, rtol=1e-5)
    last = timing(run)[-1]
    assert last["step"] == 14 and "step ms" not in last
    for phase in ("step", "compile", "checkpoint", "evaluation", "start"):
        assert last[f"seconds in {phase}"] > 0, phase
    assert last["seconds in lost"] == 0


def test_a_clock_divides_time(monkeypatch):
    now = iter(np.arange(0, 100, 1.0))  # each look takes a second
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(now))
    with Clock(10, every=2, operations=8e12, peak=16e12) as watch:
        watch.enter("step")  # 1 s after its start
        with watch.phase("data"):  # after 1 s
            pass  # of 1 s
        with watch.phase("data", hidden=lambda: True):
            pass
        with watch.phase("evaluation"):
            pass
        spent = watch.spent()
        assert spent["start"] == 1 and spent["data"] == 1 and spent["evaluation"] == 1
        assert spent["step"] == 5 and sum(spent.values()) == 8
        watch.carry({"step": 10.0, "lost": 4.0})
        assert watch.spent()["lost"] == 4 and watch.curves()["goodput/lost"] == 4 / 24
        assert watch.at(1) == {} and watch.at(2)["speed/step ms"] == 1000
        assert watch.at(2)["speed/FLOP per s"] == 8e12 and watch.at(2)["speed/MFU"] == 0.5
        assert watch.at(3)["speed/tokens per s"] == 10  # measured at step 2


def test_gradient_norms_by_leaf_add_up(curves):
    leaves = [values for tag, values in curves.items() if tag.startswith("gradient norms/")]
    assert len(leaves) > 4 and "gradient norms/A.matrix" in curves
    for step, norm in curves["train/grad norm"].items():
        total = np.sqrt(sum(values[step] ** 2 for values in leaves))
        np.testing.assert_allclose(total, norm, rtol=1e-5)


def test_every_chart_of_the_layout_has_a_curve(curves):
    for charts in LAYOUT.values():
        for name, tags in charts.items():
            if name != "model FLOP utilisation":  # of a cpu nobody knows the peak
                assert all(any(re.fullmatch(tag, known) for known in curves) for tag in tags), name


def test_theta_drifts_from_its_first_norm_to_its_last(curves):
    first, last = (curves[f"theta/norm, {which} step"][4] for which in ("first", "last"))
    assert abs(last - first) <= curves["theta/drift from first to last"][4] <= last + first


def test_a_trace_of_some_steps_is_left(watched, tmp_path):
    (trace,) = (watched[0] / "plugins" / "profile").glob("*/perfetto_trace.json.gz")
    assert trace.stat().st_size > 1000
    for window, message in {
        "9": "takes START:STEPS", "3:0": "takes START:STEPS", "14:2": "from step 0 to step 14",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            loop.fit(recipe("--steps", "14"), tmp_path / "run", profile=window)
    assert not (tmp_path / "run").exists()


def test_the_time_of_steps_that_are_done_again_is_lost(tmp_path):
    rows = [
        {"step": 10, "step ms": 1.0, "seconds in step": 3.0, "seconds in compile": 1.0},
        {"step": 20, "step ms": 1.0, "seconds in step": 8.0, "seconds in compile": 1.0},
    ]
    (tmp_path / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with MetricsLog(tmp_path, 15, lead=True) as record:
        assert record.spent == {"step": 3, "compile": 1, "lost": 5}
    assert timing(tmp_path) == rows[:1]


def test_a_damaged_line_of_times_hinders_neither_the_run_nor_who_watches(watched, tmp_path):
    run = shutil.copytree(watched[0], tmp_path / "run")
    lines = (run / "timing.jsonl").read_text().replace("seconds in step", "seconds in stdp")
    (run / "timing.jsonl").write_text(lines)
    (seen := Seen(run)).refresh()
    assert seen.document()["step ms"] and seen.document()["goodput"] is None
    with Clock(1, 1) as clock:
        clock.carry(MetricsLog(run, 4, False).spent)
        assert clock.spent().keys() == set(PHASES)


def test_operations_and_peaks():
    experiment = recipe().experiment().resolve()
    half = replace(experiment, batch_size=4)
    twice = replace(experiment, optim=replace(experiment.optim, accumulate=2))
    assert costs.operations(twice) == 2 * costs.operations(half) > 0
    assert costs.operations(replace(experiment, model=RnnConfig(layout="read_before_write"))) > 0
    assert costs.peak("NVIDIA H100 80GB HBM3") == 989e12
    assert costs.peak("NVIDIA H100 PCIe") == 756e12
    assert costs.peak("TPU v5 lite") == 197e12 and costs.peak("Tesla V100-SXM2-16GB") == 125e12
    assert costs.peak("cpu") is None and costs.peak("NVIDIA H1000") is None


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        ("12", r"the test loss is not finite: example 12 has targets\[0, 0\] = nan"),
        # beyond what the loss sees, where least squares would find no solution
        ("40", r"the test data of Poisoned are not sound: example 40 has targets\[0, 0\] = nan"),
    ],
)
def test_a_bad_test_example_is_named(tmp_path, sound, message):
    flags = ("--task.where", "test", "--task.sound", sound, "--steps", "2")
    loop.fit(recipe(*flags, variant="poisoned"), tmp_path / "run")
    with pytest.raises(RunError, match=message):
        report(tmp_path / "run")


def test_watch_tells_runs_from_their_logs(watched, tmp_path, capsys):
    run, _ = watched
    with pytest.raises(SystemExit) as end:
        cli.main(["watch", str(run.parent), "--json"])
    assert end.value.code == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"].values()
    valid = [json.loads(line) for line in (run / "metrics.jsonl").open() if "valid/loss" in line]
    assert (row["step"], row["steps"], row["skipped"], row["state"]) == (14, 14, 0, "finished")
    assert row["loss"] == losses(run)[-1] and row["validation loss"] == valid[-1]["valid/loss"]
    assert row["step ms"] > 0 and 0 < row["goodput"] < 1 and row["age s"] >= 0
    with pytest.raises(SystemExit) as end:
        cli.main(["watch", str(run), "--once"])
    assert end.value.code == 0 and "14 of 14" in capsys.readouterr().out
    for place, message in {tmp_path: "holds no run", tmp_path / "none": "does not exist"}.items():
        with pytest.raises(SystemExit) as end:
            cli.main(["watch", str(place)])
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 2 and f"wsrnn: {place} {message}" in line


def test_watch_follows_a_run_that_grows_is_cut_back_and_goes_on(tmp_path):
    def write(rows, mode):
        with (tmp_path / "metrics.jsonl").open(mode) as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    def steps(*numbers):
        return [{"step": n, "loss": n / 2, "skipped": int(n == 3)} for n in numbers]

    seen = Seen(tmp_path)

    def now():
        seen.refresh()
        return {k: seen.document()[k] for k in ("step", "loss", "validation loss", "skipped")}

    assert now() == {"step": 0, "loss": None, "validation loss": None, "skipped": 0}
    write([*steps(1, 2, 3), {"step": 3, "valid/loss": 7.0}, *steps(4)], "w")
    assert now() == {"step": 4, "loss": 2, "validation loss": 7, "skipped": 1}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # half a line, as while it is being written
        file.flush()
        assert now()["step"] == 4
        file.write('ss": 9.0, "skipped": 1}\n')
    assert now() == {"step": 5, "loss": 9, "validation loss": 7, "skipped": 2}
    write(steps(1, 2), "w")  # continued from step 2
    assert now() == {"step": 2, "loss": 1, "validation loss": None, "skipped": 0}
    assert "no config.json" in table({"run": seen.document()})


def test_watch_knows_who_is_at_work(watched):
    run, _ = watched
    seen = Seen(run)
    seen.refresh()
    assert seen.document()["state"] == "finished" and not locked(run.parent)
    row = (run / "metrics.jsonl").read_bytes()
    with loop.prepare_run(run, recipe("--steps", "14")).locked():
        assert seen.document()["state"] == "running" and locked(run)
    (run / "metrics.jsonl").write_bytes(b"\n".join(row.split(b"\n")[:6]) + b"\n")
    seen.refresh()
    assert seen.document()["state"] == "stopped"
    (run / "metrics.jsonl").write_bytes(row)
    os.utime(run / "metrics.jsonl", (1000, 1000))
    seen.refresh()
    assert seen.document(now=1090.0)["age s"] == 90
