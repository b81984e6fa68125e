"""Step time and memory of several executions, measured side by side in one process."""

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import jax

from wsrnn import data, loop
from wsrnn.experiment import Experiment


@dataclass
class Timing:
    """What was measured of one execution."""

    compile_s: float
    step_ms: float  # median of the repeats
    spread_ms: tuple[float, float]  # least and most
    tokens_per_s: float
    temporary_mib: float  # what the compiled step allocates beyond state and batch, on each device


def modes(experiment: Experiment) -> dict[str, Experiment]:
    """The experiment in each mode that its model can run."""
    variants = {}
    for mode in experiment.model.modes:
        try:
            variants[mode] = replace(experiment, model=replace(experiment.model, mode=mode))
        except ValueError:
            continue  # such as weight clipping, which is not linear: scan is all there is
    return variants or {"only": experiment}


def measure(experiments: dict[str, Experiment], repeats: int = 7) -> dict[str, Timing]:
    """Time the training step of each experiment on its first batch, in turns.

    Taking turns spreads the machine's moods over all of them; compilation is timed apart. Memory is
    XLA's own account of the compiled step.
    """
    ready: dict[str, Any] = {}
    for name, experiment in experiments.items():
        experiment = experiment.resolve()
        mesh = experiment.mesh.build(experiment.batch_size)
        program = loop.compose(experiment, mesh)
        batch = next(data.train_stream(experiment.task, experiment.batch_size, experiment.seed))
        batch = loop.to_devices(batch, mesh)
        state = program.init()
        began = time.perf_counter()
        compiled = program.train_step.lower(state, batch).compile()
        took = time.perf_counter() - began
        state, _ = jax.block_until_ready(compiled(state, batch))
        ready[name] = (compiled, state, batch, took)

    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(repeats):
        for name, (compiled, state, batch, took) in ready.items():
            began = time.perf_counter()
            state, _ = jax.block_until_ready(compiled(state, batch))
            times[name].append(time.perf_counter() - began)
            ready[name] = (compiled, state, batch, took)  # the state before was donated

    result = {}
    for name, (compiled, _, _, took) in ready.items():
        experiment, seconds = experiments[name], times[name]
        memory = compiled.memory_analysis()
        result[name] = Timing(
            took,
            1e3 * median(seconds),
            (1e3 * min(seconds), 1e3 * max(seconds)),
            experiment.batch_size * experiment.task.length / median(seconds),
            memory.temp_size_in_bytes / 2**20,
        )
    return result


def text(timings: dict[str, Timing]) -> str:
    """The table for a terminal."""
    names = {"step ms": 10, "least..most": 18, "tokens/s": 12, "temporary MiB": 15, "compile s": 11}
    head = " " * 12 + "".join(f"{name:>{width}}" for name, width in names.items())
    rows = [
        f"{name:12}{t.step_ms:10.2f}{t.spread_ms[0]:9.2f}..{t.spread_ms[1]:<7.2f}"
        f"{t.tokens_per_s:12,.0f}{t.temporary_mib:15.1f}{t.compile_s:11.1f}"
        for name, t in timings.items()
    ]
    return "\n".join([head, *rows])
