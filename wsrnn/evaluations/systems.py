"""Forecasts of dynamical systems after their contexts, in the range of training and beyond it."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from wsrnn import data
from wsrnn.checks import check_positive
from wsrnn.evaluations import Evaluation, Result
from wsrnn.evaluations.continuation import outputs_of, whole
from wsrnn.evaluations.panels import draw_forecasts
from wsrnn.tasks.continuation import Continuation
from wsrnn.tasks.windows import Windows

OURS, HOLD, FITTED = "this model", "hold the last sample", "linear model of the context"


@dataclass(frozen=True)
class SystemErrors(Evaluation):
    """Mean absolute and squared error over the samples after the context, every sequence its own.

    Beside them two forecasts without training: the last seen sample, and the linear model (with an
    intercept) of each sample by the one before, fitted to the context by least squares in float64
    and iterated, its values kept within three times the largest one seen. A task with a field
    `wide` is tested in both ranges.
    """

    sequences: int = 512
    """Test sequences, from the first on, in each range."""
    unit: float = 1.0
    """Squared errors are printed in this unit, such as 1e-2."""
    drawn: int = 4
    """Sequences in a figure."""

    def __post_init__(self):
        check_positive(self, "sequences", "drawn")
        if not self.unit > 0:
            raise ValueError(f"SystemErrors.unit must be above 0, got {self.unit}")

    def check(self, task, model):
        """The task must have contexts."""
        if not isinstance(task, Continuation):
            raise ValueError(
                "evaluation by system-errors is for sequences with a known context, and "
                f"{type(task).__name__} has none: set evaluation:loss-only"
            )
        if isinstance(task, Windows):
            raise ValueError("windows of a table are judged by evaluation:forecast")

    def __call__(self, model, task, seed):
        """Forecast the first test sequences of each range."""
        ranges = {"": task}
        if hasattr(task, "wide"):
            ranges = {", narrow": replace(task, wide=False), ", wide": replace(task, wide=True)}
        squared = "MSE" if self.unit == 1 else f"MSE/{self.unit:g}"
        columns, rows, figures = [], {}, {}
        for range_, task in ranges.items():
            batch = data.examples(task, "test", seed, self.sequences)
            values, _ = whole(task, "test", seed, self.sequences)
            scored = batch.mask > 0
            L = scored.argmax(1) + 1
            lines = {OURS: outputs_of(model, batch)[..., : task.d_out], HOLD: held(values, L)}
            if L.min() >= 2:
                lines[FITTED] = fitted(values, L)
            columns += [f"MAE{range_}", f"{squared}{range_}"]
            for name, line in lines.items():
                error = (line - values[:, 1:])[scored].astype(np.float64)
                rows.setdefault(name, []).extend(
                    [float(np.abs(error).mean()), float((error**2).mean() / self.unit)]
                )
            some = slice(self.drawn)
            figures[f"forecast{range_}".replace(", ", "-")] = draw_forecasts(
                values[some, :, 0], {name: line[some, :, 0] for name, line in lines.items()},
                f"{type(task).__name__}{range_}: first channel after the context", scored[some],
            )  # fmt: skip
        title = f"{self.sequences:,} test sequences at most, errors after the context"
        return Result(title, columns, rows, figures)


def held(
    values: Float[np.ndarray, "N S D"], L: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N T D"]:
    """The last sample of the context at every later step."""
    return np.broadcast_to(values[np.arange(len(L)), L - 1][:, None], values[:, 1:].shape)


def fitted(
    values: Float[np.ndarray, "N S D"], L: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N T D"]:
    """Forecasts by the linear model of each sequence's context; within it, the samples."""
    found = np.array(values, np.float64)
    W, most = [], []
    for sequence, known in zip(found, L, strict=True):
        X = np.concatenate([sequence[: known - 1], np.ones((known - 1, 1))], 1)
        W.append(np.linalg.lstsq(X, sequence[1:known], rcond=None)[0])
        most.append(3 * np.abs(sequence[:known]).max())
    maps, limits = np.stack(W), np.array(most)[:, None]
    for t in range(1, found.shape[1]):
        after = np.einsum("nd,ndo->no", found[:, t - 1], maps[:, :-1]) + maps[:, -1]
        after = np.clip(after, -limits, limits)
        found[:, t] = np.where((t < L)[:, None], found[:, t], after)
    return found[:, 1:]
