"""JSON schemas for what `kubernetes-validate` does not know, as far as `launch/` uses it.

JobSet: the fields of jobset.x-k8s.io/v1alpha2 (v0.8 and newer). SkyPilot: those of its task files
(0.10 and newer). Both refuse unknown fields, as the real ones do.
"""


def _object(required: str, **properties) -> dict:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


_STRING, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
_STRINGS = {"type": "array", "items": _STRING}
_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
_RULE = _object(
    "name action",
    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    action={"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]},
    onJobFailureReasons=_STRINGS,
    targetReplicatedJobs=_STRINGS,
)
JOBSET = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=_object("name", name=_NAME),
    spec=_object(
        "replicatedJobs",
        network=_object(
            "",
            enableDNSHostnames={"type": "boolean"},
            publishNotReadyAddresses={"type": "boolean"},
            subdomain=_NAME,
        ),
        failurePolicy=_object(
            "",
            maxRestarts=_COUNT,
            restartStrategy={"enum": ["Recreate", "BlockingRecreate"]},
            rules={"type": "array", "items": _RULE},
        ),
        replicatedJobs={
            "type": "array",
            "minItems": 1,
            "items": _object(
                "name template",
                name=_NAME,
                replicas=_COUNT,
                template=_object("spec", spec={"type": "object"}),  # a batch/v1 Job's
            ),
        },
    ),
)

_CODE = {"type": "integer", "minimum": 0, "maximum": 255}
SKYPILOT = _object(
    "resources run",
    name=_STRING,
    workdir=_STRING,
    num_nodes={"type": "integer", "minimum": 1},
    resources=_object(
        "",
        job_recovery=_object(
            "",
            recover_on_exit_codes={"type": "array", "items": _CODE, "uniqueItems": True},
            max_restarts_on_errors=_COUNT,
        ),
    ),
    envs={"type": "object", "additionalProperties": {"type": ["string", "null"]}},
    volumes={"type": "object", "additionalProperties": _STRING},
    setup=_STRING,
    run=_STRING,
)
