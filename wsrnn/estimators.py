"""The classical algorithms that in-context learners are compared with, on whole batches of prompts.

Each maps (x [N, n, d], y [N, n], query [N, d]) to predictions [N]; n = 0 predicts 0. Where the type
is `Values`, y may also be vectors [N, n, O] and so are the predictions [N, O].

Written out because thousands of small problems are solved at once: scikit-learn fits one at a time.
It is the reference in the tests. Add algorithms freely; a change of one changes published tables.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float

Prompts = Float[np.ndarray, "N n d"]
Labels = Float[np.ndarray, "N n"]
Queries = Float[np.ndarray, "N d"]
Values = Float[np.ndarray, "N n *O"]
Predicted = Float[np.ndarray, "N *O"]


def zero(x: Prompts, y: Values, query: Queries) -> Predicted:
    """Ignore the prompt. Error 1."""
    return np.zeros((len(query), *y.shape[2:]))


def linear(w: Float[np.ndarray, "N d *O"], query: Queries) -> Predicted:
    """w.x_q."""
    return np.einsum("nd...,nd->n...", w, query)


def products(x: Prompts, y: Values) -> Float[np.ndarray, "N d *O"]:
    """sum_i x_i y_i."""
    return np.einsum("nid,ni...->nd...", x, y)


def gradient_step(x: Prompts, y: Values, query: Queries, noise: float = 0.0) -> Predicted:
    """One gradient step from w = 0 with the best step size for normal x and w.

    w = sum_i y_i x_i / (n + d + 1 + noise): what one layer of linear attention learns (Zhang et al.
    2025). Error (d + 1 + noise) / (n + d + 1 + noise).
    """
    n, d = x.shape[1:]
    return linear(products(x, y) / (n + d + 1 + noise), query)


def linear_attention(x: Prompts, y: Values, query: Queries) -> Predicted:
    """sum_i y_i x_i.x_q / (n + d - 1), the best scale where |x|^2 = d and the query is one of x.

    Error (n - 1) / (n + d - 1) on unrelated values.
    """
    n, d = x.shape[1:]
    return linear(products(x, y) / (n + d - 1), query)


def ridge(x: Prompts, y: Values, query: Queries, penalty: float) -> Predicted:
    """Minimise |x w - y|^2 + penalty |w|^2: the posterior mean if penalty is the noise.

    Solved for the query, so that one solution serves all values: w.x_q = sum_i y_i x_i.z.
    """
    gram = np.einsum("nid,nie->nde", x, x) + penalty * np.eye(x.shape[-1])
    return linear(products(x, y), np.linalg.solve(gram, query[..., None])[..., 0])


def least_squares(x: Prompts, y: Values, query: Queries) -> Predicted:
    """The least-squares fit of least norm. Without noise its error is max(0, 1 - n / d).

    On vectors it is the pseudo-inverse memory, of error 1 - d / n for a query that is one of n > d
    keys with unrelated values.
    """
    if not x.shape[1]:
        return zero(x, y, query)
    return np.einsum("ni,ni...->n...", (query[:, None] @ np.linalg.pinv(x))[:, 0], y)


def lasso(x: Prompts, y: Labels, query: Queries, penalty: float) -> Float[np.ndarray, " N"]:
    """Minimise |x w - y|^2 / (2 n) + penalty |w|_1 by coordinate descent, at most 300 rounds."""
    N, n, d = x.shape
    if not n:
        return zero(x, y, query)
    gram, slope = np.einsum("nid,nie->nde", x, x) / n, products(x, y) / n
    w = np.zeros((N, d))
    for _ in range(300):
        before = w.copy()
        for j in range(d):
            size = np.maximum(gram[:, j, j], 1e-12)
            best = slope[:, j] - (gram[:, j] * w).sum(-1) + size * w[:, j]
            w[:, j] = np.sign(best) * np.maximum(np.abs(best) - penalty, 0) / size
        if np.abs(w - before).max() < 1e-6:
            break
    return linear(w, query)


def averaging(x: Prompts, y: Values, query: Queries) -> Predicted:
    """w = mean of y_i x_i. Error (d + 1 + noise) / n for normal x and w."""
    if not x.shape[1]:
        return zero(x, y, query)
    return linear(products(x, y) / x.shape[1], query)


def nearest_neighbours(x: Prompts, y: Values, query: Queries, k: int = 3) -> Predicted:
    """The mean label of the k examples nearest to the query, of all where there are fewer."""
    if not x.shape[1]:
        return zero(x, y, query)
    distances = ((x - query[:, None]) ** 2).sum(-1)
    nearest = np.argsort(distances, 1)[:, :k]
    return y[np.arange(len(y))[:, None], nearest].mean(1)


def nearest_mean(
    x: Prompts, y: Float[np.ndarray, "N n L"], query: Queries
) -> Float[np.ndarray, "N L"]:
    """Scores of labels, y one-hot: minus the squared distance from the query to each one's mean.

    A label without examples scores minus infinity. The best guess for clouds of one round shape.
    """
    counts = y.sum(1)
    means = np.einsum("nil,nid->nld", y, x) / np.maximum(counts, 1)[..., None]
    distances = ((means - query[:, None]) ** 2).sum(-1)
    return np.where(counts > 0, -distances, -np.inf)


def kalman(
    W: Float[np.ndarray, "N D D"], seen: Float[np.ndarray, "N T m"], noise: float
) -> Float[np.ndarray, "N T m"]:
    """The best prediction of the next observation, W known, from all observations so far.

    s_{t+1} = W s_t + eps with variance `noise`, s_1 normal; the first m coordinates are seen.
    """
    N, T, m = seen.shape
    mean, P = np.zeros((N, W.shape[-1])), np.broadcast_to(np.eye(W.shape[-1]), W.shape)
    predictions = []
    for t in range(T):
        # 1e-9 keeps what is known for certain, where nothing is left to correct, from 0 / 0
        gain = P[..., :m] @ np.linalg.inv(P[:, :m, :m] + 1e-9 * np.eye(m))
        mean = mean + np.einsum("nem,nm->ne", gain, seen[:, t] - mean[:, :m])
        P = P - gain @ P[:, :m]
        mean = np.einsum("nde,ne->nd", W, mean)
        P = W @ P @ np.swapaxes(W, 1, 2) + noise * np.eye(W.shape[-1])
        predictions.append(mean[:, :m])
    return np.stack(predictions, 1)


def gradient_descent(
    x: Prompts, y: Labels, query: Queries, steps: int, rate: float | None = None
) -> Float[np.ndarray, " N"]:
    """So many steps w += rate / n sum_i (y_i - w.x_i) x_i from w = 0.

    Without a rate each prompt has its own: n over the largest eigenvalue of sum_i x_i x_i^T.
    """
    n = x.shape[1]
    if not n:
        return zero(x, y, query)
    gram, slope = np.einsum("nid,nie->nde", x, x), products(x, y)
    each = 1 / np.linalg.eigvalsh(gram)[:, -1:] if rate is None else rate / n
    w = np.zeros_like(query)
    for _ in range(steps):
        w = w + each * (slope - (gram @ w[..., None])[..., 0])
    return linear(w, query)


def normalised_lms(
    x: Prompts, y: Labels, query: Queries, rate: float = 1.0
) -> Float[np.ndarray, " N"]:
    """w += rate (y_i - w.x_i) x_i / |x_i|^2, example by example: the delta rule.

    Without noise and with rate 1 the error is (1 - 1 / d)^n.
    """
    w = np.zeros_like(query)
    for x_i, y_i in zip(np.swapaxes(x, 0, 1), y.T, strict=True):
        residual = y_i - (w * x_i).sum(-1)
        w = w + rate * (residual / (x_i**2).sum(-1))[:, None] * x_i
    return (w * query).sum(-1)


def recursive_least_squares(
    x: Prompts, y: Labels, query: Queries, penalty: float, forgetting: float = 1.0
) -> Float[np.ndarray, " N"]:
    """Ridge example by example, by the Sherman-Morrison formula; `forgetting` < 1 weighs new ones.

    With forgetting 1 it equals `ridge`.
    """
    N, _, d = x.shape
    w, inverse = np.zeros((N, d)), np.broadcast_to(np.eye(d) / penalty, (N, d, d))
    for x_i, y_i in zip(np.swapaxes(x, 0, 1), y.T, strict=True):
        gain = np.einsum("nde,ne->nd", inverse, x_i)
        gain = gain / (forgetting + (gain * x_i).sum(-1))[:, None]
        w = w + gain * (y_i - (w * x_i).sum(-1))[:, None]
        inverse = inverse - np.einsum("nd,ne,nef->ndf", gain, x_i, inverse)
        inverse = inverse / forgetting
    return (w * query).sum(-1)


def principal_components(
    x: Prompts, y: Labels, query: Queries, components: int
) -> Float[np.ndarray, " N"]:
    """Least squares on the leading principal components of the examples (not centred)."""
    if not x.shape[1]:
        return zero(x, y, query)
    U, s, Vt = np.linalg.svd(x, full_matrices=False)
    m = min(components, s.shape[1])
    spans = s > 1e-10 * s[:, :1]  # examples may repeat each other, and there be fewer components
    inverse = np.divide(1, s, out=np.zeros_like(s), where=spans)[:, :m]
    w = np.einsum("nkd,nk->nd", Vt[:, :m], np.einsum("nik,ni->nk", U[..., :m], y) * inverse)
    return (w * query).sum(-1)


def pool_posterior(
    x: Prompts, y: Labels, query: Queries, pool: Float[np.ndarray, "M d"], noise: float
) -> Float[np.ndarray, " N"]:
    """The posterior mean over a finite pool of weights (dMMSE, Raventos et al. 2023).

    2 w.sum_i y_i x_i - w^T (sum_i x_i x_i^T) w is what the squares of w differ in: N M numbers.
    """
    gram = np.einsum("nid,nie->nde", x, x)
    square = np.einsum("md,me->mde", pool, pool).reshape(len(pool), -1)
    log_p = (products(x, y) @ pool.T - gram.reshape(len(gram), -1) @ square.T / 2) / noise
    p = np.exp(log_p - log_p.max(1, keepdims=True))
    return ((p / p.sum(1, keepdims=True)) @ pool * query).sum(-1)


def gaussian_process(
    x: Prompts, y: Labels, query: Queries, scale: float, noise: float
) -> Float[np.ndarray, " N"]:
    """The posterior mean for the kernel exp(-|x - x'|^2 / (2 scale^2)): the best prediction."""
    if not x.shape[1]:
        return zero(x, y, query)

    def kernel(a, b):
        squares = ((a[:, :, None] - b[:, None]) ** 2).sum(-1)
        return np.exp(-squares / (2 * scale**2))

    gram = kernel(x, x) + noise * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, y[..., None])
    return (kernel(query[:, None], x) @ weights)[:, 0, 0]


def baselines(noise: float, penalty: float = 0.1) -> dict[str, Callable]:
    """The estimators of a table, by name; ridge's penalty is the noise, or `penalty` if none."""
    penalty = noise or penalty
    return {
        "zero": zero,
        "one gradient step": partial(gradient_step, noise=noise),
        f"ridge ({penalty:g})": partial(ridge, penalty=penalty),
        "least squares": least_squares,
    }
