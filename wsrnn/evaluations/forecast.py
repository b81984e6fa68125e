"""Forecasts of time series, next to repetition and ridge regression."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from wsrnn.errors import UserError
from wsrnn.evaluations import Evaluation, Result
from wsrnn.evaluations.continuation import continued
from wsrnn.evaluations.panels import draw_forecasts
from wsrnn.models import Model
from wsrnn.tasks import Split
from wsrnn.tasks.windows import Windows

PENALTIES = tuple(10.0**k for k in range(-4, 5))
"""Of ridge regression, relative to the mean square of a centred sample; validation chooses."""
AT_ONCE = 4096
"""Windows, of one or all channels, in memory at a time."""


@dataclass(frozen=True)
class Forecast(Evaluation):
    """Mean squared and absolute error over every test window, step and channel, on scaled values.

    For tasks made of `Windows`. Beside the model stand the last row repeated, the last season
    repeated, and ridge regression from the context to the horizon: one for all channels, on windows
    less the mean of their context, its penalty chosen on the validation windows.
    """

    period: int | None = None
    """Rows in a season; None takes the task's, and 1 leaves that baseline out."""
    drawn: int = 4
    """Windows in the figure."""

    def __post_init__(self):
        if self.drawn < 1 or (self.period is not None and self.period < 1):
            raise ValueError("evaluation.period and drawn must be at least 1")

    def check(self, task, model):
        """The task must have windows."""
        if not isinstance(task, Windows):
            raise ValueError(
                "evaluation by forecast is for windows of a table: set a task such as task:series"
            )

    def prepare(self, task):
        """Look for a split that is too short, and for a season longer than what is known."""
        for split in ("train", "valid", "test"):
            task.rows(split)
        period, known = self._period(task), task.rows("test")[1] + task.known
        if _season_before(task, period).min() < 0:
            raise UserError(
                f"{task.table().path}: a period of {period} rows is longer than the {known} before "
                "the test part: lower --evaluation.period (1 leaves it out)"
            )

    def _period(self, task):
        return self.period or task.season

    def __call__(self, model, task, seed):
        """Forecast the test windows."""
        windows = task.windows("test")
        L = task.known
        seen, truth = windows[:, :L], windows[:, L:]
        lines = {"this model": forecasts(model, task, windows)}
        lines["repeat last"] = np.broadcast_to(seen[:, -1:], truth.shape)
        if (period := self._period(task)) > 1:
            lines[f"repeat {period} rows"] = seasonal(task, period)
        weights, penalty = ridge(task)
        mean = seen.mean(1, keepdims=True)
        lines[f"ridge ({penalty:g})"] = mean + np.einsum("nlc,lh->nhc", seen - mean, weights)
        rows = {
            name: [float(np.mean((line - truth) ** 2)), float(np.mean(np.abs(line - truth)))]
            for name, line in lines.items()
        }
        some = np.linspace(0, len(truth) - 1, self.drawn).astype(int)
        title = (
            f"{L} rows in, {truth.shape[1]} out, {len(truth):,} test windows of "
            f"{truth.shape[2]} channel(s), scaled values"
        )
        picture = draw_forecasts(
            windows[some, :, -1], {name: line[some, :, -1] for name, line in lines.items()}, title
        )
        return Result(title, ["MSE", "MAE"], rows, {"forecast": picture})


def forecasts(
    model: Model, task: Windows, windows: Float[np.ndarray, "N R C"]
) -> Float[np.ndarray, "N H C"]:
    """Return a model's forecasts of the rows after the longest context of each window."""
    N, R, C = windows.shape
    L, width, rest = task.context[-1], task.width, R - task.known
    found = []
    for at in range(0, N, size := max(1, AT_ONCE * width // C)):
        parts = list(task.cut(windows[at : at + size]))
        mean, scale = task.statistics(np.stack([part.values[:L] for part in parts]))
        values = continued(model, task, parts, L)[..., : task.channels] * scale + mean
        values = values.reshape(-1, C // width, rest, width)  # columns were sequences of their own
        found.append(np.swapaxes(values, 1, 2).reshape(-1, rest, C))
    return np.concatenate(found)


def seasonal(task: Windows, period: int) -> Float[np.ndarray, "N H C"]:
    """The last row known before each forecast one that lies whole periods before it.

    It may lie before the context.
    """
    rows, _ = task.rows("test")
    return rows[_season_before(task, period)]


def _season_before(task: Windows, period: int) -> Int[np.ndarray, "N H"]:
    """The numbers of these rows, below 0 where there is none."""
    rows, start = task.rows("test")
    L, H = task.known, task.horizon * task.patch
    first = np.arange(start + L, len(rows) - H + 1)  # the first row that a window forecasts
    ahead = np.arange(H)
    return first[:, None] + ahead - period * (1 + ahead // period)


def ridge(task: Windows) -> tuple[Float[np.ndarray, "L H"], float]:
    """Weights W of y = mean + (x - mean) W, from the training windows, and the penalty of least
    error on the validation windows.

    Solved from the products of samples, L (L + H) numbers.
    """
    L, H = task.known, task.horizon * task.patch
    gram, validation = _products(task, "train"), _products(task, "valid")
    unit = np.trace(gram[:L, :L]) / L
    found = {}
    for penalty in PENALTIES:
        regular = gram[:L, :L] + penalty * unit * np.eye(L)
        W = np.linalg.solve(regular, gram[:L, L:])
        # |Y - X W|^2 by the products alone
        A = np.concatenate([-W, np.eye(H)])
        found[penalty] = np.trace(A.T @ validation @ A), W
    best = min(found, key=lambda penalty: found[penalty][0])
    return found[best][1], best


def _products(task: Windows, split: Split) -> Float[np.ndarray, "S S"]:
    """sum s s^T over all centred windows and channels of a split."""
    windows = task.windows(split)
    S, L = windows.shape[1], task.known
    total = np.zeros((S, S))
    for at in range(0, len(windows), size := max(1, AT_ONCE // windows.shape[2])):
        part = np.swapaxes(windows[at : at + size], 1, 2).reshape(-1, S).astype(float)
        part = part - part[:, :L].mean(1, keepdims=True)
        total += part.T @ part
    return total
