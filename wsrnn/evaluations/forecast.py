"""Forecasts of series, beside repeating the last value and repeating the day before."""

from dataclasses import dataclass

import numpy as np

from wsrnn import data, figures
from wsrnn.evaluations import Evaluation, Result, in_batches


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
        picture = figures.forecasts(
            truth[some, :, -1], {name: line[some, :, -1] for name, line in lines.items()}, title
        )
        return Result(title, ["MSE", "MAE"], rows, {"forecast": picture})
