"""Pictures of a benchmark: bars, or curves over the values of a field."""

from wsrnn.figures import GREYS, LINES, OURS, Figure, finish, log_ticks, new_figure


def draw_costs(times: dict[str, float], memory: dict[str, float], title: str) -> Figure:
    """Step time and temporary memory of each row of a benchmark, side by side, logarithmic."""
    figure = new_figure(9, 1.5 + 0.3 * len(times))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, label in ((left, times, "ms a step"), (right, memory, "temporary MiB")):
        least = min(values.values())
        for row, value in enumerate(values.values()):
            axes.barh(row, value, color=OURS if value == least else GREYS[2])
            axes.text(value, row, f" {value:,.4g}", va="center", fontsize=8)
        axes.set(xlabel=label, xscale="log", xmargin=0.2)
        finish(axes, legend=False)
    left.set_yticks(range(len(times)), list(times), fontsize=8)
    left.invert_yaxis()
    figure.suptitle(f"{title}: value and gradient")
    return figure


def draw_scaling(
    field: str,
    times: dict[str, dict[str, float]],
    memory: dict[str, dict[str, float]],
    title: str,
) -> Figure:
    """Step time and temporary memory against the values of a field, a line for each row.

    Both are logarithmic in both axes; times and memory hold {row: cost} for each value.
    """
    figure = new_figure(9, 4)
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
        axes.xaxis.minorticks_off()
        log_ticks(axes.yaxis)
        axes.yaxis.set_major_formatter("{x:,.6g}")
        axes.grid(color="#eeeeee")
        finish(axes, legend=False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"{title}: value and gradient")
    return figure
