"""Bootstrap intervals: 90 % percentile intervals from 1,000 resamples, always of the same draws.

Another seed, number of resamples or of groups changes every published interval.

`scipy.stats.bootstrap` knows neither of the two: the first takes one product of matrices for all
columns where it would index every resample of each, and in the second tables are resampled around
their draws.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

RESAMPLES = 1000
PERCENTILES = 5, 95
GROUPS = 2000
"""The most rows that are resampled one by one: more are resampled in as many groups."""
ALL = "median of all"
Interval = tuple[float, float, float]
"""An estimate and the two ends of its interval."""


def ratio_of_sums(
    above: Float[np.ndarray, "N K"], below: Float[np.ndarray, "N K"]
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """sum above / sum below in each column, and its interval over resampled rows."""
    N = min(len(below), GROUPS)
    above, below = (np.add.reduceat(each, np.arange(N) * len(each) // N) for each in (above, below))
    counts = np.random.default_rng(0).multinomial(N, np.full(N, 1 / N), RESAMPLES)
    low, high = np.percentile((counts @ above) / (counts @ below), PERCENTILES, 0)
    return above.sum(0) / below.sum(0), low, high


def nested_medians(ratios: Mapping[str, Float[np.ndarray, " draws"]]) -> dict[str, Interval]:
    """The median over draws of each table's ratios, and under `ALL` the median of these medians.

    Intervals are over resampled draws; for `ALL` over resampled tables too, since they stand for
    others. Ratios that are not a number do not count.
    """
    rng = np.random.default_rng(0)
    medians = {}
    for table, values in ratios.items():
        values = values[~np.isnan(values)]
        resampled = np.median(values[rng.integers(len(values), size=(RESAMPLES, len(values)))], 1)
        medians[table] = np.median(values), resampled
    each = np.stack([resampled for _, resampled in medians.values()])
    tables = rng.integers(len(each), size=each.shape)
    medians[ALL] = (
        np.median([median for median, _ in medians.values()]),
        np.median(np.take_along_axis(each, tables, 0), 0),
    )
    intervals = {}
    for table, (median, resampled) in medians.items():
        low, high = np.percentile(resampled, PERCENTILES)
        intervals[table] = float(median), float(low), float(high)
    return intervals
