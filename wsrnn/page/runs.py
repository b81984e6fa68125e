"""What a folder of runs tells: every run that was begun, finished, stopped or damaged.

Nothing is executed and nothing is written. What cannot be read is left out, and a note says so.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from wsrnn.errors import UserError
from wsrnn.metrics_log import (
    METRICS,
    TIMING,
    missing_steps,
    read_metrics,
    read_timing,
    training_seconds,
)
from wsrnn.run import CONFIG, TRIALS, read_record

RESULTS, BENCH = "results.json", "bench.json"
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError)  # of a file that was edited
COUNTED = ("parameters", "state floats", "operations per token")  # costs in a results.json


class Curve(NamedTuple):
    """A loss over the steps of one run."""

    steps: Float[np.ndarray, " S"]
    loss: Float[np.ndarray, " S"]  # not a number where it was not finite
    seconds: Float[np.ndarray, " S"]  # of training; not a number where no times were logged


class Found(NamedTuple):
    """The folders of interest at and below the places that were named."""

    runs: list[Path]
    outer: list[Path]
    """Those that hold runs, and may hold figures that compare them."""
    benches: list[Path]
    """Those that `wsrnn bench` wrote."""


@dataclass(frozen=True)
class Trained:
    """One training from one seed, as far as its folder tells."""

    folder: Path
    experiment: str
    """The name of its file."""
    label: str = ""
    """Variant and member of a sweep."""
    config: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    title: str = ""
    """What the columns of its results are."""
    results: dict[str, float] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    train: Curve | None = None
    valid: Curve | None = None
    costs: dict[str, float] = field(default_factory=dict)
    figures: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    single: bool = True
    """Whether its checkpoints hold one model, not the copies of trials."""


def find(places: Sequence[Path | str]) -> Found:
    """Return the runs at or below each place; UserError names a place that holds none."""
    runs: dict[Path, Path] = {}
    outer: dict[Path, None] = {}
    benches: dict[Path, None] = {}
    for place in map(Path, places):
        if not place.is_dir():
            what = "is a file" if place.exists() else "does not exist"
            raise UserError(f"{place} {what}: name run folders, or folders that hold them")
        holds = False
        for folder in _walk(place):
            if _is_run(folder):
                runs.setdefault(folder.resolve(), folder)
                holds = True
            elif (folder / BENCH).is_file():
                benches[folder] = None
                holds = True
            elif (folder / "figures").is_dir():
                outer[folder] = None
        if not holds:
            raise UserError(f"{place} holds no run: none of its folders has a {CONFIG}")
    return Found(list(runs.values()), list(outer), list(benches))


def _walk(place: Path) -> Iterable[Path]:
    """A place and the folders below it, without those inside of runs."""
    for name, folders, _ in os.walk(place):
        folder = Path(name)
        folders.sort(key=_natural)
        if _is_run(folder):
            folders.clear()
        yield folder


def _natural(name: str) -> list[Any]:
    """A key that puts seed-10 behind seed-9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CONFIG, METRICS, TRIALS))


def read(folder: Path) -> list[Trained]:
    """Return what a run folder tells: one training, or of trials those of the reported rate."""
    notes: list[str] = []
    run = Trained(folder, experiment=folder.resolve().name)
    try:
        record = read_record(folder)
        recipe = record["recipe"]
        run = replace(
            run,
            experiment=recipe.name if recipe else str(record["config"].get("task")),
            label=" ".join(filter(None, (recipe and recipe.variant, recipe and recipe.member))),
            config=record["config"],
            seed=_whole(record["config"].get("seed")),
        )
    except UserError as error:
        notes.append(str(error))
    except DAMAGE as error:
        notes.append(f"{folder}/{CONFIG} is damaged ({error})")
    if (folder / TRIALS).is_file():
        return _copies(run, notes)
    return [_single(run, notes)]


def _single(run: Trained, notes: list[str]) -> Trained:
    """A run of its own, with its curves, costs and results."""
    train, valid = _curves(run.folder, notes)
    last = max((int(curve.steps[-1]) for curve in (train, valid) if curve), default=0)
    planned = _whole(run.config.get("steps"))
    costs = _speed(run.folder, notes) | {"steps": float(last)}
    document = _json(run.folder / RESULTS, notes)
    if planned and last < planned:
        notes.append(f"{run.folder} has done {last:,} of {planned:,} steps")
    elif document is None and not (run.folder / RESULTS).exists():
        notes.append(f"{run.folder} has no test results: wsrnn eval {run.folder} writes them")
    results, baselines, title = _results(document or {}, run.folder, notes)
    for name in COUNTED:
        if math.isfinite(value := _number((document or {}).get(name))):
            costs[name] = value
    figures = [p for name in ("figures", "icl") for p in pictures(run.folder / name, notes)]
    return replace(
        run, title=title, results=results, baselines=baselines, train=train, valid=valid,
        costs=costs, figures=tuple(figures), notes=tuple(notes),
    )  # fmt: skip


