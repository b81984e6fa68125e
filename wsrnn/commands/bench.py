"""bench: time the executions of a model, or compare their rounding errors."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax

from wsrnn import bench
from wsrnn.artifacts import write_json
from wsrnn.choices import Repeated
from wsrnn.commands import Outcome
from wsrnn.commands.recipes import read_recipe, run_folder
from wsrnn.errors import UserError
from wsrnn.flags import class_words


@dataclass(frozen=True)
class Options:
    """Time value and gradient of the training loss in every mode, in turns: step time, tokens/s,
    temporary memory, operations by formula, their part of what large matrix products do. Writes a
    table, JSON and a figure. --model.mode M times that mode alone.
    """

    variant: str | None = None
    """One of the file's `variants`, such as small or paper."""
    repeats: int | None = None
    """Timed steps of each row; None is 7."""
    textbook: bool = False
    """Beside the plainest lax.scan."""
    peers: bool = False
    """Beside GRU, LSTM, SSM and Transformer."""
    errors: bool = False
    """Round-off of the modes against the plainest lax.scan in float64, not their costs."""
    over: Annotated[tuple[tuple[str, ...], ...], Repeated] = ()
    """FIELD VALUE ...: for several values of a field, as --over task.length 784 1568, or several
    classes, as --over evaluation loss-only prefix-error."""
    out: str | None = None
    """Folder; None is runs/bench-FILE[-VARIANT]."""
    data_dir: str | None = None
    """Where data files lie; None is $WSRNN_DATA, else ~/.cache/wsrnn."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""


def run(options: Options, file: str | None, flags: list[str]) -> Outcome:
    """Time every execution, or compare how each rounds."""
    if options.repeats is not None and (options.errors or options.repeats < 1):
        what = f"got {options.repeats}"
        if options.errors:
            what = "--errors times nothing: leave it out"
        raise UserError(f"--repeats must be at least 1, and goes with timings: {what}")
    recipe = read_recipe(file, options, flags)
    over = _over_field(options.over)
    recipes = _over(recipe, over)
    groups = {value: _rows(recipe, options) for value, recipe in recipes.items()}
    out = run_folder(recipe, options, "bench-")
    _make_folder(out)  # before minutes of measuring
    document = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    if options.errors:
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
        value: bench.measure(rows, options.repeats or 7, machine) for value, rows in groups.items()
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
        f"at most {document['peak_mib']:,.0f} MiB of memory in use"
    )
    return document, "\n".join([*_under_titles(over, texts), note]), 0


def _over_field(given: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The field and the values of the one --over."""
    if not given:
        return ()
    example = "--over task.length 784 1568"
    if len(given) > 1:
        raise UserError(f"--over takes one field: give it once, as {example}")
    field, *values = given[0] or ("",)
    if not values:
        raise UserError(f"--over takes a field, without dashes, and its values: {example}")
    if len(set(values)) < len(values):
        raise UserError(f"--over {field} has a value twice: {' '.join(values)}")
    return given[0]


def _over(recipe, over: tuple[str, ...]) -> dict:
    """The recipe for each value of --over; without it the recipe alone."""
    if not over:
        return {"": recipe}
    field, *values = over
    classes = class_words(recipe.experiment())
    recipes = {}
    for value in values:
        word = f"{field}:{value}"
        flags = [word] if word in classes else [f"--{field}", value]
        recipes[value] = dataclasses.replace(recipe, flags=(*recipe.flags, *flags))
    return recipes


def _rows(recipe, options) -> dict:
    """What is measured beside one another; UserError where the mesh cannot hold the batch."""
    experiment = recipe.experiment()
    experiment.mesh.build(experiment.batch_size)
    rows = bench.executions(recipe)
    if options.errors:
        if options.peers:
            raise UserError("--errors compares executions of one model: leave out --peers")
        bench.reference(experiment)
        return rows
    try:
        rows |= bench.textbooks(experiment) if options.textbook else {}
        return rows | (bench.peers(experiment) if options.peers else {})
    except ValueError as error:
        raise UserError(str(error)) from None


def _as_rows(rows: dict) -> dict:
    return {"rows": {name: dataclasses.asdict(row) for name, row in rows.items()}}


def _by_value(over: tuple[str, ...], documents: dict) -> dict:
    """Part of a document: one of a kind, or one for each value of a field."""
    return {"field": over[0], "values": documents} if over else documents[""]


def _under_titles(over: tuple[str, ...], tables: dict[str, str]) -> list[str]:
    return [f"{over[0]} {value}\n{table}\n" if over else table for value, table in tables.items()]


def _cost_figure(timings, over: tuple[str, ...], title: str):
    """Curves over the values of a field where they are numbers, else bars."""
    times, memory = (
        {
            value: {name: getattr(timing, what) for name, timing in rows.items()}
            for value, rows in timings.items()
        }
        for what in ("step_ms", "temporary_mib")
    )
    if over and _are_sizes(timings):
        return bench.draw_scaling(over[0], times, memory, title)
    bars, memory_bars = (
        {f"{name} {value}".strip(): y for value, rows in c.items() for name, y in rows.items()}
        for c in (times, memory)
    )
    return bench.draw_costs(bars, memory_bars, title)


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
