"""What a step costs by formula: operations and bytes. Also what the machine has."""

import os
from dataclasses import dataclass

from flax import nnx

from wsrnn.experiment import Experiment
from wsrnn.models import ModelConfig
from wsrnn.models.warp import WarpConfig
from wsrnn.models.warp.textbook import TextbookConfig
from wsrnn.recurrence.plan import Plan


@dataclass
class Machine:
    """The measured rates of the first device."""

    product: float  # operations a second, float32 products of 2048 x 2048
    copy: float  # bytes a second read and written


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
    if isinstance(model, WarpConfig):
        counts = _plan(experiment).counts
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
    counts = _plan(experiment).counts
    return counts.reading + counts.passing


def _plan(experiment: Experiment) -> Plan:
    return min(experiment.plans(devices=1), key=lambda plan: plan.seconds)


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
