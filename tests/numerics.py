"""What the tests of the mathematics share."""

import jax
import numpy as np


def close(actual, expected, tolerance, what=""):
    """Assert equality of two trees of arrays, each relative to its largest value."""
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        assert a.shape == e.shape, what
        error = np.abs(a - e).max(initial=0) / max(np.abs(e).max(initial=0), 1e-30)
        assert error <= tolerance, f"{what}: off by {error:.1e} of the largest value"
