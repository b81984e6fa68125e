"""A heat map where a section's groups are of several data sets, as the paper's of ETT."""

import html
from collections.abc import Sequence

from wsrnn.page.groups import Group, Section, spread

FIELDS = ("task.name", "task.problem", "task.images")  # those of a task that name its data set


def heat_map(section: Section) -> str:
    """Return models and baselines by data sets as a table, shaded within each column.

    A data set is a task's class and its name, problem or images; groups whose task has none of
    these are left out. The first result of each, the redder the larger; empty where all groups are
    of one data set.
    """
    named = [(group, data) for group in section.groups if (data := _data_set(group))]
    section = Section(section.name, [group for group, _ in named])
    columns = section.columns()
    names = list(dict.fromkeys(data for _, data in named))
    if len(names) < 2 or not columns:
        return ""
    metric, cells = columns[0], {}
    pairs = [(str(group.runs[0].config.get("model")).removesuffix("Config"), data)
             for group, data in named]  # fmt: skip
    for group, pair in zip(section.groups, pairs, strict=True):
        # Several groups of one model and data set go by their labels.
        row = pair[0] if pairs.count(pair) == 1 else group.label
        if found := group.over_seeds(metric):
            cells[row, pair[1]] = found.mean
    for group, (_, name) in zip(section.groups, pairs, strict=True):
        for baseline in dict.fromkeys(b for run in group.runs for b in run.baselines):
            known = [run.baselines.get(baseline, {}) for run in group.runs]
            if found := spread([values[metric] for values in known if metric in values]):
                cells.setdefault((baseline, name), found.mean)
    rows = list(dict.fromkeys(row for row, _ in cells))
    body = ""
    for row in rows:
        body += f'<tr><th scope="row">{html.escape(row)}</th>'
        for name in names:
            column = [value for (_, other), value in cells.items() if other == name]
            body += _cell(cells.get((row, name)), min(column, default=0), max(column, default=0))
        body += "</tr>"
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in ("", *_titles(names)))
    return (
        f"<h3>{html.escape(metric)} by data set, the redder the larger</h3>"
        f'<div class="box" tabindex="0"><table class="heat"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _data_set(group: Group) -> tuple[str, str] | None:
    """The class of the task and what names its data; None where nothing does."""
    config = group.runs[0].config
    name = next((str(config[field]) for field in FIELDS if field in config), None)
    return None if name is None else (str(config.get("task")), name)


def _titles(sets: Sequence[tuple[str, str]]) -> list[str]:
    """Names of data sets, with the task's class where several tasks have one of that name."""
    names = [name for _, name in sets]
    return [name if names.count(name) == 1 else f"{task} {name}" for task, name in sets]


def _cell(value: float | None, least: float, most: float) -> str:
    if value is None:
        return "<td></td>"
    part = 60 * (value - least) / (most - least) if most > least else 0
    shade = f"background: color-mix(in srgb, var(--accent) {part:.0f}%, transparent)"
    return f'<td style="{shade}">{value:.4g}</td>'
