"""show: config, sizes, counted costs and mesh layout of an experiment; allocates no arrays."""

from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from wsrnn import bench, scaling
from wsrnn.commands import Outcome
from wsrnn.commands.recipes import read_recipe
from wsrnn.experiment import Experiment
from wsrnn.sharding import MeshConfig
from wsrnn.text_table import human_bytes, text_table
from wsrnn.tree import flatten


@dataclass(frozen=True)
class Options:
    """Show an experiment's resolved config and sizes: P, parameters by part, floats that streaming
    carries, bytes of the convolution kernel, the counted cost of each execution, and the mode that
    auto takes. With --mesh flags also how each array of the training state lies on that mesh, and
    the memory of the compiled step on each device. Makes no arrays.
    """

    variant: str | None = None
    """One of the file's `variants`, such as small or paper."""
    data_dir: str | None = None
    """Where data files lie; None is $WSRNN_DATA, else ~/.cache/wsrnn."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""


def run(options: Options, file: str | None, flags: list[str]) -> Outcome:
    """Config, sizes and counted costs."""
    experiment = read_recipe(file, options, flags).experiment()
    given = experiment.mesh != MeshConfig()
    data, model = experiment.mesh.sizes()
    devices = data * model  # which may be more than there are
    every = [plan for named in bench.modes(experiment).values() for plan in named.plans(devices)]
    chosen = min(experiment.plans(devices), key=lambda plan: plan.seconds, default=None)
    how = f"chosen by {'auto' if experiment.model.mode == 'auto' else 'name'}" if chosen else ""
    experiment = scaling.on_mesh(experiment, data, model)
    built = nnx.eval_shape(experiment.build_model)
    parts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.as_pure(nnx.state(built))):
        part = jax.tree_util.keystr(path[:1], simple=True)
        parts[part] = parts.get(part, 0) + int(np.prod(leaf.shape))
    task = experiment.task
    sizes = {"d_in": task.d_in, "d_out": task.d_out, "T": task.length} | built.sizes(task.length)
    document: dict[str, Any] = {
        "config": flatten(experiment),
        "sizes": sizes,
        "parameters": parts | {"total": sum(parts.values())},
    }
    if every:
        document["plans"] = [{"plan": str(plan), "chosen": plan == chosen} for plan in every]
    lines = [f"{name:32}{value}" for name, value in document["config"].items()]
    lines += ["", *(f"{name:32}{value:,}" for name, value in sizes.items())]
    lines += [
        f"{'parameters ' + name:32}{value:,}" for name, value in document["parameters"].items()
    ]
    lines += [""] * bool(every) + [
        f"{how if row['chosen'] else 'considered':32}{row['plan']}"
        for row in document.get("plans", [])
    ]
    if given:
        document["mesh"], text = _on_mesh(experiment, data, model)
        lines += ["", text]
    return document, "\n".join(lines), 0


def _on_mesh(experiment: Experiment, data: int, model: int) -> tuple[dict[str, Any], str]:
    """How the training state lies on a mesh, and the memory of a step there."""
    found = scaling.forecast(experiment, data, model)
    count = data * model
    document: dict[str, Any] = {
        "data": data,
        "model": model,
        "leaves": [asdict(leaf) for leaf in found.leaves],
        "parameter_bytes": found.parameters,
        "optimiser_bytes": found.optimiser,
        "batch_bytes": found.batch,
        "counted": {"temporary": found.counted.peak, "peak": found.peak},
    }
    columns = ("shape", "axis", "parts", "padding", "bytes per device")
    lines = [
        text_table(columns, map(_row, found.leaves)),
        "",
        f"mesh data {data} x model {model}, on each device: parameters "
        f"{human_bytes(found.parameters)}, optimiser {human_bytes(found.optimiser)}, batch "
        f"{human_bytes(found.batch)}",
    ]
    if count <= len(jax.devices()):
        memory = scaling.memory(scaling.compile_step(experiment, data, model)[0])
        document["compiled"] = memory._asdict()
        lines.append(
            f"peak of the compiled step: {human_bytes(memory.peak)}, of which "
            f"{human_bytes(memory.temporary)} beside these (counted in the traced step: "
            f"{human_bytes(found.counted.peak)})"
        )
    else:
        lines.append(
            f"peak of the step, as counted: {human_bytes(found.peak)}, of which "
            f"{human_bytes(found.counted.peak)} beside these; to compile it takes {count} devices: "
            f"{scaling.SIMULATED.format(count)}"
        )
    return document, "\n".join(lines)


def _row(leaf: scaling.Leaf) -> tuple[str, list[str]]:
    axis = "whole" if leaf.axis is None else str(leaf.axis)
    cells = [str(list(leaf.shape)), axis, str(leaf.parts), str(leaf.padding), f"{leaf.bytes:,}"]
    return leaf.name, cells
