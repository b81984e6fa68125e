"""The logs in a run folder: metrics.jsonl, every step and validation, and timing.jsonl.

metrics.jsonl is the same bit for bit however often the run was interrupted, so nothing that depends
on the machine's speed may be written there; timing.jsonl holds that, and the seconds that the run
has spent in each phase so far. Both are cut back to the checkpoint where a run continues.

What is lost of a log is named and the run goes on: the parameters do not depend on it.
"""

import json
import math
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from jaxtyping import Float

from wsrnn.artifacts import LogFile, write_text

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"
SECONDS = "seconds in "  # a phase: before its name in timing.jsonl


class MetricsLog:
    """Writes both logs, from step `start` on; only the lead process does.

    Raises RunError where they cannot be written.
    """

    def __init__(self, folder: Path, start: int, lead: bool):
        self._files = ExitStack()
        self._opened: dict[str, LogFile] = {}
        self.skipped_in_a_row = self.skipped_total = 0
        self.validations: dict[int, float] = {}
        """The validation losses by step, up to now."""
        rows = [row for row in read_metrics(folder) if row["step"] <= start]
        for row in rows:
            if row.get("skipped") is not None:
                self._count(row["skipped"])
        self.validations |= validation_losses(rows)
        self.spent = _spent(folder, start)
        """Seconds in each phase until now; "lost" on what is done again."""
        for name in (METRICS, TIMING) if lead else ():
            _cut_back(folder / name, start)
            self._opened[name] = self._files.enter_context(LogFile(folder / name, "ab"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._files.close()

    @property
    def validation_loss(self) -> float | None:
        """The last one."""
        return self.validations[max(self.validations)] if self.validations else None

    def train(self, number: int, values: dict[str, float]) -> int:
        """Write a training step; returns how many steps in a row have been skipped."""
        self._count(values["skipped"])
        self._write(METRICS, {"step": number, **values, "skipped": int(values["skipped"])})
        return self.skipped_in_a_row

    def valid(self, number: int, values: dict[str, float]) -> None:
        """Write a validation."""
        row = {"step": number} | {f"valid/{name}": value for name, value in values.items()}
        self._write(METRICS, row)
        self.validations |= validation_losses([row])

    def timing(self, number: int, speed: dict[str, float], spent: dict[str, float]) -> None:
        """Write the speed of the steps up to this one, if it is known, and all seconds so far."""
        row = {name.removeprefix("speed/"): value for name, value in speed.items()}
        phases = {f"{SECONDS}{phase}": value for phase, value in spent.items()}
        self._write(TIMING, {"step": number} | row | phases)

    def _count(self, skipped: float) -> None:
        self.skipped_total += int(skipped)
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0

    def _write(self, name: str, row: dict[str, Any]) -> None:
        if file := self._opened.get(name):
            finite = {k: v if math.isfinite(v) else None for k, v in row.items()}
            file.write((json.dumps(finite) + "\n").encode())


def _cut_back(path: Path, start: int) -> None:
    if path.is_file():
        kept = [row for row in _read(path) if row["step"] <= start]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


def validation_losses(rows: Iterable[dict[str, Any]]) -> dict[int, float]:
    """The validation loss of each step that has one; infinite where it was not a finite number."""
    found = {row["step"]: row["valid/loss"] for row in rows if "valid/loss" in row}
    return {
        step: math.inf if loss is None or math.isnan(loss) else loss for step, loss in found.items()
    }


def missing_steps(rows: Iterable[dict[str, Any]], last: int) -> str:
    """Which of the training steps up to the last have no row, in words: 1 to 4, 7; "" if none."""
    steps = sorted({row["step"] for row in rows if "loss" in row and 0 < row["step"] <= last})
    holes = [(a + 1, b - 1) for a, b in pairwise([0, *steps, last + 1]) if b - a > 1]
    return ", ".join(f"{a} to {b}" if a < b else str(a) for a, b in holes)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl."""
    return _read(Path(folder) / METRICS)


def read_timing(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's timing.jsonl, but those that tell the seconds spent and no speed."""
    rows = _read(Path(folder) / TIMING)
    return [row for row in rows if "step ms" in row or f"{SECONDS}step" not in row]


def goodput(row: dict[str, Any]) -> float | None:
    """The share of steps in all time up to a row of timing.jsonl; None if it does not tell."""
    spent = {name: value for name, value in row.items() if name.startswith(SECONDS)}
    step = spent.get(f"{SECONDS}step")  # none of a damaged row
    return None if step is None else step / sum(spent.values())


def _spent(folder: Path, start: int) -> dict[str, float]:
    """Seconds in each phase by the last row up to a step; what follows it is lost."""
    rows = [
        (row["step"], {k.removeprefix(SECONDS): v for k, v in row.items() if k.startswith(SECONDS)})
        for row in _read(folder / TIMING)
    ]
    kept: dict[str, float] = next((phases for step, phases in reversed(rows) if step <= start), {})
    all_of_it = rows[-1][1] if rows else {}
    lost = max(0.0, sum(all_of_it.values()) - sum(kept.values()))
    return kept | {"lost": kept.get("lost", 0.0) + lost}


def training_seconds(folder: Path, steps: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Seconds of training up to these steps, without compilation, validation and checkpoints.

    Integrated from the step times in timing.jsonl; not a number for a run too short to have any.
    """
    rows = [row for row in read_timing(folder) if "step ms" in row]  # not what is damaged
    if not rows:
        return np.full(len(steps), np.nan)
    at = np.array([0, *(row["step"] for row in rows)])
    seconds = np.cumsum([0, *(np.diff(at) * [row["step ms"] / 1e3 for row in rows])])
    return np.interp(steps, at, seconds)


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; lines that were cut short or damaged are left out."""
    if not path.is_file():
        return []
    lines = path.read_text("utf-8", "replace").splitlines()
    return [row for row in map(read_row, lines) if row]


def read_row(line: str | bytes) -> dict[str, Any] | None:
    """The row of a line of a log; None of one that was cut short or damaged."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    return row if all(type(v) in (int, float, NoneType) for v in row.values()) else None
