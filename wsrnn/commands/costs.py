"""show and bench: what an experiment is made of and what it costs."""

import dataclasses
import os
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from wsrnn import bench
from wsrnn.artifacts import write_json
from wsrnn.commands.recipes import read_recipe
from wsrnn.errors import UserError
from wsrnn.experiment import flatten


def show(args, flags):
    """Config, sizes and counted costs."""
    experiment = read_recipe(args, flags).experiment()
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


def measure(args, flags):
    """Time every execution, or compare how each rounds."""
    if args.repeats is not None and (args.errors or args.repeats < 1):
        what = "--errors times nothing: leave it out" if args.errors else f"got {args.repeats}"
        raise UserError(f"--repeats must be at least 1, and goes with timings: {what}")
    recipe = read_recipe(args, flags)
    over = _over_field(args.over)
    recipes = _over(recipe, over)
    groups = {value: _rows(recipe, args) for value, recipe in recipes.items()}
    out = Path(
        args.out or f"runs/bench-{recipe.name}" + (f"-{args.variant}" if args.variant else "")
    )
    _make_folder(out)  # before minutes of measuring
    document = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    if args.errors:
        found = {value: bench.errors(rows) for value, rows in groups.items()}
        document |= {"reference": "textbook in float64"}
        document |= _by_value(over, {value: _as_rows(rows) for value, rows in found.items()})
        write_json(out / "errors.json", document)
        texts = {value: bench.errors_text(rows) for value, rows in found.items()}
        note = (
            "largest errors in float32, relative to the largest value, against textbook in "
            f"float64; wrote {out}/errors.json"
        )
        return document, "\n".join([*_under_titles(over, texts), note]), 0

    machine = bench.machine()
    timings = {
        value: bench.measure(rows, args.repeats or 7, machine) for value, rows in groups.items()
    }
    autos = {value: bench.chosen(recipe.experiment()) for value, recipe in recipes.items()}
    document |= {"machine": dataclasses.asdict(machine), "peak_mib": bench.peak_memory()}
    document |= _by_value(
        over,
        {
            value: _as_rows(rows)
            | {"auto": autos[value], "auto_over_best": bench.against_best(autos[value], rows)}
            for value, rows in timings.items()
        },
    )
    write_json(out / "bench.json", document)
    _cost_figure(timings, over, recipe.name).savefig(out / "bench.png")
    texts = {value: bench.text(rows, autos[value]) for value, rows in timings.items()}
    note = (
        f"machine: {machine.product / 1e9:,.0f} GFLOP/s in large float32 products, "
        f"{machine.copy / 1e9:,.1f} GB/s copied; wrote {out}/bench.json and bench.png; "
        f"at most {document['peak_mib']:,.0f} MiB resident"
    )
    return document, "\n".join([*_under_titles(over, texts), note]), 0


def _over_field(given: list[list[str]] | None) -> list[str] | None:
    """The field and the values of the one --over."""
    if given is None:
        return None
    example = "--over task.length 784 1568"
    if len(given) > 1:
        raise UserError(f"--over takes one field: give it once, as {example}")
    field, *values = given[0] or [""]
    if not values:
        raise UserError(f"--over takes a field, without dashes, and its values: {example}")
    if len(set(values)) < len(values):
        raise UserError(f"--over {field} has a value twice: {' '.join(values)}")
    return given[0]


def _over(recipe, over: list[str] | None) -> dict:
    """The recipe for each value of --over; without it the recipe alone."""
    if not over:
        return {"": recipe}
    field, *values = over
    return {
        value: dataclasses.replace(recipe, flags=(*recipe.flags, f"--{field}", value))
        for value in values
    }


def _rows(recipe, args) -> dict:
    """What is measured beside one another; UserError where the mesh cannot hold the batch."""
    experiment = recipe.experiment()
    experiment.mesh.build(experiment.batch_size)
    rows = bench.executions(recipe)
    if args.errors:
        if args.peers:
            raise UserError("--errors compares executions of one model: leave out --peers")
        bench.reference(experiment)
        return rows
    try:
        rows |= bench.textbooks(experiment) if args.textbook else {}
        return rows | (bench.peers(experiment) if args.peers else {})
    except ValueError as error:
        raise UserError(str(error)) from None


def _as_rows(rows: dict) -> dict:
    return {"rows": {name: dataclasses.asdict(row) for name, row in rows.items()}}


def _by_value(over: list[str] | None, documents: dict) -> dict:
    """Part of a document: one of a kind, or one for each value of a field."""
    return {"field": over[0], "values": documents} if over else documents[""]


def _under_titles(over: list[str] | None, tables: dict[str, str]) -> list[str]:
    return [f"{over[0]} {value}\n{table}\n" if over else table for value, table in tables.items()]


def _cost_figure(timings, over: list[str] | None, title: str):
    """Curves over the values of a field where they are numbers, else bars."""
    costs = {
        what: {
            value: {name: getattr(timing, what) for name, timing in rows.items()}
            for value, rows in timings.items()
        }
        for what in ("step_ms", "temporary_mib")
    }
    if over and _are_sizes(timings):
        return bench.draw_scaling(over[0], costs["step_ms"], costs["temporary_mib"], title)
    flat = [
        {f"{name} {value}".strip(): y for value, rows in c.items() for name, y in rows.items()}
        for c in costs.values()
    ]
    return bench.draw_costs(*flat, title)


def _are_sizes(values) -> bool:
    """Whether all are numbers above 0."""
    try:
        return all(float(value) > 0 for value in values)
    except ValueError:
        return False


def _make_folder(out: Path) -> None:
    """UserError where nothing can be written in `out`."""
    if out.is_file():
        raise UserError(f"--out {out} is a file: name a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made: {error.strerror}") from None
    if not os.access(out, os.W_OK):
        raise UserError(f"--out {out} may not be written: name another folder")
