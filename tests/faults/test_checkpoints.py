"""Faults of checkpoints and logs: what is damaged is never used, and nothing before it is lost."""

import itertools
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import children
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import wsrnn
from wsrnn import data, loop
from wsrnn.checkpoint import Checkpoints, Retention
from wsrnn.damaged import LATE, damage, set_aside_damaged
from wsrnn.errors import RunError, UserError
from wsrnn.manifest import NAME
from wsrnn.metrics_log import MetricsLog, read_metrics, validation_losses
from wsrnn.recipe import Recipe
from wsrnn.run import open_checkpoints
from wsrnn.sharding import Layout

TINY = Path(__file__).parents[1] / "tiny.py"
KILLS = int(os.environ.get("WSRNN_KILLS", 5))  # of the campaign; each takes some seconds


def recipe(*flags, variant=None):
    return Recipe.read(TINY, variant, flags)


def metrics(run):
    return (run / "metrics.jsonl").read_bytes()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, bit=None):
    content = bytearray(path.read_bytes())
    bit = 8 * (len(content) // 2) + 1 if bit is None else bit
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def files(step):
    return sorted(path for path in step.rglob("*") if path.is_file())


def same(found, wanted):
    """Whether two states are equal, bit for bit."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 12 steps, saved at 3, 4, 6, ... and validated at 4, 8 and 12."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    loop.fit(recipe("--keep", "3"), run)
    return run


@pytest.fixture
def copy(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.parametrize("hurt", [truncate, Path.unlink, flip])
def test_damage_to_any_file_of_a_step_is_seen_and_the_step_before_used(trained, tmp_path, hurt):
    assert damage(trained / "checkpoints" / "12") is None
    program = loop.compose(recipe().experiment().resolve(), recipe().experiment().mesh.build(8))
    with open_checkpoints(trained) as saved:
        wanted = saved.restore(9, program.abstract)
    names = [p.relative_to(trained / "checkpoints") for p in files(trained / "checkpoints" / "12")]
    assert len(names) > 10 and {Path("12") / name for name in (NAME, *LATE)} <= set(names)
    for number, name in enumerate(names):
        folder = shutil.copytree(trained / "checkpoints", tmp_path / str(number))
        hurt(folder / name)
        assert damage(folder / "12"), name
        set_aside_damaged(folder)
        assert not (folder / "12").exists() and (folder / "damaged-12").is_dir()
        with Checkpoints(folder) as saved:
            assert saved.find("last") == 9
            same(saved.restore(9, program.abstract), wanted)


def test_any_bit_of_a_state_of_megabytes_counts(tmp_path):
    state = {"x": jax.random.normal(jax.random.key(0), (1200, 1200)), "n": jnp.arange(9)}
    with Checkpoints(tmp_path / "c") as saved:
        saved.save(1, state)
    step = tmp_path / "c" / "1"
    sizes = {path: path.stat().st_size for path in files(step)}
    assert sum(sizes.values()) > 4e6
    rng = random.Random(0)
    for path in rng.choices(list(sizes), sizes.values(), k=60):
        bit = rng.randrange(8 * sizes[path])
        flip(path, bit)
        assert damage(step), (path, bit)
        flip(path, bit)
    assert damage(step) is None


def test_who_only_reads_takes_another_step_and_renames_nothing(copy, run, tmp_path):
    with open_checkpoints(copy) as saved:
        best, second = saved.ranked(saved.steps())[:2]
    flip(next(p for p in files(copy / "checkpoints" / str(best)) if "ocdbt.process" in str(p)))
    before = sorted(copy.rglob("*"))
    code, _, err = run("eval", copy, "--step", best, "--json")
    assert code == 2 and err.count("\n") == 1, err
    assert f"checkpoints/{best} is damaged (default/ocdbt" in err and "name another step" in err
    assert sorted(copy.rglob("*")) == before
    code, out, err = run("eval", copy, "--json")
    assert code == 0 and f'"step": {second}' in out
    assert err.count(f"{best} is damaged and left out") == 1
    loop.fit(recipe("--steps", "1"), tmp_path / "from", copy)
    assert f"@{second}" in (tmp_path / "from" / "config.json").read_text()
    for step in (copy / "checkpoints").iterdir():
        (step / NAME).write_text("")
    code, _, err = run("eval", copy)
    assert code == 2 and "holds no checkpoint that is not damaged" in err


def test_a_run_goes_on_from_the_step_before_unless_strict(copy, run, trained):
    flip(copy / "checkpoints" / "12" / "default" / "manifest.ocdbt")
    words = ("train", TINY, "--out", copy, "--keep", "3")
    code, _, err = run(*words, "--strict")
    assert code == 2 and err.count("\n") == 1 and "without --strict it is set aside" in err
    assert (copy / "checkpoints" / "12").is_dir()
    code, _, err = run(*words)
    assert code == 0 and "moved to damaged-12 there, and the run goes on from step 9" in err
    assert metrics(copy) == metrics(trained)
    truncate(copy / "checkpoints" / "12" / NAME)
    set_aside_damaged(copy / "checkpoints")
    assert len(list((copy / "checkpoints").glob("damaged-12*"))) == 2
    for step in (8, 9):
        (copy / "checkpoints" / str(step) / NAME).unlink(missing_ok=True)
    shutil.rmtree(copy / "checkpoints" / "4", ignore_errors=True)
    code, _, err = run(*words)
    assert code == 2 and "put back a copy" in err.splitlines()[-1]
    assert (copy / "checkpoints" / "9").is_dir()


def test_a_step_is_sealed_before_anybody_can_see_it(tmp_path):
    """A kill just after the rename: all that is restored is listed already."""
    saved = Checkpoints(tmp_path / "c")
    saved.save(1, {"x": jnp.ones(18)}, {"x": np.ones(17)})
    saved._manager.wait_until_finished()  # and no more: what orbax wrote last is not listed yet
    step = tmp_path / "c" / "1"
    assert damage(step) is None and not any(
        f"  {name}" in (step / NAME).read_text() for name in LATE
    )
    for name in LATE:
        truncate(step / name)  # which nothing reads: the padding is known from elsewhere
    with Checkpoints(tmp_path / "c", read_only=True) as again:
        assert again.find("last") == 1
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = {"x": jax.ShapeDtypeStruct((20,), jnp.float32, sharding=here)}
        found = again.restore(1, wanted, {"x": np.ones(17)})["x"]
        np.testing.assert_array_equal(found[:17], 1)
        truncate(step / "default" / "_METADATA")
        with pytest.raises(UserError, match="no checkpoint that is not damaged"):
            again.find("last")


def test_steps_of_before_there_were_checksums_are_read_unchecked(copy):
    for step in (copy / "checkpoints").iterdir():
        (step / NAME).unlink()
        tree = step / "default" / "_METADATA"
        tree.write_text(tree.read_text().replace("shapes without padding", "another"))
    assert wsrnn.run.load_step(copy, "last")[2] == 12


@pytest.mark.parametrize(
    ("hurt", "lost"),
    [
        (lambda path: path.unlink(), "1 to 12"),
        (lambda path: path.write_bytes(b"\0\xff" * 40), "1 to 12"),
        (lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:5])), "5 to"),
        (lambda path: flip(path, 8 * (path.read_bytes().index(b'{"step": 3') + 3)), "3,"),
    ],
)
def test_a_hole_in_the_history_is_named(copy, caplog, hurt, lost):
    hurt(copy / "metrics.jsonl")
    loop.fit(recipe("--keep", "3"), copy)
    (line,) = [r.getMessage() for r in caplog.records if "metrics.jsonl was cut" in r.getMessage()]
    assert f"lacks the steps {lost}" in line
    assert [row["step"] for row in read_metrics(copy) if "valid/loss" in row][-1] == 12


class Killed(BaseException):
    pass


def hooked(monkeypatch, at, action):
    """Do something as training asks for its batch number `at`."""
    original = data.train_stream

    def stream(*args, start=0, **kwargs):
        for i, batch in enumerate(original(*args, start=start, **kwargs)):
            if start + i == at:
                action()
            yield batch

    monkeypatch.setattr(data, "train_stream", stream)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("step", [8, 12])
def test_a_validation_that_fails_costs_no_step(trained, tmp_path, monkeypatch, where, step):
    """Killed at its begin, or between the curves and the log: `best` and all logs are right."""
    place = (loop, "_validate") if where == "before" else (MetricsLog, "valid")
    original, count = getattr(*place), itertools.count(1)

    def fails(*args):
        if 4 * next(count) == step:
            raise Killed
        return original(*args)

    monkeypatch.setattr(*place, fails)
    with pytest.raises(Killed):
        loop.fit(recipe("--keep", "3"), tmp_path / "run")
    monkeypatch.undo()
    with open_checkpoints(tmp_path / "run") as saved:
        assert saved.find("last") == step
    loop.fit(recipe("--keep", "3"), tmp_path / "run")
    assert metrics(tmp_path / "run") == metrics(trained)
    with open_checkpoints(tmp_path / "run") as saved, open_checkpoints(trained) as whole:
        assert saved.find("best") == whole.find("best") and saved.steps() == whole.steps()
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"tensors": 0})
    events.Reload()
    for tag, steps in {"valid/loss": [4, 8, 12], "theta": [4, 8, 12], "train/loss": None}.items():
        found = [event.step for event in events.Tensors(tag)]
        assert found == (steps or list(range(2, 13, 2))), tag


@pytest.mark.parametrize("place", ["training", "validation"])
def test_sigterm_saves_at_once_and_leaves_the_validation_for_later(
    trained, tmp_path, monkeypatch, place
):
    original = data.eval_stream

    def terminate():
        os.kill(os.getpid(), signal.SIGTERM)

    def stream(*args, **kwargs):
        for i, batch in enumerate(original(*args, **kwargs)):
            if i == 1 and (tmp_path / "run" / "checkpoints" / "6").exists():
                terminate()
            yield batch

    if place == "training":
        hooked(monkeypatch, 7, terminate)
    else:
        monkeypatch.setattr(data, "eval_stream", stream)
    assert loop.fit(recipe("--keep", "3"), tmp_path / "run")["stopped"]
    monkeypatch.undo()
    with open_checkpoints(tmp_path / "run") as saved:
        assert saved.find("last") == 8
    assert [*validation_losses(read_metrics(tmp_path / "run"))] == [4]
    loop.fit(recipe("--keep", "3"), tmp_path / "run")
    assert metrics(tmp_path / "run") == metrics(trained)


def test_what_is_kept(tmp_path):
    retention = Retention(latest=2, every=10, per_doubling=1)
    with Checkpoints(tmp_path / "c", retention) as saved:
        losses = saved.losses = {}
        for step in range(1, 25):
            saved.save(step, {"x": jnp.zeros(1)})
            losses[step] = abs(step - 7)  # known only after the save
    with Checkpoints(tmp_path / "c", losses=losses, read_only=True) as saved:
        assert saved.steps() == [1, 2, 4, 7, 8, 10, 16, 20, 23, 24]
        assert saved.find("best") == 7
    four = Retention(per_doubling=4)
    found = [step for step in range(1, 70) if four.log_spaced(step)]
    assert found[:12] == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16] and len(found) < 22


def test_log_spaced_checkpoints_are_made_and_kept(tmp_path):
    flags = ("--save-every", "100", "--eval-every", "100", "--keep-per-doubling", "1")
    loop.fit(recipe(*flags), tmp_path / "run")
    with open_checkpoints(tmp_path / "run") as saved:
        assert saved.steps() == [1, 2, 4, 8, 12]


def test_a_log_on_a_full_disk_stops_the_run_in_one_line(tmp_path, run, trained):
    words = ("train", TINY, "--out", tmp_path / "run", "--keep", "3")
    assert run(*words, "--steps", "4", "--optim.schedule.steps", "12")[0] == 0
    for name in ("metrics.jsonl", "timing.jsonl"):
        kept = (tmp_path / "run" / name).rename(tmp_path / name)
        (tmp_path / "run" / name).symlink_to("/dev/full")
        code, _, err = run(*words)
        (tmp_path / "run" / name).unlink()
        kept.rename(tmp_path / "run" / name)
        assert code == 1 and "Traceback" not in err
        line = err.splitlines()[-1]
        assert f"run/{name} cannot be written: No space left on device" in line, line
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        code, _, err = run(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and "cannot be written: File too large" in err.splitlines()[-1], err
    assert run(*words)[0] == 0
    assert metrics(tmp_path / "run") == metrics(trained)


def test_room_is_looked_for_before_a_run(tmp_path, monkeypatch, run):
    words = ("train", TINY, "--out", tmp_path / "run")
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        code, _, err = run(*words)
    assert code == 2 and err.count("\n") == 1 and "its disk has 0.0 MiB free" in err
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        code, _, err = run(*words)
    assert code == 2 and "run/checkpoints cannot be written: Permission denied" in err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_folder_renamed_while_it_trains(trained, tmp_path, monkeypatch):
    def rename():
        while not (tmp_path / "run" / "checkpoints" / "6").exists():
            time.sleep(0.01)  # what is being written would lie in the old place
        (tmp_path / "run").rename(tmp_path / "other")

    hooked(monkeypatch, 7, rename)
    with pytest.raises(RunError, match=r"was moved or removed .* new place as --out continues"):
        loop.fit(recipe("--keep", "3"), tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run").exists()
    loop.fit(recipe("--keep", "3"), tmp_path / "other")
    assert metrics(tmp_path / "other") == metrics(trained)


def test_a_state_is_the_same_on_8_devices_4x2_2_and_1(tmp_path, monkeypatch):
    monkeypatch.setattr("wsrnn.sharding.WORTH_SPLITTING", 30)
    run, expected = tmp_path / "run", None
    for steps, (rows, columns) in ((3, (8, 1)), (6, (4, 2)), (9, (2, 1)), (12, (1, 1))):
        mesh = ("--mesh.data", str(rows), "--mesh.model", str(columns))
        flags = ("--steps", str(steps), "--optim.schedule.steps", "12", *mesh)
        experiment = recipe(*flags).experiment().resolve()
        program = loop.compose(experiment, experiment.mesh.build(8))
        if expected is not None:
            with open_checkpoints(run) as saved:
                state = saved.restore(saved.find("last"), program.abstract, program.layouts)
            same(jax.tree.map(Layout.trim, program.layouts, jax.device_get(state)), expected)
        loop.fit(recipe(*flags), run)
        with open_checkpoints(run) as saved:
            state = saved.restore(steps, program.abstract, program.layouts)
        expected = jax.tree.map(Layout.trim, program.layouts, jax.device_get(state))
    loop.fit(recipe("--mesh.data", "8"), tmp_path / "eight")
    found, wanted = (
        np.array([row["loss"] for row in read_metrics(path) if "loss" in row])
        for path in (run, tmp_path / "eight")
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


LONG = ("--steps", str(30 * KILLS), "--eval-every", "25", "--mesh.data", "1")


def test_a_full_disk_for_checkpoints_costs_no_earlier_step(tmp_path, trained):
    """In a process of its own: what its threads print is seen, and how it ends."""
    run, flags = tmp_path / "run", ("--log-every", "100")
    loop.fit(recipe("--steps", "4", "--optim.schedule.steps", "12", *flags), run)
    process = children.start(tmp_path / "log", "train", TINY, "--out", run, *flags, limit=8000)
    process.join()
    log = (tmp_path / "log").read_text()
    assert process.exitcode == 1 and "Traceback" not in log, log
    assert "checkpoints/6 could not be written" in log.splitlines()[-1], log
    with open_checkpoints(run) as saved:
        assert saved.find("last") == 4
    loop.fit(recipe("--keep", "3"), run)
    assert metrics(run) == metrics(trained)
    assert not list((run / "checkpoints").glob("*tmp*"))


def test_killed_at_random_moments_of_saves_and_steps(tmp_path):
    """SIGKILL, again and again: every time the run goes on, in the end with the same losses."""
    loop.fit(recipe(*LONG), tmp_path / "whole")
    run = tmp_path / "run"
    words = ("train", TINY, "--out", run, *LONG, "--save-every", "2")  # it saves all the time
    rng, torn, resumed = random.Random(time.time_ns()), 0, 0
    for _ in range(KILLS):
        done = len(read_metrics(run))
        process = children.start(tmp_path / "log", *words)
        children.wait_for_steps(process, run, done + rng.randrange(1, 20))
        time.sleep(rng.uniform(0, 0.1))
        assert process.is_alive()
        process.kill()
        process.join()
        torn += any("tmp" in path.name for path in (run / "checkpoints").iterdir())
        resumed += len(read_metrics(run)) > done
    loop.fit(recipe(*LONG), run)
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log and "damaged" not in log, log
    assert resumed == KILLS and metrics(run) == metrics(tmp_path / "whole")
    print(f"{resumed} of {KILLS} resumed; {torn} were killed while they saved")
