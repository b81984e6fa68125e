"""Robustness: prompts from other distributions than in training, and corrupted prompts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wsrnn import data, estimators
from wsrnn.evaluations.prefix_errors import predictions, prompt_arrays
from wsrnn.figures import OURS, Figure, finish, new_figure
from wsrnn.icl.errors import final_error
from wsrnn.models import Model
from wsrnn.tasks import Batch
from wsrnn.tasks.prompts import Prompts, Regression
from wsrnn.tasks.regression import LinearRegression
from wsrnn.tasks.shifts import SHIFTS


def shifted(model: Model, task: Regression, seed: int, prompts: int) -> dict[str, dict[str, float]]:
    """The error after the longest prompt under each of `tasks.shifts`, next to ridge."""
    rows = {}
    for name, shift in SHIFTS.items():
        other = replace(task, shift=name)
        batch = data.examples(other, "test", seed, prompts)
        x, y, truth, _ = prompt_arrays(other, batch)
        row = final_error(predictions(model, other, batch), truth)
        if isinstance(task, LinearRegression):
            penalty = task.noise + shift.noise or 0.1
            ridge = estimators.ridge(x[:, :-1], y[:, :-1], x[:, -1], penalty)
            row["ridge"] = final_error(ridge[:, None], truth)["error"]
        rows[name] = row
    return rows


def interventions(model: Model, task: Prompts, batch: Batch) -> dict[str, dict[str, float]]:
    """The error after the longest prompt, changed in several ways: what the model depends on.

    A model that uses all examples fails when all but the first belong to another function, and
    without labels; one that sums over examples does not depend on their order.
    """
    n = task.context_length
    points, labels = task.shown(batch.inputs)
    pairs = np.concatenate([points, labels[..., None]], -1)
    tokens, query = pairs[:, :n], pairs[:, n:]
    without = np.delete(np.arange(n), n // 2)
    changed = {
        "as they are": tokens,
        "others of another prompt": np.concatenate(
            [tokens[:, :1], np.roll(tokens, 1, 0)[:, 1:]], 1
        ),
        "one left out": tokens[:, without],
        "one doubled": np.concatenate([tokens[:, :1], tokens], 1)[:, :n],
        "in reverse order": tokens[:, ::-1],
        "labels zero": np.concatenate([tokens[..., :-1], 0 * tokens[..., -1:]], -1),
        "query alone": tokens[:, :0],
    }
    truth = prompt_arrays(task, batch).truth
    rows = {}
    for name, examples in changed.items():
        pairs = np.concatenate([examples, query], 1)
        inputs = task.tokens(pairs[..., :-1], pairs[..., -1:])
        times = batch.times[:, : inputs.shape[1]]
        predicted = predictions(model, task, batch._replace(inputs=inputs, times=times))
        rows[name] = final_error(predicted, truth)
    return rows


def draw_intervals(
    rows: dict[str, Sequence[float]], baseline: dict[str, float], title: str
) -> Figure:
    """A dot and a line for each row (error, low, high), and a mark for the baseline's error."""
    figure = new_figure(7, 1 + 0.22 * len(rows))
    axes = figure.add_subplot()
    values = np.clip(np.array(list(rows.values())), 1e-4, None)
    height = np.arange(len(rows))[::-1]
    axes.hlines(height, values[:, 1], values[:, 2], color=OURS, lw=3, alpha=0.4)
    axes.plot(values[:, 0], height, "o", color=OURS, ms=4, label="this model")
    marked = [
        (np.clip(baseline[n], 1e-4, None), y)
        for n, y in zip(rows, height, strict=True)
        if n in baseline
    ]
    if marked:
        axes.plot(*zip(*marked, strict=True), "|", color="#222222", ms=9, mew=2, label="ridge")
    axes.axvline(1, color="#dddddd", zorder=0)
    axes.set(xscale="log", xlabel="mean squared error / Var(y)   (90 % interval)", title=title)
    axes.set_yticks(height, list(rows), fontsize=8)
    figure.legend(frameon=False, fontsize=8, loc="outside lower right", ncols=2)
    finish(axes, legend=False)
    return figure
