"""How a recurrence will be executed: chosen from its sizes by counted operations and bytes."""

from dataclasses import dataclass
from math import log2
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


class Rates(NamedTuple):
    """What a backend does in a second, roughly: only their ratios decide."""

    product: float  # operations in large matrix products
    transform: float  # operations in Fourier transforms
    reading: float  # bytes of a matrix in products with a few vectors
    passing: float  # bytes of long arrays in elementwise passes
    steps: float  # iterations of a loop with nothing in it
    room: int  # bytes for the states of the sequences in flight


RATES = {
    "cpu": Rates(3e11, 4e10, 1e11, 1.5e10, 3e5, 2**23),
    "gpu": Rates(4e13, 4e12, 2e12, 1.5e12, 1e5, 2**29),
    "tpu": Rates(3e13, 1e12, 1e12, 1e12, 3e5, 2**29),
}
"""cpu: measured on two cores. gpu, tpu: from data sheets, to be measured."""


@dataclass(frozen=True)
class Plan:
    """An execution with all its choices made."""

    mode: Mode
    method: str
    """What `conv` and `parallel` do: narrow, blocked, spectral or cumulative; powers, where one step
    is read."""
    seconds: float
    """What the counts predict for value and gradient at the rates of the backend."""
    at_once: int = 1
    """Sequences whose states are held at a time; divides N."""
    doublings: int = 0
    """Of the kernel: see `krylov` and `state_at`."""
    block: int = 1
    """Of the method `blocked`: its steps c."""

    def trajectories(
        self,
        transition: Transition,
        B: Float[Array, "P D"],
        S: Float[Array, "P R"],
        u: Float[Array, "N T D"],
        h: Float[Array, "N R"],
    ) -> tuple[Trajectories, Float[Array, "N T C"], Float[Array, "N R"]]:
        """What the sequences share, and the drive and start of each that it takes."""
        V = jnp.concatenate([B, S], 1)
        if self.method == "narrow":
            W, w = transition.narrow(V, jnp.swapaxes(impulse(u, h), 0, 1))
            return Narrow(W), jnp.swapaxes(w, 0, 1), h
        if self.method == "cumulative":
            return Cumulative(transition, V), u, h
        kernel = krylov(transition, V.T, u.shape[1], self.doublings)
        if self.method == "blocked":
            return Blocked.of(kernel, B.shape[1], self.block), u, h
        return Spectral.of(kernel, B.shape[1]), u, h

    def state_at(
        self,
        transition: Transition,
        B: Float[Array, "P D"],
        S: Float[Array, "P R"],
        u: Float[Array, "N T D"],
        h: Float[Array, "N R"],
        at: Int[Array, " N"],
    ) -> Float[Array, "N P"]:
        """Each sequence's state at its own step `at`, and no other."""
        if self.method == "narrow":
            W, w = transition.narrow(jnp.concatenate([B, S], 1), jnp.swapaxes(impulse(u, h), 0, 1))
            return jnp.matmul(w[at, jnp.arange(len(u))], W.T)
        return state_at(transition, B, S, u, h, at, self.doublings)


def plan(
    transition: Transition,
    sizes: tuple[int, int, int, int, int],
    mode: Mode = "auto",
    *,
    last: bool = False,
    backend: str | None = None,
) -> Plan:
    """Return the quickest execution by its counts, among those of `mode` (`auto`: all).

    sizes are (N, T, P, D, R), see `Sizes`; `last` reads one step of each sequence. Raises
    ValueError for an unknown mode and for one that the transition cannot run.
    """
    return min(plans(transition, sizes, mode, last=last, backend=backend), key=lambda p: p.seconds)


def plans(
    transition: Transition,
    sizes: tuple[int, int, int, int, int],
    mode: Mode = "auto",
    *,
    last: bool = False,
    backend: str | None = None,
) -> list[Plan]:
    """Return what `plan` chooses from, with the seconds that the counts predict."""
    if mode not in get_args(Mode):
        raise ValueError(f"mode {mode!r} is unknown: use {' or '.join(get_args(Mode))}")
    if mode == "parallel" and not transition.structured:
        raise ValueError(
            f"mode parallel takes products of A with itself, which form {transition.name()} makes "
            "as dear as P steps: use auto, scan or conv"
        )
    sizes = Sizes(*sizes)
    rates = RATES[backend or jax.default_backend()]
    modes = [m for m in MODES if mode in ("auto", m) and (transition.structured or m != "parallel")]
    found = []
    if "scan" in modes:
        found.append(Plan("scan", "scan", _scan(transition, sizes, rates, last)))
    for m in ("conv", "parallel"):
        if m in modes:
            found += (
                _last(m, transition, sizes, rates) if last else _all(m, transition, sizes, rates)
            )
    return found


