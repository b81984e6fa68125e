"""LinOSS-IM: damped linear oscillators (Rusch & Rus 2024, arXiv 2410.03943), run in two modes.

Each block normalises its inputs, drives forced oscillators y'' = -A y + B u with them and adds the
gated result (`models.gated`):

    z_t = z_{t-1} + s (B u_t - A y_t)      y_t = y_{t-1} + s z_t      an implicit step s (IM)
    C y_t + D u_t

A >= 0 is diagonal and s are learned steps, one for each oscillator. Solved for the new state, with
S = 1 / (1 + s^2 A), each oscillator is a 2 x 2 recurrence whose eigenvalues have the modulus
sqrt(S) <= 1 whatever A and s are:

    (z_t, y_t) = S [[1, -s A], [s, 1]] (z_{t-1}, y_{t-1}) + S (s, s^2) B u_t
"""

from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.checks import check_positive
from wsrnn.models.gated import Gated
from wsrnn.models.peers.base import Blocks, PeerConfig

Mode = Literal["scan", "parallel"]
Oscillators = Float[Array, "T N P"]


@dataclass(frozen=True)
class OscillatorConfig(PeerConfig):
    """LinOSS-IM, a state-space model of second-order oscillators."""

    width: int = 128
    """Channels between the blocks."""
    states: int = 64
    """Oscillators of each block."""
    layers: int = 4
    """Blocks, one above the other."""
    mode: Mode = "scan"
    """How the recurrence is executed, with the same result: T steps in order, or a prefix sum in
    log T rounds (parallel)."""

    modes = get_args(Mode)

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "width", "states", "layers")

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "LinOss":
        """A fresh model; raises ValueError if the layout does not fit d_in and d_out."""
        return LinOss(self, d_in, d_out, rngs=rngs)


def oscillate(
    A: Float[Array, " P"], step: Float[Array, " P"], force: Oscillators, mode: Mode
) -> Oscillators:
    """Return the positions y_t from rest, with z_t = z_{t-1} + s (f_t - A y_t), y_t = y + s z_t."""
    S = 1 / (1 + step**2 * A)
    M = tuple(m[None, None] for m in (S, -step * A * S, step * S, S))
    drive = force * (step * S)[None, None], force * (step**2 * S)[None, None]
    if mode == "scan":
        rows = tuple(m[0] for m in M)

        def advance(state, drive):
            state = tuple(a + b for a, b in zip(moved(rows, state), drive, strict=True))
            return state, state[1]

        rest = jnp.zeros_like(force[0])
        return jax.lax.scan(advance, (rest, rest), drive)[1]

    def compose(first, then):
        (M, x), (L, y) = first, then
        columns = [moved(L, (M[i], M[i + 2])) for i in (0, 1)]
        product = columns[0][0], columns[1][0], columns[0][1], columns[1][1]
        return product, tuple(a + b for a, b in zip(moved(L, x), y, strict=True))

    M = tuple(jnp.broadcast_to(m, (len(force), *m.shape[1:])) for m in M)
    return jax.lax.associative_scan(compose, (M, drive))[1][1]


def moved(M, state):
    """The product of 2 x 2 matrices, row by row, with (z, y)."""
    z, y = state
    return M[0] * z + M[1] * y, M[2] * z + M[3] * y


class Block(Gated):
    """One block. A = relu(a), s = sigmoid(b), with a and b even on (0, 1) at the start."""

    def __init__(self, config: OscillatorConfig, *, rngs: nnx.Rngs):
        width, states = config.width, config.states
        self.a = nnx.Param(jax.random.uniform(rngs.params(), (states,)))
        self.b = nnx.Param(jax.random.uniform(rngs.params(), (states,)))
        normal = nnx.initializers.lecun_normal()
        self.B = nnx.Param(normal(rngs.params(), (width, states)))
        self.C = nnx.Param(normal(rngs.params(), (states, width)))
        self.D = nnx.Param(jax.random.normal(rngs.params(), (width,)))
        super().__init__(width, rngs=rngs)

    def __call__(self, u: Float[Array, "T N H"], mode: Mode) -> Float[Array, "T N H"]:
        """The next block's inputs."""
        return self.around(u, lambda v: self._mixed(v, mode))

    def _mixed(self, v, mode):
        A, step = nnx.relu(self.a[...]), nnx.sigmoid(self.b[...])
        y = oscillate(A, step, jnp.matmul(v, self.B[...]), mode)
        return jnp.matmul(y, self.C[...]) + v * self.D[...][None, None]


class LinOss(Blocks):
    """Blocks of oscillators."""

    config: OscillatorConfig
    block = Block

    def mixing(self, length):
        """Four multiply-adds for each oscillator, and its force added twice."""
        return 12 * self.config.states * self.config.layers

    def carried(self, length):
        """Velocity and position of every oscillator."""
        return 2 * self.config.states * self.config.layers
