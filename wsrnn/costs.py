"""What a step costs by formula: operations and bytes; and the peak rates of known accelerators."""

from flax import nnx

from wsrnn.experiment import Experiment
from wsrnn.models import ModelConfig
from wsrnn.models.warp import WarpConfig
from wsrnn.models.warp.textbook import TextbookConfig
from wsrnn.recurrence.costs import Counts

PEAKS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA V100": 125e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA GH200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
}
"""Operations a second in dense bfloat16 products (float16 on a V100) by data sheet, the usual
denominator of MFU whatever a run's precision, by how jax names the device (`device_kind`)."""


def peak(kind: str) -> float | None:
    """The peak rate of a kind of device, which may be a longer name such as that of a board; None
    if it is not known."""
    words = kind.replace("Tesla ", "NVIDIA ").replace("-", " ").split()
    known = [name for name in PEAKS if words[: len(name.split())] == name.split()]
    return PEAKS[max(known, key=len)] if known else None


def operations(experiment: Experiment) -> float | None:
    """Operations of value and gradient in products and transforms, over all devices.

    None if the model does not count its own.
    """
    task, N = experiment.task, experiment.batch_size
    model: ModelConfig = experiment.model
    if isinstance(model, TextbookConfig):
        network = model.network(task.d_in, task.d_out)
        P, C = network.size, model.channels(network, task.d_in, task.d_out)
        return 6.0 * N * task.length * (P**2 + P * C) + _root_operations(experiment)
    if isinstance(model, WarpConfig) and model.modes:
        counts = _counts(experiment)
        return counts.product + counts.thin + counts.transform + _root_operations(experiment)
    sizes = nnx.eval_shape(experiment.build_model).sizes(task.length)
    per_token = sizes.get("operations per token")
    return per_token and 3.0 * N * task.length * per_token


def _root_operations(experiment: Experiment) -> float:
    """Of the readout and its gradient, which takes twice as many."""
    task, model = experiment.task, experiment.model
    assert isinstance(model, WarpConfig)
    steps = task.length if task.steps("train") == "all" else 1
    read = model.network(task.d_in, task.d_out).operations
    return 3.0 * experiment.batch_size * steps * read


def moved_bytes(experiment: Experiment) -> float | None:
    """Bytes that the execution of a WARP reads and writes by its plan; None for other models."""
    if not isinstance(experiment.model, WarpConfig) or not experiment.model.modes:
        return None
    counts = _counts(experiment)
    return counts.reading + counts.passing


def _counts(experiment: Experiment) -> Counts:
    """Of the cheapest plan, for all micro-batches of a step."""
    plan = min(experiment.plans(devices=1), key=lambda plan: plan.seconds)
    return plan.counts * experiment.optim.accumulate
