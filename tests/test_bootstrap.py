"""Bootstrap intervals cover the truth as often as they claim, at the width of closed forms."""

import numpy as np
import pytest

from wsrnn.bootstrap import ALL, nested_medians, ratio_of_sums


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    truth, error = rng.normal(size=(300, 200)), 0.5 * rng.normal(size=(300, 200))
    _, low, high = ratio_of_sums(error**2, truth**2)
    assert 0.83 < np.mean((low <= 0.25) & (high >= 0.25)) < 0.96


def test_intervals_of_many_prompts_resampled_in_groups_are_as_wide():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(9000, 1))
    _, low, high = ratio_of_sums(rng.normal(size=truth.shape) ** 2, truth**2)
    width = 2 * 1.645 * (4 / len(truth)) ** 0.5  # of a ratio of two chi squares
    assert high[0] - low[0] == pytest.approx(width, rel=0.15)


def test_medians_and_their_intervals():
    draws = np.random.default_rng(0).lognormal(0.1, 0.3, 400)
    found = nested_medians({"a": draws, "b": np.append(draws * 2, np.nan), "c": draws * 3})
    assert found["a"][0] == np.median(draws) and found[ALL][0] == pytest.approx(found["b"][0])
    # The interval of a median is about +-1.645 sqrt(pi / 2) deviations of a mean.
    width = np.log(found["a"][2] / found["a"][1])
    assert width == pytest.approx(2 * 1.645 * (np.pi / 2) ** 0.5 * 0.3 / 20, rel=0.3)
    assert found[ALL][1] < found["b"][1] and found[ALL][2] > found["b"][2]
