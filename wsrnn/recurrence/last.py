"""One state of each sequence, by powers of A: neither a transform nor the trajectory."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wsrnn.recurrence.scan import linear_scan
from wsrnn.recurrence.transition import PRECISION, LinearMap


def state_at(
    A: LinearMap,
    B: Float[Array, "P D"],
    S: Float[Array, "P R"],
    u: Float[Array, "N T D"],
    h: Float[Array, "N R"],
    at: Int[Array, " N"],
    doublings: int,
) -> Float[Array, "N P"]:
    """Return theta_n = sum_{s<=n} A^{n-s} B u_s + A^n S h at each sequence's step n = at.

    Time is cut backwards from step n into blocks of c = 2^doublings steps. One matrix product with
    K_i = A^i [B, S], i < c, turns each block's inputs into what it adds to the state at its end;
    then theta <- A^c theta + that, block by block. Cost: `doublings` squarings of A, T / c products
    with A^c, 2 N T D P operations, and T / c states held.
    """
    N, T, D = u.shape
    c = 1 << doublings
    blocks = -(-T // c)
    # Seen backwards from step n: age 0 is step n; beyond the first step there is nothing.
    step = at[:, None] - jnp.arange(blocks * c)[None]
    aged = jnp.take_along_axis(u, jnp.maximum(step, 0)[..., None], 1)
    aged = jnp.where(step[..., None] >= 0, aged, 0).reshape(N, blocks, c * D)

    kernel, power = jnp.concatenate([B, S], 1).T, A
    for _ in range(doublings):
        kernel, power = jnp.concatenate([kernel, power.apply(kernel)]), power.squared
    kernel = kernel.reshape(c, -1, kernel.shape[-1])
    driven = kernel[:, :D].reshape(c * D, -1)
    added = jnp.einsum("njk,kp->jnp", aged, driven, precision=PRECISION)
    first = jnp.einsum("nr,nrp->np", h, kernel[at % c, D:], precision=PRECISION)
    added = added.at[at // c, jnp.arange(N)].add(first)

    return linear_scan(power, added[::-1])[-1]
