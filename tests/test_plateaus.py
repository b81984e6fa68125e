"""Plateaus of a loss curve, and the levels that theory predicts, against other computations."""

import numpy as np
import pytest
from batches import prompts

from wsrnn.icl import plateaus
from wsrnn.tasks.inputs import Normal
from wsrnn.tasks.regression import LinearRegression


def test_the_levels_of_the_saddles_are_those_published():
    """Zhang et al.'s data: D = 4, N = 31, l proportional to k, to 1 / k, and white."""
    k = np.arange(1, 5)
    for l, expected in (  # noqa: E741
        (k / k.sum(), [1, 0.641, 0.377, 0.210, 0.136]),
        (1 / k / (1 / k).sum(), [1, 0.563, 0.358, 0.228, 0.136]),
        (np.full(4, 0.25), [1, 0.785, 0.569, 0.354, 0.139]),
    ):
        np.testing.assert_allclose(plateaus.saddles(l, 31), expected, atol=6e-4)
    d, n, noise = 5, 20, 0.3
    last = plateaus.saddles(np.ones(d), n, noise)[-1]
    assert last == pytest.approx((d + 1 + noise) / (n + d + 1 + noise))


def test_a_level_is_the_error_of_the_best_readout_of_so_many_components():
    """Fitted by least squares to prompts: y_q against beta_k x_qk, k within the first m."""
    task = LinearRegression(d=3, examples=6, inputs=Normal("k"), noise=0.2)
    batch = prompts(task, 40_000)
    x, y = task.shown(batch.inputs.astype(np.float64))
    features = np.einsum("nik,ni->nk", x[:, :-1], y[:, :-1]) * x[:, -1]
    levels = plateaus.saddles(task.eigenvalues, 6, 0.2)
    for m in range(4):
        chosen, truth = features[:, 3 - m :], batch.targets[:, -1, 0]
        left = truth - chosen @ np.linalg.lstsq(chosen, truth)[0]
        assert np.mean(left**2) / np.mean(truth**2) == pytest.approx(levels[m], rel=0.03)


def staircase(axis, drops, levels, width):
    """Sigmoids from level to level."""
    falls = zip(drops, np.diff(levels), strict=True)
    return levels[0] + sum(by / (1 + np.exp(-(axis - at) / width)) for at, by in falls)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_plateaus_of_sigmoids_are_found_at_their_levels(log, noise):
    levels, steps = [1.0, 0.64, 0.38, 0.21, 0.14], np.arange(1, 20_001)
    axis = np.log(steps) if log else steps / 2000
    drops = [6.5, 7.5, 8.3, 9.2] if log else [1.0, 2.5, 5.0, 8.0]
    clean = staircase(axis, drops, levels, 0.03)
    clean[5500:5520] += 0.5  # an instability that passes
    rng = np.random.default_rng(0)
    found = plateaus.find(steps, clean * (1 + noise * rng.normal(size=len(steps))), log=log)
    np.testing.assert_allclose([row.level for row in found], levels, rtol=0.02)
    edges = [axis[0], *drops, axis[-1]]
    for row, start, end in zip(found, edges, edges[1:], strict=False):
        first, last = axis[row.first - 1], axis[row.last - 1]
        assert start - 0.1 < first < start + 0.35 and end - 0.35 < last < end + 0.1


def test_no_plateau_is_found_where_there_is_none():
    steps = np.arange(1, 5001)
    rng = np.random.default_rng(0)
    noisy = 1 + 0.2 * rng.normal(size=len(steps))
    assert plateaus.find(steps, np.exp(-steps / 1000) * noisy, log=False) == []
    assert plateaus.find(steps, steps**-0.5 * noisy) == []
    (row,) = plateaus.find(steps, noisy)
    assert row.level == pytest.approx(1, abs=0.03) and row.first < 10 and row.last == 5000


def test_the_curve_that_never_rises_is_the_nearest_of_all():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=9), rng.uniform(0.5, 3, 9)
    found = plateaus.never_rising(values, weights)
    assert np.all(np.diff(found) <= 0)
    distance = (weights * np.abs(found - values)).sum()
    for _ in range(300):  # no step into the set of such curves brings it nearer
        other = np.sort(found + 0.2 * rng.normal(size=9))[::-1]
        assert (weights * np.abs(other - values)).sum() >= distance
