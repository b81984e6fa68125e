"""The delta rule, gated or not: a matrix state that each token corrects towards its value.

Not linear with constant coefficients, so no convolution; but products of I - beta k k^T have a
compact form (the WY representation), and steps are taken a chunk at a time in matrix products (Yang
et al. 2024, arXiv 2406.06484; with the gate 2025, arXiv 2412.06464).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from wsrnn.recurrence.transition import PRECISION


def delta_rule(
    q: Float[Array, "N T d"],
    k: Float[Array, "N T d"],
    v: Float[Array, "N T m"],
    beta: Float[Array, "N T"],
    log_decay: Float[Array, "N T"] | None = None,
    start: Float[Array, "#N m d"] | None = None,
    *,
    read_first: bool = False,
    mode: Literal["scan", "chunk"] = "chunk",
    chunk: int = 32,
) -> tuple[Float[Array, "N T m"], Float[Array, "N m d"]]:
    """Return what is read at every step, and the last state.

    S_t = a_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T with a_t = exp(log_decay_t), 1 if
    None, and S_{-1} = start, 0 if None. Read is S_t q_t, or S_{t-1} q_t if `read_first`. With |k| =
    1 and beta = 1 a write makes S k = v: online gradient descent on |S k - v|^2, stable for beta
    below 2.

    scan: T steps of 6 m d operations a sequence. chunk: T / c steps, of c (4 m d + 4 c (m + d)) or
    so in matrix products and c row operations of c (m + d) multiply-adds, equal but for rounding.
    First derivatives in reverse mode only.
    """
    N, T, d = k.shape
    if log_decay is None:
        log_decay = jnp.zeros_like(beta)
    S = jnp.zeros((N, v.shape[2], d), v.dtype) if start is None else start
    S = jnp.broadcast_to(S, (N, *S.shape[1:]))
    if mode == "scan":
        return _step_by_step(q, k, v, beta, log_decay, S, read_first)
    if mode != "chunk":
        raise ValueError(f"mode {mode!r} is unknown: use scan or chunk")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    chunk = min(chunk, T)
    # Beyond the end nothing decays and nothing is written.
    parts = [_chunked(x, chunk) for x in (q, k, v, beta, log_decay)]
    o, S = _by_chunks(*parts, S, read_first)
    return jnp.moveaxis(o, 0, 1).reshape(N, -1, v.shape[2])[:, :T], S


def _step_by_step(q, k, v, beta, log_decay, S, read_first):
    def step(S, inputs):
        q, k, v, beta, log_decay = inputs
        kept = jnp.exp(log_decay)[:, None, None] * S
        error = v - _times(kept, k)
        after = kept + (beta[:, None] * error)[:, :, None] * k[:, None, :]
        return after, _times(S if read_first else after, q)

    over_time = [jnp.swapaxes(x, 0, 1) for x in (q, k, v, beta, log_decay)]
    S, o = jax.lax.scan(step, S, over_time)
    return jnp.swapaxes(o, 0, 1), S


def _times(S: Float[Array, "N m d"], x: Float[Array, "N d"]) -> Float[Array, "N m"]:
    return jnp.einsum("nmd,nd->nm", S, x, precision=PRECISION)


def _by_chunks(q, k, v, beta, log_decay, S, read_first):
    """Every argument but S is [J, N, c, ...], as is the result.

    Within a chunk S_i = g_i S + sum_{j<=i} (g_i / g_j) u_j k_j^T with g_i = a_1 .. a_i, and the u
    solve u_i + beta_i sum_{j<i} (g_i / g_j) (k_i . k_j) u_j = beta_i (v_i - g_i S k_i): a
    triangular system, solved for both terms of its right side before S is known.
    """
    c = k.shape[2]
    log_g = jnp.cumsum(log_decay, 2)
    before = log_g - log_decay  # of the step before
    past = jnp.tril(jnp.ones((1, 1, c, c), bool), -1)
    now = jnp.tril(jnp.ones((1, 1, c, c), bool))

    def products(a, b):
        return jnp.einsum("...id,...jd->...ij", a, b, precision=PRECISION)

    system = beta[..., None] * _ratios(log_g, log_g, past) * products(k, k)
    right = jnp.concatenate([v, jnp.exp(log_g)[..., None] * k], -1)
    solved = _solve(system, beta[..., None] * right)
    u_v, u_k = jnp.split(solved, [v.shape[-1]], -1)
    reading, seen = (before, past) if read_first else (log_g, now)
    scores = _ratios(reading, log_g, seen) * products(q, k)
    queries = jnp.exp(reading)[..., None] * q
    keys = jnp.exp(log_g[..., -1:] - log_g)[..., None] * k
    end = jnp.exp(log_g[..., -1])

    def step(S, inputs):
        u_v, u_k, scores, queries, keys, end = inputs
        u = u_v - jnp.einsum("nid,nmd->nim", u_k, S, precision=PRECISION)
        o = jnp.einsum("nid,nmd->nim", queries, S, precision=PRECISION)
        o += jnp.einsum("nij,njm->nim", scores, u, precision=PRECISION)
        added = jnp.einsum("nim,nid->nmd", u, keys, precision=PRECISION)
        return end[:, None, None] * S + added, o

    S, o = jax.lax.scan(step, S, (u_v, u_k, scores, queries, keys, end))
    return o, S


@jax.custom_vjp
def _solve(L: Float[Array, "J N c c"], r: Float[Array, "J N c m"]) -> Float[Array, "J N c m"]:
    """u with u_i + sum_{j<i} L_ij u_j = r_i; L is strictly lower triangular.

    Row by row, for all chunks at once. `jax.scipy.linalg.solve_triangular` takes as long where it
    returns; with 50 systems of 32 rows and 128 right sides it never did, on two CPU cores and jax
    0.10: both of XLA's threads wait for each other.
    """
    return _substitute(L, r, range(r.shape[2]))


def _substitute(L, r, order: range) -> Float[Array, "J N c m"]:
    def row(k, u):
        i = order.start + order.step * k
        known = jax.lax.dynamic_index_in_dim(L, i, 2, keepdims=False)
        r_i = jax.lax.dynamic_index_in_dim(r, i, 2, keepdims=False)
        u_i = r_i - jnp.einsum("nkj,nkjm->nkm", known, u, precision=PRECISION)
        return jax.lax.dynamic_update_index_in_dim(u, u_i, i, 2)

    return jax.lax.fori_loop(0, len(order), row, jnp.zeros_like(r))


def _solve_forward(L, r):
    u = _solve(L, r)
    return u, (L, u)


def _solve_backward(residuals, g):
    """dr = (I + L)^-T g, dL = -dr u^T below the diagonal."""
    L, u = residuals
    dr = _substitute(jnp.swapaxes(L, 2, 3), g, range(g.shape[2] - 1, -1, -1))
    return -jnp.tril(jnp.einsum("nkim,nkjm->nkij", dr, u, precision=PRECISION), -1), dr


_solve.defvjp(_solve_forward, _solve_backward)


def _ratios(
    log_a: Float[Array, "*B c"], log_b: Float[Array, "*B c"], where: Bool[Array, "#J #N c c"]
) -> Float[Array, "*B c c"]:
    """a_i / b_j where they are asked for (there at most 1), 0 elsewhere (there maybe infinite)."""
    difference = jnp.where(where, log_a[..., :, None] - log_b[..., None, :], 0)
    return jnp.where(where, jnp.exp(difference), 0)


def _chunked(x: Float[Array, "N T *d"], c: int) -> Float[Array, "J N c *d"]:
    """In chunks of c steps, zeros after T."""
    x = jnp.pad(x, [(0, 0), (0, -x.shape[1] % c)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(len(x), -1, c, *x.shape[2:]), 1, 0)
