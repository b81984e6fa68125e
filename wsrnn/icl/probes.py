"""Probes: the linear map that predictions imply, and what the hidden states hold.

A probe is ridge regression with a split for the penalty and one for the score, from one SVD for all
penalties; scikit-learn, an optional dependency, would refit each.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from wsrnn.evaluations import in_batches
from wsrnn.evaluations.prefix_errors import prompt_arrays
from wsrnn.figures import LINES, OURS, Figure, new_figure
from wsrnn.models import Model
from wsrnn.tasks import Batch
from wsrnn.tasks.prompts import Prompts
from wsrnn.tasks.regression import LinearRegression

MAX_STATE_BYTES = 2**28
"""Fewer prompts are probed where the states of all would take more."""


class StateStudy(NamedTuple):
    """What `states` finds."""

    at: list[int]  # numbers of examples after which states are probed
    probes: dict[str, list[float]]  # R^2 of a linear probe for each target and number
    drift: Float[np.ndarray, " T"]  # mean distance between consecutive states
    components: Float[np.ndarray, "N T 2"]  # states along their two principal axes
    eigenvalues: np.ndarray | None  # of A

    def document(self) -> dict[str, Any]:
        """The part that is written to icl.json."""
        return {"n": self.at, "probes": self.probes, "drift": self.drift.tolist()}


def implied_weights(model: Model, task: Prompts, batch: Batch) -> dict[str, dict[str, float]]:
    """Cosine of the prediction's gradient in the query with w, and with the part of w seen.

    The part seen is the projection of w onto the span of the examples (Garg et al. 2022, figure 3).
    Empty for functions that are not w.x.
    """
    if type(task) is not LinearRegression:
        return {}
    graphdef, params = nnx.split(model)

    @jax.jit
    def gradient(params, inputs, times):
        def last(query):
            tokens = inputs.at[:, -1, :-1].set(query)
            at = np.full(len(tokens), tokens.shape[1] - 1)
            return nnx.merge(graphdef, params)(tokens, times, steps=at).sum()

        return jax.grad(last)(inputs[:, -1, :-1])

    rows = {}
    points, w = prompt_arrays(task, batch).x, batch.latents["w"]
    for n in sorted({max(1, task.d // 2), task.d, task.context_length} & {*task.prefixes}):
        step = range(task.length)[task.queries][task.prefixes.index(n)]
        inputs = jax.numpy.asarray(batch.inputs[:, : step + 1])
        implied = np.asarray(gradient(params, inputs, batch.times[:, : step + 1]), np.float64)
        x = points[:, :n]
        seen = np.einsum("nde,ne->nd", np.linalg.pinv(x) @ x, w)
        rows[f"n = {n}"] = {"with w": _cosine(implied, w), "with w seen": _cosine(implied, seen)}
    return rows


def states(model: Model, task: Prompts, batch: Batch) -> StateStudy | None:
    """Linear probes of the hidden states, their principal components and drift, spectrum of A.

    None for a model that does not expose its states. Probed are the states from which a prompt is
    read; where that is its end alone, components and drift are of the states of all tokens.
    """
    shapes = jax.eval_shape(partial(type(model).states, model), batch.inputs[:1], batch.times[:1])
    if shapes is None:
        return None
    count = int(min(len(batch.inputs), MAX_STATE_BYTES // (4 * shapes.size)))
    theta = in_batches(model, "states", 64, batch.inputs[:count], batch.times[:count])
    read = theta[:, task.queries]
    theta = read if len(task.prefixes) > 1 else theta
    x, y = (part[:count] for part in prompt_arrays(task, batch)[:2])
    at = sorted(
        {1, max(1, task.d // 2), task.d, 2 * task.d, task.context_length} & {*task.prefixes}
    )
    upper = np.triu_indices(task.d)
    targets = {
        "sum of y x": lambda n: np.einsum("nid,ni->nd", x[:, :n], y[:, :n]),
        "sum of x x^T": lambda n: np.einsum("nid,nie->nde", x[:, :n], x[:, :n])[:, *upper],
    }
    if "w" in batch.latents:
        targets["w"] = lambda n: np.asarray(batch.latents["w"])[:count].reshape(count, -1)
    probes = {
        name: [probe(read[:, task.prefixes.index(n)].astype(np.float64), of(n)) for n in at]
        for name, of in targets.items()
    }
    flat = theta[:, 1:].reshape(-1, theta.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    _, axes = np.linalg.eigh(flat.T @ flat) if flat.shape[1] <= 2048 else (0, np.eye(len(flat[0])))
    components = (flat @ axes[:, :-3:-1]).reshape(count, -1, 2)
    drift = np.linalg.norm(np.diff(theta, axis=1), axis=-1).mean(0)
    return StateStudy(at, probes, drift, components, model.eigenvalues())


def probe(features: Float[np.ndarray, "N P"], targets: Float[np.ndarray, "N K"]) -> float:
    """R^2 of the best linear map from features to targets, on a quarter of the rows.

    Ridge regression on half of the rows, with the penalty that is best on another quarter.
    """
    N = len(features)
    parts = np.split(np.arange(N), [N // 2, 3 * N // 4])
    mean, scale = features[parts[0]].mean(0), features[parts[0]].std(0) + 1e-9
    fit, choose, judge = ((features[part] - mean) / scale for part in parts)
    U, s, Vt = np.linalg.svd(fit, full_matrices=False)
    centre = targets[parts[0]].mean(0)
    projected = U.T @ (targets[parts[0]] - centre)

    def score(penalty, rows, part):
        w = Vt.T @ ((s / (s**2 + penalty))[:, None] * projected)
        residual = targets[part] - centre - rows @ w
        return 1 - (residual**2).sum() / ((targets[part] - centre) ** 2).sum()

    penalties = len(fit) * 10.0 ** np.arange(-5, 4)
    best = max(penalties, key=lambda p: score(p, choose, parts[1]))
    return float(score(best, judge, parts[2]))


def draw_states(study: StateStudy, title: str) -> Figure:
    """Probes, principal components, drift and the spectrum of A."""
    figure = new_figure(10, 7)
    probed, shown, moved, spectrum = figure.subplots(2, 2).ravel()
    for (name, scores), colour in zip(study.probes.items(), LINES, strict=False):
        probed.plot(study.at, np.clip(scores, -0.2, 1), "o-", color=colour, label=name)
    probed.set(ylim=(-0.25, 1.05), xlabel="examples, n", ylabel="R^2", title="linear probes")
    probed.legend(frameon=False)
    few = study.components[:40]
    steps = np.broadcast_to(np.arange(1, few.shape[1] + 1), few.shape[:2])
    dots = shown.scatter(*few.reshape(-1, 2).T, c=steps.ravel(), s=6, cmap="viridis")
    figure.colorbar(dots, ax=shown, label="examples, n")
    shown.set(title="states along two principal axes", xticks=[], yticks=[])
    n = np.arange(1, len(study.drift) + 1)
    moved.plot(n, study.drift, "o-", color=OURS, ms=3)
    moved.set(xscale="log", yscale="log", xlabel="examples, n", ylabel="norm of a step",
              title="distance between consecutive states")  # fmt: skip
    if (eigenvalues := study.eigenvalues) is None:
        spectrum.set_axis_off()
    else:
        circle = np.exp(2j * np.pi * np.linspace(0, 1, 200))
        spectrum.plot(circle.real, circle.imag, color="#cccccc", lw=1)
        spectrum.plot(eigenvalues.real, eigenvalues.imag, ".", color=OURS, ms=3)
        spectrum.set(title="eigenvalues of A", aspect="equal")
    figure.suptitle(title)
    return figure


def _cosine(a: Float[np.ndarray, "N d"], b: Float[np.ndarray, "N d"]) -> float:
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(1) / np.maximum(sizes, 1e-12)))
