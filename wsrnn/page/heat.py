"""A heat map where a section's groups are of several data sets, as the paper's of ETT."""

import html

from wsrnn.page.groups import Section, spread

DATA = "task.name"


def heat_map(section: Section) -> str:
    """Return models and baselines by data sets as a table, shaded within each column.

    The first result of each, the redder the larger; empty where all groups are of one data set.
    """
    columns = section.columns()
    names = list(dict.fromkeys(str(g.runs[0].config.get(DATA)) for g in section.groups))
    if len(names) < 2 or not columns:
        return ""
    metric, cells = columns[0], {}
    models = [str(group.runs[0].config.get("model")).removesuffix("Config")
              for group in section.groups]  # fmt: skip
    pairs = [(m, str(g.runs[0].config.get(DATA)))
             for m, g in zip(models, section.groups, strict=True)]  # fmt: skip
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
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in ("", *names))
    return (
        f"<h3>{html.escape(metric)} by data set, the redder the larger</h3>"
        f'<div class="box" tabindex="0"><table class="heat"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: float | None, least: float, most: float) -> str:
    if value is None:
        return "<td></td>"
    part = 60 * (value - least) / (most - least) if most > least else 0
    shade = f"background: color-mix(in srgb, var(--accent) {part:.0f}%, transparent)"
    return f'<td style="{shade}">{value:.4g}</td>'
