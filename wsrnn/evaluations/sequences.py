"""Systems, classes and recall: scores next to classical algorithms on the same sequences.

The score is the error (MSE over the mean square of the target, free of noise) where vectors are
predicted, the accuracy where classes are. A task's baselines are registered below its type: another
task is another `baselines.register`, and the evaluations stay as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, singledispatch

import numpy as np
from jaxtyping import Float, Num

from wsrnn import data, estimators
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.evaluations.prefix_errors import draw_curves
from wsrnn.models import Model
from wsrnn.tasks import Batch, Task
from wsrnn.tasks.classes import BurstyClasses, FewShot
from wsrnn.tasks.dynamics import LinearSystem
from wsrnn.tasks.recall import Mqar, VectorRecall

Predicted = Num[np.ndarray, "N T *O"]  # vectors, or classes


@singledispatch
def baselines(task: Task, batch: Batch) -> dict[str, Predicted]:
    """Predictions of classical algorithms by name; arbitrary where a step is not scored."""
    raise TypeError(type(task).__name__)


@baselines.register
def _(task: LinearSystem, batch: Batch):
    seen = np.asarray(batch.inputs[..., : task.d_out], np.float64)
    x, y, everywhere = seen, seen[:, 1:], range(task.length)
    rows = {"zero": np.zeros_like(seen)}
    penalty = task.noise * task.d / task.radius**2  # noise over the variance of an entry of W
    if penalty:
        ridge = partial(estimators.ridge, penalty=penalty)
        rows[f"ridge ({penalty:g})"] = _after_each(ridge, x, y, everywhere)
    rows["least squares"] = _after_each(estimators.least_squares, x, y, everywhere)
    W = np.asarray(batch.latents["W"], np.float64)
    rows["Kalman filter that knows W"] = estimators.kalman(W, seen, task.noise)
    return rows


@baselines.register
def _(task: FewShot, batch: Batch):
    tokens = np.asarray(batch.inputs, np.float64)
    x, y, steps = tokens[..., : task.d], tokens[..., task.d :], np.flatnonzero(batch.mask.any(0))
    nearest = partial(estimators.nearest_neighbours, k=1)
    return {
        "nearest class mean": _after_each(estimators.nearest_mean, x, y, steps).argmax(-1),
        "nearest example": _after_each(nearest, x, y, steps).argmax(-1),
    }


@baselines.register
def _(task: VectorRecall, batch: Batch):
    tokens, n = np.asarray(batch.inputs, np.float64), task.pairs
    keys, values, queries = tokens[:, :n, : task.d], tokens[:, :n, task.d :], tokens[..., : task.d]
    algorithms: dict[str, Callable] = {
        "nearest key": partial(estimators.nearest_neighbours, k=1),
        "pseudo-inverse": estimators.least_squares,
        "linear attention": estimators.linear_attention,
    }
    rows = {name: np.zeros(batch.targets.shape) for name in algorithms}
    for name, estimate in algorithms.items():
        for t in range(n, task.length):
            rows[name][:, t] = estimate(keys, values, queries[:, t])
    return rows


@baselines.register
def _(task: Mqar, batch: Batch):
    tokens, context = batch.latents["tokens"], 2 * task.pairs
    keys, values = tokens[:, 0:context:2], tokens[:, 1:context:2]
    found = (keys[:, None] == tokens[..., None]).argmax(-1)
    return {
        "lookup": np.take_along_axis(values, found, 1),
        "always the first value": np.broadcast_to(values[:, :1], tokens.shape),
    }


def _after_each(
    estimate: Callable,
    x: Float[np.ndarray, "N T d"],
    y: Float[np.ndarray, "N some O"],
    steps: Sequence[int] | np.ndarray,
) -> Float[np.ndarray, "N T O"]:
    """estimate(examples before t, x_t) at the given steps, 0 at the others."""
    rows = np.zeros((*x.shape[:2], y.shape[-1]))
    for t in steps:
        rows[:, t] = estimate(x[:, :t], y[:, :t], x[:, t])
    return rows


def predictions(model: Model, task: Task, batch: Batch) -> Predicted:
    """The model's predictions, or its most probable classes."""
    keep = np.asarray if task.loss == "mse" else partial(np.argmax, axis=-1)
    return in_batches(model, "__call__", 64, batch.inputs, batch.times, keep=keep)


