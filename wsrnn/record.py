"""metrics.jsonl: every step of a run, the same bit for bit however often it was interrupted."""

import json
import math
from pathlib import Path
from typing import Any


class Record:
    """metrics.jsonl: a line for each step and validation, cut back where a run continues."""

    def __init__(self, folder: Path, start: int, lead: bool):
        self._path = folder / "metrics.jsonl" if lead else None
        self._file = None
        self.skipped_in_a_row = self.skipped_total = 0
        kept = [row for row in read_metrics(folder) if row["step"] <= start]
        for row in kept:
            if "skipped" in row:
                self._count(row["skipped"])
        if lead:
            unfinished = folder / "metrics.jsonl.tmp"
            unfinished.write_text("".join(json.dumps(row) + "\n" for row in kept))
            unfinished.replace(self._path)

    def __enter__(self):
        if self._path:
            self._file = self._path.open("a", buffering=1)
        return self

    def __exit__(self, *_):
        if self._file:
            self._file.close()

    def train(self, number: int, values: dict[str, float]) -> int:
        """Write a step; returns how many in a row have been skipped."""
        self._count(values["skipped"])
        self._write({"step": number, **values, "skipped": int(values["skipped"])})
        return self.skipped_in_a_row

    def valid(self, number: int, values: dict[str, float]) -> None:
        """Write a validation."""
        self._write({"step": number} | {f"valid/{name}": value for name, value in values.items()})

    def _count(self, skipped: float) -> None:
        self.skipped_total += int(skipped)
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0

    def _write(self, row: dict[str, Any]) -> None:
        if self._file:
            finite = {k: v if math.isfinite(v) else None for k, v in row.items()}
            self._file.write(json.dumps(finite) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl; a last line that was cut short is left out."""
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
