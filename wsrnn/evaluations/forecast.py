"""Forecasts of series, beside repeating the last value and repeating the day before."""

from dataclasses import dataclass

import numpy as np

from wsrnn import data, figures
from wsrnn.errors import UserError
from wsrnn.evaluations import Evaluation, Result, in_batches


@dataclass(frozen=True)
class Forecast(Evaluation):
    """Mean squared and absolute error over every test window, step and channel, on scaled values.

    For tasks whose mask marks one stretch of forecasts at the end of each window.
    """

    period: int = 24
    """Steps in a season: a day of hours."""
    windows: int | None = None
    """Test windows, from the first on; None takes all."""
    drawn: int = 4
    """Windows in the figure."""

    def __call__(self, model, task, seed):
        """Forecast the test windows."""
        windows = self.windows or len(task.dataset("test", seed))
        batch = data.examples(task, "test", seed, windows)
        known = int(batch.mask[0].argmax()) + 1
        if known < self.period:
            raise UserError(
                f"evaluation.period {self.period} is longer than the context of {known}"
            )
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
