"""How a recurrence is executed: the method of least counted cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, get_args

import jax

from wsrnn.recurrence.costs import RATES, Counts, Rates, Sizes
from wsrnn.recurrence.methods import (
    BlockedConvolution,
    BlockPowers,
    ChunkedScan,
    FactoredStates,
    Method,
    SpectralConvolution,
    WholeScan,
)
from wsrnn.recurrence.transition import LinearMap

Mode = Literal["auto", "scan", "conv", "parallel"]
MODES: tuple[Mode, ...] = get_args(Mode)[1:]
"""The executions: `auto` chooses one of them."""


_backend: ContextVar[str | None] = ContextVar("backend", default=None)


@contextmanager
def planned_for(backend: str | None) -> Iterator[None]:
    """Plan for another backend than jax's own while programs are traced; None changes nothing."""
    token = _backend.set(backend)
    try:
        yield
    finally:
        _backend.reset(token)


@dataclass(frozen=True)
class Plan:
    """A method, with all that was decided of it."""

    mode: Mode
    method: Method
    at_once: int
    """Sequences whose states are held at a time."""
    counts: Counts
    """For value and gradient of the whole batch, the root network left out."""
    seconds: float
    """What the counts take at the rates of the backend."""

    def __str__(self) -> str:
        method = type(self.method).__name__
        return f"{self.mode} ({method}): {1e3 * self.seconds:.3g} ms by {self.counts}"


def plan(
    A: LinearMap,
    sizes: Sizes,
    mode: Mode = "auto",
    *,
    one: bool = False,
    backend: str | None = None,
) -> Plan:
    """Return the quickest execution by its counts, among those of `mode` (`auto`: all).

    With `one` a single step of each sequence is read. Raises ValueError for an unknown mode and
    for one that A cannot run.
    """
    return min(plans(A, sizes, mode, one=one, backend=backend), key=lambda p: p.seconds)


def plans(
    A: LinearMap,
    sizes: Sizes,
    mode: Mode = "auto",
    *,
    one: bool = False,
    backend: str | None = None,
) -> list[Plan]:
    """Return what `plan` chooses from, with the counted cost of each."""
    if mode not in get_args(Mode):
        raise ValueError(f"mode {mode!r} is unknown: use {' or '.join(get_args(Mode))}")
    if mode == "parallel" and A.form.squaring != "cheap":
        raise ValueError(
            f"mode parallel takes products of A with itself, which {type(A.form).__name__} makes "
            "as costly as P steps: use auto, scan or conv"
        )
    rates = RATES.get(backend or _backend.get() or jax.default_backend(), RATES["cpu"])
    found = []
    for m, method in candidates(A, sizes, rates, one):
        if mode in ("auto", m):
            counts = method.counts(A, sizes, rates)
            at_once = method.at_once(sizes, rates)
            found.append(Plan(m, method, at_once, counts, counts.seconds(rates)))
    return found


def candidates(
    A: LinearMap, sizes: Sizes, rates: Rates, one: bool
) -> Iterator[tuple[Mode, Method]]:
    """Every mode that A can run, with its methods."""
    cheap = A.form.squaring == "cheap"
    factored = FactoredStates.of(A, sizes, one)
    if one:
        quick = factored or BlockPowers.of(A, sizes, rates)
        yield "scan", WholeScan(one)
        yield "conv", quick
        if cheap:
            yield "parallel", quick
        return
    yield "scan", ChunkedScan.of(sizes, rates, log_depth=False) if cheap else WholeScan(one)
    if factored:
        yield "conv", factored
    else:
        yield "conv", SpectralConvolution.of(A, sizes, rates)
        yield "conv", BlockedConvolution.of(A, sizes, rates)
    if cheap:
        yield "parallel", ChunkedScan.of(sizes, rates, log_depth=True)
