"""The same step compiled and run on the devices that are there, to compare the forecast with."""

import time
from statistics import median
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from wsrnn.data import train_stream
from wsrnn.errors import UserError
from wsrnn.experiment import Experiment
from wsrnn.precision import in_float32
from wsrnn.scaling import compiled
from wsrnn.scaling.devices import DEVICES
from wsrnn.scaling.forecast import abstract, on_mesh
from wsrnn.step import Program, to_devices

SIMULATED = "for simulated ones set JAX_NUM_CPU_DEVICES={} and JAX_PLATFORMS=cpu before the command"


class Measured(NamedTuple):
    """A training step as compiled and run."""

    memory: compiled.Memory
    volume: dict[tuple[str, int], int]
    seconds: float
    """The median of a few steps."""


@in_float32
def compile_step(
    experiment: Experiment, data: int, model: int
) -> tuple[jax.stages.Compiled, Program, Mesh]:
    """The compiled training step on the devices that are there; makes no arrays."""
    experiment = on_mesh(experiment, data, model)
    mesh = experiment.mesh.build(experiment.batch_size)
    program, batch = abstract(experiment, mesh)
    return program.train_step.lower(program.abstract, batch).compile(), program, mesh


def check_visible(count: int, device: str) -> None:
    """UserError where jax sees fewer devices, or others than that of the forecast."""
    visible, backend = len(jax.devices()), jax.default_backend()
    if count > visible:
        raise UserError(
            f"--measure needs {count} devices, of which {visible} are visible: "
            + SIMULATED.format(count)
        )
    if DEVICES[device].backend != backend:
        raise UserError(
            f"--measure runs on what is here, {backend}, which is no {device}: set --device to one "
            "of its kind"
        )


@in_float32
def measure(experiment: Experiment, data: int, model: int, repeats: int = 5) -> Measured:
    """Compile a step, run it a few times, and read its memory and its exchanges."""
    step, program, mesh = compile_step(experiment, data, model)
    batch = None
    if experiment.draw != "step":
        stream = train_stream(experiment.task, experiment.batch_size, experiment.seed)
        batch = to_devices(next(stream), mesh)
    state = jax.block_until_ready(program.init())
    seconds = []
    for _ in range(repeats + 1):  # the first one warms up
        began = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        seconds.append(time.perf_counter() - began)
    return Measured(compiled.memory(step), compiled.volume(step), median(seconds[1:]))
