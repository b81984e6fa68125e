"""report: one HTML page about any set of runs; written by `wsrnn.page`."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsrnn import page
from wsrnn.artifacts import write_text
from wsrnn.checks import check_fields
from wsrnn.commands import Outcome
from wsrnn.errors import UserError

log = logging.getLogger("wsrnn")


@dataclass(frozen=True)
class Options:
    """Gather runs, and whatever runs lie in the folders, into one self-contained HTML page: results
    with their spread over seeds beside baselines and published numbers, configs that differ,
    learning curves, figures, speed and memory. Runs that differ in the seed alone are one row. A
    csv beside the page has a row for each seed and metric.
    """

    out: str = "report.html"
    """The page; the csv has its name."""
    title: str = "Experiments"
    """Its heading."""
    figures: tuple[Literal["theta", "root"], ...] = ()
    """Also open the models and draw their states over time (theta) and the functions that these are
    (root). This may execute the code that a run keeps."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""

    def __post_init__(self):
        check_fields(self)


def run(options: Options, runs: list[str], flags: list[str]) -> Outcome:
    """Write the page and its csv."""
    out = _page(options.out)
    found = page.find(runs)
    trained = [one for folder in found.runs for one in page.read(folder)]
    sections = page.gather(trained, found.outer)
    inside = _inside(sections, options.figures) if options.figures else {}
    text = page.page(sections, options.title, found.benches, inside)
    table = page.long_form(sections)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    write_text(out.with_suffix(".csv"), table)
    notes = [note for section in sections for note in section.notes]
    document = {
        "page": str(out),
        "csv": str(out.with_suffix(".csv")),
        "results": page.summary(sections),
        "notes": notes,
    }
    groups = sum(len(section.groups) for section in sections)
    line = (
        f"wrote {out} and {out.with_suffix('.csv').name}: {len(trained)} trainings in {groups} "
        f"groups, {len(sections)} experiments, {len(out.read_bytes()) / 2**20:.1f} MiB"
    )
    return document, "\n".join([*notes, line]), 0


def _page(out: str) -> Path:
    """The path of the page; UserError where it cannot be written."""
    path = Path(out)
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out}: name an .html file")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--out {out} cannot be written: {folder} is no folder that may be written")
    return path


def _inside(sections, kinds: tuple[str, ...]) -> dict[Path, dict[str, str]]:
    """Figures of the first model of each group that can be opened; notes say which cannot."""
    from wsrnn.page.curves import svg
    from wsrnn.page.inside import draw_inside

    drawn: dict[Path, dict[str, str]] = {}
    for section in sections:
        for group in section.groups:
            one = next((run for run in group.runs if run.single), None)
            if one is None:
                continue
            log.info("opening %s", one.folder)
            try:
                figures = draw_inside(one.folder, kinds)
                drawn[one.folder] = {
                    title: svg(figure, f"{one.folder} {title}") for title, figure in figures.items()
                }
            except Exception as error:  # of any model or task that a run may hold
                section.notes.append(f"{one.folder}: its model is not drawn ({error})")
    return drawn
