"""The figure of forecasts, a panel for each sequence: shared by evaluations."""

import numpy as np
from jaxtyping import Bool, Float

from wsrnn.figures import LINES, Figure, finish, new_figure


def draw_forecasts(
    truth: Float[np.ndarray, "N S"],
    lines: dict[str, Float[np.ndarray, "N H"]],
    title: str,
    scored: Bool[np.ndarray, "N H"] | None = None,
) -> Figure:
    """Sequences, and forecasts of their last H steps where these are scored; the first is ours."""
    N, S = truth.shape
    figure = new_figure(9, 1.9 * N)
    panels = figure.subplots(N, 1, squeeze=False)[:, 0]
    for n, axes in enumerate(panels):
        axes.plot(truth[n], color="black", lw=1, label="truth")
        for k, (name, values) in enumerate(lines.items()):
            steps, line = np.arange(S - values.shape[1], S), values[n]
            if scored is not None:
                steps, line = steps[scored[n]], line[scored[n]]
            axes.plot(steps, line, color=LINES[k % len(LINES)], lw=1 if k else 1.5, label=name)
        axes.axvline(steps[0] - 0.5, color="#cccccc", zorder=0)  # the end of the context
        finish(axes, legend=False)
    panels[0].legend(frameon=False, fontsize=8, ncols=5, loc="upper left")
    panels[-1].set_xlabel("step")
    figure.suptitle(title, fontsize=10)
    return figure
