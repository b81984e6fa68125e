"""The ways to execute a recurrence, each with its cost and its choices, and how it is set up.

A new method is one class here and one line in `plan.candidates`. All of them compute the same
states: counted costs decide which one runs, never the result.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import isqrt, log2

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wsrnn.recurrence import costs
from wsrnn.recurrence.convolution import (
    Blocked,
    Factored,
    Scanned,
    Spectral,
    Trajectories,
    fast_length,
    impulse,
)
from wsrnn.recurrence.costs import Counts, Rates, Sizes
from wsrnn.recurrence.kernel import kernel_powers
from wsrnn.recurrence.last import state_at
from wsrnn.recurrence.problem import Recurrence
from wsrnn.recurrence.transition import LinearMap

Drives = tuple[Trajectories, Float[Array, "N T C"], Float[Array, "N R"]]
SMALL_OPERATIONS = Counts(steps=1500)  # around each group of sequences


class Method(ABC):
    """An execution that reads every step or one; each class does what it has an override for."""

    @abstractmethod
    def counts(self, A: LinearMap, sizes: Sizes, rates: Rates) -> Counts:
        """For value and gradient of the whole batch, the root network left out."""

    def at_once(self, sizes: Sizes, rates: Rates) -> int:
        """Sequences whose states are held at a time; divides N."""
        return costs.at_once(sizes, rates)

    def trajectories(self, r: Recurrence) -> Drives:
        """What the sequences share, and the drive and start of each that it takes."""
        raise TypeError(f"{type(self).__name__} gives no trajectories")

    def state_at(self, r: Recurrence, at: Int[Array, " N"]) -> Float[Array, "N P"]:
        """Each sequence's state at its own step `at`, and no other."""
        raise TypeError(f"{type(self).__name__} reads every step")


@dataclass(frozen=True)
class WholeScan(Method):
    """All sequences at once, step by step, the root read within the loop: see `decode`."""

    one: bool
    """Whether one step of each sequence is read."""

    def counts(self, A, sizes, rates):
        """Forwards and backwards; dA is added to at every step."""
        N, T, P, D = sizes.N, sizes.T, sizes.P, sizes.multiplied
        step = costs.applied(A, N, P, rates) * 3 + Counts(product=6 * N * P * D, steps=4)
        gradients = 8 * (costs.parameters(A) + P * D)
        return (step + Counts(passing=gradients + (8 if self.one else 60) * N * P)) * T

    def at_once(self, sizes, rates):
        """All of them."""
        return sizes.N


