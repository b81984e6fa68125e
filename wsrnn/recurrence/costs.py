"""The cost of an execution: counted operations and bytes, and the rates of machines.

The rates are rough and only their ratios decide; correct them where a machine of yours differs.
"""

from typing import Any, NamedTuple

import jax

from wsrnn.recurrence.transition import LinearMap


class Sizes(NamedTuple):
    """Of one device's part of a batch."""

    N: int  # sequences
    T: int  # steps
    P: int  # weights
    D: int  # channels of the drive
    R: int  # columns of the start
    multiplied: int  # channels of the drive that a matrix multiplies: D, or 0 without one


class Counts(NamedTuple):
    """What an execution takes for value and gradient, in units with a rate each.

    Operations follow from the equations. Bytes passed and steps are those of the compiled loops:
    how often an array is written or read there, as found by timing single parts.
    """

    product: float = 0.0  # operations in wide matrix products
    thin: float = 0.0  # operations in products of many small matrices
    transform: float = 0.0  # operations in Fourier transforms
    reading: float = 0.0  # bytes of a matrix in the cache, read again for every few vectors
    passing: float = 0.0  # bytes of longer arrays, in elementwise passes or read as above
    steps: float = 0.0  # iterations of loops, one after another

    def __add__(self, other: "Counts") -> "Counts":  # type: ignore[override]
        return Counts(*map(sum, zip(self, other, strict=True)))

    def __mul__(self, times: float) -> "Counts":  # type: ignore[override]
        return Counts(*(times * count for count in self))

    def seconds(self, rates: "Rates") -> float:
        """The time that these counts take one after another."""
        return sum(count / rate for count, rate in zip(self, rates.per_second, strict=True))

    def __str__(self) -> str:
        return ", ".join(
            f"{count:.2g} {UNITS[name]}" for name, count in self._asdict().items() if count
        )


UNITS = {
    "product": "operations in matrix products",
    "thin": "in small ones",
    "transform": "in transforms",
    "reading": "bytes of A read in cache",
    "passing": "bytes passed",
    "steps": "steps",
}


class Rates(NamedTuple):
    """What a backend does in a second, roughly: only ratios decide."""

    per_second: Counts
    room: int  # bytes for the states of the sequences in flight
    cache: int  # bytes of a matrix that is read at the rate `reading`


RATES = {
    "cpu": Rates(Counts(3.5e11, 1.6e11, 3e10, 2e11, 2e10, 2e6), 2**23, 2**24),
    "gpu": Rates(Counts(4e13, 1e13, 4e12, 2e12, 1.5e12, 1e5), 2**29, 2**25),
    "tpu": Rates(Counts(3e13, 1e13, 5e11, 1e12, 1e12, 3e5), 2**29, 2**26),
}
"""cpu: measured on two cores. gpu, tpu: from data sheets, not measured; others count as cpu."""


def parameters(A: LinearMap) -> int:
    """How many parameters A has."""
    return sum(leaf.size for leaf in jax.tree.leaves(A))


def applied(A: LinearMap, vectors: int, P: int, rates: Rates) -> Counts:
    """One product of A with so many vectors."""
    if parameters(A) <= 4 * P:
        return Counts(passing=8 * vectors * P)
    matrix = 4 * parameters(A)
    read = Counts(reading=matrix) if matrix <= rates.cache else Counts(passing=matrix)
    return Counts(product=vectors * A.operations(P)) + read


def squarings(A: LinearMap, P: int, gradient: bool) -> Counts:
    """One squaring of A, and its gradient."""
    cheap = A.form.squaring == "cheap"
    return Counts(product=0 if cheap else (6.0 if gradient else 2.0) * P**3)


def kernel(A: LinearMap, doublings: int, sizes: Sizes, rates: Rates) -> Counts:
    """The kernel and its adjoint: see `kernel_powers`."""
    T, P, D, R = sizes.T, sizes.P, sizes.D, sizes.R
    thin = applied(A, (D + R) << doublings, P, rates) + Counts(steps=1)
    wide = applied(A, T * (D + R), P, rates)
    doubling = squarings(A, P, gradient=False) + wide
    return thin * (2 * -(-T >> doublings)) + doubling * doublings + wide


def fewest(A: LinearMap, most: int, cost: Any) -> int:
    """The number of doublings, 0 to `most` - 1, of least cost; 0 for an A that has no square."""
    return 0 if A.form.squaring == "none" else min(range(most), key=cost)


def at_once(sizes: Sizes, rates: Rates) -> int:
    """The most sequences whose states fit the room, among the divisors of N."""
    most = max(1, rates.room // (4 * sizes.T * sizes.P))
    return max(n for n in range(1, min(sizes.N, most) + 1) if sizes.N % n == 0)
