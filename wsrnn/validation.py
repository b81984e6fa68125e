"""The loss and other metrics of a whole split, and why they are not finite."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from wsrnn import data
from wsrnn.errors import RunError
from wsrnn.experiment import Experiment
from wsrnn.metrics import Measures
from wsrnn.step import to_devices
from wsrnn.tasks import Batch, Split
from wsrnn.tasks.check import first_fault


def refuse_bad_data(experiment: Experiment, split: Split, batches: int | None) -> None:
    """Raise RunError if the data that made a loss infinite are themselves at fault."""
    stream = data.eval_stream(
        experiment.task, split, experiment.batch_size, experiment.seed, batches=batches
    )
    for number, batch in enumerate(stream):
        if wrong := first_fault(experiment.task, split, batch, number * experiment.batch_size):
            raise RunError(f"the {split} loss is not finite: {wrong}")


def evaluate(eval_step: Callable, mesh, params: Any, stream: Iterator[Batch]) -> dict[str, float]:
    """Return each metric over all batches of a stream: summed on the devices, divided once."""
    sums = jax.device_get(summed(eval_step, mesh, params, stream))
    return {name: float(mean.value) for name, mean in sums.items()}


def summed(eval_step: Callable, mesh, params: Any, stream: Iterator[Batch]) -> Measures:
    """Return the metrics' sums over all batches of a stream, still on the devices."""
    sums: Measures | None = None
    for batch in stream:
        part = eval_step(params, to_devices(batch, mesh))
        jax.block_until_ready(sums)  # not to be many batches ahead, where a stop would be late
        sums = part if sums is None else jax.tree.map(jnp.add, sums, part)
    assert sums is not None  # a split has examples, see `check_examples`
    return sums
