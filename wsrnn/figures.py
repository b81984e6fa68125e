"""Figures, through matplotlib: functions from arrays to a Figure, with no state and no window."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

OURS = "#c1272d"
LINES = [OURS, "#4477aa", "#228833", "#222222", "#9a9a9a", "#ccbb44", "#aa3377", "#66ccee"]
GREYS = ["#222222", "#6b6b6b", "#9a9a9a", "#c4c4c4"]


def error_curves(
    prefixes: Sequence[int],
    errors: dict[str, Sequence[float]],
    title: str,
    dimension: int | None,
    band: tuple[Sequence[float], Sequence[float]] | None = None,
    shown: str = "mean squared error / Var(y)",
) -> Figure:
    """Error after n examples, the first row in colour and the baselines in grey; logarithmic.

    `band`: the least and the most of an interval around the first row. `shown`: what an error is.
    `dimension`: where n = d, for a line.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    colours = [OURS, *GREYS, *GREYS]
    marks = ["o-", "s:", "^--", "v-.", "D-", "x:", "+--", "1-."]
    if band:
        axes.fill_between(prefixes, *np.clip(band, 1e-4, 1.3), color=OURS, alpha=0.2, lw=0)
    for (name, values), colour, mark in zip(errors.items(), colours, marks, strict=False):
        drawn = np.clip(values, 1e-4, 1.3)
        wide = 2.5 if colour == OURS else 1.2
        axes.plot(prefixes, drawn, mark, color=colour, label=name, lw=wide, ms=4, clip_on=False)
    if dimension:
        axes.axvline(dimension, color="#dddddd", zorder=0)
        axes.text(dimension, 1.5e-4, " n = d", color="#999999", fontsize=8)
    axes.set(
        yscale="log", ylim=(1e-4, 1.3), xlabel="examples in the prompt, n",
        ylabel=f"{shown}   (drawn within 1e-4 and 1.3)", title=title,
    )  # fmt: skip
    axes.set_xticks(
        list(prefixes) if len(prefixes) < 12 else list(prefixes)[:: len(prefixes) // 10]
    )
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def intervals(rows: dict[str, Sequence[float]], beside: dict[str, float], title: str) -> Figure:
    """One line for each row (error, least, most), and a mark beside it; logarithmic."""
    figure = Figure(figsize=(7, 1 + 0.22 * len(rows)), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    values = np.clip(np.array(list(rows.values())), 1e-4, None)
    height = np.arange(len(rows))[::-1]
    axes.hlines(height, values[:, 1], values[:, 2], color=OURS, lw=3, alpha=0.4)
    axes.plot(values[:, 0], height, "o", color=OURS, ms=4, label="this model")
    marked = [
        (np.clip(beside[n], 1e-4, None), y)
        for n, y in zip(rows, height, strict=True)
        if n in beside
    ]
    if marked:
        axes.plot(*zip(*marked, strict=True), "|", color="#222222", ms=9, mew=2, label="ridge")
    axes.axvline(1, color="#dddddd", zorder=0)
    axes.set(xscale="log", xlabel="mean squared error / Var(y)   (90 % interval)", title=title)
    axes.set_yticks(height, list(rows), fontsize=8)
    figure.legend(frameon=False, fontsize=8, loc="outside lower right", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def ratios(
    tables: Sequence[str],
    panels: dict[str, dict[str, dict[str, tuple[float, float, float]]]],
    title: str,
) -> Figure:
    """Ratios (median, least, most) by panel, line and table; left of 1 the model is the better.

    Drawn within 0.02 and 50.
    """
    figure = Figure(figsize=(11, 1.8 + 0.38 * len(tables)), layout="constrained", dpi=120)
    height = {table: -row for row, table in enumerate(tables)}
    for axes, (name, lines) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        for k, (line, found) in enumerate(lines.items()):
            colour = LINES[k % len(LINES)]
            at = np.array([height[table] for table in found]) + 0.3 - 0.6 * (k + 0.5) / len(lines)
            median, least, most = np.clip(np.array(list(found.values())).T, 0.02, 50)
            axes.hlines(at, least, most, color=colour, lw=2, alpha=0.4)
            axes.plot(median, at, "o", color=colour, ms=4, label=line)
        axes.axvline(1, color="#999999", lw=1, zorder=0)
        axes.set(xscale="log", xlabel=f"{name}   (90 % interval)")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
        axes.grid(axis="x", color="#eeeeee")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_yticks(list(height.values()), list(height), fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def states(
    at: Sequence[int],
    probes: dict[str, Sequence[float]],
    components: Float[np.ndarray, "N n 2"],
    drift: Float[np.ndarray, " n"],
    eigenvalues: np.ndarray | None,
    title: str,
) -> Figure:
    """Four views of what states hold: probes, principal components, drift, spectrum of A."""
    figure = Figure(figsize=(10, 7), layout="constrained", dpi=120)
    probed, shown, moved, spectrum = figure.subplots(2, 2).ravel()
    for (name, scores), colour in zip(probes.items(), LINES, strict=False):
        probed.plot(at, np.clip(scores, -0.2, 1), "o-", color=colour, label=name)
    probed.set(ylim=(-0.25, 1.05), xlabel="examples, n", ylabel="R^2", title="linear probes")
    probed.legend(frameon=False)
    few = components[:40]
    steps = np.broadcast_to(np.arange(1, few.shape[1] + 1), few.shape[:2])
    dots = shown.scatter(*few.reshape(-1, 2).T, c=steps.ravel(), s=6, cmap="viridis")
    figure.colorbar(dots, ax=shown, label="examples, n")
    shown.set(title="states in their two main directions", xticks=[], yticks=[])
    n = np.arange(1, len(drift) + 1)
    moved.plot(n, drift, "o-", color=OURS, ms=3)
    moved.set(xscale="log", yscale="log", xlabel="examples, n", ylabel="length of a step",
              title="how far a token moves the state")  # fmt: skip
    if eigenvalues is None:
        spectrum.set_axis_off()
    else:
        circle = np.exp(2j * np.pi * np.linspace(0, 1, 200))
        spectrum.plot(circle.real, circle.imag, color="#cccccc", lw=1)
        spectrum.plot(eigenvalues.real, eigenvalues.imag, ".", color=OURS, ms=3)
        spectrum.set(title="eigenvalues of A", aspect="equal")
    figure.suptitle(title)
    return figure


def emergence(
    steps: Int[np.ndarray, " T"],
    losses: Float[np.ndarray, " T"],
    plateaus: Sequence[tuple[float, int, int]],
    predicted: Sequence[float],
    title: str,
) -> Figure:
    """The training loss over the steps, its plateaus (level, first, last), the levels predicted."""
    figure = Figure(figsize=(7, 4.5), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    for row, level in enumerate(predicted):
        axes.axhline(level, color=GREYS[2], lw=1, ls="--", label="predicted" if not row else None)
        axes.text(1.01, level, f"{level:.3f}", color=GREYS[1], fontsize=8, va="center",
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.plot(steps, losses, color=LINES[1], lw=1, label="training loss")
    for row, (level, first, last) in enumerate(plateaus):
        axes.plot([first, last], [level, level], color=OURS, lw=4, alpha=0.6,
                  solid_capstyle="butt", label=None if row else "plateaus found")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel="loss / Var(y)", title=title)
    axes.legend(fontsize=8, loc="lower left", edgecolor="white", framealpha=1)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def completions(
    context: Float[np.ndarray, "N pixels"],
    completed: Float[np.ndarray, "N pixels"],
    truth: Float[np.ndarray, "N pixels"],
    known: int,
    title: str,
) -> Figure:
    """Images in three rows: what was given, what was made of it, and the truth."""
    count, side = len(truth), int(truth.shape[1] ** 0.5)
    figure = Figure(figsize=(1.1 * count + 1.0, 4.2), layout="constrained", dpi=120)
    grid = figure.subplots(3, count, squeeze=False)
    given = np.where(np.arange(side**2) < known, context, np.nan)
    for row, (name, images) in enumerate(
        {f"first {known}": given, "completion": completed, "truth": truth}.items()
    ):
        for column, image in enumerate(images):
            axes = grid[row, column]
            axes.set_facecolor("#dfe7ef")
            axes.imshow(image.reshape(side, side), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        grid[row, 0].set_ylabel(name)
    figure.suptitle(title, fontsize=10)
    return figure


def forecasts(
    truth: Float[np.ndarray, "N L"],
    lines: dict[str, Float[np.ndarray, "N H"]],
    title: str,
) -> Figure:
    """Series with their last H steps forecast, one panel each; the first line in colour."""
    count = len(truth)
    figure = Figure(figsize=(9, 1.9 * count), layout="constrained", dpi=120)
    for panel, axes in enumerate(figure.subplots(count, 1, squeeze=False)[:, 0]):
        axes.plot(truth[panel], color="black", lw=1, label="truth")
        for (name, values), colour in zip(
            lines.items(), [OURS, "#4477aa", "#aaaaaa"], strict=False
        ):
            steps = np.arange(truth.shape[1] - values.shape[1], truth.shape[1])
            axes.plot(
                steps, values[panel], color=colour, lw=1.5 if colour == OURS else 1, label=name
            )
        axes.axvline(truth.shape[1] - values.shape[1] - 0.5, color="#cccccc", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("step")
    figure.axes[0].legend(frameon=False, fontsize=8, ncols=4, loc="upper left")
    figure.suptitle(title, fontsize=10)
    return figure


def predictions(
    times: Float[np.ndarray, "N T"],
    outputs: Float[np.ndarray, "N T O"],
    inputs: Float[np.ndarray, "N T D"],
    title: str,
) -> Figure:
    """The outputs of a model over time, one panel a sequence, over its inputs in grey."""
    count = len(outputs)
    figure = Figure(figsize=(9, 1.9 * count), layout="constrained", dpi=120)
    for panel, axes in enumerate(figure.subplots(count, 1, squeeze=False)[:, 0]):
        axes.plot(times[panel], inputs[panel], color="#bbbbbb", lw=1)
        axes.plot(times[panel], outputs[panel], lw=1.5)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("time   (grey: inputs, colours: predictions)")
    figure.suptitle(title, fontsize=10)
    return figure


def mode_losses(losses: dict[str, Float[np.ndarray, " steps"]], title: str) -> Figure:
    """The losses of sibling runs, and how far each is from the first."""
    figure = Figure(figsize=(8, 5), layout="constrained", dpi=120)
    upper, lower = figure.subplots(2, 1, sharex=True)
    reference, first = next(iter(losses.items()))
    for (name, values), style in zip(losses.items(), ["-", "--", ":", "-."] * 4, strict=False):
        upper.plot(values, style, label=name, lw=1)
        if name != reference:
            relative = np.maximum(np.abs(values - first) / np.abs(first), 1e-9)
            lower.plot(relative, lw=1, label=f"|{name} - {reference}| / {reference}")
    upper.set(ylabel="training loss", yscale="log", title=title)
    lower.set(ylabel="relative difference (floor 1e-9)", xlabel="step", yscale="log")
    for axes in (upper, lower):
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def races(curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Loss against seconds of training, a curve for each run that has any; both logarithmic."""
    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=120)
    axes = figure.subplots()
    for name, (seconds, loss) in curves.items():
        known = seconds > 0
        if known.any():
            axes.loglog(seconds[known], loss[known], "o-", ms=3, lw=1.2, label=name)
    axes.set(xlabel="seconds of training", ylabel="validation loss", title=title)
    if axes.lines:
        axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def rates(
    losses: dict[str, tuple[Sequence[float], Float[np.ndarray, "rates seeds"]]], title: str
) -> Figure:
    """Loss against the learning rate, a line through the means over seeds."""
    lines = {
        name: (np.array(at), values.mean(1), values.T) for name, (at, values) in losses.items()
    }
    return _spread(lines, title, xlabel="learning rate", ylabel="validation loss", xscale="log")


def columns(
    rows: dict[str, tuple[Sequence[str], Float[np.ndarray, "seeds columns"]]], title: str
) -> Figure:
    """Each row's numbers over the columns of a table, a line through the means over seeds."""
    every = list(dict.fromkeys(column for names, _ in rows.values() for column in names))
    lines = {
        name: (np.array([every.index(column) for column in names]), values.mean(0), values)
        for name, (names, values) in rows.items()
    }
    figure = _spread(lines, title)
    figure.axes[0].set_xticks(range(len(every)), every)
    return figure


def _spread(
    lines: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], title: str, **settings
) -> Figure:
    """Lines (x, mean over seeds, every seed), with a band from the least seed to the most."""
    figure = Figure(figsize=(7, 4.5), layout="constrained", dpi=120)
    axes = figure.subplots()
    styles = cycle((colour, line) for line in ("-", "--", ":") for colour in LINES)
    for (name, (x, mean, seeds)), (colour, line) in zip(lines.items(), styles, strict=False):
        axes.fill_between(x, seeds.min(0), seeds.max(0), color=colour, alpha=0.2, lw=0)
        axes.plot(x, mean, line, color=colour, marker="o", ms=3, lw=1.2, label=name)
    positive = any(np.any(np.isfinite(mean) & (mean > 0)) for _, mean, _ in lines.values())
    axes.set(yscale="log" if positive else "linear", title=title, **settings)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def costs(times: dict[str, float], memory: dict[str, float], title: str) -> Figure:
    """Step time and temporary memory of each row of a benchmark, side by side, logarithmic."""
    figure = Figure(figsize=(9, 1.5 + 0.3 * len(times)), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, label in ((left, times, "ms a step"), (right, memory, "temporary MiB")):
        least = min(values.values())
        for row, value in enumerate(values.values()):
            axes.barh(row, value, color=OURS if value == least else GREYS[2])
            axes.text(value, row, f" {value:,.4g}", va="center", fontsize=8)
        axes.set(xlabel=label, xscale="log", xmargin=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yticks(range(len(times)), list(times), fontsize=8)
    left.invert_yaxis()
    figure.suptitle(f"{title}: value and gradient")
    return figure


def scaling(
    field: str,
    times: dict[str, dict[str, float]],
    memory: dict[str, dict[str, float]],
    title: str,
) -> Figure:
    """Step time and temporary memory against the values of a field, a line for each row.

    Both are logarithmic in both axes; times and memory hold {row: cost} for each value.
    """
    figure = Figure(figsize=(9, 4), layout="constrained", dpi=120)
    names = list(dict.fromkeys(name for rows in times.values() for name in rows))
    values = sorted(times, key=float)
    for axes, costs, label in zip(
        figure.subplots(1, 2), (times, memory), ("step time (ms)", "temporary memory (MiB)"),
        strict=True,
    ):  # fmt: skip
        for name, colour, mark in zip(names, LINES, "os^DvPX*ph", strict=False):
            at = [value for value in values if name in costs[value]]
            axes.plot(
                [float(value) for value in at], [costs[value][name] for value in at],
                f"{mark}-", color=colour, label=name, lw=1.5, ms=5,
            )  # fmt: skip
        axes.set(xlabel=field, ylabel=label, xscale="log", yscale="log")
        axes.set_xticks([float(value) for value in values], values)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,.6g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(color="#eeeeee")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"{title}: value and gradient")
    return figure
