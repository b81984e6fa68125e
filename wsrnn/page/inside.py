"""Figures of what a trained model holds: its states over time, and the functions they are.

These open the run as `wsrnn eval` does, and so may execute the code that it keeps.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from wsrnn import data
from wsrnn.experiment import Experiment
from wsrnn.figures import Figure, finish, new_figure
from wsrnn.models import Model
from wsrnn.page.curves import INK
from wsrnn.run import load_step

SEQUENCES = 8
KINDS = {
    "theta": "states over time, first two principal components",
    "root": "the root's function at several t",
}


def draw_inside(run: Path, kinds: tuple[str, ...]) -> dict[str, Figure]:
    """Return the figures of a run's best checkpoint on test sequences, by title.

    Raises UserError where the run cannot be opened, and ValueError where its model has no states.
    """
    model, experiment, _ = load_step(run, "best")
    some = data.examples(experiment.task, "test", experiment.seed, SEQUENCES)
    found = model.states(some.inputs, some.times)
    if found is None:
        raise ValueError(f"{type(model).__name__} has no states to draw")
    states = np.asarray(found, np.float64)
    figures = {}
    if "theta" in kinds:
        figures[KINDS["theta"]] = draw_trajectories(states, some.times)
    if "root" in kinds and (drawn := _draw_root(model, experiment, states, some)):
        figures[KINDS["root"]] = drawn
    return figures


def principal(
    states: Float[np.ndarray, "N T S"],
) -> tuple[Float[np.ndarray, "N T 2"], Float[np.ndarray, "2"]]:
    """Coordinates along the two directions of largest variance, and their parts of it."""
    flat = states.reshape(-1, states.shape[-1])
    flat = flat - flat.mean(0)
    _, values, directions = np.linalg.svd(flat, full_matrices=False)
    values = np.append(values, 0)
    directions = np.vstack([directions, np.zeros_like(directions[:1])])
    parts = values[:2] ** 2 / max(np.sum(values**2), np.finfo(float).tiny)
    return (flat @ directions[:2].T).reshape(*states.shape[:2], 2), parts


def draw_trajectories(
    states: Float[np.ndarray, "N T S"], times: Float[np.ndarray, "N T"]
) -> Figure:
    """Each sequence's states as a path in the plane of two components, coloured by time."""
    points, parts = principal(states)
    figure = new_figure(4.8, 3.6)
    axes = figure.subplots()
    for path, time in zip(points, times, strict=True):
        axes.plot(path[:, 0], path[:, 1], color="#8a8f98", lw=0.5, alpha=0.4, zorder=1)
        marks = axes.scatter(
            path[:, 0], path[:, 1], c=time, s=7, cmap="viridis", zorder=2, rasterized=True
        )
    figure.colorbar(marks, label="time")
    axes.set(xlabel=f"component 1, {parts[0]:.0%} of the variance",
             ylabel=f"component 2, {parts[1]:.0%}")  # fmt: skip
    finish(axes, legend=False)
    return figure


def _draw_root(model: Model, experiment: Experiment, states, some) -> Figure | None:
    """y(tau), or y(x_1) of a root that reads no time, of one test sequence at five t."""
    query = getattr(model, "query", None)
    reads = getattr(experiment.model, "query", None)
    if query is None or reads is None:
        return None
    T = states.shape[1]
    by_time = bool(reads.time or reads.waves)
    chosen = np.unique(np.linspace(0, T - 1, 5).astype(int))
    grid = np.linspace(0, 1, min(T, 200)) if by_time else np.linspace(-2, 2, 101)
    x, times = np.asarray(some.inputs[0], np.float32), some.times[0]
    span = times[0] + grid * (times[-1] - times[0])
    figure = new_figure(4.8, 3.6)
    axes = figure.subplots()
    for colour, t in zip(_shades(len(chosen)), chosen, strict=True):
        theta = jnp.asarray(states[:1, t], jnp.float32)
        if by_time:
            positions = jnp.asarray(np.round(grid * (T - 1)).astype(np.int32))

            def at(time, step, theta=theta, x_t=x[t]):
                return query(theta, time, x_t[None], step)[0, 0]

            y = jax.vmap(at)(jnp.asarray(span, jnp.float32), positions)
        else:
            swept = np.zeros((len(grid), x.shape[1]), np.float32)
            swept[:, 0] = grid

            def at_input(x_t, theta=theta, time=times[t]):
                return query(theta, time, x_t[None])[0, 0]

            y = jax.vmap(at_input)(jnp.asarray(swept))
        axes.plot(span if by_time else grid, y, color=colour, lw=1.5, label=f"t = {t}")
    axes.set(xlabel="tau" if by_time else "the first input of the root, others 0",
             ylabel="y, first output")  # fmt: skip
    finish(
        axes, labelcolor=INK, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=5,
        handlelength=0.8, columnspacing=0.9,
    )  # fmt: skip
    return figure


def _shades(count: int):
    import matplotlib

    return matplotlib.colormaps["viridis"](np.linspace(0.2, 0.9, count))
