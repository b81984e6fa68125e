"""How executions round: float32 against the plain execution in float64."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from wsrnn import data, loop
from wsrnn.bench.rows import reference, textbook
from wsrnn.experiment import Experiment
from wsrnn.metrics import last_valid
from wsrnn.sharding import MeshConfig
from wsrnn.step import Program
from wsrnn.tasks import Batch


@dataclass
class Errors:
    """The largest errors of one row, relative to the largest value of the reference."""

    outputs: float  # in float32
    gradients: float  # in float32, of the parameter where it is largest
    parameter: str  # that parameter
    gradients_float64: float | None  # None of the reference itself


def errors(experiments: dict[str, Experiment]) -> dict[str, Errors]:
    """How executions of one WARP round, and `textbook`, against `textbook` in float64.

    Outputs and gradients of the training loss on the first batch, on one device; the parameters are
    drawn in float32. Raises UserError where there is no `reference`.
    """
    first = next(iter(experiments.values()))
    exact = reference(first)
    rows = experiments | {"textbook": textbook(first)}
    batch = next(data.train_stream(first.task, first.batch_size, first.seed))
    given = jax.device_get(_on_one_device(first).init().params), batch._replace(latents={})
    truth = _outputs_and_gradients(exact, *given, np.float64)
    result = {}
    for name, row in rows.items():
        narrow = _outputs_and_gradients(row, *given, np.float32)
        (_, outputs), (parameter, gradients) = map(largest_error, narrow, truth)
        wide = None
        if name != "textbook":
            wide = _outputs_and_gradients(row, *given, np.float64)[1]
            wide = largest_error(wide, truth[1])[1]
        result[name] = Errors(outputs, gradients, parameter, wide)
    return result


def _on_one_device(experiment: Experiment) -> Program:
    return loop.compose(experiment.resolve(), MeshConfig(data=1).build(experiment.batch_size))


def _outputs_and_gradients(experiment: Experiment, params: Any, batch: Batch, dtype) -> tuple:
    """Outputs and gradients of the training loss on a batch, everything in one precision."""
    params, batch = jax.tree.map(
        lambda x: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x, (params, batch)
    )
    with jax.enable_x64(dtype == np.float64):
        program, scored = _on_one_device(experiment), experiment.task.steps("train")

        @jax.jit
        def outputs(params, batch):
            steps = "all" if scored == "all" else last_valid(batch.mask)
            return nnx.merge(program.graphdef, params)(batch.inputs, batch.times, steps=steps)

        gradients, _ = program.gradients(params, batch)
        return jax.device_get((outputs(params, batch), gradients))


def largest_error(values: Any, truth: Any) -> tuple[str, float]:
    """The array of a tree with the largest error relative to its largest value, and this error.

    A gradient that is zero but for rounding, as of a bias that differences cancel, is compared with
    the largest value of the whole tree instead.
    """
    paths, truth = zip(*jax.tree_util.tree_leaves_with_path(truth), strict=True)
    sizes = [np.abs(x).max(initial=0) for x in truth]
    off = {}
    for path, value, x, size in zip(paths, jax.tree.leaves(values), truth, sizes, strict=True):
        size = size if size > 1e-10 * max(sizes) else max(sizes)
        error = float(np.abs(value - x).max(initial=0) / (size or 1))
        off[jax.tree_util.keystr(path, simple=True, separator=".")] = error
    worst = max(off, key=lambda name: np.nan_to_num(off[name], nan=np.inf))
    return worst, off[worst]
