"""The classical estimators against their closed forms, by Monte Carlo, and against LAPACK."""

from functools import lru_cache, partial

import numpy as np
import pytest

from wsrnn import estimators


@lru_cache
def prompts(n, d, noise, count=40_000):
    """x, labels, queries and the queries' true values; x and w standard normal."""
    rng = np.random.default_rng(n + 100 * d)
    x, w = rng.normal(size=(count, n, d)), rng.normal(size=(count, d))
    y = np.einsum("nid,nd->ni", x, w) + noise**0.5 * rng.normal(size=(count, n))
    query = rng.normal(size=(count, d))
    return x, y, query, (query * w).sum(-1)


def error(estimate, sizes, **options):
    """Mean squared error on the noiseless value of a query, over its variance d."""
    *prompt, target = prompts(*sizes)
    d = sizes[1]
    return np.mean((estimate(*prompt, **options) - target) ** 2) / d


def test_predicting_zero_has_error_1():
    assert error(estimators.zero, (3, 5, 0.0)) == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("n", [0, 2, 5, 8, 12])
def test_least_squares_without_noise_misses_the_directions_not_seen(n):
    expected = max(0, 1 - n / 8)
    assert error(estimators.least_squares, (n, 8, 0.0)) == pytest.approx(
        expected, rel=0.03, abs=1e-9
    )


@pytest.mark.parametrize(
    ("n", "d", "noise"), [(0, 5, 0.0), (5, 5, 0.0), (20, 5, 0.25), (8, 3, 9.0)]
)
def test_one_gradient_step(n, d, noise):
    expected = (d + 1 + noise) / (n + d + 1 + noise)
    got = error(estimators.gradient_step, (n, d, noise), noise=noise)
    assert got == pytest.approx(expected, rel=0.03)


def test_ridge_is_the_posterior_mean():
    got = error(estimators.ridge, (20, 5, 0.25), penalty=0.25)
    assert got == pytest.approx(0.0174, rel=0.03)
    for penalty in (0.05, 1.0):
        assert error(estimators.ridge, (20, 5, 0.25), penalty=penalty) > got


@pytest.mark.parametrize("n", [3, 5, 20])
def test_least_squares_is_that_of_numpy(n):
    x, y, query, _ = (part[:1] for part in prompts(n, 5, 0.25))
    w, *_ = np.linalg.lstsq(x[0], y[0])
    np.testing.assert_allclose(estimators.least_squares(x, y, query), query @ w, rtol=1e-9)


@pytest.mark.parametrize("n", [0, 3, 20])
def test_ridge_minimises_its_objective(n):
    # |x w - y|^2 + p |w|^2 is a least-squares problem with d more rows
    x, y, query, _ = (part[:1] for part in prompts(n, 5, 0.25))
    rows = np.concatenate([x[0], 0.7**0.5 * np.eye(5)])
    w, *_ = np.linalg.lstsq(rows, np.concatenate([y[0], np.zeros(5)]))
    got = estimators.ridge(x, y, query, penalty=0.7)
    np.testing.assert_allclose(got, query @ w, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("penalty", [1.0, 0.1, 0.01])
def test_lasso_is_that_of_scikit_learn(penalty):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y, query, _ = (part[:20] for part in prompts(8, 5, 0.25))
    found = estimators.lasso(x, y, query, penalty=penalty)
    for i in range(20):
        model = linear_model.Lasso(alpha=penalty, fit_intercept=False, tol=1e-10, max_iter=10_000)
        model.fit(x[i], y[i])
        np.testing.assert_allclose(found[i], model.predict(query[i : i + 1])[0], atol=1e-4)


def test_lasso_is_optimal_and_predicts_zero_without_examples():
    """The gradient of the squares is the penalty against the sign of w, or less where w is 0."""
    x, y, *_ = (part[:50] for part in prompts(8, 5, 0.25))
    axes = np.eye(5)
    w = np.stack([estimators.lasso(x, y, np.tile(axis, (50, 1)), 0.3) for axis in axes], 1)
    slope = np.einsum("nid,ni->nd", x, y - np.einsum("nid,nd->ni", x, w)) / 8
    assert np.abs(slope).max() < 0.3 + 1e-4 and np.any(w == 0) and np.any(w != 0)
    np.testing.assert_allclose(slope[w != 0], 0.3 * np.sign(w[w != 0]), atol=1e-4)
    *empty, _ = prompts(0, 4, 0.0)
    np.testing.assert_array_equal(estimators.lasso(*empty, penalty=0.1), 0)


@pytest.mark.parametrize("n", [0, 4, 9])
def test_values_may_be_vectors(n):
    """Each coordinate is estimated as if it stood alone."""
    rng = np.random.default_rng(n)
    x, y, query = rng.normal(size=(6, n, 5)), rng.normal(size=(6, n, 3)), rng.normal(size=(6, 5))
    one = partial(estimators.ridge, penalty=0.3)
    for estimate in (
        estimators.zero, estimators.gradient_step, estimators.linear_attention, one,
        estimators.least_squares, estimators.averaging, estimators.nearest_neighbours,
    ):  # fmt: skip
        alone = [estimate(x, y[..., o], query) for o in range(3)]
        np.testing.assert_allclose(estimate(x, y, query), np.stack(alone, 1), atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_the_baselines_of_a_table_predict_zero_without_examples(noise):
    *prompt, _ = prompts(0, 4, noise)
    table = estimators.baselines(noise)
    for estimate in table.values():
        np.testing.assert_array_equal(estimate(*prompt), 0)
    assert f"ridge ({noise or 0.1:g})" in table


def test_the_baselines_know_the_noise():
    *prompt, _ = prompts(20, 5, 0.25)
    table = estimators.baselines(0.25)
    expected = estimators.gradient_step(*prompt, noise=0.25)
    np.testing.assert_array_equal(table["one gradient step"](*prompt), expected)
    expected = estimators.ridge(*prompt, penalty=0.25)
    np.testing.assert_array_equal(table["ridge (0.25)"](*prompt), expected)
