"""What the tests of the mathematics share."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from wsrnn.recurrence import (
    FORMS,
    MODES,
    BlockDiagonal,
    Dense,
    LinearMap,
    LowRank,
    Transition,
)


@dataclass(frozen=True)
class Reflections(Transition):
    """A form of a user's own with nothing but what a form must have: Householder reflections."""

    count: int = 3

    def init(self, key, blocks):
        return {"v": jax.random.normal(key, (self.count, sum(blocks)))}

    def apply(self, A, theta):
        for v in A["v"]:
            theta = theta - jnp.multiply.outer(2 / (v @ v) * (theta @ v), v)
        return theta


OWN = "Reflections"
FORM = {form.__name__: form() for form in (*FORMS, Reflections)} | {"LowRank": LowRank(rank=3)}
"""An instance of every form of A, by name, small enough for a P of 10."""
FORM_NAMES = [*FORM]


def modes(form):
    """The modes that a form of A can run."""
    cheap = FORM[form].squaring == "cheap"
    return [mode for mode in MODES if mode != "parallel" or cheap]


def transition(form, P, key=0, **options):
    """A fresh A of P weights, in two blocks of unequal size where it has blocks."""
    blocks = (P // 2 - 1, P - P // 2 + 1) if isinstance(FORM[form], BlockDiagonal) else (P,)
    return LinearMap.init(replace(FORM[form], **options), jax.random.key(key), blocks)


def dense(A):
    """The A of a plain matrix."""
    return LinearMap(Dense(), {"matrix": jnp.asarray(A)})


def close(actual, expected, tolerance, what=""):
    """Assert equality of two trees of arrays, each relative to its largest value."""
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        assert a.shape == e.shape, what
        error = np.abs(a - e).max(initial=0) / max(np.abs(e).max(initial=0), 1e-30)
        assert error <= tolerance, f"{what}: off by {error:.1e} of the largest value"
