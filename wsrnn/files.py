"""Data files: where they are found, and readers whose errors name file, place and cure.

No dependency reads idx. The cells of a csv are split by `csv` and converted by numpy; only the
search for a bad cell is done here.
"""

import csv
import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from wsrnn.errors import UserError

DEFAULT_DIR = Path("~/.cache/wsrnn")


def find(name: str, data_dir: Path | None, source: str) -> Path:
    """Return the path of a data file, plain or .gz: in data_dir, else $WSRNN_DATA, else a cache.

    Raises UserError that says which file, where it was looked for, and to get it from `source`.
    """
    given = data_dir or os.environ.get("WSRNN_DATA")
    root = Path(given or DEFAULT_DIR).expanduser()
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    by = "--data-dir" if data_dir else "$WSRNN_DATA" if given else "the default"
    raise UserError(
        f"data file {name} (or {name}.gz) is not in {root} ({by}): get it from {source} and put it "
        f"at {root / name}, or name the folder it is under with --data-dir or $WSRNN_DATA"
    )


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


def read_csv(path: Path, columns: list[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Return (names, rows of text) of a csv file, restricted to `columns` if given, in that order.

    Raises UserError for an unreadable file, a missing column, or a row with too few cells.
    """
    try:
        rows = list(csv.reader(read_bytes(path).decode("utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file: a csv was expected") from None
    while rows and not any(rows[-1]):
        rows.pop()  # blank lines at the end
    if len(rows) < 2:
        raise UserError(f"{path} holds no rows below its header line")
    header = [name.strip() for name in rows[0]]
    missing = [name for name in columns or [] if name not in header]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)}; its columns are {', '.join(header)}"
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise UserError(
                f"{path} line {number} has {len(row)} cells, the header has {len(header)}"
            )
    wanted = [header.index(name) for name in columns] if columns else range(len(header))
    return [header[i] for i in wanted], [[row[i] for i in wanted] for row in rows[1:]]


def numbers(path: Path, names: list[str], rows: list[list[str]], first: int = 2) -> np.ndarray:
    """Return the cells as float64 [rows, columns]; UserError names the place of a bad one.

    `first` is the line of the first row.
    """
    try:
        table = np.array(rows, np.float64)
    except ValueError:
        table = np.array([[float(c) if is_number(c) else np.nan for c in row] for row in rows])
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, column = bad[0]
        raise UserError(
            f"{path} line {row + first}, column {names[column]}: {rows[row][column]!r} is not a "
            "finite number; fill or drop that row, or the column if it holds text"
        )
    return table


def is_number(cell: str) -> bool:
    """Whether a cell can be read as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
