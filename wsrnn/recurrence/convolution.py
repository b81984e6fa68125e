"""The recurrence as a causal convolution, exact for every theta_0.

theta_t = A^t theta_0 + sum_{s <= t} A^{t-s} B u_s. The start is a channel like the inputs: with
theta_0 = W h + b, the columns [W, b] join B, driven by an impulse (h, 1) at t = 0. So the free
response costs r + 1 more channels, needs no assumption on the rank of B (the paper's Theorem 1
does), and everything below sees one set of channels V = [B, W, b] and one drive v.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wsrnn.recurrence.kernel import krylov
from wsrnn.recurrence.transition import PRECISION, Identity, Transition


def convolution(
    transition: Transition, V: Float[Array, "P C"], length: int
) -> Callable[[Float[Array, "T C"]], Float[Array, "P T"]]:
    """Return the function that maps one sequence's drive v to all its states, time-minor.

    Everything that does not depend on the sequence, the kernel and its transform, is computed here,
    once for a whole batch. Cost of a sequence: C transforms forward, P back, of a length of at
    least 2 T - 1 (so that nothing wraps around), and 8 C P T operations between them. With A = I
    the convolution is a running sum of the C channels before the product with V.

    Round-off is relative to the largest value along the trajectory, not to each value.
    """
    if isinstance(transition, Identity):
        return lambda v: jnp.matmul(V, jnp.cumsum(v, 0).T, precision=PRECISION)

    n = _fast_length(2 * length - 1)
    kernel = jnp.fft.rfft(jnp.transpose(krylov(transition, V.T, length), (1, 2, 0)), n)

    def states(v: Float[Array, "T C"]) -> Float[Array, "P T"]:
        return jnp.fft.irfft((kernel * jnp.fft.rfft(v.T, n)[:, None]).sum(0), n)[:, :length]

    return states


def state_at(
    transition: Transition,
    V: Float[Array, "P C"],
    v: Float[Array, "N T C"],
    at: Int[Array, " N"],
) -> Float[Array, "N P"]:
    """Return each sequence's state at its own step `at`, and no other.

    theta_n = sum_k K_k v_{n-k}: with the drive reversed from step n backwards this is one matrix
    product of [N, T C] with [T C, P]. No transform, no trajectory. With A = I, a masked sum.
    """
    steps = at[:, None] - jnp.arange(v.shape[1])[None]
    past = (steps >= 0)[..., None]
    if isinstance(transition, Identity):
        return jnp.matmul(jnp.where(past, v, 0).sum(1), V.T, precision=PRECISION)
    reversed_drive = jnp.where(past, jnp.take_along_axis(v, steps[..., None], 1, mode="clip"), 0)
    kernel = krylov(transition, V.T, v.shape[1])
    return jnp.einsum("tcp,ntc->np", kernel, reversed_drive, precision=PRECISION)


def _fast_length(n: int) -> int:
    """The least m 2^k >= n, m in {1, 3, 5, 9, 15}: quick in every FFT library."""
    return min(m << max(0, (-(-n // m) - 1).bit_length()) for m in (1, 3, 5, 9, 15))
