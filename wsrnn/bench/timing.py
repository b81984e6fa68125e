"""How it is measured: value and gradient of the training loss, compiled, rows taking turns."""

import time
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from wsrnn import data, loop
from wsrnn.costs import moved_bytes, operations
from wsrnn.experiment import Experiment
from wsrnn.step import to_devices


@dataclass
class Machine:
    """The measured rates of the first device."""

    product: float  # operations a second, float32 products of 2048 x 2048
    copy: float  # bytes a second read and written


@dataclass
class Timing:
    """The measurements of one row."""

    compile_s: float
    step_ms: float  # median of the repeats: value and gradient, without the optimiser
    spread_ms: tuple[float, float]  # least and most
    tokens_per_s: float
    temporary_mib: float  # what the compiled step allocates beyond its arguments, on each device
    parameters: int
    operations: float | None  # of a step by formula, those in matrix products; None if not known
    fraction: float | None  # of the operations that large matrix products do in this time
    fraction_copied: float | None  # counted bytes, of those that copying moves in this time


@cache
def machine() -> Machine:
    """The peak rates that rows are compared with, measured once in a process."""
    a, long = jnp.full((2048, 2048), 1 / 2048), jnp.ones(2**24)
    work = {  # large, so that the time to launch it does not count
        "product": lambda: jax.lax.fori_loop(
            0, 2, lambda _, x: jnp.matmul(x, a, precision="highest"), a
        ),
        "copy": lambda: jax.lax.fori_loop(0, 2, lambda _, x: x + 1, long),
    }
    seconds = {}
    for name, function in work.items():
        compiled, times = jax.jit(function).lower().compile(), []
        for _ in range(3):
            began = time.perf_counter()
            jax.block_until_ready(compiled())
            times.append(time.perf_counter() - began)
        seconds[name] = median(times) / 2
    return Machine(2 * 2048**3 / seconds["product"], 8 * 2**24 / seconds["copy"])


def measure(
    experiments: dict[str, Experiment], repeats: int = 7, rates: Machine | None = None
) -> dict[str, Timing]:
    """Time value and gradient of each experiment's training loss on its first batch, in turns.

    Interleaving the rows averages out machine noise; compilation is timed separately. Memory is
    XLA's own analysis of the compiled step.
    """
    ready: dict[str, Any] = {}
    for name, experiment in experiments.items():
        experiment = experiment.resolve()
        mesh = experiment.mesh.build(experiment.batch_size)
        program = loop.compose(experiment, mesh)
        batch = next(data.train_stream(experiment.task, experiment.batch_size, experiment.seed))
        batch = to_devices(batch, mesh)
        params = program.init().params
        began = time.perf_counter()
        compiled = program.gradients.lower(params, batch).compile()
        took = time.perf_counter() - began
        jax.block_until_ready(compiled(params, batch))
        ready[name] = (compiled, params, batch, took)

    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(repeats):
        for name, (compiled, params, batch, _) in ready.items():
            began = time.perf_counter()
            jax.block_until_ready(compiled(params, batch))
            times[name].append(time.perf_counter() - began)

    result = {}
    for name, (compiled, _, _, took) in ready.items():
        experiment, seconds = experiments[name], times[name]
        devices = experiment.mesh.devices()
        counted, moved = operations(experiment), moved_bytes(experiment)
        result[name] = Timing(
            took,
            1e3 * median(seconds),
            (1e3 * min(seconds), 1e3 * max(seconds)),
            experiment.batch_size * experiment.task.length / median(seconds),
            compiled.memory_analysis().temp_size_in_bytes / 2**20,
            experiment.parameter_count(),
            counted,
            counted / median(seconds) / rates.product / devices if counted and rates else None,
            moved / median(seconds) / rates.copy / devices if moved and rates else None,
        )
    return result
