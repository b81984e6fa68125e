"""Errors on prompts after every prefix, of a model and of the estimators: the one place for both.

The relative error is MSE / E[y_q^2], 1 for a prediction of 0. The evaluations in `in_context` and
`wsrnn icl` measure it here; change the measure here alone.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from wsrnn.evaluations import in_batches
from wsrnn.figures import GREYS, OURS, Figure, finish, new_figure
from wsrnn.models import Model
from wsrnn.tasks import Batch
from wsrnn.tasks.prompts import Prompts

Predictions = Float[np.ndarray, "N prefixes"]
LIMITS = 1e-4, 1.3
"""Between which errors are drawn."""


class PromptArrays(NamedTuple):
    """A batch of prompts in float64, as estimators take them."""

    x: Float[np.ndarray, "N points d"]  # the examples and the last query
    y: Float[np.ndarray, "N points"]  # labels; that of a masked query is 0
    truth: Predictions  # targets after each prefix
    scored: Bool[np.ndarray, "N prefixes"]  # where the loss counts: not at outliers


def prompt_arrays(task: Prompts, batch: Batch) -> PromptArrays:
    """The examples of a batch and the targets after each of the task's prefixes."""
    x, y = task.shown(np.asarray(batch.inputs, np.float64))
    truth = np.asarray(batch.targets[:, task.queries, 0], np.float64)
    return PromptArrays(x, y, truth, batch.mask[:, task.queries] > 0)


def predictions(model: Model, task: Prompts, batch: Batch) -> Predictions:
    """The model's predictions after each prefix, from one pass."""
    outputs = in_batches(model, "__call__", 512, batch.inputs, batch.times)
    return outputs[:, task.queries, 0].astype(np.float64)


def estimates(
    estimate: Callable,
    x: Float[np.ndarray, "N points d"],
    y: Float[np.ndarray, "N points"],
    prefixes: Sequence[int],
) -> Predictions:
    """An estimator's predictions after each prefix."""
    return np.stack([estimate(x[:, :n], y[:, :n], x[:, n]) for n in prefixes], 1)


def squares(
    predicted: Predictions, truth: Predictions, scored: Bool[np.ndarray, "N prefixes"] | None = None
) -> tuple[Predictions, Predictions]:
    """Squared errors and squared targets, 0 where nothing is scored."""
    counts = np.ones(truth.shape, bool) if scored is None else scored
    return counts * (predicted - truth) ** 2, counts * truth**2


def relative_error(
    predicted: Predictions, truth: Predictions, scored: Bool[np.ndarray, "N prefixes"] | None = None
) -> Float[np.ndarray, " prefixes"]:
    """Sum of squared errors over sum of squared targets, prefix by prefix."""
    errors, sizes = squares(predicted, truth, scored)
    return errors.sum(0) / sizes.sum(0)


def inliers(task: Prompts, batch: Batch) -> Float[np.ndarray, "N points d"]:
    """x with outliers set to 0: with their label 0 they change no fit of least norm."""
    x, _ = task.shown(batch.inputs.astype(np.float64))
    return np.where(batch.latents["outlier"][..., None], 0, x)


def draw_curves(
    prefixes: Sequence[int],
    errors: dict[str, Sequence[float]],
    title: str,
    dimension: int | None,
    band: tuple[Sequence[float], Sequence[float]] | None = None,
    label: str = "mean squared error / Var(y)",
) -> Figure:
    """Error after n examples, the first row in colour and the baselines in grey; logarithmic.

    `band` is an interval around the first row, `dimension` d, where a line marks n = d.
    """
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    colours = [OURS, *GREYS, *GREYS]
    marks = ["o-", "s:", "^--", "v-.", "D-", "x:", "+--", "1-."]
    if band:
        axes.fill_between(prefixes, *np.clip(band, *LIMITS), color=OURS, alpha=0.2, lw=0)
    for (name, values), colour, mark in zip(errors.items(), colours, marks, strict=False):
        width = 2.5 if colour == OURS else 1.2
        axes.plot(
            prefixes, np.clip(values, *LIMITS), mark,
            color=colour, label=name, lw=width, ms=4, clip_on=False,
        )  # fmt: skip
    if dimension:
        axes.axvline(dimension, color="#dddddd", zorder=0)
        axes.text(dimension, 1.5e-4, " n = d", color="#999999", fontsize=8)
    axes.set(
        yscale="log", ylim=LIMITS, xlabel="examples in the prompt, n",
        ylabel=f"{label}   (drawn within 1e-4 and 1.3)", title=title,
    )  # fmt: skip
    axes.set_xticks(
        list(prefixes) if len(prefixes) < 12 else list(prefixes)[:: len(prefixes) // 10]
    )
    finish(axes)
    return figure
