"""Runs that differ in the seed alone are one group; the groups of one file are a section."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from wsrnn.page.runs import Curve, Trained, pictures

# What may differ within a group: the seed, and what cannot change a result.
APART = re.compile(
    r"seed$|mesh(\.|$)|optim\.accumulate$|workers$|(eval|save|log)_every$|keep$|\w+\.data_dir$"
)
COSTS = ("steps", "training s", "ms/step", "tokens/s", "parameters", "state floats",
         "operations per token", "peak MiB")  # fmt: skip


PLAIN = "as in the file"  # the label of a run of no variant


class Spread(NamedTuple):
    """A quantity over seeds."""

    mean: float
    deviation: float | None
    """The sample standard deviation; None of a single seed."""
    seeds: int


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation of what is finite; None where nothing is."""
    known = np.array([value for value in values if math.isfinite(value)], float)
    if not len(known):
        return None
    deviation = float(known.std(ddof=1)) if len(known) > 1 else None
    return Spread(float(known.mean()), deviation, len(known))


@dataclass
class Group:
    """Runs of one config from different seeds."""

    label: str
    runs: list[Trained] = field(default_factory=list)

    @property
    def seeds(self) -> list[int | None]:
        """Of its runs."""
        return [run.seed for run in self.runs]

    def over_seeds(self, metric: str) -> Spread | None:
        """A result or cost over the seeds."""
        known = [run.results | run.costs for run in self.runs]
        return spread([values[metric] for values in known if metric in values])

    def line(self, kind: str) -> "Line | None":
        """The loss of training (`train`) or of validation (`valid`) over the seeds."""
        return _line([curve for run in self.runs if (curve := getattr(run, kind)) is not None])


Baseline = dict[int | None, dict[str, float]]  # values by column of every seed


class Line(NamedTuple):
    """A curve over seeds: its mean, and the least and the most."""

    steps: Float[np.ndarray, " S"]
    seconds: Float[np.ndarray, " S"]
    mean: Float[np.ndarray, " S"]
    least: Float[np.ndarray, " S"]
    most: Float[np.ndarray, " S"]


@dataclass
class Section:
    """The runs of one experiment file."""

    name: str
    groups: list[Group] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    """Figures that compare several of its runs."""
    notes: list[str] = field(default_factory=list)

    def columns(self) -> list[str]:
        """Every result, those of the evaluation before the test loss and its metrics."""
        every = dict.fromkeys(name for g in self.groups for run in g.runs for name in run.results)
        return sorted(every, key=lambda name: name.startswith("test "))

    def costs(self) -> list[str]:
        """The costs that are known of any run."""
        known = {name for g in self.groups for run in g.runs for name in run.costs}
        return [name for name in COSTS if name in known]

    def titles(self) -> list[str]:
        """What the columns are; several where evaluations differ."""
        return list(dict.fromkeys(r.title for g in self.groups for r in g.runs if r.title))

    def baselines(self) -> dict[str, "Baseline"]:
        """Every baseline that runs were judged beside, for every seed of theirs.

        One of the same name that another group has other values of is named after that group.
        """
        rows: dict[str, Baseline] = {}
        for group in self.groups:
            own: dict[str, Baseline] = {}
            for run in group.runs:
                for name, values in run.baselines.items():
                    own.setdefault(name, {})[run.seed] = values
            for name, seeds in own.items():
                if not _alike(rows.get(name, {}), seeds):
                    name = f"{name}, {group.label}"
                merged = rows.setdefault(name, {})
                for seed, values in seeds.items():  # groups may be judged by other columns
                    merged[seed] = merged.get(seed, {}) | values
        return rows

    def differing(self) -> dict[str, list[str]]:
        """The fields of the config that differ between groups, the value of each as text."""
        configs = [group.runs[0].config for group in self.groups]
        names = dict.fromkeys(name for config in configs for name in config)
        table = {}
        for name in names:
            values = [_text(config[name]) if name in config else "" for config in configs]
            if not APART.match(name) and len(set(values)) > 1:
                table[name] = values
        if table.get("optim.schedule.steps") == table.get("steps"):  # as it is unless it was set
            table.pop("optim.schedule.steps", None)
        return table


