"""The same step compiled and run on the devices that are there, to compare the forecast with."""

import time
from statistics import median
from typing import Any, NamedTuple

import jax

from wsrnn import data as data_module
from wsrnn import loop
from wsrnn.errors import UserError
from wsrnn.experiment import Experiment
from wsrnn.scaling import compiled
from wsrnn.scaling.forecast import abstract, on_mesh

SIMULATED = "for simulated ones set JAX_NUM_CPU_DEVICES={} and JAX_PLATFORMS=cpu before the command"


class Measured(NamedTuple):
    """A training step as compiled and run."""

    memory: compiled.Memory
    volume: dict[tuple[str, int], int]
    seconds: float
    """The median of a few steps."""


def compile_step(experiment: Experiment, data: int, model: int) -> tuple[jax.stages.Compiled, Any]:
    """The compiled training step on the devices that are there, and its mesh; makes no arrays."""
    experiment = on_mesh(experiment, data, model)
    mesh = experiment.mesh.build(experiment.batch_size)
    program, batch = abstract(experiment, mesh)
    return program.train_step.lower(program.abstract, batch).compile(), mesh


def check_visible(count: int) -> None:
    """UserError where jax sees fewer devices."""
    visible = len(jax.devices())
    if count > visible:
        raise UserError(
            f"--measure needs {count} devices, of which {visible} are visible: "
            + SIMULATED.format(count)
        )


def measure(experiment: Experiment, data: int, model: int, repeats: int = 5) -> Measured:
    """Compile a step, run it a few times, and read its memory and its exchanges."""
    step, mesh = compile_step(experiment, data, model)
    experiment = on_mesh(experiment, data, model)
    batch = None
    if experiment.draw != "step":
        stream = data_module.train_stream(
            experiment.task, experiment.batch_size, experiment.seed, workers=0
        )
        batch = loop.to_devices(next(stream), mesh)
    state = jax.block_until_ready(loop.compose(experiment, mesh).init())
    seconds = []
    for _ in range(repeats + 1):  # the first one warms up
        began = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        seconds.append(time.perf_counter() - began)
    return Measured(compiled.memory(step), compiled.volume(step), median(seconds[1:]))
