"""Classification problems of the UEA and UCR archives, by their names, from .ts files.

Bagnall et al. 2018 (arXiv 1811.00075), Dau et al. 2019 (arXiv 1810.07758).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import grain
import numpy as np
from jaxtyping import Float, Int

from wsrnn.checks import check_fields, nearest
from wsrnn.errors import UserError
from wsrnn.files import data_root, find
from wsrnn.tasks import SPLITS, Batch, Split, Task, clock
from wsrnn.ts_files import Case, TsFile, read_ts

FOLDERS = ("uea", "ucr_univariate")
"""Under the data folder, each with a folder for each problem."""
SOURCE = "timeseriesclassification.com"
SIZES = {  # channels, longest series, classes, as published: known without the files
    "ACSF1": (1, 1460, 10), "ArticularyWordRecognition": (9, 144, 25), "BasicMotions": (6, 100, 4),
    "EigenWorms": (6, 17_984, 5), "EthanolConcentration": (3, 1751, 4), "Heartbeat": (61, 405, 2),
    "JapaneseVowels": (12, 29, 9), "Libras": (2, 45, 15), "MotorImagery": (64, 3000, 2),
    "NATOPS": (24, 51, 6), "PenDigits": (2, 8, 10), "PLAID": (1, 1344, 11),
    "RacketSports": (6, 30, 4), "SelfRegulationSCP1": (6, 896, 2),
    "SelfRegulationSCP2": (7, 1152, 2), "StandWalkJump": (4, 2500, 3),
}  # fmt: skip


@dataclass(frozen=True)
class Archive(Task):
    """The cases of one problem, its class scored at each case's last valid step.

    Every channel is scaled to the mean and deviation of the training part, over valid steps. Cases
    are padded to the longest of both files, and the mask marks their valid steps.
    """

    problem: str = "BasicMotions"
    """The archive's name: files PROBLEM/PROBLEM_TRAIN.ts and _TEST.ts, plain or .gz."""
    split: Literal["archive", "resampled", "train_file"] = "archive"
    """archive: test cases are the file's, validation cases a part of the training file. resampled:
    70, 15 and 15 % of the cases of both files. train_file: as resampled, of the training file
    alone, for a problem whose test file is missing. All parts are drawn class by class."""
    split_seed: int = 0
    """Which cases go where, apart from the run's seed."""
    validation: float = 0.2
    """Part of the training file that validates, under split archive."""
    final: bool = False
    """Train on the validation cases too: for a last run, after they have chosen its settings."""
    jitter: float = 0.0
    """Standard deviation of noise on training inputs, drawn anew in every epoch, where a channel
    has deviation 1."""
    missing: Literal["refuse", "carry"] = "refuse"
    """What becomes of a value that is not there: an error, or the value before it (the first one
    that is there, at the start)."""
    without: tuple[int, ...] = ()
    """Channels, counted from 1, that are left out."""
    data_dir: Path | None = None
    """Where the folders uea and ucr_univariate lie; else $WSRNN_DATA, else ~/.cache/wsrnn."""

    loss = "cross_entropy"

    def __post_init__(self):
        check_fields(self)
        if not self.problem:
            raise ValueError("task.problem is empty: name a problem, such as BasicMotions")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation must lie between 0 and 1, got {self.validation}")
        if not 0 <= self.jitter < float("inf"):
            raise ValueError(f"jitter must be at least 0, got {self.jitter}")
        if self.split_seed < 0:
            raise ValueError(f"split_seed must be at least 0, got {self.split_seed}")

    @property
    def trains_on_validation(self):
        """In the final training."""
        return self.final

    @property
    def d_in(self):
        """Channels that are left in."""
        return self._sizes[0] - len(self.without)

    @property
    def d_out(self):
        """Classes."""
        return self._sizes[2]

    @property
    def length(self):
        """Of the longest case."""
        return self._sizes[1]

    @property
    def _sizes(self) -> tuple[int, int, int]:
        if self.problem in SIZES and self.split != "train_file":  # sizes are those of both files
            return SIZES[self.problem]
        problem = _problem(self)
        _, length, channels = problem.inputs.shape
        return channels + len(self.without), length, len(problem.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, as in the file's header."""
        return _problem(self).classes

    def dataset(self, split, seed):
        """Return the cases of a split in the order of the files; the seed is the jitter's."""
        problem = _problem(self)
        cases = problem.parts[split]
        if self.final and split == "train":
            cases = np.sort(np.concatenate([cases, problem.parts["valid"]]))
        length = problem.inputs.shape[1]
        times, steps = clock(length), np.arange(length)

        def example(i, rng=None):
            case = cases[i]
            inputs = problem.inputs[case]
            if rng is not None:
                inputs = inputs + self.jitter * rng.standard_normal(inputs.shape, np.float32)
            mask = (steps < problem.lengths[case]).astype(np.float32)
            return Batch(inputs * mask[:, None], times, problem.labels[case], mask, {})

        ds = grain.MapDataset.range(len(cases))
        if split == "train" and self.jitter:
            return ds.seed(seed).random_map(example)
        return ds.map(example)


class Problem(NamedTuple):
    """All cases of a problem, scaled, and which of them belong to which split."""

    classes: tuple[str, ...]
    inputs: Float[np.ndarray, "n T C"]
    lengths: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    parts: dict[Split, Int[np.ndarray, "..."]]


@lru_cache(maxsize=16)
def _problem(task: Archive) -> Problem:
    train = _file(task, "TRAIN")
    files = [train] if task.split == "train_file" else [train, _file(task, "TEST")]
    for file in files[1:]:
        if file.classes != train.classes or _channels(file) != _channels(train):
            raise UserError(
                f"{file.path} does not belong to {train.path}: its classes or channels differ; "
                f"fetch both from {SOURCE}"
            )
    cases = [(file.path, case) for file in files for case in file.cases]
    series = [_whole(task, path, case) for path, case in cases]
    labels = np.array([case.label for _, case in cases], np.int32)
    parts = _parts(task, train, labels)
    kept = [c for c in range(_channels(train)) if c + 1 not in task.without]
    if not kept or len(kept) + len(task.without) != _channels(train):
        raise UserError(
            f"task.without {task.without}: {task.problem} has channels 1 to {_channels(train)}, "
            "one of which must be left"
        )

    known = np.concatenate([series[i] for i in parts["train"]])[:, kept].astype(np.float64)
    mean, deviation = known.mean(0), known.std(0)
    constant = np.flatnonzero(np.ptp(known, 0) == 0)
    if len(constant):
        channel = kept[constant[0]] + 1
        raise UserError(
            f"channel {channel} of {task.problem} is {known[0, constant[0]]:g} in all "
            f"{len(parts['train'])} training cases, so it has no scale: leave it out with "
            f"--task.without {channel}"
        )
    lengths = np.array([len(values) for values in series])
    inputs = np.zeros((len(series), lengths.max(), len(kept)), np.float32)
    for row, values in zip(inputs, series, strict=True):
        row[: len(values)] = (values[:, kept] - mean) / deviation
    return Problem(train.classes, inputs, lengths, labels, parts)


def _file(task: Archive, part: str) -> TsFile:
    """The file of a problem, in the first folder that has it."""
    root, name = data_root(task.data_dir), task.problem
    for folder in FOLDERS:
        if (root / folder / name).is_dir():
            return read_ts(find(f"{folder}/{name}/{name}_{part}.ts", task.data_dir, SOURCE))
    there = [p.name for f in FOLDERS if (root / f).is_dir() for p in sorted((root / f).iterdir())]
    if there:
        raise UserError(
            f"problem {name!r} is in none of the folders {', '.join(FOLDERS)} of {root}"
            f"{nearest(name, there)}"
        )
    return read_ts(find(f"{FOLDERS[0]}/{name}/{name}_{part}.ts", task.data_dir, SOURCE))


def _channels(file: TsFile) -> int:
    return file.cases[0].series.shape[1]


def _whole(task: Archive, path: Path, case: Case) -> Float[np.ndarray, "T C"]:
    """The series without missing values; UserError for the first one where they are refused."""
    gaps = ~np.isfinite(case.series)
    if not gaps.any():
        return case.series
    step, channel = np.argwhere(gaps)[0]
    carry = task.missing == "carry" and not gaps.all(0).any()
    if not carry:
        cure = "--task.missing carry repeats the value before it"
        if task.missing == "carry":
            channel, cure = np.flatnonzero(gaps.all(0))[0], "no step of this channel has one"
        raise UserError(
            f"{path} line {case.line}: channel {channel + 1} is not a number at step {step}: {cure}"
        )
    steps = np.where(gaps, 0, np.arange(len(gaps))[:, None])
    first = np.argmin(gaps, 0)  # the first value that is there
    at = np.maximum(np.maximum.accumulate(steps), first[None])
    return np.take_along_axis(case.series, at, 0)


def _parts(
    task: Archive, train: TsFile, labels: Int[np.ndarray, " n"]
) -> dict[Split, Int[np.ndarray, "..."]]:
    """The cases of every split, drawn class by class; UserError for too few of them."""
    rng = np.random.default_rng(task.split_seed)
    own = len(train.cases) if task.split == "archive" else len(labels)
    shares = (1 - task.validation, 1.0) if task.split == "archive" else (0.7, 0.85, 1.0)
    chosen: list[list[np.ndarray]] = [[], [], []]
    for label in range(len(train.classes)):
        members = rng.permutation(np.flatnonzero(labels[:own] == label))
        ends = [round(share * len(members)) for share in shares]
        ends[0] = max(1, ends[0])
        for part, rows in zip(chosen, np.split(members, ends[:-1]), strict=False):
            part.append(rows)
    parts: dict[Split, np.ndarray] = {
        name: np.sort(np.concatenate(rows)) if rows else np.arange(own, len(labels))
        for name, rows in zip(SPLITS, chosen, strict=True)
    }
    absent = set(range(len(train.classes))) - set(labels[parts["train"]].tolist())
    if absent:
        raise UserError(
            f"class {train.classes[min(absent)]} of {task.problem} has no case in the training "
            "part: it cannot be learned; set --task.split resampled, or mend the file"
        )
    for name, rows in parts.items():
        if not len(rows):
            raise UserError(
                f"{task.problem} has too few cases for a split: of {own} in "
                f"{len(train.classes)} classes none is left for {name}; "
                + ("raise --task.validation" if task.split == "archive" else "set another split")
            )
    return parts
