"""Several processes train as one; whoever is stopped, killed or missing leaves none behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import jax
import numpy as np
import pytest

from wsrnn import data, loop, processes
from wsrnn.errors import UserError
from wsrnn.metrics_log import read_metrics
from wsrnn.progress import StopFlag
from wsrnn.recipe import Recipe
from wsrnn.run import open_checkpoints
from wsrnn.step import to_devices

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "tiny.py"
PATIENCE = 240  # seconds, on a machine that does other things too


def environment(**more):
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": paths, "JAX_NUM_CPU_DEVICES": "1"} | more


def python(*words, **more):
    return subprocess.Popen(
        [sys.executable, *map(str, words)], env=environment(**more), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def ended(process):
    """What it printed on stderr, and its exit code."""
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def ours(errors):
    return [line for line in errors.splitlines() if line.startswith("wsrnn: ")]


def children(pid):
    """The processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def lives(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def catches(pid, number):
    """Whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return int(caught, 16) >> (number - 1) & 1


def saved(out):
    return sorted(int(p.name) for p in (out / "checkpoints").iterdir() if p.name.isdecimal())


def losses(out):
    return [row["loss"] for row in read_metrics(out) if "loss" in row]


# -- training by two processes ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """launch/local.sh with an environment that is installed already."""
    root = tmp_path_factory.mktemp("local")
    (root / "launch").mkdir()
    (root / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "launch" / "local.sh", root / "launch")
    shutil.copy(ROOT / "pyproject.toml", root)
    command = root / ".venv" / "bin" / "python"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    command.chmod(0o755)
    sums = subprocess.run(
        f"cksum < {root}/pyproject.toml", shell=True, capture_output=True, text=True
    )
    (root / ".venv" / ".stamp").write_text(f"cpu {root} {sums.stdout.strip()}\n")

    def start(*words):
        return subprocess.Popen(
            ["bash", str(root / "launch" / "local.sh"), *map(str, words)], text=True,
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


HELD = (
    TINY.read_text()
    + """
import jax
from wsrnn import checkpoint, sharding

sharding.WORTH_SPLITTING = 30  # A and its moments are split between two processes, and padded
before = checkpoint.Checkpoints.save

def save(self, step, state, layouts=None):
    parts = [leaf.addressable_data(0) for leaf in jax.tree.leaves(state)]
    np.savez(self.folder.parent / f"held-{step}-{jax.process_index()}.npz", *parts)
    before(self, step, state, layouts)

checkpoint.Checkpoints.save = save
"""
)


def restored(out, recipe, step, count):
    """Restore what two processes saved in this one alone, bit for bit; the next losses."""
    experiment = recipe.experiment().resolve()
    mesh = experiment.mesh.build(8)
    program = loop.compose(experiment, mesh)
    with open_checkpoints(out) as checkpoints:
        state = checkpoints.restore(step, program.abstract, program.layouts)
    held = [np.load(out / f"held-{step}-{process}.npz").values() for process in (0, 1)]
    split = 0
    for leaf, *parts in zip(jax.tree.leaves(state), *held, strict=True):
        if parts[0].shape != leaf.shape:
            axis = leaf.shape.index(max(leaf.shape))
            whole = np.concatenate(parts, axis)
            assert not np.delete(whole, range(leaf.shape[axis]), axis).any()  # the padding
            parts, split = [whole[tuple(map(slice, leaf.shape))]], split + 1
        for part in parts:
            np.testing.assert_array_equal(leaf, part)
    stream, found = data.train_stream(experiment.task, 8, 0, start=step), []
    for batch in islice(stream, count):
        state, log = program.train_step(state, to_devices(batch, mesh))
        found.append(float(log["loss"]))
    print(
        f"step {step}: {len(jax.tree.leaves(state))} arrays bit-equal, {split} of them were split"
    )
    assert split >= 3  # A and its two moments
    return found


def test_two_processes_stop_resume_and_end_as_one(local, tmp_path):
    """SIGTERM to one of them, a second run in the folder, SIGKILL of one, SIGTERM to the script."""
    out = tmp_path / "run"
    flags = ("--optim.schedule.steps", "100000", "--eval-every", "200", "--save-every", "100")
    (tmp_path / "tiny.py").write_text(HELD)
    words = ("--processes", "2", "--devices", "1", "train", tmp_path / "tiny.py", "--out", out)
    words += (*flags, "--steps", "100000", "--mesh.data", "1", "--mesh.model", "2")

    def member(run, index):
        """The process of a number: its variables say it."""

        def find():
            for pid in children(run.pid):
                with_index = f"WSRNN_PROCESS={index}".encode()
                if with_index in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    return pid

        return until(find)

    stopped = local(*words)
    until(lambda: len(read_metrics(out)) > 20)
    os.kill(member(stopped, 1), signal.SIGTERM)
    code, errors = ended(stopped)
    assert code == 75, errors
    assert errors.count("again to stop at once") == 1
    assert "Traceback" not in errors and not ours(errors)
    assert saved(out)[-1] == len(losses(out))

    begun = saved(out)[-1]
    alone = restored(out, Recipe.read(TINY, None, (*flags, "--mesh.data", "1")), begun, 20)
    killed = local(*words)
    until(lambda: len(read_metrics(out)) > begun + 120)
    second = local(*words)
    code, errors = ended(second)
    assert code == 2
    assert len(ours(errors)) == 2 and errors.count("another process is training there") == 2
    os.kill(member(killed, 1), signal.SIGKILL)
    code, errors = ended(killed)
    assert code == 1
    assert len(ours(errors)) == 1 and "process 1 of 2 was lost" in errors

    last = saved(out)[-1]
    assert last > begun
    before = (out / "metrics.jsonl").stat().st_ino  # until it is cut back to the checkpoint
    resumed = local(*words)
    until(lambda: (out / "metrics.jsonl").stat().st_ino != before and len(losses(out)) > last + 20)
    resumed.terminate()  # passed on to both
    code, errors = ended(resumed)
    assert code == 75 and errors.count("again to stop at once") == 2
    assert f"continuing {out} from step {last}" in errors
    both = losses(out)
    assert len(both) == saved(out)[-1] > last
    loop.fit(
        Recipe.read(TINY, None, (*flags, "--steps", "300", "--mesh.data", "2")), tmp_path / "one"
    )
    np.testing.assert_allclose(both[:300], losses(tmp_path / "one")[: len(both)], rtol=1e-5)
    np.testing.assert_allclose(alone, both[begun : begun + len(alone)], rtol=1e-6)
    print(
        f"largest difference of a loss: {np.max(np.abs(np.divide(alone, both[begun:][:20]) - 1))}"
    )


MEET = """
import sys
from wsrnn.processes import Options, start
where, index = sys.argv[1], int(sys.argv[2])
start(Options(coordinator=where, processes=2, process=index, connect_timeout=2))
"""


def test_processes_that_do_not_meet_end_in_one_line():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    first = python("-c", MEET, f"localhost:{port}", 0)
    other = python("-c", MEET, "localhost:1", 1)
    code, errors = ended(first)
    assert (code, len(errors.splitlines())) == (1, 1)
    assert f"not all of 2 processes came to localhost:{port} within 2 s" in errors
    code, errors = ended(other)
    assert (code, len(errors.splitlines())) == (1, 1)
    assert "process 1 could not reach the coordinator localhost:1" in errors


WATCH = """
import socket, sys, time
from wsrnn.liveness import Liveness
index, count = int(sys.argv[1]), int(sys.argv[2])
if index:
    peers = {0: socket.create_connection(("localhost", int(sys.argv[3])))}
    peers[0].sendall(bytes([index]))
else:
    server = socket.create_server(("localhost", 0))
    print(server.getsockname()[1], flush=True)
    found = [server.accept()[0] for _ in range(count - 1)]
    peers = {peer.recv(1)[0]: peer for peer in found}
watch = Liveness(index, count, peers, heartbeat=2)
print("ready", flush=True)
if why := sys.stdin.readline().strip():
    watch.end(why, 3)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("victim", "fault", "line", "exit_code"),
    [
        (1, signal.SIGKILL, "process 1 of 3 was lost", 1),
        (0, signal.SIGSTOP, "process 0 of 3 has been silent for 2 s", 1),
        (2, signal.SIGSTOP, "process 2 of 3 has been silent for 2 s", 1),
        (2, "the disk is full", "process 2: the disk is full", 3),
    ],
)
def test_all_end_with_whoever_is_killed_stopped_or_fails(victim, fault, line, exit_code):
    lead = python("-c", WATCH, 0, 3)
    port = lead.stdout.readline().strip()
    three = [lead, *(python("-c", WATCH, index, 3, port) for index in (1, 2))]
    for process in three:
        assert process.stdout.readline() == "ready\n"
    if isinstance(fault, str):
        three[victim].stdin.write(fault + "\n")
        three[victim].stdin.flush()
    else:
        three[victim].send_signal(fault)
    for process in three[:victim] + three[victim + 1 :]:
        code, errors = ended(process)
        assert code == exit_code
        assert len(ours(errors)) == len(errors.splitlines()) == 1 and line in errors
    three[victim].kill()
    three[victim].communicate()


