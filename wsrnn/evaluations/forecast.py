"""Forecasts of time series, next to the persistence and seasonal baselines."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from wsrnn import data
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.figures import OURS, Figure, finish, new_figure


@dataclass(frozen=True)
class Forecast(Evaluation):
    """Mean squared and absolute error over every test window, step and channel, on scaled values.

    For tasks with a known context and the forecasts after it.
    """

    period: int = 24
    """Steps in a season: a day of hours."""
    windows: int | None = None
    """Test windows, from the first on; None takes all."""
    drawn: int = 4
    """Windows in the figure."""

    def __post_init__(self):
        if min(self.period, self.drawn) < 1 or (self.windows is not None and self.windows < 1):
            raise ValueError("evaluation.period, drawn and windows must be at least 1")

    def check(self, task, model):
        """The context must hold a whole season to repeat."""
        if not hasattr(task, "context"):
            raise ValueError("evaluation by forecast is for tasks with a context and a horizon")
        if task.context < self.period:
            raise ValueError(
                f"evaluation.period {self.period} is longer than the context of {task.context}"
            )

    def __call__(self, model, task, seed):
        """Forecast the test windows."""
        windows = self.windows or len(task.dataset("test", seed))
        batch = data.examples(task, "test", seed, windows)
        known = task.context
        target = batch.targets[:, known - 1 :]
        outputs = in_batches(model, "__call__", 128, batch.inputs, batch.times)
        steps = np.arange(target.shape[1]) % self.period
        seen = batch.inputs[:, :known]
        lines = {
            "this model": outputs[:, known - 1 :, : task.d_out],
            "repeat last": np.broadcast_to(seen[:, -1:], target.shape),
            "repeat the day before": seen[:, known - self.period + steps],
        }
        rows = {
            name: [float(np.mean((line - target) ** 2)), float(np.mean(np.abs(line - target)))]
            for name, line in lines.items()
        }
        some = np.linspace(0, len(target) - 1, self.drawn).astype(int)
        truth = np.concatenate([seen, target], 1)
        title = (
            f"{known} steps in, {target.shape[1]} out, {len(target):,} test windows, scaled values"
        )
        picture = draw_forecasts(
            truth[some, :, -1], {name: line[some, :, -1] for name, line in lines.items()}, title
        )
        return Result(title, ["MSE", "MAE"], rows, {"forecast": picture})


def draw_forecasts(
    truth: Float[np.ndarray, "N L"],
    lines: dict[str, Float[np.ndarray, "N H"]],
    title: str,
) -> Figure:
    """Series with their last H steps forecast, one panel each; the first line in colour."""
    count = len(truth)
    figure = new_figure(9, 1.9 * count)
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
        finish(axes, legend=False)
    axes.set_xlabel("step")
    figure.axes[0].legend(frameon=False, fontsize=8, ncols=4, loc="upper left")
    figure.suptitle(title, fontsize=10)
    return figure
