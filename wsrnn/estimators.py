"""The algorithms that in-context learners are measured against, on whole batches of prompts.

Each maps (x [N, n, d], y [N, n], query [N, d]) to predictions [N]; n = 0 predicts 0.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float

Prompts = Float[np.ndarray, "N n d"]
Labels = Float[np.ndarray, "N n"]
Queries = Float[np.ndarray, "N d"]


def zero(x: Prompts, y: Labels, query: Queries) -> Float[np.ndarray, " N"]:
    """Ignore the prompt. Error 1."""
    return np.zeros(len(query))


def gradient_step(
    x: Prompts, y: Labels, query: Queries, noise: float = 0.0
) -> Float[np.ndarray, " N"]:
    """One gradient step from w = 0 with the best step size for normal x and w.

    w = sum_i y_i x_i / (n + d + 1 + noise): what one layer of linear attention learns (Zhang et al.
    2025). Error (d + 1 + noise) / (n + d + 1 + noise).
    """
    n, d = x.shape[1:]
    w = np.einsum("nid,ni->nd", x, y) / (n + d + 1 + noise)
    return (w * query).sum(-1)


def ridge(x: Prompts, y: Labels, query: Queries, penalty: float) -> Float[np.ndarray, " N"]:
    """Minimise |x w - y|^2 + penalty |w|^2: the posterior mean if penalty is the noise."""
    gram = np.einsum("nid,nie->nde", x, x) + penalty * np.eye(x.shape[-1])
    w = np.linalg.solve(gram, np.einsum("nid,ni->nd", x, y)[..., None])[..., 0]
    return (w * query).sum(-1)


def least_squares(x: Prompts, y: Labels, query: Queries) -> Float[np.ndarray, " N"]:
    """The least-squares fit of least norm. Without noise its error is max(0, 1 - n / d)."""
    if not x.shape[1]:
        return zero(x, y, query)
    w = (np.linalg.pinv(x) @ y[..., None])[..., 0]
    return (w * query).sum(-1)


def baselines(noise: float, penalty: float = 0.1) -> dict[str, Callable]:
    """The estimators of a table, by name; ridge's penalty is the noise, or `penalty` if none."""
    penalty = noise or penalty
    return {
        "zero": zero,
        "one gradient step": partial(gradient_step, noise=noise),
        f"ridge ({penalty:g})": partial(ridge, penalty=penalty),
        "least squares": least_squares,
    }
