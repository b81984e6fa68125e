"""Every state of some sequences at once, exact for every theta_0.

theta_t = A^t theta_0 + sum_{s <= t} A^{t-s} B u_s. The start is a channel like the inputs: with
theta_0 = W h + b, the columns S = [W, b] join B, driven by an impulse (h, 1) at t = 0. So the free
response costs r + 1 more channels and needs no assumption on the rank of B (the paper's Theorem 1
does).

What does not depend on the sequence, such as the kernel A^t [B, S] and its transform, is computed
once for a batch: a `Trajectories`, which then gives the states of a few sequences at a time. All of
them are linear in what they hold, in the drives and in the starts, so that gradients are adjoints
of the same cost.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wsrnn.recurrence.scan import linear_scan
from wsrnn.recurrence.transition import PRECISION, LinearMap
from wsrnn.recurrence.write import Projection


class Trajectories(ABC):
    """A map from drives to states, as a pytree. Time is the last axis, in the map's own order."""

    sequences: ClassVar[int] = 0
    """The axis of the states along which sequences follow each other."""

    @abstractmethod
    def states(
        self, v: Float[Array, "n T C"], h: Float[Array, "n R"]
    ) -> Float[Array, "n *blocks P t"]:
        """Return theta_t of n sequences for all t, in the order of `split`."""

    def split(self, x: Float[Array, "n T d"]) -> Float[Array, "n *blocks d t"]:
        """Bring what goes with each step into the order of the states."""
        return jnp.swapaxes(x, 1, 2)

    def join(self, y: Float[Array, "n *blocks d t"], length: int) -> Float[Array, "n T d"]:
        """Bring what was read from the states back into the order of time."""
        return jnp.swapaxes(y, 1, 2)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factored(Trajectories):
    """theta_t = W w_t: R directions span all states (`Transition.factored`). 2 P R T each.

    The first `direct` of w are added to as many weights, one to one, and have no column in W.
    """

    W: Any  # [P, R]
    direct: int = field(default=0, metadata={"static": True})

    def states(self, v, h):
        """One matrix product; the start is in w already."""
        first, w = jnp.split(jnp.swapaxes(v, 1, 2), [self.direct], 1)
        # Batched, lest it be one product of all sequences whose result is transposed.
        W = jnp.broadcast_to(self.W, (len(v), *self.W.shape))
        theta = jnp.matmul(W, w, precision=PRECISION)
        return theta + jnp.pad(first, ((0, 0), (0, len(self.W) - self.direct), (0, 0)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scanned(Trajectories):
    """The drive projected by B, then the recurrence: step by step or in log depth.

    Where all steps of a sequence do not fit a cache, in blocks of time one after another, which are
    recomputed for gradients.
    """

    A: Any  # LinearMap
    B: Any  # Write
    S: Any  # [P, R]
    block: int = field(metadata={"static": True})
    log_depth: bool = field(metadata={"static": True})

    def split(self, x):
        """[n, T, d] to [J, n, d, c], zeros after T."""
        x = _pad_time(jnp.swapaxes(x, 0, 1), self.block)
        return jnp.transpose(x.reshape(-1, self.block, *x.shape[1:]), (0, 2, 3, 1))

    def join(self, y, length):
        """[J, n, d, c] to [n, T, d]."""
        y = jnp.transpose(y, (1, 0, 3, 2))
        return y.reshape(len(y), -1, y.shape[-1])[:, :length]

    def states(self, v, h):
        """T products with A, or 2 T with its powers, and 2 P C T operations for the drive."""
        scan = LinearMap.parallel_scan if self.log_depth else linear_scan

        @jax.checkpoint
        def block(carried, v):
            if isinstance(self.B, Projection):  # not v transposed: XLA would copy it
                u = jnp.einsum("pc,nct->tnp", self.B.B, v, precision=PRECISION)
            else:
                u = self.B.apply(jnp.moveaxis(v, -1, 0))
            theta = scan(self.A, u.at[0].add(carried))
            return self.A.apply(theta[-1]), jnp.moveaxis(theta, 0, -1)

        return jax.lax.scan(block, jnp.matmul(h, self.S.T, precision=PRECISION), self.split(v))[1]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Spectral(Trajectories):
    """The convolution by real Fourier transforms along time.

    A sequence takes P transforms, and P back for its gradient, of a length n of at least 2 T - 1
    (so that nothing wraps around), and 4 C P n operations between them. Round-off is relative to
    the largest value along the trajectory, not to each value.
    """

    spectrum: Any  # [C, P, n / 2 + 1]
    start: Any  # [R, P, T]
    n: int = field(metadata={"static": True})

    @classmethod
    def of(cls, kernel: Float[Array, "T CR P"], channels: int) -> "Spectral":
        """Transform the kernel of [B, S], the first `channels` columns being B's."""
        n = fast_length(2 * len(kernel) - 1)
        kernel = jnp.moveaxis(kernel, 0, -1)
        return cls(jnp.fft.rfft(kernel[:channels], n), kernel[channels:], n)

    def states(self, v, h):
        """Product of spectra, back to time; the start's response is added there."""
        drive = jnp.fft.rfft(jnp.swapaxes(v, 1, 2), self.n)  # [n, C, frequency]
        product = sum(self.spectrum[None, c] * drive[:, c, None] for c in range(v.shape[2]))
        driven = jnp.fft.irfft(product, self.n)[..., : v.shape[1]]
        return driven + _mixed(self.start, h)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blocked(Trajectories):
    """The convolution by matrix products alone: transforms between blocks, Toeplitz within them.

    With t = j c + i, in J = T / c blocks, theta_i(y) = sum_s U_{i-s}(y) K_s(y) as polynomials in y,
    the shift by a block: K_s(y) = sum_j K_{jc+s} y^j and U_k(y) = sum_j u_{jc+k} y^j, k from 1 - c
    to c - 1. At the 2 J - 1 roots of unity y each is a c x c Toeplitz matrix times the kernel's c
    rows, and the inverse transform over the blocks is one more product. So a state costs about
    8 c C + 4 T / c operations where the plain Toeplitz product (c = T) takes 2 T and a transform
    about 5 log2 2T, but in matrix products, which machines do ten times faster and on every core.
    One transform by products within another, as in FlashFFTConv (Fu et al. 2023), but with the
    inner level left as a convolution.
    """

    spectrum: Any  # [F, P, 2 C c]: F = J frequencies; real parts, then imaginary ones negated
    start: Any  # [R, J, P, c]

    sequences = -1

    @classmethod
    def of(cls, kernel: Float[Array, "T CR P"], channels: int, block: int) -> "Blocked":
        """Transform the kernel of [B, S], the first `channels` columns being B's."""
        kernel = _pad_time(kernel, block)
        kernel = kernel.reshape(-1, block, *kernel.shape[1:])  # [J, c, C + R, P]
        J, _, _, P = kernel.shape
        real, imaginary = (
            jnp.einsum("fj,jicp->fpci", part, kernel[:, :, :channels], precision=PRECISION)
            for part in _transform(J, kernel.dtype)
        )
        spectrum = jnp.stack([real, -imaginary], 2).reshape(J, P, -1)
        return cls(spectrum, jnp.transpose(kernel[:, :, channels:], (2, 0, 3, 1)))

    def split(self, x):
        """[n, T, d] to [J, d, n c], zeros after T."""
        _, J, _, block = self.start.shape
        x = _pad_time(jnp.swapaxes(x, 0, 1), block)  # [J c, n, d]
        x = x.reshape(J, block, *x.shape[1:])
        return jnp.transpose(x, (0, 3, 2, 1)).reshape(J, x.shape[-1], -1)

    def join(self, y, length):
        """[J, d, n c] to [n, T, d]."""
        y = y.reshape(*y.shape[:2], -1, self.start.shape[-1])
        y = jnp.transpose(y, (2, 0, 3, 1))
        return y.reshape(len(y), -1, y.shape[-1])[:, :length]

    def states(self, v, h):
        """Two matrix products: of the kernel with the drive's matrices, and back to time."""
        _, J, P, _ = self.start.shape
        driven = _products(self.spectrum, *self._matrices(v))
        start = jnp.moveaxis(_mixed(self.start, h), 0, 2)  # [J, P, n, c]
        return driven.reshape(J, P, -1) + start.reshape(J, P, -1)

    def _matrices(self, v: Float[Array, "n T C"]) -> tuple[Float[Array, "F Y X"], ...]:
        """Of U_{i-s}, two [frequency, (part, C, s), (n, i)]: for the real and imaginary result."""
        _, J, _, block = self.start.shape
        v = jnp.pad(v, ((0, 0), (block - 1, J * block - v.shape[1]), (0, 0)))
        rows = block * np.arange(J)[:, None] + np.arange(2 * block - 1)
        transform = _transform(J, v.dtype)
        parts = jnp.einsum("xfj,njkc->xfnkc", transform, v[:, rows], precision=PRECISION)
        lags = np.arange(block) - np.arange(block)[:, None] + block - 1  # [s, i]
        real, imaginary = jnp.transpose(parts[:, :, :, lags], (0, 1, 5, 3, 2, 4))  # [F, C, s, n, i]
        return tuple(
            jnp.stack(pair, 1).reshape(J, 2 * v.shape[2] * block, -1)
            for pair in ((real, imaginary), (imaginary, -real))
        )


@jax.custom_vjp
def _products(
    spectrum: Float[Array, "F P Y"], real: Float[Array, "F Y X"], imaginary: Float[Array, "F Y X"]
) -> Float[Array, "J P*X"]:
    """At each frequency a complex product, then back to time.

    The adjoint is what differentiation gives, but with every product's result in the order in which
    the next one reads it: transposing megabytes between them would take longer than they do.
    """
    total: Any = sum(
        jnp.matmul(
            back,
            jnp.matmul(spectrum, matrix, precision=PRECISION).reshape(len(spectrum), -1),
            precision=PRECISION,
        )
        for back, matrix in zip(
            _inverse(len(spectrum), spectrum.dtype), (real, imaginary), strict=True
        )
    )
    return total


def _products_forward(*inputs):
    return _products(*inputs), inputs


def _products_backward(inputs, g):
    spectrum, *matrices = inputs
    F, P, _ = spectrum.shape
    dspectrum, dmatrices = 0, []
    for back, matrix in zip(_inverse(F, spectrum.dtype), matrices, strict=True):
        dproduct = jnp.matmul(back.T, g, precision=PRECISION).reshape(F, P, -1)
        dspectrum += jnp.matmul(dproduct, jnp.swapaxes(matrix, 1, 2), precision=PRECISION)
        dmatrices.append(jnp.matmul(jnp.swapaxes(spectrum, 1, 2), dproduct, precision=PRECISION))
    return dspectrum, *dmatrices


_products.defvjp(_products_forward, _products_backward)


def _transform(J: int, dtype: Any) -> Float[np.ndarray, "2 F J"]:
    """Real and imaginary part of the transform of J blocks, padded to length 2 J - 1."""
    angles = 2 * np.pi * np.outer(np.arange(J), np.arange(J)) / (2 * J - 1)
    return np.stack([np.cos(angles), -np.sin(angles)]).astype(dtype)


def _inverse(J: int, dtype: Any) -> Float[np.ndarray, "2 J F"]:
    """Of both parts, back to the first J blocks; frequency k > 0 stands for its conjugate too."""
    weight = np.where(np.arange(J) > 0, 2, 1) / (2 * J - 1)
    angles = 2 * np.pi * np.outer(np.arange(J), np.arange(J)) / (2 * J - 1)
    return np.stack([weight * np.cos(angles), -weight * np.sin(angles)]).astype(dtype)


def _mixed(a: Float[Array, "R *P t"], h: Float[Array, "n R"]) -> Float[Array, "n *P t"]:
    """sum_r h[n, r] a[r]; a few terms are quicker as sums than as a matrix product."""
    if len(a) > 4:
        return jnp.tensordot(h, a, 1, precision=PRECISION)
    total: Any = sum(jnp.multiply.outer(h[:, r], a[r]) for r in range(len(a)))
    return total


def _pad_time(x: Float[Array, "T ..."], block: int) -> Float[Array, "T_padded ..."]:
    return jnp.pad(x, [(0, -len(x) % block)] + [(0, 0)] * (x.ndim - 1))


def impulse(v: Float[Array, "n T C"], h: Float[Array, "n R"]) -> Float[Array, "n T CR"]:
    """The drive of [B, S]: v, and h at t = 0 alone."""
    at_start = jnp.zeros((*v.shape[:2], h.shape[1]), v.dtype).at[:, 0].set(h)
    return jnp.concatenate([v, at_start], -1)


def fast_length(n: int) -> int:
    """The least m 2^k >= n, m in {1, 3, 5, 9, 15, 25}: quick in every FFT library."""
    return min(m << max(0, (-(-n // m) - 1).bit_length()) for m in (1, 3, 5, 9, 15, 25))
