"""The .ts text files of the time series archives, read line by line.

The format of aeon and sktime (www.aeon-toolkit.org, Middlehurst et al. 2024): comments "#", a
header of "@key value" lines, "@data", then one case a line: its channels, each a comma-separated
series, and its class, separated by colons. Both packages are heavy, and this is all that is used.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wsrnn.errors import UserError


class Case(NamedTuple):
    """One series and its class."""

    series: Float[np.ndarray, "T C"]
    label: int
    line: int
    """Where it stands in its file."""


class TsFile(NamedTuple):
    """The cases of a file and the names of the classes, in the header's order."""

    path: Path
    classes: tuple[str, ...]
    cases: list[Case]


def read_ts(path: Path) -> TsFile:
    """Read a .ts or .ts.gz file; "?" and "NaN" are values that are not a number.

    Raises UserError that names the file and the line: for a header without classes or with one
    twice, time stamps, a case whose channels are unlike in number or length, an unknown class, a
    value that is no number or does not fit into float32, and a file that ends early.
    """
    lines = enumerate(_lines(path), 1)
    header = _header(path, lines)
    words = header.get("classlabel", "false").split()
    if len(words) < 2 or words[0].lower() != "true":
        raise UserError(
            f"{path} names no classes (@classLabel true A B ...): only classification problems can "
            "be read"
        )
    classes, cases = tuple(words[1:]), []
    ids = {name: i for i, name in enumerate(classes)}
    if len(ids) < len(classes):
        twice = next(name for i, name in enumerate(classes) if i != ids[name])
        raise UserError(f"{path} names the class {twice} twice in @classLabel: leave one out")
    if header.get("timestamps", "false").lower() == "true":
        raise UserError(f"{path} has time stamps, which are not read: save plain values")
    for number, line in lines:
        if line and not line.startswith("#"):
            where = f"{path} line {number}"
            cases.append(_case(where, number, line, ids))
            first, last = cases[0], cases[-1]
            if last.series.shape[1] != first.series.shape[1]:
                raise UserError(
                    f"{where}: {last.series.shape[1]} channels, the case of line {first.line} has "
                    f"{first.series.shape[1]}; the file is truncated or damaged, fetch it again"
                )
    if not cases:
        raise UserError(f"{path} holds no case after @data: it is truncated, fetch it again")
    promised = header.get("dimensions")
    if promised and promised.isdigit() and int(promised) != cases[0].series.shape[1]:
        raise UserError(
            f"{path} line {cases[0].line}: {cases[0].series.shape[1]} channels where @dimensions "
            f"promises {promised}; the file is truncated or damaged, fetch it again"
        )
    return TsFile(path, classes, cases)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, packed or not, without the ends; UserError where it breaks off."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for raw in file:
                number += 1
                yield raw.decode("utf-8-sig").strip()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} breaks off after line {number} ({error}): it is truncated or damaged, fetch "
            "it again"
        ) from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path} line {number} is not UTF-8 text: it is damaged, fetch it again"
        ) from None


def _header(path: Path, lines: Iterator[tuple[int, str]]) -> dict[str, str]:
    """The keys in lower case and their values, up to @data."""
    header: dict[str, str] = {}
    number = 0
    for number, line in lines:
        if not line or line.startswith("#"):
            continue
        if not line.startswith("@"):
            raise UserError(
                f"{path} line {number}: a line before @data must begin with @ or #; it is no .ts "
                "file, or damaged"
            )
        key, _, value = line[1:].partition(" ")
        if key.lower() == "data":
            return header
        header[key.lower()] = value.strip()
    raise UserError(f"{path} ends at line {number}, before @data: it is truncated, fetch it again")


def _case(where: str, number: int, line: str, ids: dict[str, int]) -> Case:
    *channels, label = line.split(":")
    if label.strip() not in ids or not channels:
        raise UserError(
            f"{where}: it ends in {label.strip()[-20:]!r}, which is none of the classes "
            f"{', '.join(ids)}; the line is truncated or damaged, fetch the file again"
        )
    series = [_values(f"{where}, channel {c}", text) for c, text in enumerate(channels, 1)]
    lengths = [len(values) for values in series]
    if len(set(lengths)) > 1:
        odd = next(c for c, length in enumerate(lengths) if length != lengths[0])
        raise UserError(
            f"{where}: channel {odd + 1} has {lengths[odd]} steps, channel 1 has {lengths[0]}; the "
            "line is truncated or damaged, fetch the file again"
        )
    return Case(np.stack(series, 1), ids[label.strip()], number)


def _values(where: str, text: str) -> Float[np.ndarray, " T"]:
    cells = text.split(",")
    with np.errstate(over="ignore"):
        try:
            values = np.array(cells, np.float32)
        except ValueError:
            values = np.array(
                [_value(where, t, cell.strip()) for t, cell in enumerate(cells)], "f4"
            )
    for step in np.flatnonzero(np.isinf(values)):
        if any(map(str.isdigit, cells[step])):  # the word inf is a value that is missing
            raise UserError(
                f"{where}, step {step}: {cells[step].strip()[:20]!r} does not fit into float32, "
                "whose numbers end at 3.4e38; write the channel in a larger unit"
            )
    return values


def _value(where: str, step: int, cell: str) -> float:
    try:
        return np.nan if cell == "?" else float(cell)
    except ValueError:
        raise UserError(
            f"{where}, step {step}: {cell[:20]!r} is not a number; the line is truncated or "
            "damaged, fetch the file again"
        ) from None