def sums(
    predicted: Predicted, batch: Batch
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Numerator and denominator of the error or accuracy at each step."""
    counts = np.asarray(batch.mask, np.float64)
    if predicted.ndim == 2:
        return ((predicted == batch.targets) * counts).sum(0), counts.sum(0)
    squares, size = (predicted - batch.targets) ** 2, np.square(batch.targets, dtype=np.float64)
    return (squares.sum(-1) * counts).sum(0), (size.sum(-1) * counts).sum(0)


def _name(task: Task) -> str:
    return "error" if task.loss == "mse" else "accuracy"


@dataclass(frozen=True)
class StepScores(Evaluation):
    """The score step by step: of systems (LinearSystem) and of classes (FewShot).

    For classes of a pool also the accuracy on training classes without examples in context, which
    is in-weight learning.
    """

    sequences: int = 1280
    """Fresh sequences; every row of the table sees the same ones."""
    steps: tuple[int, ...] = (1, 5, 10, 20, 32)
    """Columns of the table, counted from 0: so many tokens came before."""

    def __post_init__(self):
        if self.sequences < 1 or not self.steps:
            raise ValueError("evaluation.sequences must be at least 1 and steps not empty")

    def check(self, task, model):
        """The steps must be scored."""
        if not isinstance(task, LinearSystem | FewShot):
            raise ValueError(
                "evaluation step by step is for LinearSystem and the families of FewShot, "
                f"not {type(task).__name__}"
            )
        first = task.length - 1 if task.steps("test") == "last" else 0
        if not all(first <= step < task.length for step in self.steps):
            raise ValueError(
                f"evaluation.steps {list(self.steps)} must lie within {first} and "
                f"{task.length - 1}, where the task is scored"
            )

    def __call__(self, model, task, seed):
        """Evaluate the model on test sequences."""
        batch = data.examples(task, "test", seed, self.sequences)
        lines = {"this model": predictions(model, task, batch)} | baselines(task, batch)
        every = np.flatnonzero(batch.mask.any(0))
        scores = {}
        for name, predicted in lines.items():
            above, below = sums(predicted, batch)
            scores[name] = np.full(task.length, np.nan)
            scores[name][every] = above[every] / below[every]
        title = f"{_name(task)} step by step, {len(batch.mask):,} fresh sequences"
        columns = [f"t={t}" for t in self.steps]
        rows = {name: [float(line[t]) for t in self.steps] for name, line in scores.items()}
        if isinstance(task, BurstyClasses):
            columns.append("in weights")
            for name, value in self._in_weights(model, task, seed).items():
                rows[name].append(value)
        if len(every) == 1:
            return Result(title, columns, rows)
        classes = task.loss == "cross_entropy"
        wrong = {name: 1 - line if classes else line for name, line in scores.items()}
        picture = draw_curves(
            every.tolist(),
            {name: line[every].tolist() for name, line in wrong.items()},
            title,
            None if classes else task.d,
            label="1 - accuracy" if classes else "error",
        )
        return Result(title, columns, rows, {"steps": picture})

    def _in_weights(self, model, task, seed) -> dict[str, float]:
        """Accuracy on training classes where no example is of the query's label."""
        task = replace(task, burstiness=0)
        batch = data.examples(task, "train", seed + 1, self.sequences)
        shown = (batch.targets[:, :-1] == batch.targets[:, -1:]).any(1)
        batch = batch._replace(mask=batch.mask * ~shown[:, None])
        lines = {"this model": predictions(model, task, batch)} | baselines(task, batch)
        return {
            name: float(np.divide(*(part.sum() for part in sums(predicted, batch))))
            for name, predicted in lines.items()
        }


@dataclass(frozen=True)
class Recall(Evaluation):
    """The score over all queries, against the number of pairs to remember.

    For VectorRecall and Mqar. Where more pairs need it, sequences are longer than in training.
    """

    sequences: int = 1280
    """Fresh sequences for each number of pairs."""
    pairs: tuple[int, ...] = (4, 16, 64)
    """Columns of the table."""

    def __post_init__(self):
        if self.sequences < 1 or not self.pairs or min(self.pairs) < 1:
            raise ValueError(
                "evaluation.sequences and every one of pairs must be at least 1 and pairs not empty"
            )

    def check(self, task, model):
        """The task must have room for so many pairs."""
        if not isinstance(task, VectorRecall | Mqar):
            raise ValueError(
                f"evaluation by recall is for VectorRecall and Mqar, not {type(task).__name__}"
            )
        for pairs in self.pairs:
            _with_pairs(task, pairs)

    def __call__(self, model, task, seed):
        """Evaluate the model at every number of pairs."""
        scores = {}
        for pairs in self.pairs:
            other = _with_pairs(task, pairs)
            batch = data.examples(other, "test", seed, self.sequences)
            lines = {"this model": predictions(model, other, batch)} | baselines(other, batch)
            for name, predicted in lines.items():
                above, below = sums(predicted, batch)
                scores.setdefault(name, []).append(float(above.sum() / below.sum()))
        title = f"{_name(task)} after so many pairs, {self.sequences:,} fresh sequences each"
        return Result(title, [f"{pairs} pairs" for pairs in self.pairs], scores)


def _with_pairs(task: VectorRecall | Mqar, pairs: int) -> VectorRecall | Mqar:
    if isinstance(task, VectorRecall):
        return replace(task, pairs=pairs)
    return replace(task, pairs=pairs, length=max(task.length, 4 * pairs))