def test_who_is_told_of_a_failure_ends_though_nobody_reads_its_stderr():
    lead = python("-c", WATCH, 0, 2)
    other = python("-c", WATCH, 1, 2, lead.stdout.readline().strip())
    for process in (lead, other):
        assert process.stdout.readline() == "ready\n"
    other.stderr.close()
    lead.stdin.write("the disk is full\n")
    lead.stdin.flush()
    assert (lead.wait(20), other.wait(20)) == (3, 3)


def test_nobody_trains_alone_unasked(monkeypatch):
    for name in (*processes.COUNTS, processes.INDEXED, "WSRNN_COORDINATOR", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    assert processes.find(processes.Options()) is None
    with pytest.raises(UserError, match="--distributed on"):
        processes.find(processes.Options("on"))
    with pytest.raises(UserError, match=r"--coordinator .*WSRNN_COORDINATOR.* and --process "):
        processes.find(processes.Options(processes=2))
    with pytest.raises(UserError, match="HOST:PORT"):
        processes.find(processes.Options("on", "somewhere", 2, 1))
    with pytest.raises(UserError, match="count from 0 on"):
        processes.find(processes.Options("on", "a:1", 2, 2))
    for name, value in (("PMI_SIZE", "4"), (processes.INDEXED, "0")):
        with monkeypatch.context() as told:
            told.setenv(name, value)
            with pytest.raises(UserError, match="--distributed off"):
                processes.find(processes.Options())
            assert processes.find(processes.Options("off")) is None
    slurm = {"JOB_ID": "7", "STEP_NODELIST": "n[3-4]", "PROCID": "1", "LOCALID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert processes.find(processes.Options()) is None
    monkeypatch.setenv("SLURM_NTASKS", "2")
    found = processes.find(processes.Options())
    assert (found.coordinator.split(":")[0], found.processes, found.process) == ("n3", 2, 1)
    assert found.devices == (0,)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x2)")  # all devices of its node
    assert processes.find(processes.Options()).devices is None
    monkeypatch.setenv("WSRNN_COORDINATOR", "here:5")
    monkeypatch.setenv("WSRNN_PROCESSES", "3")
    assert processes.find(processes.Options(process=2)) == processes.Place("here:5", 3, 2)


# -- signals to one process ------------------------------------------------------------------------


def test_sigterm_at_the_start_says_so():
    process = python("-m", "wsrnn", "train", TINY)
    until(lambda: catches(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGTERM)
    code, errors = ended(process)
    assert code == 75
    assert errors.startswith("wsrnn: SIGTERM: interrupted") and len(errors.splitlines()) == 1


def test_the_second_signal_is_the_one_that_ends_at_once(caplog):
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("at once"))
    try:
        with StopFlag() as stopping:
            assert not stopping
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopping and stopping.exit_code == 75 and not came
            assert "SIGTERM: saving after this step" in caplog.text
            os.kill(os.getpid(), signal.SIGTERM)
            assert came == ["at once"]
    finally:
        signal.signal(signal.SIGTERM, before)


BUSY = """
import hashlib, os, threading
from wsrnn import signals
from wsrnn.progress import StopFlag
signals.listen(lambda *_: os._exit(75))
with StopFlag():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


def test_a_signal_is_answered_while_the_main_thread_is_in_c():
    """As it is while jax compiles: Python's own handlers would be called an hour later."""
    process = python("-c", BUSY)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.stderr.readline().startswith("SIGTERM: saving after this step")
    process.terminate()
    assert process.wait(PATIENCE) == 75


# -- workers ---------------------------------------------------------------------------------------


def test_a_killed_worker_ends_the_run_with_what_it_has_learned(tmp_path):
    out = tmp_path / "run"
    flags = ("--workers", "1", "--steps", "100000", "--save-every", "1000")
    process = python("-m", "wsrnn", "train", TINY, "--out", out, *flags, "--eval-every", "100000")
    until(lambda: len(read_metrics(out)) > 5)
    workers = [pid for pid in children(process.pid) if worker(pid)]
    os.kill(workers[0], signal.SIGKILL)
    code, errors = ended(process)
    assert code == 1 and "Traceback" not in errors, errors
    [line] = ours(errors)
    assert "a data worker was killed (exit code -9)" in line
    assert f"saved step {saved(out)[-1]}" in line
    assert saved(out)[-1] == len(read_metrics(out))
    assert not any(map(lives, workers))


IMAGES = (
    TINY.read_text()
    + """
from wsrnn.evaluations import LossOnly
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.tasks.images import ImageClasses

experiment = replace(
    experiment, task=ImageClasses("IMAGES", side=4, classes=2), model=RnnConfig(width=4),
    evaluation=LossOnly(), workers=1, steps=100_000, save_every=100_000, eval_every=100_000,
)
"""
)


def test_a_data_file_that_is_cut_ends_the_run_with_what_it_has_learned(tmp_path):
    """One that is not whole in memory: a worker reads each image when it is wanted."""
    out, train = tmp_path / "run", tmp_path / "train.npz"
    for name in ("train", "test"):
        images, labels = np.zeros((9000, 4, 4), np.uint8), np.arange(9000) % 2
        np.savez(tmp_path / f"{name}.npz", labels=labels, images=images)
    (tmp_path / "images.py").write_text(IMAGES.replace("IMAGES", str(tmp_path)))
    process = python("-m", "wsrnn", "train", tmp_path / "images.py", "--out", out)
    until(lambda: len(read_metrics(out)) > 5)
    workers = [pid for pid in children(process.pid) if worker(pid)]
    os.truncate(train, train.stat().st_size // 2)
    code, errors = ended(process)
    assert code == 1 and "Traceback" not in errors, errors
    [line] = ours(errors)
    step = len(read_metrics(out))
    assert "train.npz ends before its row" in line and f"continues from step {step}" in line
    assert saved(out)[-1] == step > 5
    assert workers and not any(map(lives, workers))


def worker(pid):
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


STREAM = """
import sys
from tiny import experiment
from wsrnn import data
if __name__ == "__main__":
    stream = data.train_stream(experiment.task, 8, 0, workers=1)
    next(stream)
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    (tmp_path / "stream.py").write_text(STREAM)
    process = python(tmp_path / "stream.py", PYTHONPATH=f"{ROOT}{os.pathsep}{TINY.parent}")
    assert process.stdout.readline() == "ready\n"
    workers = [pid for pid in children(process.pid) if worker(pid)]
    assert len(workers) == 1
    process.kill()
    process.wait()
    until(lambda: not any(map(lives, workers)))
