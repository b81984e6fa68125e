"""How a recurrence will be executed: chosen from its sizes by counted operations and bytes."""

from dataclasses import dataclass
from math import isqrt, log2
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wsrnn.recurrence.convolution import (
    Blocked,
    Cumulative,
    Narrow,
    Spectral,
    Trajectories,
    fast_length,
    impulse,
)
from wsrnn.recurrence.kernel import krylov
from wsrnn.recurrence.last import state_at
from wsrnn.recurrence.transition import Transition

Mode = Literal["auto", "scan", "conv", "parallel"]
MODES: tuple[Mode, ...] = get_args(Mode)[1:]
"""The executions: `auto` chooses one of them."""


class Sizes(NamedTuple):
    """Of one device's part of a batch."""

    N: int  # sequences
    T: int  # steps
    P: int  # weights
    D: int  # channels of the drive
    R: int  # columns of the start: 1, or the rank of Affine plus 1
    direct: bool = False  # whether there is no B: channels are added to the first weights

    @property
    def multiplied(self) -> int:
        """Channels that a matrix multiplies."""
        return 0 if self.direct else self.D


class Counts(NamedTuple):
    """What an execution does for value and gradient, in units that machines are fast or slow in.

    Operations follow from the equations. Bytes passed and steps are those of the compiled loops:
    how often an array is written or read there, as found by timing single parts.
    """

    product: float = 0.0  # operations in wide matrix products
    thin: float = 0.0  # operations in products of many small matrices
    transform: float = 0.0  # operations in Fourier transforms
    reading: float = 0.0  # bytes of a matrix in the cache, read again for every few vectors
    passing: float = 0.0  # bytes of longer arrays, in elementwise passes or read as above
    steps: float = 0.0  # iterations of loops, one after another

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(sum, zip(self, other, strict=True)))

    def __mul__(self, times: float) -> "Counts":
        return Counts(*(times * count for count in self))

    def seconds(self, rates: "Rates") -> float:
        """The time that these counts take one after another."""
        return sum(count / rate for count, rate in zip(self, rates.per_second, strict=True))


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


@dataclass(frozen=True)
class Plan:
    """An execution with all its choices made."""

    mode: Mode
    method: str
    """scan: whole (all sequences at once) or stepped; conv: narrow, blocked or spectral; parallel:
    cumulative; powers, where these read one step."""
    counts: Counts
    """For value and gradient of the whole batch, the root network left out."""
    seconds: float
    """What the counts take at the rates of the backend."""
    at_once: int = 1
    """Sequences whose states are held at a time; divides N."""
    doublings: int = 0
    """Of the kernel: see `krylov` and `state_at`."""
    block: int = 1
    """Steps of a block, of the methods `blocked`, `stepped` and `cumulative`."""

    def __str__(self) -> str:
        names = {
            "product": "operations in matrix products",
            "thin": "in small ones",
            "transform": "in transforms",
            "reading": "bytes of A read in cache",
            "passing": "bytes passed",
            "steps": "steps",
        }
        counts = [
            f"{getattr(self.counts, key):.2g} {name}"
            for key, name in names.items()
            if getattr(self.counts, key)
        ]
        return f"{self.mode} ({self.method}): {1e3 * self.seconds:.3g} ms by {', '.join(counts)}"

    def trajectories(
        self,
        transition: Transition,
        B: Float[Array, "P D"] | None,
        S: Float[Array, "P R"],
        u: Float[Array, "N T D"],
        h: Float[Array, "N R"],
    ) -> tuple[Trajectories, Float[Array, "N T C"], Float[Array, "N R"]]:
        """What the sequences share, and the drive and start of each that it takes."""
        if self.method in ("stepped", "cumulative"):
            log_depth = self.method == "cumulative"
            return Cumulative(transition, B, S, self.block, log_depth), u, h
        V = _columns(B, S, u)
        if self.method == "narrow":
            W, w = transition.narrow(V, jnp.swapaxes(impulse(u, h), 0, 1))
            return _narrow(W, B, u), jnp.swapaxes(w, 0, 1), h
        kernel = krylov(transition, transition.mine(V).T, u.shape[1], self.doublings)
        if self.method == "blocked":
            found = Blocked.of(kernel, u.shape[2], self.block)
        else:
            found = Spectral.of(kernel, u.shape[2])
        return transition.gathered(found), u, h

    def state_at(
        self,
        transition: Transition,
        B: Float[Array, "P D"] | None,
        S: Float[Array, "P R"],
        u: Float[Array, "N T D"],
        h: Float[Array, "N R"],
        at: Int[Array, " N"],
    ) -> Float[Array, "N P"]:
        """Each sequence's state at its own step `at`, and no other."""
        V = _columns(B, S, u)
        if self.method == "narrow":
            W, w = transition.narrow_at(V, jnp.swapaxes(impulse(u, h), 0, 1), at)
            return _narrow(W, B, u).states(w[None], h)[0].T
        return state_at(transition.whole(), V[:, : u.shape[2]], S, u, h, at, self.doublings)