def _products(transition, vectors, sizes, rates) -> float:
    """Seconds of one product of A with some vectors: computing, or reading A, or passing over."""
    ops = vectors * transition.operations(sizes.P) / rates.product
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(transition))
    if not transition.structured or size > 4 * sizes.P:
        return max(ops, size / rates.reading)
    return 8 * vectors * sizes.P / rates.passing


def _scan(transition, sizes, rates, last) -> float:
    N, T, P, D, _ = sizes
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(transition))
    step = 3 * _products(transition, N, sizes, rates)
    step += (2 * size + 8 * P * D + (16 if last else 40) * N * P) / rates.passing
    return T * (step + 4 / rates.steps)


def _kernel(transition, doublings, sizes, rates) -> float:
    """Of the kernel and its adjoint."""
    _, T, P, D, R = sizes
    squaring = 0 if transition.structured else 2 * P**3 / rates.product
    thin = _products(transition, (D + R) << doublings, sizes, rates) + 1 / rates.steps
    wide = _products(transition, T * (D + R), sizes, rates)
    return 2 * (T >> doublings) * thin + doublings * (squaring + wide) + wide


def _all(mode, transition, sizes, rates) -> list[Plan]:
    N, T, P, D, _ = sizes
    at_once = max(
        k for k in range(1, N + 1) if N % k == 0 and (k == 1 or 4 * k * T * P <= rates.room)
    )
    states = 4 * N * T * P

    def made(method, seconds, **choices):
        return Plan(mode, method, seconds, at_once=at_once, **choices)

    cumulative = 2 * T.bit_length() / rates.steps
    if mode == "parallel":
        seconds = 6 * states / rates.passing
        seconds += 3 * 2 * T * _products(transition, N, sizes, rates) + cumulative * N / at_once
        return [made("cumulative", seconds)]
    if narrow := width(transition, sizes):
        return [made("narrow", 3 * 2 * states / 4 * narrow / rates.product + cumulative)]
    doublings = min(range(8), key=lambda k: _kernel(transition, k, sizes, rates))
    kernel = _kernel(transition, doublings, sizes, rates)
    n = fast_length(2 * T - 1)
    transforms = 2 * N * P * (2.5 * n * log2(n) / rates.transform + 8 * n * D / rates.passing)
    block = min(range(8, T + 8, 8), key=lambda c: 8 * c * D + 4 * -(-T // c))
    products = 2 * N * P * T * (8 * block * D + 4 * -(-T // block)) / rates.product
    return [
        made("spectral", kernel + transforms, doublings=doublings),
        made("blocked", kernel + products, doublings=doublings, block=block),
    ]


def _last(mode, transition, sizes, rates) -> list[Plan]:
    N, T, P, D, R = sizes
    if narrow := width(transition, sizes):
        return [Plan(mode, "narrow", 6 * N * T * narrow**2 / rates.product + 2 / rates.steps)]

    def seconds(k):
        squaring = 0 if transition.structured else 3 * 2 * P**3 / rates.product
        kernel = 3 * _products(transition, (D + R) << k, sizes, rates)
        steps = 3 * _products(transition, N, sizes, rates) + 2 / rates.steps
        return k * squaring + kernel + (T >> k) * steps + 6 * N * T * D * P / rates.product

    k = min(range(T.bit_length()), key=seconds)
    return [Plan(mode, "powers", seconds(k), doublings=k)]


def width(transition: Transition, sizes: Sizes) -> int | None:
    """How many directions hold all states, None if the form has no such directions."""
    _, T, P, D, R = sizes
    shapes = jax.eval_shape(
        lambda A: A.narrow(jnp.zeros((P, D + R)), jnp.zeros((T, 1, D + R))), transition
    )
    return None if shapes is None else shapes[0].shape[1]
