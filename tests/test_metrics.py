"""Masked sums: what counts, how often, and what never does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from wsrnn.metrics import LOSSES, Mean, cross_entropy, last_valid, mse, nll

N, T, O = 3, 7, 2  # noqa: E741
MASK = np.zeros((N, T), np.float32)
MASK[0, :6], MASK[1, 2:3] = 1, 1  # six steps, one step, none
VALID = MASK > 0


def arrays(name):
    """Outputs, targets and a mask that the loss of this name takes: the same at every call."""
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(N, T, O)).astype(np.float32)
    outputs = rng.normal(size=(N, T, O)).astype(np.float32)
    if name == "nll":
        scales = rng.uniform(0.1, 2, size=(N, T, O)).astype(np.float32)
        return jnp.concatenate([outputs, scales], -1), jnp.asarray(targets), jnp.asarray(MASK)
    if name == "cross_entropy":
        labels = jnp.asarray(rng.integers(0, T, N), jnp.int32)
        return jnp.asarray(outputs[:, :, 0]), labels, jnp.array([1.0, 0.0, 1.0])
    return jnp.asarray(outputs), jnp.asarray(targets), jnp.asarray(MASK)


def test_mse_is_the_mean_over_every_masked_number():
    y, target, mask = arrays("mse")
    measures = mse(y, target, mask)
    error = np.asarray(y - target)[VALID]
    assert measures["loss"].value == pytest.approx(np.mean(error**2), rel=1e-6)
    assert measures["mae"].value == pytest.approx(np.mean(np.abs(error)), rel=1e-6)
    assert measures["loss"].count == 7 * O


def test_sums_of_unequal_batches_give_the_mean_of_everything():
    y, target, mask = arrays("mse")
    batches = [mse(y[n : n + 1], target[n : n + 1], mask[n : n + 1])["loss"] for n in range(N)]
    total = jax.tree.map(lambda *parts: sum(parts), *batches)
    assert isinstance(total, Mean)
    assert total.value == pytest.approx(float(mse(y, target, mask)["loss"].value), rel=1e-6)
    mean_of_means = np.mean([b.value for b in batches[:2]])
    assert abs(total.value - mean_of_means) > 0.1
    assert np.isnan(batches[2].value)


def test_fractional_masks_weigh():
    weights = jnp.array([[0.25, 1.0, 0.0]])
    y, target = jnp.array([[[1.0], [2.0], [5.0]]]), jnp.zeros((1, 3, 1))
    assert mse(y, target, weights)["loss"].value == pytest.approx((0.25 + 4) / 1.25)


def test_nll_is_that_of_a_normal_law_but_for_its_constant():
    outputs, target, mask = arrays("nll")
    measures = nll(outputs, target, mask)
    mean, scale = np.split(np.asarray(outputs, np.float64), 2, -1)
    log_p = scipy.stats.norm.logpdf(target, mean, scale)[VALID]
    constant = 0.5 * np.log(2 * np.pi)
    assert measures["loss"].value == pytest.approx(-log_p.mean() - constant, rel=1e-5)
    error = (np.asarray(target) - mean)[VALID]
    assert measures["mse"].value == pytest.approx(np.mean(error**2), rel=1e-5)


def test_cross_entropy_is_in_nats_and_counts_sequences():
    logits, labels, mask = arrays("cross_entropy")
    measures = cross_entropy(logits, labels, mask)
    log_p = scipy.special.log_softmax(np.asarray(logits, np.float64), -1)[range(N), labels]
    assert measures["loss"].value == pytest.approx(-(log_p[0] + log_p[2]) / 2, rel=1e-5)
    right = np.asarray(logits).argmax(-1) == labels
    assert measures["accuracy"].value == pytest.approx((0.0 + right[0] + right[2]) / 2)
    assert measures["loss"].count == 2


def test_accuracy():
    logits = jnp.array([[5.0, 1.0], [1.0, 2.0], [0.0, 3.0], [2.0, 0.0]])
    measures = cross_entropy(logits, jnp.array([0, 0, 1, 1]), jnp.array([1.0, 1.0, 1.0, 0.0]))
    assert measures["accuracy"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_masked_out_never_leaks(name, bad):
    outputs, targets, mask = arrays(name)
    where = mask.reshape(mask.shape + (1,) * (outputs.ndim - mask.ndim)) > 0
    spoilt = jnp.where(where, outputs, bad)
    clean, dirty = (LOSSES[name](y, targets, mask) for y in (outputs, spoilt))
    for key, mean in clean.items():
        assert dirty[key].value == mean.value
        assert dirty[key].count == mean.count


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_returns_means_with_a_loss_among_them(name):
    measures = LOSSES[name](*arrays(name))
    assert "loss" in measures
    for mean in measures.values():
        assert mean.value == mean.total / mean.count
        assert np.isfinite(mean.value)


def test_last_valid():
    mask = jnp.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], float)
    np.testing.assert_array_equal(last_valid(mask), [1, 3, 3, 0, 3])
    np.testing.assert_array_equal(last_valid(0.5 * mask), [1, 3, 3, 0, 3])