@dataclass(frozen=True)
class ChunkedScan(Method):
    """A few sequences at a time, in blocks of time, by `linear_scan` or in log depth."""

    log_depth: bool
    block: int = 1
    """Steps of a block."""

    @classmethod
    def of(cls, sizes: Sizes, rates: Rates, log_depth: bool) -> "ChunkedScan":
        """With as long blocks as fit."""
        room = rates.room // (4 * costs.at_once(sizes, rates) * sizes.P)
        return cls(log_depth, max(8, min(sizes.T, room)))

    def counts(self, A, sizes, rates):
        """About 4 products with A a state, or 8 in log depth, gradients included."""
        N, T, P, D = sizes.N, sizes.T, sizes.P, sizes.multiplied
        loops = self.block.bit_length() * -(-T // self.block) if self.log_depth else T
        return costs.applied(A, N * T, P, rates) * (8 if self.log_depth else 4) + Counts(
            product=6 * N * T * P * D,
            passing=(120 if self.log_depth else 40) * N * T * P,
            steps=6 * loops * N / self.at_once(sizes, rates),
        )

    def trajectories(self, r):
        """Nothing is computed ahead."""
        return Scanned(r.A, r.B, r.start.S, self.block, self.log_depth), r.u, r.start.h


@dataclass(frozen=True)
class FactoredStates(Method):
    """The recurrence in the few directions that span all states; then one product."""

    directions: int
    one: bool

    @classmethod
    def of(cls, A: LinearMap, sizes: Sizes, one: bool) -> "FactoredStates | None":
        """None if the form has no such directions."""
        T, P, C = sizes.T, sizes.P, sizes.D + sizes.R
        shapes = jax.eval_shape(lambda A: A.factored(jnp.zeros((P, C)), jnp.zeros((T, 1, C))), A)
        return None if shapes is None else cls(shapes[0].shape[1], one)

    def counts(self, A, sizes, rates):
        """Products with W; the recurrence itself in log depth."""
        N, T, P = sizes.N, sizes.T, sizes.P
        direct = sizes.D - sizes.multiplied
        columns = self.directions - direct
        if self.one:
            operations = 6 * N * (columns * P + self.directions * T)
            return Counts(product=operations, steps=8 * T.bit_length())
        counts = Counts(
            product=6 * N * T * P * columns,
            passing=120 * N * T * direct,
            steps=8 * T.bit_length(),
        )
        return counts + SMALL_OPERATIONS * (N / self.at_once(sizes, rates))

    def trajectories(self, r):
        """The factors of all sequences."""
        W, w = r.A.factored(r.columns, jnp.swapaxes(impulse(r.u, r.start.h), 0, 1))
        return self._factored(r, W), jnp.swapaxes(w, 0, 1), r.start.h

    def state_at(self, r, at):
        """The factors at one step."""
        W, w = r.A.factored_at(r.columns, jnp.swapaxes(impulse(r.u, r.start.h), 0, 1), at)
        return self._factored(r, W).states(w[None], r.start.h)[0].T

    def _factored(self, r: Recurrence, W: Float[Array, "P R"]) -> Factored:
        """Without B's columns where they are the identity's."""
        D = r.u.shape[2]
        direct = D - r.B.multiplied(D)
        return Factored(W[:, direct:], direct)


@dataclass(frozen=True)
class SpectralConvolution(Method):
    """The kernel, then Fourier transforms along time."""

    doublings: int
    """Of the kernel: see `kernel_powers`."""

    @classmethod
    def of(cls, A: LinearMap, sizes: Sizes, rates: Rates) -> "SpectralConvolution":
        """With the number of doublings that costs least."""
        return cls(kernel_doublings(A, sizes, rates))

    def counts(self, A, sizes, rates):
        """Kernel and transforms."""
        N, T, P, D = sizes.N, sizes.T, sizes.P, sizes.D
        n = fast_length(2 * T - 1)
        spectral = Counts(transform=5 * N * P * n * log2(n), passing=N * P * n * (16 + 8 * D))
        groups = SMALL_OPERATIONS * (N / self.at_once(sizes, rates))
        return costs.kernel(A, self.doublings, sizes, rates) + spectral + groups

    def trajectories(self, r):
        """The kernel's transform."""
        return r.A.exchanged(Spectral.of(self.kernel(r), r.u.shape[2])), r.u, r.start.h

    def kernel(self, r: Recurrence) -> Float[Array, "T DR p"]:
        """A^t [B, S], or this device's rows of it."""
        return kernel_powers(r.A, r.A.local_rows(r.columns).T, r.u.shape[1], self.doublings)


@dataclass(frozen=True)
class BlockedConvolution(SpectralConvolution):
    """The kernel, then matrix products alone: see `convolution.Blocked`."""

    block: int = 1
    """Steps of a block."""

    @classmethod
    def of(cls, A, sizes, rates):
        """With blocks near sqrt(T / D), for the first of two products is the quicker one."""
        T, D = sizes.T, sizes.D
        sides = range(8, min(T, 2 * isqrt(T)) + 8, 8)
        block = min(sides, key=lambda c: 4 * c * D + 4 * -(-T // c))
        return cls(kernel_doublings(A, sizes, rates), block)

    def counts(self, A, sizes, rates):
        """Kernel and two products of 8 c D + 4 T / c operations a state."""
        N, T, P, D = sizes.N, sizes.T, sizes.P, sizes.D
        at_once, blocks = self.at_once(sizes, rates), -(-T // self.block)
        blocked = Counts(
            thin=2 * N * P * blocks * self.block * (8 * self.block * D + 4 * blocks),
            passing=N * P * T * (24 + 16 * D / at_once),
        )
        groups = SMALL_OPERATIONS * (N / at_once)
        return costs.kernel(A, self.doublings, sizes, rates) + blocked + groups

    def trajectories(self, r):
        """The kernel's transform over blocks."""
        blocked = Blocked.of(self.kernel(r), r.u.shape[2], self.block)
        return r.A.exchanged(blocked), r.u, r.start.h


@dataclass(frozen=True)
class BlockPowers(Method):
    """One step alone, by products with a power of A: see `last.state_at`."""

    doublings: int

    @classmethod
    def of(cls, A: LinearMap, sizes: Sizes, rates: Rates) -> "BlockPowers":
        """With the power that costs least."""

        def seconds(k):
            return cls(k).counts(A, sizes, rates).seconds(rates)

        return cls(costs.fewest(A, sizes.T.bit_length(), seconds))

    def counts(self, A, sizes, rates):
        """Squarings, the first powers, and T / 2^doublings steps."""
        N, T, P, D, R = sizes.N, sizes.T, sizes.P, sizes.D, sizes.R
        squarings = costs.squarings(A, P, gradient=True) * self.doublings
        kernel = costs.applied(A, (D + R) << self.doublings, P, rates) * 3
        # Each product lays out its matrix anew, which takes as long as some more vectors.
        step = costs.applied(A, N + 13, P, rates) * 3 + Counts(steps=2)
        steps = step * -(-T >> self.doublings)
        return squarings + kernel + steps + Counts(product=6 * N * T * D * P)

    def state_at(self, r, at):
        """Block by block."""
        B, S = jnp.split(r.columns, [r.u.shape[2]], 1)
        return state_at(r.A.whole(), B, S, r.u, r.start.h, at, self.doublings)


def kernel_doublings(A: LinearMap, sizes: Sizes, rates: Rates) -> int:
    """The number of doublings with which the kernel costs least."""

    def seconds(k):
        return costs.kernel(A, k, sizes, rates).seconds(rates)

    return costs.fewest(A, max(1, sizes.T.bit_length() - 1), seconds)
