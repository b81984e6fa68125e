"""Data files: where they are found, and readers whose errors name file, place and cure.

No dependency reads idx. The cells of a csv are split by `csv` and converted by numpy and datetime;
only the search for what is wrong is done here.
"""

import csv
import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from wsrnn.datasets import SETS
from wsrnn.errors import UserError

DEFAULT_DIR = Path("~/.cache/wsrnn")


def data_root(data_dir: Path | None) -> Path:
    """The folder that data files lie under: data_dir, else $WSRNN_DATA, else a cache."""
    return Path(data_dir or os.environ.get("WSRNN_DATA") or DEFAULT_DIR).expanduser()


def find(name: str, data_dir: Path | None, source: str) -> Path:
    """Return the path of a data file, plain or .gz: in data_dir, else $WSRNN_DATA, else a cache.

    Raises UserError that says which file, where it was looked for, and to get it from `source`, by
    `wsrnn data` where that knows it.
    """
    given = data_dir or os.environ.get("WSRNN_DATA")
    root = data_root(data_dir)
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    by = "--data-dir" if data_dir else "$WSRNN_DATA" if given else "the default"
    raise UserError(
        f"data file {name} (or {name}.gz) is not in {root} ({by}): get it from {source}"
        f"{data_command(name, data_dir)} and put it at {root / name}, or name the folder it is "
        "under with --data-dir or $WSRNN_DATA"
    )


def data_command(name: str, data_dir: Path | None) -> str:
    """The command that brings a file of a known data set, in brackets; "" for other files."""
    known = next((s for s in SETS.values() if any(f.path == name for f in s.files)), None)
    where = f" --data-dir {data_dir}" if data_dir else ""
    return f" (or run: wsrnn data {known.name}{where})" if known else ""


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, unpacked if its name ends in .gz; UserError if it cannot be."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read ({error}): it is truncated or damaged, fetch it again"
        ) from None