def gather(runs: Sequence[Trained], outer: Sequence[Path] = ()) -> list[Section]:
    """Return the sections of these runs, both in the order in which they were found."""
    sections: dict[str, Section] = {}
    groups: dict[str, Group] = {}
    for run in runs:
        section = sections.setdefault(run.experiment, Section(run.experiment))
        section.notes += run.notes
        same = {k: v for k, v in run.config.items() if not APART.match(k)} or str(run.folder)
        key = json.dumps([run.experiment, same], sort_keys=True, default=str)
        if key not in groups:
            groups[key] = Group(run.label or PLAIN)
            section.groups.append(groups[key])
        group = groups[key]
        if run.seed in group.seeds:
            at = group.seeds.index(run.seed)
            kept, left = group.runs[at], run
            if (bool(left.results), left.costs.get("steps", 0)) > (
                bool(kept.results), kept.costs.get("steps", 0)
            ):  # fmt: skip
                kept, left = left, kept
            group.runs[at] = kept
            section.notes.append(
                f"{left.folder} is seed {run.seed} of the same config as {kept.folder}: left out"
            )
        else:
            group.runs.append(run)
    for section in sections.values():
        _tell_apart(section)
        folders = {run.folder.resolve().parent for g in section.groups for run in g.runs}
        for folder in outer:
            if folder.resolve() in folders:
                section.pictures += pictures(folder / "figures", section.notes)
    return list(sections.values())


def summary(sections: Sequence[Section]) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean, deviation and number of seeds by experiment, group and metric, for a program."""
    return {
        section.name: {
            group.label: {
                name: found._asdict()
                for name in section.columns()
                if (found := group.over_seeds(name))
            }
            for group in section.groups
        }
        for section in sections
    }


def long_form(sections: Sequence[Section]) -> str:
    """Return every result and cost as csv, a row for each seed: what the tables are made of."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["experiment", "group", "kind", "seed", "metric", "value"])
    for section in sections:
        for group in section.groups:
            for run in group.runs:
                for metric, value in (run.results | run.costs).items():
                    kind = "result" if metric in run.results else "cost"
                    table.writerow([section.name, group.label, kind, run.seed, metric, value])
        for name, seeds in section.baselines().items():
            for seed, values in seeds.items():
                for metric, value in values.items():
                    table.writerow([section.name, name, "baseline", seed, metric, value])
    return text.getvalue()


def _tell_apart(section: Section) -> None:
    """Add to labels that several groups share the fields in which these differ."""
    shared: dict[str, list[Group]] = {}
    for group in section.groups:
        shared.setdefault(group.label, []).append(group)
    for label, groups in shared.items():
        if len(groups) == 1:
            continue
        differing = Section("", groups).differing()
        for at, group in enumerate(groups):
            fields = [f"{name.rpartition('.')[2]} {values[at]}" for name, values in
                      differing.items() if values[at]]  # fmt: skip
            words = ", ".join(fields[:3]) + (", ..." if len(fields) > 3 else "")
            group.label = ", ".join(filter(None, (label * (label != PLAIN), words))) or PLAIN
            if not group.runs[0].config:
                group.label = group.runs[0].folder.name
    names: dict[str, int] = {}
    for group in section.groups:  # which differ in more than three fields
        names[group.label] = names.get(group.label, 0) + 1
        if names[group.label] > 1:
            group.label += f" ({names[group.label]})"


def _alike(some: Baseline, others: Baseline) -> bool:
    """Whether a baseline has the same values, up to rounding, for all seeds that both have."""
    return all(
        np.allclose(some[seed][column], others[seed][column], rtol=1e-3, equal_nan=True)
        for seed in some.keys() & others.keys()
        for column in some[seed].keys() & others[seed].keys()
    )


def _line(curves: Sequence[Curve], most: int = 150) -> Line | None:
    """Several curves on the steps of the longest, at most so many points of means over steps."""
    curves = [_thinned(curve, most) for curve in curves if len(curve.steps)]
    if not curves:
        return None
    steps = max((curve.steps for curve in curves), key=lambda steps: steps[-1])
    losses, seconds = (
        np.array([_at(steps, curve.steps, getattr(curve, what)) for curve in curves])
        for what in ("loss", "seconds")
    )
    known = np.isfinite(losses).any(0)
    if not known.any():
        return None
    steps, losses, seconds = steps[known], losses[:, known], seconds[:, known]
    timed = np.isfinite(seconds)
    counts = timed.sum(0)
    mean_seconds = np.where(
        counts > 0, np.where(timed, seconds, 0).sum(0) / np.maximum(counts, 1), np.nan
    )
    return Line(
        steps, mean_seconds,
        np.nanmean(losses, 0), np.nanmin(losses, 0), np.nanmax(losses, 0),
    )  # fmt: skip


def _thinned(curve: Curve, most: int) -> Curve:
    """The curve as means over as many neighbouring steps as leave at most `most` points."""
    width = -(-len(curve.steps) // most)
    if width == 1:
        return curve
    ends = np.arange(0, len(curve.steps), width)
    sizes = np.diff([*ends, len(curve.steps)])
    return Curve(*(np.add.reduceat(values, ends) / sizes for values in curve))


def _at(steps, known, values):
    """The values at other steps; not a number outside of those that are known."""
    return np.interp(steps, known, values, left=np.nan, right=np.nan)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
