"""Completion of images, next to predictors that are not sequence models."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wsrnn.checks import check_distinct
from wsrnn.evaluations import Evaluation, Result
from wsrnn.evaluations.continuation import continued, whole
from wsrnn.figures import Figure, new_figure
from wsrnn.tasks.images import ImageCompletion

AT_ONCE = 1024  # training images in memory at a time
RIDGE = 1e-3  # variance added to every known pixel, for those that are black in every image
LEVELS = 255  # steps of a pixel's value


@dataclass(frozen=True)
class Completion(Evaluation):
    """Give the first L pixels and score those after L, continued as the task's strategy says.

    Mean squared error on [0, 1] pixels, the completed part only; predictions are clipped to [0, 1]
    as an image would be, also those of the baselines: the last known pixel, the mean image, and
    linear regression from the known pixels on all training images, by products of (pixels x
    channels)^2 numbers. Of a model that predicts a scale
    also the bits per dimension, log2(255) + log2(s) + log2(2 pi) / 2 + (y - m)^2 / (2 s^2 ln 2), of
    a pixel's 256 values under the density at its value on [0, 1]; the published constants are
    unknown, so compare these numbers with one another only.
    """

    contexts: tuple[int, ...] = (100, 300, 600)
    """L, one column each; the paper uses 100, 300 and 600 of 784."""
    images: int | None = None
    """Test images, from the first on; None takes all."""
    drawn: int = 8
    """Images in the figure, one figure for each L."""

    def __post_init__(self):
        if min(self.images or 1, self.drawn) < 1 or not self.contexts:
            raise ValueError(
                "evaluation.images and drawn must be at least 1 and contexts not empty"
            )
        check_distinct("evaluation.contexts", self.contexts)

    def check(self, task, model):
        """The task must complete images, and a context leave something to complete."""
        if not isinstance(task, ImageCompletion):
            raise ValueError(
                f"evaluation by completion is for ImageCompletion, not {type(task).__name__}"
            )
        if not all(0 < known < task.samples for known in self.contexts):
            raise ValueError(
                f"evaluation.contexts {list(self.contexts)} must lie within 1 and "
                f"{task.samples - 1}"
            )

    def __call__(self, model, task, seed):
        """Complete test images."""
        truth, _ = whole(task, "test", seed, self.images)
        moments = _moments(task, seed)
        names = ("this model", "repeat last pixel", "mean image", "linear regression")
        rows = {name: [] for name in names}
        bits, pictures, some = [], {}, slice(self.drawn)
        for known in self.contexts:
            rest = truth[:, known:]
            outputs = continued(model, task, truth, known, size=250)

            def error(predicted, rest=rest):
                return float(np.mean((np.clip(predicted, 0, 1) - rest) ** 2))

            means = np.clip(outputs[..., : task.d_out], 0, 1)
            rows["this model"].append(error(means))
            rows["repeat last pixel"].append(error(truth[:, known - 1 : known]))
            rows["mean image"].append(error(moments.mean[known:]))
            rows["linear regression"].append(error(_regression(moments, truth, known)))
            if outputs.shape[-1] > task.d_out:
                bits.append(_bits(outputs, rest))
            title = f"completion of the pixels after {known}: MSE {error(means):.4f}"
            completed = np.concatenate([truth[:, :known], means], 1)
            pictures[f"completion-{known}"] = draw_completions(
                truth[some], completed[some], known, title
            )
        columns = [f"L={known}" for known in self.contexts]
        if bits:
            columns += [f"bits, L={known}" for known in self.contexts]
            rows = {name: row + (bits if name == "this model" else [math.nan] * len(bits))
                    for name, row in rows.items()}  # fmt: skip
        title = f"MSE of the pixels after the first L, {len(truth):,} test images"
        return Result(title, columns, rows, pictures)


def _bits(outputs: Float[np.ndarray, "N rest two_C"], rest: Float[np.ndarray, "N rest C"]) -> float:
    """Bits per dimension under a normal distribution of means and scales."""
    mean, scale = np.split(outputs, 2, -1)
    nats = np.log(scale) + 0.5 * np.log(2 * np.pi) + 0.5 * ((rest - mean) / scale) ** 2
    return float(np.mean(nats, dtype=np.float64) / np.log(2) + np.log2(LEVELS))


class _Moments(NamedTuple):
    """What regression needs to know of the training images, whatever the context."""

    mean: Float[np.ndarray, "pixels C"]
    covariance: Float[np.ndarray, "pixels_C pixels_C"]


def _moments(task: ImageCompletion, seed: int) -> _Moments:
    """The mean image and the covariance of all pixels, summed in float64 over batches."""
    sequences = task.sequences("train", seed)
    D = task.samples * task.channels
    total, products = np.zeros(D), np.zeros((D, D))
    for batch in sequences.batch(AT_ONCE):
        images = batch.values.reshape(-1, D).astype(float)
        total += images.sum(0)
        products += images.T @ images
    mean = total / len(sequences)
    covariance = products / len(sequences) - np.outer(mean, mean)
    return _Moments(mean.reshape(task.samples, -1), covariance)


def _regression(
    moments: _Moments, truth: Float[np.ndarray, "N pixels C"], known: int
) -> Float[np.ndarray, "N rest C"]:
    """The best linear map from the known pixels to the rest, by ridge on the training images."""
    mean, covariance = moments
    C = truth.shape[-1]
    seen, rest = slice(known * C), slice(known * C, None)
    regular = covariance[seen, seen] + RIDGE * np.eye(known * C)
    weights = np.linalg.solve(regular, covariance[seen, rest])
    x = (truth - mean)[:, :known].reshape(len(truth), -1)
    return mean[known:] + (x @ weights).reshape(len(truth), -1, C)


def draw_completions(
    truth: Float[np.ndarray, "N pixels C"],
    completed: Float[np.ndarray, "N pixels C"],
    known: int,
    title: str,
) -> Figure:
    """Images in three rows: the context, the completion and the truth."""
    count, side = len(truth), math.isqrt(truth.shape[1])
    figure = new_figure(1.1 * count + 1.0, 4.2)
    grid = figure.subplots(3, count, squeeze=False)
    given = np.where(np.arange(side**2)[:, None] < known, truth, np.nan)
    for row, (name, images) in enumerate(
        {f"first {known}": given, "completion": completed, "truth": truth}.items()
    ):
        for column, image in enumerate(images):
            axes = grid[row, column]
            axes.set_facecolor("#dfe7ef")
            axes.imshow(image.reshape(side, side, -1), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        grid[row, 0].set_ylabel(name)
    figure.suptitle(title, fontsize=10)
    return figure