def _results(document: dict[str, Any], folder: Path, notes: list[str]):
    """The columns of a results.json for the model and for the baselines, and their title."""
    try:
        tests = {f"test {k}": _number(v) for k, v in document.get("test", {}).items()}
        columns = [str(column) for column in document.get("columns", ())]
        rows = {
            str(name): dict(zip(columns, map(_number, values), strict=True))
            for name, values in document.get("rows", {}).items()
        }
        own = next(iter(rows.values()), {})
        return own | tests, dict(list(rows.items())[1:]), str(document.get("title", ""))
    except DAMAGE as error:
        notes.append(f"{folder}/{RESULTS} is damaged: its table cannot be read ({error})")
        return {}, {}, ""


def _curves(folder: Path, notes: list[str]) -> tuple[Curve | None, Curve | None]:
    try:
        rows = [row for row in read_metrics(folder) if _whole(row["step"]) is not None]
        if not rows and (folder / METRICS).is_file() and (folder / METRICS).stat().st_size:
            raise ValueError("its first line is no JSON")
        if missing := missing_steps(rows, max((row["step"] for row in rows), default=0)):
            notes.append(f"{folder}/{METRICS} was cut or damaged: it lacks the steps {missing}")
        train = _curve(folder, rows, "loss", notes)
        return train, _curve(folder, rows, "valid/loss", notes)
    except DAMAGE as error:
        notes.append(f"{folder}/{METRICS} is damaged ({error})")
        return None, None


def _curve(folder: Path, rows, name: str, notes: list[str]) -> Curve | None:
    rows = [row for row in rows if name in row]
    if not rows:
        return None
    steps = np.array([row["step"] for row in rows], float)
    try:
        seconds = training_seconds(folder, steps)
    except DAMAGE:  # `_speed` says so
        seconds = np.full(len(steps), np.nan)
    return Curve(steps, np.array([_number(row[name]) for row in rows]), seconds)


def _speed(folder: Path, notes: list[str]) -> dict[str, float]:
    """Step time, tokens per second, seconds of training and peak memory, as far as logged."""
    try:
        rows = read_timing(folder)
        if not rows:
            return {}
        peaks = [_number(row["peak MiB"]) for row in rows if "peak MiB" in row]
        return {
            "training s": float(training_seconds(folder, np.array([rows[-1]["step"]], float))[0]),
            "ms/step": float(np.median([_number(row["step ms"]) for row in rows])),
            "tokens/s": float(np.median([_number(row["tokens per s"]) for row in rows])),
        } | ({"peak MiB": max(peaks)} if peaks else {})
    except DAMAGE as error:
        notes.append(f"{folder}/{TIMING} is damaged ({error})")
        return {}


def _copies(run: Trained, notes: list[str]) -> list[Trained]:
    """The copies of the best learning rate of a folder of trials, one for each seed."""
    row = _json(run.folder / RESULTS, notes)
    if row is None:
        if not (run.folder / RESULTS).exists():
            notes.append(f"{run.folder} holds trials that are not finished")
        return [replace(run, notes=tuple(notes), single=False)]
    try:
        rate, rates = row["rate"], row["rates"]
        config = run.config | {"optim.learning_rate": rate}
        costs = {name: _number(row[name]) for name in COUNTED}
        costs = {k: v for k, v in costs.items() if math.isfinite(v)} | {"steps": row["steps"]}
        columns, curves = row["columns"], row["curves"]
        if len(rates) > 1:
            tried = ", ".join(f"{value:g}" for value in rates)
            notes.append(f"{run.folder}: rate {rate:g}, the best on validation of {tried}")
        baselines = {
            name: dict(zip(columns, map(_number, values), strict=True))
            for name, values in row["baselines"].items()
        }
        none = np.full(len(curves["step"]), np.nan)
        copies = [
            replace(
                run, config=config, seed=int(seed), title=row["title"], baselines=baselines,
                results=dict(zip(columns, map(_number, values), strict=True)), costs=costs,
                valid=Curve(
                    np.array(curves["step"], float),
                    np.array([_number(v) for v in curves[f"valid/rate {rate!r} seed {seed}"]]),
                    none,
                ),
                single=False,
            )
            for seed, values in zip(row["seeds"], row["values"], strict=True)
        ]  # fmt: skip
        others = [replace(copy, baselines={}) for copy in copies[1:]]  # kept of the first seed
        return [replace(copies[0], notes=tuple(notes)), *others]
    except DAMAGE as error:
        notes.append(f"{run.folder}/{RESULTS} is damaged: it is not what trials write ({error})")
        return [replace(run, notes=tuple(notes), single=False)]


def _json(path: Path, notes: list[str]) -> dict[str, Any] | None:
    """The object of a file; None, with a note unless the file is missing, where it has none."""
    try:
        document = json.loads(path.read_text())
        if not isinstance(document, dict):
            raise ValueError("it is no object")
        return document
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        notes.append(f"{path} is damaged ({error})")
        return None


def pictures(folder: Path, notes: list[str]) -> list[Path]:
    """The PNG files of a folder, by name; notes say which are none."""
    sound = []
    for path in sorted(folder.glob("*.png"), key=lambda path: _natural(path.name)):
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                picture.verify()
            sound.append(path)
        except (OSError, SyntaxError, ValueError) as error:  # as Pillow says of a damaged file
            notes.append(f"{path} is damaged ({error})")
    return sound


def _number(value: Any) -> float:
    """A number as a float; not a number for null, and ValueError for what is none."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
