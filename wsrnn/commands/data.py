"""data: the data sets that are known, and whether they are here; bring one, or check it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsrnn.checks import nearest
from wsrnn.commands import Outcome
from wsrnn.datasets import SETS, Dataset
from wsrnn.download import Found, bring, check, state
from wsrnn.errors import UserError
from wsrnn.files import data_root
from wsrnn.text_table import text_table


@dataclass(frozen=True)
class Options:
    """List the data sets that are known, with what lies in the data folder, or, with a NAME,
    download what is missing of that set (pip install 'wsrnn[data]'), check counts and checksums,
    and say licence and citation. A set that cannot be downloaded gets a line on what to put where.
    """

    check: bool = False
    """Check the set that is named, and download nothing."""
    data_dir: str | None = None
    """Where data files lie; None is $WSRNN_DATA, else ~/.cache/wsrnn."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""


def run(options: Options, name: str | None, flags: list[str]) -> Outcome:
    """List, or bring or check one set."""
    root = data_root(Path(options.data_dir) if options.data_dir else None)
    if name is None:
        return _listed(root, check_only=options.check)
    known = next((known for known in SETS.values() if known.name.lower() == name.lower()), None)
    if known is None:
        raise UserError(f"unknown data set {name}{nearest(name, SETS)}; wsrnn data lists them")
    found = check(known, root) if options.check else bring(known, root)
    if wrong := [file for file in found if file.state != "present"]:
        raise UserError(
            f"{known.name} is {state(found)} in {root}: "
            + ", ".join(f"{f.file.path} ({f.note or f.state})" for f in wrong)
            + f"; run: wsrnn data {known.name}"
        )
    document = {"data_dir": str(root), known.name: _document(known, found)}
    lines = [f"{known.name}: {known.about}", ""]
    lines += [
        f"  {file.path}  {file.file.count or ''}  {file.note or 'as expected'}" for file in found
    ]
    lines += [
        "",
        f"licence   {known.licence}",
        f"citation  {known.citation}",
        f"source    {known.source}",
    ]
    return document, "\n".join(lines), 0


def _listed(root: Path, check_only: bool) -> Outcome:
    if check_only:
        raise UserError("--check takes the NAME of a data set: wsrnn data NAME --check")
    found = {known.name: check(known, root) for known in SETS.values()}
    rows = {
        known.name: (
            known.task or "-",
            state(found[known.name]),
            _megabytes(found[known.name]),
            known.licence,
        )
        for known in SETS.values()
    }
    sets = {known.name: _document(known, found[known.name]) for known in SETS.values()}
    text = text_table(("task", "state", "MB", "licence"), rows)
    return {"data_dir": str(root), "sets": sets}, f"{text}\n\nin {root}; wsrnn data NAME", 0


def _megabytes(found: list[Found]) -> str:
    size = sum(file.size for file in found)
    return f"{size / 1e6:.1f}" if size else "-"


def _document(known: Dataset, found: list[Found]) -> dict[str, Any]:
    return {
        "about": known.about,
        "task": known.task or None,
        "state": state(found),
        "files": {
            file.file.path: {"state": file.state, "count": file.file.count, "note": file.note}
            for file in found
        },
        "bytes": sum(file.size for file in found),
        "licence": known.licence,
        "citation": known.citation,
        "source": known.source,
    }
