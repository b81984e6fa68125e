"""Accuracy of whole sequences' classes, and which class is taken for which."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from wsrnn.checks import check_fields
from wsrnn.data import eval_stream
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.figures import Figure, new_figure
from wsrnn.models import Model
from wsrnn.tasks import Batch, Split, Task


@dataclass(frozen=True)
class Accuracy(Evaluation):
    """Accuracy over all cases of a split, beside that of the most frequent training class.

    For tasks with one class a sequence, read at its last valid step. `balanced` is the mean over
    classes of the accuracy in each. The figure has a row for each class: where its cases went.
    """

    split: Literal["test", "valid"] = "test"
    """valid: choose settings without a look at the test cases."""
    batches: int | None = None
    """At most so many batches of 64 sequences; None takes all."""

    def __post_init__(self):
        check_fields(self)
        if self.batches is not None and self.batches < 1:
            raise ValueError(f"evaluation.batches must be at least 1, got {self.batches}")

    def check(self, task, model):
        """One class for each sequence, and an end to them."""
        if task.loss != "cross_entropy" or task.steps("test") != "last":
            raise ValueError(
                f"evaluation by accuracy is for one class a sequence, which "
                f"{type(task).__name__} does not have: set another evaluation"
            )
        if task.endless and self.batches is None:
            raise ValueError(
                f"{type(task).__name__} has no end: set evaluation.batches to a number"
            )

    def __call__(self, model, task, seed):
        """Classify the cases."""
        predicted, labels = classify(model, task, self.split, seed, self.batches)
        count, classes = len(labels), task.d_out
        confusion = np.zeros((classes, classes), int)
        np.add.at(confusion, (labels, predicted), 1)
        train = eval_stream(task, "train", 64, seed, batches=self.batches)
        known = np.concatenate([labels_of(batch)[0] for batch in train])
        usual = np.full(count, np.bincount(known, minlength=classes).argmax())
        rows = {
            name: [_balanced(line, labels), float(np.mean(line == labels))]
            for name, line in {"this model": predicted, "most frequent class": usual}.items()
        }
        title = f"accuracy on {count:,} cases ({self.split}), {classes} classes"
        names = getattr(task, "classes", None)
        names = names if isinstance(names, tuple) else [str(i) for i in range(classes)]
        picture = draw_confusion(confusion, list(names), title)
        return Result(title, ["balanced", "accuracy"], rows, {"confusion": picture})


def classify(
    model: Model, task: Task, split: Split, seed: int, batches: int | None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Predicted and true classes of a split's cases, at most `batches` times 64 of them."""
    predicted, labels = [], []
    for batch in eval_stream(task, split, 64, seed, batches=batches):
        truth, real, at = labels_of(batch)
        seen = np.arange(batch.mask.shape[1]) <= at[:, None]
        inputs = np.where(seen[..., None], batch.inputs, 0)
        outputs = in_batches(model, "__call__", 16, inputs, batch.times, steps=at)
        predicted.append(outputs.argmax(-1)[real])
        labels.append(truth)
    return np.concatenate(predicted), np.concatenate(labels)


def labels_of(
    batch: Batch,
) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Classes of a batch's cases, which rows are cases and not filled up, and their last steps."""
    real = batch.mask.any(1)
    at = batch.mask.shape[1] - 1 - (batch.mask > 0)[:, ::-1].argmax(1)
    targets = batch.targets
    targets = targets if targets.ndim == 1 else targets[np.arange(len(at)), at]
    return targets[real], real, at.astype(np.int32)


def _balanced(predicted: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([np.mean(predicted[labels == k] == k) for k in np.unique(labels)]))


def draw_confusion(counts: Int[np.ndarray, "C C"], names: list[str], title: str) -> Figure:
    """Shares of each true class (rows) by predicted class; numbers where they fit."""
    C = len(counts)
    shares: Float[np.ndarray, "C C"] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = new_figure(2.5 + 0.35 * C, 2.2 + 0.3 * C)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Reds", vmin=0, vmax=1)
    axes.set_xticks(range(C), names, rotation=90, fontsize=7)
    axes.set_yticks(range(C), names, fontsize=7)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(title, fontsize=9)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=6, color=colour)
    return figure
