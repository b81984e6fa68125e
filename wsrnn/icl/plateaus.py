"""Plateaus of a loss curve: where it stays, at what levels, and the levels that theory predicts.

Functions of arrays alone: nothing here reads a run. The isotonic fit minimises absolute differences
(`scipy.optimize.isotonic_regression` squares them, and one spike would move its plateau).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num


class Plateau(NamedTuple):
    """A stretch of steps, and the median loss there."""

    level: float
    first: int
    last: int


def find(
    steps: Int[np.ndarray, " T"],
    losses: Float[np.ndarray, " T"],
    *,
    log: bool = True,
    bins: int = 300,
    apart: float = 0.05,
    least: float = 0.02,
    flat: float = 0.4,
) -> list[Plateau]:
    """Return the plateaus of a loss curve, from the first on.

    The curve is averaged in `bins` of the axis, which is log(step) or the step, in fewer where that
    is too few steps to bring the noise of a mean below a third of `apart`, and replaced by the
    nearest curve that never rises, so that noise neither makes nor hides a plateau. From it are
    taken the longest stretches, the longest first, over which the loss falls by no more than
    `apart` of itself, for which it takes at least `least` of the axis, and where, its edges aside,
    log(loss) falls at most `flat` times as fast as on the whole. Of two with levels within 2
    `apart` the shorter is a shoulder of the other and left out.
    """
    axis = np.log(np.maximum(steps, 1)) if log else np.asarray(steps, float)
    edges = np.linspace(axis[0], axis[-1], bins + 1)
    place = np.clip(np.searchsorted(edges, axis, "right") - 1, 0, bins - 1)
    centres = (edges[:-1] + edges[1:]) / 2
    group = _grouped(place, (3 * _noise(losses) / apart) ** 2)
    count, where = np.bincount(group), np.bincount(group, centres[place])
    means = never_rising(np.bincount(group, losses) / count, count)
    seen = np.interp(centres, where / count, means)
    curve = np.log(np.maximum(seen, 1e-30))
    steepest = flat * (curve[0] - curve[-1]) / bins if curve[0] - curve[-1] > apart else np.inf

    found: list[tuple[int, int]] = []
    free = [(0, bins)]  # stretches of bins that no plateau has taken
    while free:
        start, end = free.pop()
        reach = np.searchsorted(-curve[start:end], -curve[start:end] + apart, "right")
        lengths = reach - np.arange(end - start)
        i = int(np.argmax(lengths)) + start
        j = i + int(lengths.max())
        if j - i < least * bins:
            continue
        free += [part for part in ((start, i), (j, end)) if part[1] > part[0]]
        level, edge = np.median(curve[i:j]), (j - i) // 10  # the drops begin at its edges
        known = [np.median(curve[a:b]) for a, b in found]
        if curve[i + edge] - curve[j - 1 - edge] <= steepest * (j - i - 2 * edge) and all(
            abs(level - other) > 2 * apart for other in known
        ):
            found.append((i, j))
    rows = []
    for i, j in sorted(found):
        first, last = np.searchsorted(place, [i, j]) - [0, 1]
        if group[last] - group[first] >= 2:  # else it lies between two means
            level = float(np.exp(np.median(curve[i:j])))
            rows.append(Plateau(level, int(steps[first]), int(steps[last])))
    return rows


def _noise(losses: Float[np.ndarray, " T"]) -> float:
    """The standard deviation of a step's loss from the curve, as a part of it."""
    changes = np.diff(losses) / np.maximum((losses[1:] + losses[:-1]) / 2, 1e-30)
    return float(np.median(np.abs(changes)) / 0.6745 / 2**0.5)  # of a normal distribution


def _grouped(place: Int[np.ndarray, " T"], least: float) -> Int[np.ndarray, " T"]:
    """The group of each step: neighbouring bins, as many as hold at least so many steps."""
    group = np.zeros_like(place)
    held = 0
    for step in range(1, len(place)):
        held += 1
        full = place[step] != place[step - 1] and held >= least
        group[step] = group[step - 1] + full
        held *= not full
    return group


def never_rising(
    values: Float[np.ndarray, " B"], weights: Num[np.ndarray, " B"]
) -> Float[np.ndarray, " B"]:
    """The curve without a rise that is nearest in weighted absolute differences.

    Neighbours in the wrong order are pooled, at their median: a short spike moves nothing.
    """
    pools: list[tuple[float, int, int]] = []  # median, first, end
    for i in range(len(values)):
        pool = (float(values[i]), i, i + 1)
        while pools and pools[-1][0] < pool[0]:
            start = pools.pop()[1]
            pool = (_median(values[start : i + 1], weights[start : i + 1]), start, i + 1)
        pools.append(pool)
    return np.concatenate([np.full(end - start, level) for level, start, end in pools])


def _median(values: Float[np.ndarray, " B"], weights: Num[np.ndarray, " B"]) -> float:
    return float(np.quantile(values, 0.5, weights=weights, method="inverted_cdf"))


def saddles(
    eigenvalues: Float[np.ndarray, " d"], examples: int, noise: float = 0.0
) -> Float[np.ndarray, " levels"]:
    """Errors [d + 1] of linear attention that has learned the 0 .. d largest components of x.

    With l_1 >= .. >= l_d the variances of x along its principal axes, w normal and n examples,
    component k removes l_k / (1 + (1 + (sum l + noise) / l_k) / n) from the error sum l (Zhang et
    al. 2025, equation 19; noise by the same computation). Divided by sum l here.
    """
    l = np.sort(eigenvalues)[::-1]  # noqa: E741
    removed = l / (1 + (1 + (l.sum() + noise) / l) / examples)
    return 1 - np.concatenate([[0.0], np.cumsum(removed)]) / l.sum()
