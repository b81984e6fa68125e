"""The page: text, tables and figures in one file that needs no other."""

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from PIL import Image

from wsrnn import __version__
from wsrnn.page.curves import Style, learning_curves, styles
from wsrnn.page.groups import Section, Spread, spread
from wsrnn.page.heat import heat_map
from wsrnn.page.published import Published, published, trust
from wsrnn.page.runs import BENCH, DAMAGE, pictures

WHOLE = ("steps", "parameters", "state floats", "operations per token", "tokens/s", "peak MiB")
UNFOLDED = 12  # fields that differ; a longer table opens at a click
NONE = '<span class="soft">&ndash;</span>'


def page(
    sections: Sequence[Section],
    title: str,
    benches: Sequence[Path] = (),
    inside: Mapping[Path, Mapping[str, str]] | None = None,
) -> str:
    """Return the page; `inside` are figures (SVG) of models by their runs' folders."""
    parts = [_section(section, f"s{k}", inside or {}) for k, section in enumerate(sections)]
    links = [f'<a href="#s{k}">{_escape(section.name)}</a>' for k, section in enumerate(sections)]
    if speed := _benches(benches):
        parts.append(speed)
        links.append('<a href="#speed">speed and memory</a>')
    style = files("wsrnn.page").joinpath("style.css").read_text("utf-8")
    groups = [group for section in sections for group in section.groups]
    runs = sum(len(group.runs) for group in groups)
    lead = (
        f"{_count(runs, 'run')} of {_count(len(groups), 'configuration')} in "
        f"{_count(len(sections), 'experiment')}. Results are on the test split: the mean over "
        "seeds ± the standard deviation, where there are several seeds. Loss curves have a band "
        "from the least seed to the most."
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="wsrnn {_escape(__version__)}">
<title>{_escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<h1>{_escape(title)}</h1>
<p class="soft">{lead}</p>
<nav>{"".join(links)}</nav>
</header>
{"".join(parts)}
</main>
</body>
</html>
"""


def _section(section: Section, anchor: str, inside: Mapping[Path, Mapping[str, str]]) -> str:
    tables, marks = published(section), styles(len(section.groups))
    curves = learning_curves(section.groups, section.name)
    drawings = {
        f"{title}: {group.label}, seed {run.seed}": drawing
        for group in section.groups
        for run in group.runs
        for title, drawing in inside.get(run.folder, {}).items()
    }
    return "\n".join([
        f'<section id="{anchor}">',
        f"<h2>{_escape(section.name)}</h2>",
        *(f'<p class="soft">{_escape(title)}</p>' for title in section.titles()),
        _results(section, marks, tables),
        *(_published(table) for table in tables),
        heat_map(section),
        _configs(section),
        _figures("Learning curves", curves, "figures", _legend(section, marks)),
        _figures("Inside the model", drawings, "figures"),
        _figures("Figures of the evaluation", _pictures(section), "figures wide"),
        _notes(section.notes),
        "</section>",
    ])  # fmt: skip


def _results(section: Section, marks: Sequence[Style], tables: Sequence[Published]) -> str:
    """Groups, then baselines, then what was published under the same columns."""
    columns, costs = section.columns(), section.costs()
    of_groups = [{name: group.over_seeds(name) for name in columns} for group in section.groups]
    of_baselines = {
        name: {c: spread([known[c] for known in seeds.values() if c in known]) for c in columns}
        for name, seeds in section.baselines().items()
    }
    every = [*of_groups, *of_baselines.values()]
    pairs = {c for row in every for c, value in row.items() if value and value.deviation}

    def cells(contents: Mapping[str, Spread | str | None]) -> list[str]:
        return [cell for c in columns for cell in _spread(contents.get(c), c in pairs)]

    rows = [
        _row(
            f"{_swatch(mark)}{_escape(group.label)}",
            [
                *cells(results),
                f"<td>{len(group.runs)}</td>",
                *(f"<td>{_cost(name, group.over_seeds(name))}</td>" for name in costs),
            ],
        )
        for group, results, mark in zip(section.groups, of_groups, marks, strict=True)
    ]
    blank = ["<td></td>"] * (1 + len(costs))
    for k, (name, results) in enumerate(of_baselines.items()):
        rows.append(_other(name, "baseline", [*cells(results), *blank], first=k == 0))
    for table in filter(lambda table: table.compares_with(section), tables):
        beside: dict[str, dict[str, Spread | str | None]] = {}
        for number in table.numbers:
            if number.column in columns:
                beside.setdefault(number.model, {})[number.column] = number.value
        for k, (name, known) in enumerate(beside.items()):
            tag = f"published, {table.source}"
            rows.append(_other(name, tag, [*cells(known), *blank], first=k == 0))
    head = ["", *columns, "seeds", *costs]
    return _table(head, rows, spans=[2 if name in pairs else 1 for name in head])


def _other(name: str, tag: str, cells: Sequence[str], first: bool) -> str:
    """A row of what is no group; the first of them is set apart."""
    mark = f'{_escape(name)}<span class="tag">{_escape(tag)}</span>'
    return _row(mark, cells, "other apart" if first else "other")


def _published(table: Published) -> str:
    """A table of the paper, each number with where it was seen."""
    head = f"<h3>Published: {_escape(table.title)}</h3>"
    where = (
        f'<p class="soft">arXiv 2506.01153, {_escape(table.source)}; {_escape(table.setting)}.</p>'
    )
    if not table.numbers:
        return head + where
    models = list(dict.fromkeys(number.model for number in table.numbers))
    columns = list(dict.fromkeys(number.column for number in table.numbers))
    cells = {(number.model, number.column): number for number in table.numbers}
    rows = []
    for model in models:
        own = [cells.get((model, column)) for column in columns]
        rows.append(_row(_escape(model), _cells(
            NONE if n is None else
            f'{_escape(n.value)}<span class="tag">{_escape(n.trust)}</span>' for n in own
        )))  # fmt: skip
    words = [word for word in trust() if word in {number.trust for number in table.numbers}]
    legend = "; ".join(f"<b>{_escape(word)}</b>: {_escape(trust()[word])}" for word in words)
    note = f'<p class="soft">None of these was read in the paper itself. {legend}.</p>'
    return head + where + _table(["", *columns], rows) + note


def _configs(section: Section) -> str:
    differing = section.differing()
    if not differing:
        return ""
    rows = [
        _row(f"<code>{_escape(name)}</code>", _cells(_escape(value) or NONE for value in values))
        for name, values in differing.items()
    ]
    head = ["", *(group.label for group in section.groups)]
    title, table = "What differs in the configurations", _table(head, rows, "words")
    if len(rows) <= UNFOLDED:
        return f"<h3>{title}</h3>{table}"
    return f"<details><summary>{title}: {len(rows)} fields</summary>{table}</details>"


def _pictures(section: Section) -> dict[str, str]:
    """The saved figures of the first seed of each group, and those that compare runs."""
    shown = {}
    several = len(section.groups) > 1
    for group in section.groups:
        run = next((run for run in group.runs if run.figures), group.runs[0])
        which = f"{group.label}, " if several else ""
        for path in run.figures:
            title = f"{path.stem}: {which}seed {run.seed}"
            shown[title] = _image(path, title)
    for path in section.pictures:
        title = f"{path.stem}: comparison in {path.parent.parent.name}"
        shown[title] = _image(path, title)
    return shown


def _image(path: Path, title: str) -> str:
    small = io.BytesIO()  # a quarter of the bytes: figures have few colours
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    encoded = base64.b64encode(small.getvalue()).decode()
    return f'<img alt="{_escape(title)}" src="data:image/png;base64,{encoded}">'


def _benches(folders: Sequence[Path]) -> str:
    """The tables and figures that `wsrnn bench` wrote."""
    parts, notes = [], []
    for folder in folders:
        parts.append(f"<h3>{_escape(folder.name)}</h3>")
        try:
            document = json.loads((folder / BENCH).read_text())
            parts.append(f'<p class="soft">{_escape(document["device"])}</p>')
            values = document.get("values") or {"": document}
            rows = [
                _row(_escape(f"{value} {name}".strip()), _cells((
                    f"{timing['step_ms']:,.2f}", f"{timing['tokens_per_s']:,.0f}",
                    f"{timing['temporary_mib']:,.1f}", f"{timing['parameters']:,}",
                )))
                for value, part in values.items() for name, timing in part["rows"].items()
            ]  # fmt: skip
            head = ["", "ms/step", "tokens/s", "temporary MiB", "parameters"]
            parts.append(_table(head, rows))
        except DAMAGE as error:
            notes.append(f"{folder / BENCH} is damaged ({error})")
        shown = {path.stem: _image(path, path.stem) for path in pictures(folder, notes)}
        parts.append(_figures("", shown, "figures wide"))
    if not parts:
        return ""
    return "\n".join(
        ['<section id="speed">', "<h2>Speed and memory</h2>", *parts, _notes(notes), "</section>"]
    )


def _legend(section: Section, marks: Sequence[Style]) -> str:
    names = [
        f"<span>{_swatch(mark)}{_escape(group.label)}</span>"
        for group, mark in zip(section.groups, marks, strict=True)
    ]
    return f'<p class="legend">{"".join(names)}</p>' if len(names) > 1 else ""


def _figures(title: str, drawings: Mapping[str, str], kind: str, legend: str = "") -> str:
    if not drawings:
        return ""
    every = "".join(
        f"<figure><figcaption>{_escape(name)}</figcaption>{drawing}</figure>"
        for name, drawing in drawings.items()
    )
    head = f"<h3>{_escape(title)}</h3>" if title else ""
    return f'{head}{legend}<div class="{kind}">{every}</div>'


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{_escape(note)}</li>" for note in dict.fromkeys(notes))
    return f'<div class="notes"><ul>{items}</ul></div>'


def _table(
    head: Sequence[str], rows: Iterable[str], kind: str = "", spans: Sequence[int] | None = None
) -> str:
    names = "".join(
        f'<th scope="col" colspan="{span}">{_escape(name)}</th>'
        for name, span in zip(head, spans or [1] * len(head), strict=True)
    )
    return (
        f'<div class="box" tabindex="0"><table class="{kind}"><thead><tr>{names}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(name: str, cells: Iterable[str], kind: str = "") -> str:
    """A row of a name and cells that are escaped already."""
    return f'<tr class="{kind}"><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _cells(contents: Iterable[str]) -> list[str]:
    return [f"<td>{content}</td>" for content in contents]


def _swatch(style: Style) -> str:
    return f'<span class="swatch" style="border-top: 3px {style.dash} {style.colour}"></span>'


def _spread(value: Spread | str | None, pair: bool) -> list[str]:
    """A cell of the mean and, in a pair, one of the deviation, so that both stand in line."""
    deviation = ""
    if value is None:
        mean = NONE
    elif isinstance(value, str):
        mean = _escape(value)
    else:
        mean = short(value.mean)
        deviation = f"± {short(value.deviation)}" if value.deviation else ""
    return [f"<td>{mean}</td>", *([f'<td class="sd">{deviation}</td>'] if pair else [])]


def _cost(name: str, value: Spread | None) -> str:
    if value is None:
        return NONE
    return f"{value.mean:,.0f}" if name in WHOLE else f"{value.mean:,.3g}"


def short(value: float) -> str:
    """Four decimals, or three significant digits of what would not fit in them."""
    if not math.isfinite(value):
        return "&ndash;"
    return f"{value:.4f}" if value == 0 or 5e-5 <= abs(value) < 1000 else f"{value:.2e}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def _escape(text: object) -> str:
    return html.escape(str(text))