def read_idx(path: Path, magic: int) -> np.ndarray:
    """Return the uint8 array of an idx file, the format of MNIST (2051 images, 2049 labels)."""
    raw, dims = read_bytes(path), magic & 0xFF
    header = np.frombuffer(raw[: min(len(raw), 4 + 4 * dims) // 4 * 4], ">u4").tolist()
    if not header or header[0] != magic:
        raise UserError(
            f"{path} is not the idx file wanted here: its magic number is "
            f"{header[0] if header else 'missing'}, not {magic} "
            f"({'images' if magic == 2051 else 'labels'}); check that the file has the right name"
        )
    shape, size = header[1:], len(raw) - 4 - 4 * dims
    if len(shape) < dims or size != math.prod(shape):
        raise UserError(
            f"{path} is truncated or damaged: {max(0, size)} bytes of data where its header "
            f"{shape} promises {math.prod(shape)}; fetch it again"
        )
    return np.frombuffer(raw[4 + 4 * dims :], np.uint8).reshape(shape)


class Csv(NamedTuple):
    """The cells of a csv file as text. All methods raise UserError that names file and line."""

    path: Path
    names: list[str]
    """Of the columns, line breaks as spaces; 1, 2, ... where the file has no line of names."""
    rows: list[list[str]]
    lines: list[int]
    """Where each row starts, counted as an editor does: cells may hold line breaks."""

    def columns(self, names: Sequence[str]) -> list[list[str]]:
        """Return the cells of some columns, a list for each."""
        missing = [name for name in names if name not in self.names]
        if missing:
            raise UserError(
                f"{self.path} has no column {', '.join(missing)}; its columns are "
                f"{', '.join(self.names)}"
            )
        return [[row[i] for row in self.rows] for i in map(self.names.index, names)]

    def numbers(self, names: Sequence[str]) -> Float[np.ndarray, "R C"]:
        """Return columns as float64; what float32 cannot hold is refused, as NaN is."""
        cells = self.columns(names)
        try:
            table = np.array(cells, np.float64)
        except ValueError:
            table = np.array([[float(c) if _is_number(c) else np.nan for c in cs] for cs in cells])
        table = table.T.copy()
        bad = unfit(table)
        if len(bad):
            row, column = bad[0]
            cell = cells[column][row]
            raise UserError(
                f"{self.path} line {self.lines[row]}, column {names[column]}: {cell!r} is not a "
                f"finite number in float32; {_cure(cell)}"
            )
        return table

    def times(self, name: str) -> Shaped[np.ndarray, " R"]:
        """Return a column of numbers as float64, or one of ISO dates as datetime64 (UTC)."""
        (cells,) = self.columns([name])
        if _is_number(cells[0]):
            return self.numbers([name])[:, 0]
        dates = []
        for cell, line in zip(cells, self.lines, strict=True):
            try:
                date = datetime.fromisoformat(cell.strip())
                if date.tzinfo:  # numpy knows no zones
                    date = date.astimezone(UTC).replace(tzinfo=None)
            except (ValueError, OverflowError):
                raise UserError(
                    f"{self.path} line {line}, column {name}: {cell!r} is not a time; write ISO "
                    "dates such as 2016-07-01 15:00, or numbers throughout"
                ) from None
            dates.append(date.isoformat())  # which numpy reads faster than the date itself
        return np.array(dates, "datetime64[us]")

    def step(self, name: str) -> np.float64 | np.timedelta64 | None:
        """Return the one step by which a column of times rises; None for a single row."""
        times = self.times(name)
        steps = np.diff(times)
        if not len(steps):
            return None
        step = np.sort(steps)[(len(steps) - 1) // 2]  # a median that is one of them
        fallen = times[1:] <= times[:-1]
        if 2 * np.count_nonzero(fallen) >= len(steps):
            raise UserError(
                f"{self.path}, column {name}: it does not rise from row to row as times do; name "
                "the column that does, or sort the rows by time, oldest first"
            )
        # numbers such as 0.1, 0.2, 0.3 are rounded: a thousandth of a step is none
        bad = np.flatnonzero(fallen | (np.abs(steps - step) > np.abs(step) * 1e-3))
        if len(bad):
            i = np.flatnonzero(fallen)[0] if fallen.any() else bad[0]  # out of order, or a gap
            (cells,) = self.columns([name])
            wrong = f"is not one step of {step.astype(object)} after"
            cure = "fill what is missing, drop what is too much"
            if fallen[i]:
                wrong, cure = "is not later than", "sort by time, oldest first, each time once"
            raise UserError(
                f"{self.path} line {self.lines[i + 1]}, column {name}: {cells[i + 1]} {wrong} "
                f"{cells[i]} of line {self.lines[i]}; {cure}"
            )
        return step


def read_csv(path: Path) -> Csv:
    """Return the cells of a csv file (RFC 4180, in UTF-8), with or without a line of names.

    Raises UserError for any other encoding or separator, and for rows that are not alike.
    """
    file = io.StringIO(_text(path), newline="")  # "": line breaks in cells stay as they are
    rows, lines, line = [], [], 1
    try:
        _check_separator(path, file)
        reader = csv.reader(file, strict=True)
        for row in reader:
            rows.append(row)
            lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path} line {line}: the row that starts here cannot be read ({error}); close its "
            'quotes, and write a quote within quotes as ""'
        ) from None
    while rows and not any(map(str.strip, rows[-1])):
        del rows[-1], lines[-1]  # empty lines at the end
    names = [" ".join(name.splitlines()).strip() for name in rows[0]] if rows else []
    for row, line in zip(rows, lines, strict=True):
        if not row:
            raise UserError(f"{path} line {line} is empty; remove it")
        if len(row) != len(names):
            raise UserError(
                f"{path} line {line} has {len(row)} cells, the first row has {len(names)}; fill or "
                "drop it, quote cells that hold a comma, and write decimal points"
            )
    if all(map(_is_number, names)):
        names = [str(i + 1) for i in range(len(names))]
    else:
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise UserError(f"{path} holds no rows below its header line")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise UserError(f"{path} line 1 has several columns named {twice[0]!r}; rename or drop one")
    return Csv(path, names, rows, lines)


def unfit(array: Shaped[np.ndarray, "..."]) -> Int[np.ndarray, "found axes"]:
    """Return the places of what is not a finite number in float32."""
    with np.errstate(over="ignore"):
        return np.argwhere(~np.isfinite(array.astype(np.float32)))


def _is_number(cell: str) -> bool:
    """Whether a cell can be read as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _text(path: Path) -> str:
    raw = read_bytes(path)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16 text; save it as UTF-8")
    if b"\0" in raw:
        line = len(raw[: raw.index(b"\0") + 1].splitlines())
        raise UserError(
            f"{path} line {line} holds a zero byte: it is UTF-16 text, or no text but a "
            "spreadsheet or something packed; save it as a csv in UTF-8"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(raw[: error.start + 1].splitlines())
        byte = raw[error.start : error.start + 1]
        raise UserError(
            f"{path} line {line} is not UTF-8 text: its byte 0x{byte.hex()} is "
            f"{byte.decode('cp1252', 'replace')!r} in latin-1 (Windows-1252); save it as UTF-8"
        ) from None


def _check_separator(path: Path, file: io.StringIO) -> None:
    """Raise UserError if another character, and not the comma, cuts the first two rows alike."""

    def cuts(separator: str) -> bool:
        file.seek(0)
        widths = {len(row) for row in islice(csv.reader(file, delimiter=separator), 2)}
        return len(widths) == 1 and max(widths) > 1

    found = next(filter(cuts, ",;\t|"), ",")
    file.seek(0)
    if found != ",":
        decimal = " and has decimal commas" if re.search(r"\d,\d", file.read()) else ""
        raise UserError(
            f"{path} is separated by {found!r}{decimal}; save it with commas between cells and "
            "points in numbers"
        )


def _cure(cell: str) -> str:
    """What to do about a cell that is no number of float32."""
    if ";" in cell or "\t" in cell:
        return "separate cells by commas, not by ';' or tabs, and write decimal points"
    if "," in cell:
        return "write a decimal point, and thousands without separators"
    if _is_number(cell) and any(map(str.isdigit, cell)):
        return "it is beyond 3.4e38: write the column in a larger unit"
    return "fill or drop that row, or the column if it holds text"
