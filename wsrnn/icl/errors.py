"""Error against the number of examples, of a model and of the classical algorithms."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from wsrnn import bootstrap, estimators
from wsrnn.evaluations.prefix_errors import (
    Predictions,
    estimates,
    inliers,
    predictions,
    prompt_arrays,
    squares,
)
from wsrnn.models import Model
from wsrnn.tasks import Batch
from wsrnn.tasks.prompts import Prompts
from wsrnn.tasks.regression import GaussianProcess, LinearRegression

PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4)  # of the lasso


def error_interval(
    predicted: Predictions, truth: Predictions, scored: Bool[np.ndarray, "N prefixes"] | None = None
) -> dict[str, list[float]]:
    """The relative error after each prefix, with a 90 % bootstrap interval over prompts."""
    error, low, high = bootstrap.ratio_of_sums(*squares(predicted, truth, scored))
    return {"error": error.tolist(), "low": low.tolist(), "high": high.tolist()}


def final_error(predicted: Predictions, truth: Float[np.ndarray, "N truths"]) -> dict[str, float]:
    """The relative error in the last columns, after the longest prefix, with its interval."""
    interval = error_interval(predicted[:, -1:], truth[:, -1:])
    return {name: values[-1] for name, values in interval.items()}


def algorithms(task: Prompts) -> dict[str, Callable]:
    """The algorithms that suit the task, by name."""
    table = estimators.baselines(task.noise) | {
        "averaging": estimators.averaging,
        "3 nearest": estimators.nearest_neighbours,
        "normalised LMS": estimators.normalised_lms,
    }
    if isinstance(task, LinearRegression):
        descent = estimators.gradient_descent
        table |= {f"{k} gradient steps": partial(descent, steps=k) for k in (4, 16)}
        half = max(1, task.d // 2)
        table |= {
            "recursive least squares (0.95)": partial(
                estimators.recursive_least_squares, penalty=task.noise or 0.1, forgetting=0.95
            ),
            f"{half} principal components": partial(
                estimators.principal_components, components=half
            ),
        }
    if isinstance(task, GaussianProcess):
        table["Gaussian process"] = partial(
            estimators.gaussian_process, scale=task.scale, noise=task.noise + task.nugget
        )
    if type(task) is LinearRegression and task.pool:
        table["posterior over the pool"] = partial(
            estimators.pool_posterior, pool=task.members()["w"], noise=task.noise or 1e-3
        )
    if getattr(task, "sparse", None):
        table |= {f"lasso ({p:g})": partial(estimators.lasso, penalty=p) for p in PENALTIES}
    return table


def error_curves(model: Model, task: Prompts, batch: Batch) -> dict[str, dict[str, list[float]]]:
    """The error after every prefix, of the model and of the algorithms on the same prompts.

    Of the lasso with the penalty that is best on average.
    """
    x, y, truth, scored = prompt_arrays(task, batch)

    def curve(predicted):
        return error_interval(predicted, truth, scored)

    curves = {"this model": curve(predictions(model, task, batch))}
    for name, estimate in algorithms(task).items():
        curves[name] = curve(estimates(estimate, x, y, task.prefixes))
    if "outlier" in batch.latents:
        kept = estimates(estimators.least_squares, inliers(task, batch), y, task.prefixes)
        curves["least squares on the inliers"] = curve(kept)
    lassos = sorted(
        (name for name in curves if name.startswith("lasso")),
        key=lambda name: np.mean(curves[name]["error"]),
    )
    return {name: curve for name, curve in curves.items() if name not in lassos[1:]}


def aggregates(task: Prompts, curves: dict[str, dict]) -> dict[str, dict[str, float]]:
    """For each curve: the error at d and at 2 d examples, its mean and its largest ratio to ridge.

    Ridge with the noise as its penalty is the optimal prediction for white x and normal w.
    """
    at = {f"error at {n}": task.prefixes.index(n) for n in (task.d, 2 * task.d)
          if n in task.prefixes}  # fmt: skip
    best = next(np.array(c["error"]) for name, c in curves.items() if name.startswith("ridge"))
    rows = {}
    for name, curve in curves.items():
        values = np.array(curve["error"])
        rows[name] = {key: float(values[n]) for key, n in at.items()}
        rows[name]["mean over n"] = float(values.mean())
        rows[name]["largest ratio to ridge"] = float((values / best).max())
    return rows
