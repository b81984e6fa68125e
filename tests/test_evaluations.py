"""Evaluations on models whose errors are known, and their baselines against other computations."""

from dataclasses import dataclass, replace

import grain
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from wsrnn.evaluations.completion import RIDGE, Completion
from wsrnn.evaluations.forecast import Forecast
from wsrnn.evaluations.in_context import PrefixError, QueryError
from wsrnn.models import Model
from wsrnn.models.warp import WarpConfig
from wsrnn.tasks.continuation import Direct, Recursive, Sequence
from wsrnn.tasks.images import ImageCompletion
from wsrnn.tasks.layouts import JointMasked, LegacySums
from wsrnn.tasks.regression import LinearRegression, OutlierRegression

ROWS = np.random.default_rng(0).uniform(0, 1, (400, 9)).astype(np.float32)
ROWS[:, 5:] += ROWS[:, :4]  # something to regress on


@dataclass(frozen=True)
class Images(ImageCompletion):
    """Images of 3 x 3 pixels; the last hundred test."""

    side: int = 3

    def sequences(self, split, seed):
        rows = ROWS[300:] if split == "test" else ROWS[:300]
        return grain.MapDataset.range(len(rows)).map(lambda i: Sequence(rows[i][:, None], {}))


class Constant(Model):
    """Calls every answer zero."""

    def __call__(self, inputs, times):
        return jnp.zeros((*times.shape, 1))


class Grey(Model):
    """Completes every image with one grey, of one scale if uncertain; fed back or not."""

    def __init__(self, scale=None):
        self.scale = scale

    def __call__(self, inputs, times):
        outputs = [0.25] if self.scale is None else [0.25, self.scale]
        return jnp.broadcast_to(jnp.array(outputs), (*times.shape, len(outputs)))

    def rollout(self, inputs, times, given, noise=None):
        return self(inputs, times)


@pytest.mark.parametrize("strategy", [Direct(), Recursive()])
def test_completion_scores_what_comes_after_the_context_alone(strategy):
    evaluation = Completion(contexts=(2, 6), images=100, drawn=3)
    result = evaluation(Grey(), Images(strategy), 0)
    truth, train = ROWS[300:], ROWS[:300]
    for column, known in enumerate((2, 6)):
        rest = truth[:, known:]
        last, mean = truth[:, known - 1 : known], train.mean(0)[known:]
        x = np.concatenate([train[:, :known] - train[:, :known].mean(0)])
        ridge = np.sqrt(300 * RIDGE) * np.eye(known)  # as rows of a plain least-squares problem
        targets = np.concatenate([train[:, known:] - mean, np.zeros((known, 9 - known))])
        weights = np.linalg.lstsq(np.concatenate([x, ridge]), targets)[0]
        linear = mean + (truth[:, :known] - train[:, :known].mean(0)) @ weights
        rows = (0.25, last, mean, linear)
        expected = [np.mean((np.clip(row, 0, 1) - rest) ** 2) for row in rows]
        found = [values[column] for values in result.rows.values()]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert set(result.figures) == {"completion-2", "completion-6"}


def test_bits_per_dimension_are_those_of_the_density_at_256_values():
    result = Completion(contexts=(2,), drawn=1)(Grey(scale=0.3), Images(loss="nll"), 0)
    density = scipy.stats.norm(0.25, 0.3).pdf(ROWS[300:, 2:])
    bits = -np.log2(density / 255).mean()
    assert result.scalars()["bits, L=2"] == pytest.approx(bits, rel=1e-5)


def test_a_model_that_answers_zero_is_the_baseline_that_does():
    task = LinearRegression(d=2, examples=4)
    result = PrefixError(prompts=300, prefixes=(0, 2, 4))(Constant(), task, 0)
    assert result.rows["this model"] == pytest.approx([1, 1, 1])
    assert result.rows["least squares"] == pytest.approx([1, 0, 0], abs=1e-6)


def test_a_model_that_carries_the_sum_has_learned_nothing_of_the_query():
    class Carry(Model):
        def __call__(self, inputs, times):
            y = jnp.asarray(inputs)[..., -1:]
            return jnp.concatenate([y[:, :-1], y[:, -2:-1]], 1)

    task = LinearRegression(d=2, examples=9, layout=LegacySums())
    result = QueryError(prompts=2000)(Carry(), task, 0)
    assert result.rows["this model"] == pytest.approx(result.rows["carry"], abs=1e-5)
    assert result.rows["carry"] == pytest.approx([1, 1 - 1 / 10], abs=0.01)
    assert result.rows["least squares"] == pytest.approx([0, 1], abs=1e-6)
    plain = replace(task, layout=JointMasked())
    assert QueryError(prompts=50)(Constant(), plain, 0).rows["this model"] == [1]


def test_of_outliers_only_the_others_count():
    task = OutlierRegression(d=2, examples=9, outliers=0.9, dummy="ones")
    result = PrefixError(prompts=300, prefixes=(0, 9))(Constant(), task, 0)
    assert result.rows["this model"] == pytest.approx([1, 1])
    inliers, every = result.rows["least squares on the inliers"], result.rows["least squares"]
    assert inliers[0] == 1 and inliers[1] < min(1, every[1])
    masked = replace(task, layout=JointMasked())
    found = QueryError(prompts=300)(Constant(), masked, 0).rows["least squares on the inliers"]
    assert found == pytest.approx([inliers[1]])


@pytest.mark.parametrize(
    ("evaluation", "task", "message"),
    [
        (Completion((2,)), LinearRegression(), "for ImageCompletion"),
        (Completion((9,)), Images(), "within 1 and 8"),
        (Forecast(), Images(), "windows of a table"),
        (PrefixError(), Images(), r"tokens \(x, y\)"),
        (QueryError(), LinearRegression(), "layout JointMasked"),
        (PrefixError(prefixes=(9,)), LinearRegression(examples=4), "4 examples"),
    ],
)
def test_what_cannot_be_judged_is_refused_beforehand(evaluation, task, message):
    with pytest.raises(ValueError, match=message):
        evaluation.check(task, WarpConfig())


def test_an_evaluation_from_python_fills_in_its_own_prefixes():
    task = LinearRegression(d=2, examples=8)
    model = WarpConfig(layout="read_before_write").build(3, 1, rngs=nnx.Rngs(0))
    assert PrefixError(prompts=8)(model, task, 0).columns == ["n=0", "n=2", "n=4", "n=6", "n=8"]
