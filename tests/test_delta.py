"""The delta rule: in chunks, step by step, and in a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import close

from wsrnn.recurrence import delta_rule


def inputs(T, N=2, d=4, m=3, gated=True):
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, N, T, d))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    v = rng.normal(size=(N, T, m))
    beta = rng.uniform(0, 2, (N, T))
    log_decay = np.log(rng.uniform(0.01, 1, (N, T))) if gated else np.zeros((N, T))
    start = rng.normal(size=(N, m, d))
    return [jnp.asarray(x) for x in (q, k, v, beta, log_decay, start)]


def loop(q, k, v, beta, log_decay, start, read_first):
    """One matrix and one step after another."""
    S, o = np.array(start), np.zeros(v.shape)
    for n, t in np.ndindex(*beta.shape):
        before = S[n].copy()
        erased = before - beta[n, t] * np.outer(before @ k[n, t], k[n, t])
        S[n] = np.exp(log_decay[n, t]) * erased + beta[n, t] * np.outer(v[n, t], k[n, t])
        o[n, t] = (before if read_first else S[n]) @ q[n, t]
    return o, S


@pytest.mark.parametrize("read_first", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("T", [1, 20])
@pytest.mark.parametrize(("mode", "chunk"), [("scan", 1), ("chunk", 1), ("chunk", 8)])
def test_every_execution_is_the_loop(mode, chunk, T, gated, read_first, x64):
    args = inputs(T, gated=gated)
    expected = loop(*map(np.asarray, args), read_first)
    found = delta_rule(*args, read_first=read_first, mode=mode, chunk=chunk)
    close(found, expected, 1e-11)


@pytest.mark.parametrize("read_first", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_the_gradients_of_both_executions_agree(gated, read_first, x64):
    args = inputs(13, gated=gated)

    def gradients(mode):
        def loss(*args):
            o, S = delta_rule(*args, read_first=read_first, mode=mode, chunk=4)
            return jnp.sin(o).sum() + jnp.cos(S).sum()

        return jax.jit(jax.grad(loss, range(6)))(*args)

    close(gradients("chunk"), gradients("scan"), 1e-9)


def test_decays_near_zero_give_numbers():
    q, k, v, beta, log_decay, start = (x.astype(jnp.float32) for x in inputs(64))
    for mode in ("scan", "chunk"):
        f = lambda a: delta_rule(q, k, v, beta, a, start, mode=mode)[0].sum()  # noqa: B023, E731
        value, gradient = jax.value_and_grad(f)(100 * log_decay)
        assert np.isfinite(value) and np.all(np.isfinite(gradient))


@pytest.mark.parametrize(("d", "n"), [(2, 5), (5, 10)])
def test_without_noise_the_error_shrinks_by_1_minus_1_over_d(d, n):
    """Its closed form for normal x and w, whose Monte Carlo error here is below 1 %."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100_000, n + 1, d))
    w = rng.normal(size=(len(x), d))
    size = np.linalg.norm(x, axis=-1, keepdims=True)
    k, v = x / size, np.einsum("ntd,nd->nt", x, w)[..., None] / size
    args = [jnp.asarray(a, jnp.float32) for a in (x, k, v, np.ones(k.shape[:2]))]
    o, _ = jax.jit(lambda *a: delta_rule(*a, read_first=True))(*args)
    error = np.mean((np.asarray(o)[..., 0] - v[..., 0] * size[..., 0]) ** 2, 0) / d
    expected = (1 - 1 / d) ** np.arange(n + 1)
    np.testing.assert_allclose(error, expected, rtol=0.05)


def test_an_unknown_execution_is_refused(unchecked):
    with pytest.raises(ValueError, match="use scan or chunk"):
        delta_rule(*inputs(3), mode="fft")
    with pytest.raises(ValueError, match="chunk must be"):
        delta_rule(*inputs(3), chunk=0)
