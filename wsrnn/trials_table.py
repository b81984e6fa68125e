"""The comparison of trials: one table of all siblings and its figures.

It reads the rows that `trials` writes for each sibling and trains nothing.
"""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wsrnn.artifacts import save_figures, write_json
from wsrnn.figures import LINES, Figure, finish, new_figure
from wsrnn.tensorboard import FINAL, TensorBoard
from wsrnn.text_table import text_table


def compare(out: Path, rows: dict[str, dict[str, Any]], missing: dict[str, str]) -> dict[str, Any]:
    """Write one table and the figures of the finished siblings to `out`; returns the document.

    `missing` says why the others are.
    """
    lines = [text(rows), *(f"{name} is missing: {why}" for name, why in missing.items())]
    document = {"rows": rows, "missing": missing, "text": "\n".join(lines)}
    write_json(out / "results.json", document)
    pictures = {
        "rates": draw_rates(
            {
                name: (row["rates"], np.array(row["validation"], float))
                for name, row in rows.items()
            },
            "validation loss at the end against the learning rate, mean and range over seeds",
        ),
        "errors": draw_columns(
            {name: (row["columns"], np.array(row["values"], float)) for name, row in rows.items()},
            next(iter(rows.values()))["title"],
        ),
    }
    paths = save_figures(pictures, out / "figures")
    tensorboard = TensorBoard(out / "comparison")
    for name, path in paths.items():
        tensorboard.image(0, f"trials/{name}", path)
    tensorboard.close()
    document["figures"] = paths
    write_json(out / "results.json", document)
    return document


def enter_copies(folder: Path, config: dict[str, Any], row: dict[str, Any]) -> None:
    """Enter the copies of a sibling, by its row, into TensorBoard's table of hyper-parameters."""
    for i, rate in enumerate(row["rates"]):
        for k, seed in enumerate(row["seeds"]):
            known = {
                "valid/loss, last step": row["validation"][i][k],
                "train/skipped steps, all": row["skipped"][i][k],
            }
            if rate == row["rate"]:  # no other rate is judged
                results = zip(row["columns"], row["values"][k], strict=True)
                known |= {f"result/{name}": value for name, value in results}
            tensorboard = TensorBoard(folder / FINAL / f"rate {rate!r} seed {seed}", "results")
            tensorboard.scalars(row["steps"], known)
            tensorboard.hparams(row["steps"], config | {"optim.learning_rate": rate, "seed": seed})
            tensorboard.close()


def text(rows: dict[str, dict[str, Any]]) -> str:
    """Sizes, best rate, and mean, least and most over seeds; below it the baselines."""
    first = next(iter(rows.values()))
    columns = list(dict.fromkeys(column for row in rows.values() for column in row["columns"]))
    baselines: dict[str, dict[str, float]] = {}
    for sibling, row in rows.items():
        for name, values in row["baselines"].items():
            known = dict(zip(row["columns"], np.array(values, float), strict=True))
            if name in rows:
                name += ", baseline"
            seen = baselines.get(name, {})
            shared = [column for column in known if column in seen]
            values, before = ([of[column] for column in shared] for of in (known, seen))
            if not np.array_equal(values, before, equal_nan=True):
                name += f", {sibling}"  # another task or evaluation than before
            baselines[name] = known | baselines.get(name, {})

    def cells(known):
        return [f"{known[c]:.4g}" if c in known else "" for c in columns]

    lines = {}
    for name, row in rows.items():
        values = np.array(row["values"], float)
        sizes = [row[key] for key in ("parameters", "state floats", "operations per token")]
        last = values[:, -1]
        lines[name] = [
            *("?" if size is None else f"{size:,}" for size in sizes),
            f"{row['rate']:g}",
            *cells(dict(zip(row["columns"], values.mean(0), strict=True))),
            f"[{last.min():.4g}, {last.max():.4g}]",
        ]
    lines |= {name: [""] * 4 + cells(known) for name, known in baselines.items()}
    seeds = tuple(first["seeds"])
    title = f"{first['title']}; mean over seeds {seeds} [least, most of the last column]"
    table = text_table(["parameters", "state", "ops/token", "rate", *columns, ""], lines)
    skipped = [
        f"{name}, rate {rate!r} seed {seed}: {count} of {row['steps']:,} steps left no trace, "
        "their loss was not finite"
        for name, row in rows.items()
        for rate, counts in zip(row["rates"], row["skipped"], strict=True)
        for seed, count in zip(row["seeds"], counts, strict=True)
        if count
    ]
    return "\n".join([title, table, *skipped])


def draw_rates(
    losses: dict[str, tuple[Sequence[float], Float[np.ndarray, "rates seeds"]]], title: str
) -> Figure:
    """Loss against the learning rate, a line through the means over seeds."""
    lines = {
        name: (np.array(at), values.mean(1), values.T) for name, (at, values) in losses.items()
    }
    return _draw_spread(
        lines, title, xlabel="learning rate", ylabel="validation loss", xscale="log"
    )


def draw_columns(
    rows: dict[str, tuple[Sequence[str], Float[np.ndarray, "seeds columns"]]], title: str
) -> Figure:
    """Each row's values over the columns of a table, a line through the means over seeds."""
    every = list(dict.fromkeys(column for names, _ in rows.values() for column in names))
    lines = {
        name: (np.array([every.index(column) for column in names]), values.mean(0), values)
        for name, (names, values) in rows.items()
    }
    figure = _draw_spread(lines, title)
    figure.axes[0].set_xticks(range(len(every)), every)
    return figure


def _draw_spread(
    lines: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], title: str, **settings
) -> Figure:
    """Lines (x, mean over seeds, every seed), with a band from the least seed to the most."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    styles = cycle((colour, line) for line in ("-", "--", ":") for colour in LINES)
    for (name, (x, mean, seeds)), (colour, line) in zip(lines.items(), styles, strict=False):
        axes.fill_between(x, seeds.min(0), seeds.max(0), color=colour, alpha=0.2, lw=0)
        axes.plot(x, mean, line, color=colour, marker="o", ms=3, lw=1.2, label=name)
    positive = any(np.any(np.isfinite(mean) & (mean > 0)) for _, mean, _ in lines.values())
    axes.set(yscale="log" if positive else "linear", **settings)
    axes.set_title(title, fontsize=10)
    finish(axes)
    return figure
