"""Distribution shifts of test prompts (Garg et al. 2022, section 4, and more).

A shift is a transform of the points, a scale of the values, noise on the labels, or examples of a
second function. Those of the query change the last point alone: read their error at the last step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wsrnn.tasks.drawn import Raw


def _same(x, raw, xp):
    return x


def _nothing(T, d):
    return {}


@dataclass(frozen=True)
class Shift:
    """What differs; the defaults leave a prompt as it is."""

    points: Callable = _same
    """(x [N, T, d], raw, xp) to the points."""
    draws: Callable[[int, int], dict[str, Raw]] = _nothing
    """(T, d) to what it draws beside the task's own."""
    scale: float = 1.0
    """Of the noise-free values."""
    noise: float = 0.0
    """Variance on the labels beside the task's own."""
    second: Callable | None = None
    """(raw, T, xp) to where [N, T] a second function takes the place of the first."""
    query: bool = False
    """Whether only the last point differs."""


def _basis(T, d):
    return {"basis": Raw("normal", (d, d))}


def _signs(T, d):
    return {"signs": Raw("uniform", (d,))}


def _other(T, d):
    return {"other": Raw("uniform", (T,))}


def _spectrum(eigenvalues: Callable[[int], np.ndarray]) -> Callable:
    """Covariance of these eigenvalues in a random basis, of trace d."""

    def points(x, raw, xp):
        d = x.shape[-1]
        scales = eigenvalues(d) ** 0.5
        scales = (scales * (d / (scales**2).sum()) ** 0.5).astype(np.float32)
        Q = xp.linalg.qr(raw["basis"])[0]
        return (x @ Q) * scales @ xp.swapaxes(Q, 1, 2)

    return points


def _half(d: int) -> np.ndarray:
    return np.arange(d) < max(1, d // 2)


def _orthogonal_query(x, raw, xp):
    """The examples in one half of a random basis, the query in the other."""
    Q = xp.linalg.qr(raw["basis"])[0]
    last = xp.arange(x.shape[1])[:, None] == x.shape[1] - 1
    kept = xp.where(last, ~_half(x.shape[-1]), _half(x.shape[-1]))
    return (x @ Q) * kept @ xp.swapaxes(Q, 1, 2)


def _seen_query(x, raw, xp):
    """The query is the first example."""
    return xp.concatenate([x[:, :-1], x[:, :1]], 1)


def _orthants(query: float) -> Callable:
    """The examples in one random orthant; the query's signs are theirs times `query`, 0: free."""

    def points(x, raw, xp):
        signs = xp.where(raw["signs"] < 0.5, -1, 1)[:, None].astype(np.float32)
        examples = xp.abs(x[:, :-1]) * signs
        last = query * xp.abs(x[:, -1:]) * signs if query else x[:, -1:]
        return xp.concatenate([examples, last], 1)

    return points


def _tails(T, d):
    return {"tails": Raw("uniform", (T, d))}


def _laplace(x, raw, xp):
    """Two-sided exponential coordinates of variance 1."""
    centred = raw["tails"] - 0.5
    size = -xp.log(xp.maximum(1 - 2 * xp.abs(centred), 1e-7))
    return (xp.sign(centred) * size * 0.5**0.5).astype(np.float32)


def _exponential(x, raw, xp):
    """Exponential coordinates, centred, of variance 1."""
    return (-xp.log(xp.maximum(1 - raw["tails"], 1e-7)) - 1).astype(np.float32)


def _scaled(factor: float) -> Callable:
    return lambda x, raw, xp: factor * x


SHIFTS: dict[str, Shift] = {
    "none": Shift(),
    "skewed": Shift(_spectrum(lambda d: 1 / np.arange(1, d + 1) ** 2.0), _basis),
    "half subspace": Shift(_spectrum(lambda d: _half(d).astype(float)), _basis),
    "x / 3": Shift(_scaled(1 / 3)),
    "x / 2": Shift(_scaled(1 / 2)),
    "2 x": Shift(_scaled(2)),
    "3 x": Shift(_scaled(3)),
    "Laplace x": Shift(_laplace, _tails),
    "exponential x": Shift(_exponential, _tails),
    "w / 3": Shift(scale=1 / 3),
    "w / 2": Shift(scale=1 / 2),
    "2 w": Shift(scale=2),
    "3 w": Shift(scale=3),
    "noise 1": Shift(noise=1.0),
    "query in any orthant": Shift(_orthants(0), _signs),
    "query in the opposite orthant": Shift(_orthants(-1), _signs),
    "query orthogonal": Shift(_orthogonal_query, _basis, query=True),
    "query seen": Shift(_seen_query, query=True),
    "half of another function": Shift(
        draws=_other, second=lambda raw, T, xp: (raw["other"] < 0.5) & (xp.arange(T) < T - 1)
    ),
    "another function until the middle": Shift(
        second=lambda raw, T, xp: xp.broadcast_to(xp.arange(T) < T // 2, (len(raw["x"]), T))
    ),
}
"""By name. Other scales, spectra and mixtures are one line each."""

ShiftName = Literal[tuple(SHIFTS)]