def _columns(B: Array | None, S: Float[Array, "P R"], u: Float[Array, "N T D"]) -> Array:
    """[B, S], with the first columns of the identity matrix where there is no B."""
    B = jnp.eye(len(S), u.shape[2], dtype=S.dtype) if B is None else B
    return jnp.concatenate([B, S], 1)


def _narrow(W: Float[Array, "P R"], B: Array | None, u: Float[Array, "N T D"]) -> Narrow:
    """Of the directions [B, S, ...], those without B's columns where they are the identity's."""
    direct = u.shape[2] if B is None else 0
    return Narrow(W[:, direct:], direct)


def plan(
    transition: Transition,
    sizes: tuple[int, ...],
    mode: Mode = "auto",
    *,
    last: bool = False,
    backend: str | None = None,
) -> Plan:
    """Return the quickest execution by its counts, among those of `mode` (`auto`: all).

    sizes are those of `Sizes`; `last` reads one step of each sequence. Raises ValueError for an
    unknown mode and for one that the transition cannot run.
    """
    return min(plans(transition, sizes, mode, last=last, backend=backend), key=lambda p: p.seconds)


def plans(
    transition: Transition,
    sizes: tuple[int, ...],
    mode: Mode = "auto",
    *,
    last: bool = False,
    backend: str | None = None,
) -> list[Plan]:
    """Return what `plan` chooses from, with what each is counted to take."""
    if mode not in get_args(Mode):
        raise ValueError(f"mode {mode!r} is unknown: use {' or '.join(get_args(Mode))}")
    if mode == "parallel" and not transition.structured:
        raise ValueError(
            f"mode parallel takes products of A with itself, which form {transition.name()} makes "
            "as dear as P steps: use auto, scan or conv"
        )
    sizes = Sizes(*sizes)
    rates = RATES.get(backend or jax.default_backend(), RATES["cpu"])
    modes = [m for m in MODES if mode in ("auto", m) and (transition.structured or m != "parallel")]
    found = []
    for m in modes:
        if m == "scan" and (last or not transition.structured):
            counts = _scan(transition, sizes, rates, last)
            found.append(Plan(m, "whole", counts, counts.seconds(rates)))
        elif last:
            found.append(_last(m, transition, sizes, rates))
        elif m in ("scan", "parallel"):
            found.append(_cumulative(m, transition, sizes, rates))
        else:
            found += _convolutions(transition, sizes, rates)
    return found


def _parameters(transition: Transition) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(transition))


def _apply(transition: Transition, vectors: int, P: int, rates: Rates) -> Counts:
    """One product of A with some vectors."""
    if _parameters(transition) <= 4 * P:
        return Counts(passing=8 * vectors * P)
    matrix = 4 * _parameters(transition)
    read = Counts(reading=matrix) if matrix <= rates.cache else Counts(passing=matrix)
    return Counts(product=vectors * transition.operations(P)) + read


def _scan(transition: Transition, sizes: Sizes, rates: Rates, last: bool) -> Counts:
    """Forwards and backwards step by step; dA is added to at every step."""
    N, T, P, D = sizes.N, sizes.T, sizes.P, sizes.multiplied
    step = _apply(transition, N, P, rates) * 3 + Counts(product=6 * N * P * D, steps=4)
    gradients = 8 * (_parameters(transition) + P * D)
    return (step + Counts(passing=gradients + (8 if last else 60) * N * P)) * T


def _kernel(transition: Transition, doublings: int, sizes: Sizes, rates: Rates) -> Counts:
    """The kernel and its adjoint: see `krylov`."""
    T, P, D, R = sizes.T, sizes.P, sizes.D, sizes.R
    thin = _apply(transition, (D + R) << doublings, P, rates) + Counts(steps=1)
    wide = _apply(transition, T * (D + R), P, rates)
    squarings = Counts(product=0 if transition.structured else 2.0 * P**3) + wide
    return thin * (2 * -(-T >> doublings)) + squarings * doublings + wide


