"""The files for other schedulers: against schemas, and their commands with stand-ins for wsrnn."""

import tomllib
from pathlib import Path
from string import Template

import pytest
from launch_schemas import JOBSET, SKYPILOT
from stubs import Stubs

yaml = pytest.importorskip("yaml", reason="needs kubernetes-validate, of the extra dev")
kubernetes = pytest.importorskip("kubernetes_validate", reason="of the extra dev")
jsonschema = pytest.importorskip("jsonschema", reason="needs kubernetes-validate, of the extra dev")

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
TRAIN = ["train", "my file.py", "--out", "/runs/a"]


@pytest.fixture
def stubs(tmp_path):
    return Stubs(tmp_path)


# Kubernetes

VALUES = {"NAME": "my-run", "IMAGE": "wsrnn", "PROCESSES": "4", "GPUS": "8", "CLAIM": "runs"}
VALUES["ARGS"] = "train 'my file.py' --out /runs/a"


def jobset(**changes) -> dict:
    text = (LAUNCH / "jobset.yaml").read_text()
    return yaml.safe_load(Template(text).substitute(VALUES | changes))


def job(document) -> dict:
    (replicated,) = document["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "run"}, "spec": spec}


def container(document) -> dict:
    (only,) = job(document)["spec"]["template"]["spec"]["containers"]
    return only


def valid(document):
    jsonschema.validate(document, JOBSET)
    kubernetes.validate(job(document), kubernetes.latest_version(), strict=True)


def test_the_jobset_fits_the_schemas_of_jobset_and_job():
    valid(jobset())
    valid(jobset(PROCESSES="1", GPUS="0"))


@pytest.mark.parametrize(
    "misspell",
    [
        lambda d: d["spec"].update(failurePolcy={}),
        lambda d: d["spec"]["failurePolicy"]["rules"][0].update(action="Restart"),
        lambda d: job(d)["spec"].update(completionmode="Indexed"),
        lambda d: job(d)["spec"].update(parallelism="many"),
        lambda d: container(d)["env"][2]["valueFrom"].update(fieldReference={}),
    ],
)
def test_those_schemas_refuse_what_kubernetes_would(misspell):
    document = jobset()
    misspell(document)
    with pytest.raises(jsonschema.ValidationError):
        valid(document)


def action(document, code: int, evicted: bool) -> str:
    """What happens to the JobSet when a pod ends so (the documented order of the rules)."""
    spec, reason = job(document)["spec"], "BackoffLimitExceeded"
    assert spec["backoffLimit"] == 0
    for rule in spec["podFailurePolicy"]["rules"]:
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions", [])
        assert codes is None or codes["containerName"] == container(document)["name"]
        by_code = codes is not None and (code in codes["values"]) == (codes["operator"] == "In")
        by_condition = evicted and {"type": "DisruptionTarget", "status": "True"} in conditions
        if rule["action"] == "FailJob" and (by_code or by_condition):
            reason = "PodFailurePolicy"
    for rule in document["spec"]["failurePolicy"]["rules"]:
        if reason in rule["onJobFailureReasons"]:
            return rule["action"]
    return "RestartJobSet"


def test_a_jobset_restarts_after_preemptions_and_counts_other_failures():
    free = "RestartJobSetAndIgnoreMaxRestarts"
    assert action(jobset(), 75, evicted=False) == free
    assert action(jobset(), 137, evicted=True) == free
    assert action(jobset(), 1, evicted=False) == action(jobset(), 2, False) == "RestartJobSet"


def test_the_pods_of_a_jobset_find_their_coordinator_and_get_the_signals(stubs):
    stubs.add("wsrnn", "echo $$; exec /bin/sleep 60")
    document = jobset()
    run = container(document)
    pod = f"{VALUES['NAME']}-{document['spec']['replicatedJobs'][0]['name']}-0-0"
    environment = {entry["name"]: entry.get("value") for entry in run["env"]}
    assert environment.pop("WSRNN_PROCESS") is None  # from the pod's completion index
    assert environment == {
        "WSRNN_COORDINATOR": f"{pod}.{VALUES['NAME']}:55527",
        "WSRNN_PROCESSES": "4",
    }
    process = stubs.start(*run["command"])
    try:
        assert int(process.stdout.readline()) == process.pid  # no shell is left in between
    finally:
        process.kill()
        process.communicate()
    assert stubs.calls() == [["wsrnn", *TRAIN]]


# SkyPilot


def test_the_skypilot_file_fits_its_schema_and_75_recovers():
    document = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    jsonschema.validate(document, SKYPILOT)
    assert document["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"resources": {"job_recovry": {}}}, SKYPILOT)


def test_skypilots_nodes_start_as_processes_and_keep_the_exit_code(stubs):
    code = "echo $WSRNN_COORDINATOR $WSRNN_PROCESSES $WSRNN_PROCESS; exit 75"
    stubs.add("wsrnn", code, path=stubs.folder / ".venv" / "bin" / "wsrnn")
    run = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())["run"]
    nodes = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2"}
    nodes |= {"SKYPILOT_NODE_RANK": "1", "ARGS": VALUES["ARGS"]}
    result = stubs.run("bash", "-c", run, **nodes)
    assert (result.returncode, result.stdout) == (75, "10.0.0.1:55527 2 1\n"), result.stderr
    assert stubs.calls() == [["wsrnn", *TRAIN]]


# Docker


def test_the_image_has_all_files_that_the_package_is_built_from():
    lines = (LAUNCH / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    assert {"cpu", "cuda", "tpu"} <= extras.keys()
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {*wheel["packages"], *(Path(name).parts[0] for name in wheel["force-include"])}
    assert needed <= copied
