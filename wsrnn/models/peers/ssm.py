"""A diagonal state-space model: S5 (Smith et al. 2023, arXiv 2208.04933), run in three modes.

Each block normalises its inputs, drives a linear recurrence of complex states with them, and adds
the gated result to them:

    x_t = a x_{t-1} + B' u_t          a = exp(L s), B' = (a - 1) / L B, a held input (ZOH)
    y_t = 2 Re(C x_t) + D u_t
    u_t + glu(W gelu(y_t))            the next block's inputs

L is diagonal and s are learned steps, one for each state. Only one of each conjugate pair of states
is kept, so the real part counts twice. A step costs 4 P H operations for B', as many for C, and 8 P
for the recurrence: no T x T, and no P x P.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Complex, Float

from wsrnn.checks import check_positive
from wsrnn.models.gated import Gated
from wsrnn.models.peers.base import Blocks, PeerConfig

Mode = Literal["scan", "parallel", "conv"]
Pair = tuple[Float[Array, "T N P"], Float[Array, "T N P"]]


@dataclass(frozen=True)
class SsmConfig(PeerConfig):
    """A diagonal state-space model in the form of S5."""

    width: int = 128
    """Channels between the blocks."""
    states: int = 64
    """Complex states of each block."""
    layers: int = 4
    """Blocks, one above the other."""
    spectra: int = 4
    """Copies of the HiPPO-N spectrum that the states of a block start with; it must divide them."""
    shortest: float = 1e-3
    """The least step at the start."""
    longest: float = 1e-1
    """The greatest step at the start; the steps are even between them in the logarithm."""
    mode: Mode = "scan"
    """How the recurrence is executed, with the same result: T steps in order, a prefix sum in log T
    rounds (parallel), or Fourier transforms (conv). Value and gradient of 4 blocks of 320 channels
    and 160 states, N = 32 and T = 784, take 1.2 s, 1.5 s and 1.6 s on two CPU cores."""

    modes = get_args(Mode)

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "width", "states", "layers", "spectra")
        if self.states % self.spectra:
            raise ValueError(f"spectra must divide states, got {self.spectra} of {self.states}")
        if not 0 < self.shortest <= self.longest:
            raise ValueError(
                f"steps need 0 < shortest <= longest, got {self.shortest} and {self.longest}"
            )

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "Ssm":
        """A fresh model; raises ValueError if the layout does not fit d_in and d_out."""
        return Ssm(self, d_in, d_out, rngs=rngs)


def hippo(states: int) -> Complex[np.ndarray, " P"]:
    """Eigenvalues with positive imaginary part of the 2 P x 2 P matrix HiPPO-N.

    Its symmetric part is -I / 2 and the rest is skew (Gu et al. 2022, arXiv 2206.11893), so they
    are -1/2 + i w, with i w from sqrt(n + 1/2) sqrt(k + 1/2) below the diagonal, negated above.
    """
    q = np.sqrt(np.arange(2 * states) + 0.5)
    skew = np.tril(np.outer(q, q), -1)
    return -0.5 + 1j * np.linalg.eigvalsh(1j * (skew - skew.T))[states:]


def recurrence(log_a: Complex[Array, " P"], drive: Pair, mode: Mode) -> Pair:
    """Return x_t = a x_{t-1} + v_t from zero: real and imaginary parts, as those of v are given.

    On CPUs two real arrays are faster than one complex one, except in Fourier transforms.
    """
    a = jnp.exp(log_a)
    if mode == "scan":

        def step(x, v):
            x = add(times((a.real[None], a.imag[None]), x), v)
            return x, x

        zero = jnp.zeros_like(drive[0][0])
        return jax.lax.scan(step, (zero, zero), drive)[1]
    if mode == "parallel":

        def compose(first, then):
            (a, x), (b, y) = first, then
            return times(b, a), add(times(b, x), y)

        powers = [jnp.broadcast_to(part, (len(drive[0]), 1, *a.shape)) for part in (a.real, a.imag)]
        return jax.lax.associative_scan(compose, (tuple(powers), drive))[1]
    length = len(drive[0])
    kernel = jnp.exp(jnp.multiply.outer(jnp.arange(length), log_a))[:, None]
    kernel, v = (jnp.fft.fft(z, 2 * length, axis=0) for z in (kernel, jax.lax.complex(*drive)))
    x = jnp.fft.ifft(kernel * v, axis=0)[:length]
    return x.real, x.imag


def times(a, b):
    """The product of complex numbers given as (real, imaginary)."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def add(a, b):
    """Their sum."""
    return a[0] + b[0], a[1] + b[1]


class Block(Gated):
    """One block. B and C hold real parts beside imaginary ones (of C, their negatives)."""

    def __init__(self, config: SsmConfig, *, rngs: nnx.Rngs):
        width, states = config.width, config.states
        eigenvalues = np.tile(hippo(states // config.spectra), config.spectra)
        self.log_rate = nnx.Param(jnp.log(-jnp.asarray(eigenvalues.real, jnp.float32)))
        self.frequency = nnx.Param(jnp.asarray(eigenvalues.imag, jnp.float32))
        ends = np.log([config.shortest, config.longest])
        self.log_step = nnx.Param(
            jax.random.uniform(rngs.params(), (states,), jnp.float32, ends[0], ends[1])
        )
        normal = nnx.initializers.lecun_normal()
        self.B = nnx.Param(normal(rngs.params(), (width, 2 * states)))
        self.C = nnx.Param(normal(rngs.params(), (2 * states, width)))
        self.D = nnx.Param(jax.random.normal(rngs.params(), (width,)))
        super().__init__(width, rngs=rngs)

    def __call__(self, u: Float[Array, "T N H"], mode: Mode) -> Float[Array, "T N H"]:
        """The next block's inputs."""
        return self.around(u, lambda v: self._mixed(v, mode))

    def _mixed(self, v, mode):
        eigenvalues = jax.lax.complex(-jnp.exp(self.log_rate[...]), self.frequency[...])
        step = jnp.exp(self.log_step[...])
        log_a = jax.lax.complex(eigenvalues.real * step, eigenvalues.imag * step)
        held = (jnp.exp(log_a) - 1) / eigenvalues
        B = times(jnp.split(self.B[...], 2, 1), (held.real[None], held.imag[None]))
        real, imaginary = jnp.split(jnp.matmul(v, jnp.concatenate(B, 1)), 2, -1)
        x = jnp.concatenate(recurrence(log_a, (real, imaginary), mode), -1)
        return 2 * jnp.matmul(x, self.C[...]) + v * self.D[...][None, None]


class Ssm(Blocks):
    """Blocks of S5."""

    config: SsmConfig
    block = Block

    def mixing(self, length):
        """One complex multiply-add for each state, as `scan` does it."""
        return 8 * self.config.states * self.config.layers

    def carried(self, length):
        """Real and imaginary part of every state."""
        return 2 * self.config.states * self.config.layers