def _at_once(sizes: Sizes, rates: Rates) -> int:
    """The most sequences whose states fit the room, among the divisors of N."""
    most = max(1, rates.room // (4 * sizes.T * sizes.P))
    return max(n for n in range(1, min(sizes.N, most) + 1) if sizes.N % n == 0)


def _cumulative(mode: Mode, transition: Transition, sizes: Sizes, rates: Rates) -> Plan:
    N, T, P, D = sizes.N, sizes.T, sizes.P, sizes.multiplied
    at_once = _at_once(sizes, rates)
    block = max(8, min(T, rates.room // (4 * at_once * P)))
    blocks = -(-T // block)
    log_depth = mode == "parallel"
    counts = _apply(transition, N * T, P, rates) * (8 if log_depth else 4) + Counts(
        product=6 * N * T * P * D,
        passing=(120 if log_depth else 40) * N * T * P,
        steps=6 * (block.bit_length() * blocks if log_depth else T) * N / at_once,
    )
    method = "cumulative" if log_depth else "stepped"
    return Plan(mode, method, counts, counts.seconds(rates), at_once, block=block)


def _convolutions(transition: Transition, sizes: Sizes, rates: Rates) -> list[Plan]:
    N, T, P, D = sizes.N, sizes.T, sizes.P, sizes.D
    at_once = _at_once(sizes, rates)
    groups = Counts(steps=1500 * N / at_once)  # the many small operations around each

    def made(method, counts, **choices):
        counts += groups
        return Plan("conv", method, counts, counts.seconds(rates), at_once, **choices)

    if directions := _directions(transition, sizes):
        direct = D - sizes.multiplied
        counts = Counts(
            product=6 * N * T * P * (directions - direct),
            passing=120 * N * T * direct,
            steps=8 * T.bit_length(),
        )
        return [made("narrow", counts)]

    def kernel(doublings):
        return _kernel(transition, doublings, sizes, rates)

    doublings = min(range(max(1, T.bit_length() - 1)), key=lambda k: kernel(k).seconds(rates))
    n = fast_length(2 * T - 1)
    spectral = Counts(transform=5 * N * P * n * log2(n), passing=N * P * n * (16 + 8 * D))
    # Of the two products of a state's 8 c D + 4 T / c operations the first is the quicker one, so
    # that c is best near sqrt(T / D).
    block = min(range(8, min(T, 2 * isqrt(T)) + 8, 8), key=lambda c: 4 * c * D + 4 * -(-T // c))
    blocks = -(-T // block)
    blocked = Counts(
        thin=2 * N * P * blocks * block * (8 * block * D + 4 * blocks),
        passing=N * P * T * (24 + 16 * D / at_once),
    )
    return [
        made("spectral", kernel(doublings) + spectral, doublings=doublings),
        made("blocked", kernel(doublings) + blocked, doublings=doublings, block=block),
    ]


def _last(mode: Mode, transition: Transition, sizes: Sizes, rates: Rates) -> Plan:
    N, T, P, D, R = sizes.N, sizes.T, sizes.P, sizes.D, sizes.R
    if directions := _directions(transition, sizes):
        columns = directions - (D - sizes.multiplied)
        counts = Counts(product=6 * N * (columns * P + directions * T), steps=8 * T.bit_length())
        return Plan(mode, "narrow", counts, counts.seconds(rates))

    def counts(doublings):
        squarings = Counts(product=0 if transition.structured else 6.0 * P**3) * doublings
        kernel = _apply(transition, (D + R) << doublings, P, rates) * 3
        # Each product lays out its matrix anew, which takes as long as some more vectors.
        step = _apply(transition, N + 13, P, rates) * 3 + Counts(steps=2)
        steps = step * -(-T >> doublings)
        return squarings + kernel + steps + Counts(product=6 * N * T * D * P)

    doublings = min(range(T.bit_length()), key=lambda k: counts(k).seconds(rates))
    chosen = counts(doublings)
    return Plan(mode, "powers", chosen, chosen.seconds(rates), doublings=doublings)


def _directions(transition: Transition, sizes: Sizes) -> int | None:
    """How many directions hold all states, None if the form has no such directions."""
    T, P, D, R = sizes.T, sizes.P, sizes.D, sizes.R
    shapes = jax.eval_shape(
        lambda A: A.narrow(jnp.zeros((P, D + R)), jnp.zeros((T, 1, D + R))), transition
    )
    return None if shapes is None else shapes[0].shape[1]
