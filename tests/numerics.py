"""What the tests of the mathematics share."""

import jax
import numpy as np

from wsrnn.recurrence import FORMS, MODES


def modes(form):
    """The modes that a form of A can run."""
    return [mode for mode in MODES if mode != "parallel" or FORMS[form].structured]


def small_sizes(form, P):
    """What `Transition.init` needs beside P to make a small one of a form."""
    blocks = P // 2 - 1, P - P // 2 + 1
    return {"low_rank": {"rank": 3}, "block_diagonal": {"blocks": blocks}}.get(form, {})


def close(actual, expected, tolerance, what=""):
    """Assert equality of two trees of arrays, each relative to its largest value."""
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        assert a.shape == e.shape, what
        error = np.abs(a - e).max(initial=0) / max(np.abs(e).max(initial=0), 1e-30)
        assert error <= tolerance, f"{what}: off by {error:.1e} of the largest value"
