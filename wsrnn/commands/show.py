"""show: config, sizes, parameters and counted costs of an experiment; allocates no arrays."""

from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

from wsrnn import bench
from wsrnn.commands import Outcome
from wsrnn.commands.recipes import read_recipe
from wsrnn.tree import flatten


@dataclass(frozen=True)
class Options:
    """Show an experiment's resolved config and sizes: P, parameters by part, floats that streaming
    carries, bytes of the convolution kernel, the counted cost of each execution, and the mode that
    auto takes. Makes no arrays.
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
    every = [plan for named in bench.modes(experiment).values() for plan in named.plans()]
    chosen = min(experiment.plans(), key=lambda plan: plan.seconds, default=None)
    how = f"chosen by {'auto' if experiment.model.mode == 'auto' else 'name'}" if chosen else ""
    experiment = experiment.resolve()
    model = nnx.eval_shape(experiment.build_model)
    parts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.as_pure(nnx.state(model))):
        part = jax.tree_util.keystr(path[:1], simple=True)
        parts[part] = parts.get(part, 0) + int(np.prod(leaf.shape))
    task = experiment.task
    sizes = {"d_in": task.d_in, "d_out": task.d_out, "T": task.length} | model.sizes(task.length)
    document = {
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
    return document, "\n".join(lines), 0
