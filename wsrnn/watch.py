"""What the log files of runs tell of them while they train: read as they grow, nothing executed.

No array is made and no checkpoint opened, so that this can look at hundreds of runs on a machine
whose accelerators are taken.
"""

import fcntl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsrnn.errors import UserError
from wsrnn.metrics_log import METRICS, TIMING, goodput, read_row
from wsrnn.run import CONFIG, LOCK, read_record
from wsrnn.text_table import text_table

COLUMNS = ("step", "loss", "valid", "ms/step", "goodput", "skipped", "last line", "state")
KINDS = b'"valid/', b'"step ms"'  # names that tell one kind of row from another
SKIPPED = b'"skipped": 1'  # in a line of metrics.jsonl


class Tail:
    """A file of JSON lines that grows at its end, of which each part is read once."""

    def __init__(self, path: Path):
        self._path = path
        self._restart(None)

    def _restart(self, identity: int | None) -> None:
        self._identity, self._read, self._rest = identity, 0, b""
        self.skipped = 0
        """Lines of skipped steps."""
        self.last: dict[str, Any] = {}
        """The latest value of each name."""
        self.written: float | None = None
        """When the file was last written to, in seconds since the epoch; None if there is none."""

    def refresh(self) -> None:
        """Read what is new; all of it where the file was put in place of another, as on resume."""
        try:
            status = self._path.stat()
            if status.st_ino != self._identity or status.st_size < self._read:
                self._restart(status.st_ino)
            self.written = status.st_mtime
            if status.st_size == self._read:
                return
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            self._restart(None)
            return
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        self.skipped += sum(SKIPPED in line for line in lines)
        latest: dict[tuple[bool, ...], bytes] = {}  # of each kind of row, in their order
        for line in filter(None, lines):
            kind = tuple(name in line for name in KINDS)
            latest.pop(kind, None)
            latest[kind] = line
        for line in latest.values():
            self.last |= read_row(line) or {}


@dataclass
class Seen:
    """A run, as far as its log files tell."""

    folder: Path

    def __post_init__(self):
        self._metrics, self._timing = Tail(self.folder / METRICS), Tail(self.folder / TIMING)

    def refresh(self) -> None:
        """Read what is new."""
        self._metrics.refresh()
        self._timing.refresh()

    def document(self, now: float | None = None) -> dict[str, Any]:
        """The essentials: numbers, or None where they are not known."""
        last, timing, written = self._metrics.last, self._timing.last, self._metrics.written
        step = last.get("step", 0)
        try:
            steps = read_record(self.folder)["config"].get("steps")
        except UserError:
            steps = None
        steps = steps if isinstance(steps, int) else None  # as an edited config may say
        if locked(self.folder):
            state = "running"
        elif steps is None:
            state = f"no {CONFIG} that can be read"
        else:
            state = "finished" if step >= steps else "stopped"
        age = None if written is None else (time.time() if now is None else now) - written
        return {
            "step": step,
            "steps": steps,
            "loss": last.get("loss"),
            "validation loss": last.get("valid/loss"),
            "step ms": timing.get("step ms"),
            "goodput": goodput(timing),
            "skipped": self._metrics.skipped,
            "age s": age,
            "state": state,
        }


def locked(folder: Path) -> bool:
    """Whether a process is training in a run folder, which the lock that it holds tells.

    To ask, the lock is taken, shared, and given back within microseconds.
    """
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock, or none that may be read
        return False
    return False


def table(runs: dict[str, dict[str, Any]]) -> str:
    """A line for each run's document."""
    return text_table(COLUMNS, [(name, _cells(row)) for name, row in runs.items()])


def _cells(row: dict[str, Any]) -> list[str]:
    steps, age, share = row["steps"], row["age s"], row["goodput"]
    return [
        f"{row['step']:,} of {steps:,}" if steps else f"{row['step']:,}",
        *(_number(row[name]) for name in ("loss", "validation loss", "step ms")),
        "-" if share is None else f"{100 * share:.0f} %",
        str(row["skipped"]),
        "-" if age is None else f"{_duration(age)} ago",
        row["state"],
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
