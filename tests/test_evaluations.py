"""Evaluations on models whose errors are known, and their baselines against other computations."""

from dataclasses import dataclass, replace

import grain
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wsrnn.evaluations.completion import RIDGE, Completion
from wsrnn.evaluations.forecast import Forecast
from wsrnn.evaluations.in_context import PrefixError, QueryError
from wsrnn.models import Model
from wsrnn.models.warp import WarpConfig
from wsrnn.tasks import Batch, Task, clock
from wsrnn.tasks.regression import LinearRegression, OutlierRegression

ROWS = np.random.default_rng(0).uniform(0, 1, (400, 9)).astype(np.float32)
ROWS[:, 5:] += ROWS[:, :4]  # something to regress on


@dataclass(frozen=True)
class Images(Task):
    """Images of 3 x 3 pixels; the last hundred test."""

    loss: str = "mse"
    d_in = d_out = 1
    length = 8

    def dataset(self, split, seed):
        rows = ROWS[300:] if split == "test" else ROWS[:300]

        def example(i):
            x = rows[i][:, None]
            return Batch(x[:-1], clock(8), x[1:], np.ones(8, np.float32), {})

        return grain.MapDataset.range(len(rows)).map(example)


class Constant(Model):
    """Completes every image with one grey, and calls every answer zero."""

    def __call__(self, inputs, times):
        return jnp.zeros((*times.shape, 1))

    def generate(self, context, times):
        return jnp.full((*times.shape, 1), 0.25)


def test_completion_scores_what_comes_after_the_context_alone():
    evaluation = Completion(contexts=(2, 6), images=100, drawn=3)
    result = evaluation(Constant(), Images(), 0)
    truth, train = ROWS[300:], ROWS[:300]
    for column, known in enumerate((2, 6)):
        rest = truth[:, known:]
        last, mean = truth[:, known - 1 : known], train.mean(0)[known:]
        x = np.concatenate([train[:, :known] - train[:, :known].mean(0)])
        ridge = np.sqrt(300 * RIDGE) * np.eye(known)  # as rows of a plain least-squares problem
        targets = np.concatenate([train[:, known:] - mean, np.zeros((known, 9 - known))])
        weights = np.linalg.lstsq(np.concatenate([x, ridge]), targets)[0]
        linear = mean + (truth[:, :known] - train[:, :known].mean(0)) @ weights
        expected = [np.mean((p - rest) ** 2) for p in (0.25, last, mean, linear)]
        found = [values[column] for values in result.rows.values()]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert set(result.figures) == {"completion-2", "completion-6"}


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

    task = LinearRegression(d=2, examples=9, layout="joint_masked", cumsum="legacy")
    result = QueryError(prompts=2000)(Carry(), task, 0)
    assert result.rows["this model"] == pytest.approx(result.rows["carry"], abs=1e-5)
    assert result.rows["carry"] == pytest.approx([1, 1 - 1 / 10], abs=0.01)
    assert result.rows["least squares"] == pytest.approx([0, 1], abs=1e-6)
    plain = replace(task, cumsum="none")
    assert QueryError(prompts=50)(Constant(), plain, 0).rows["this model"] == [1]


def test_of_outliers_only_the_others_count():
    task = OutlierRegression(d=2, examples=9, outliers=0.9, dummy="ones")
    result = PrefixError(prompts=300, prefixes=(0, 9))(Constant(), task, 0)
    assert result.rows["this model"] == pytest.approx([1, 1])
    inliers, every = result.rows["least squares on the inliers"], result.rows["least squares"]
    assert inliers[0] == 1 and inliers[1] < min(1, every[1])
    masked = replace(task, layout="joint_masked")
    found = QueryError(prompts=300)(Constant(), masked, 0).rows["least squares on the inliers"]
    assert found == pytest.approx([inliers[1]])


@pytest.mark.parametrize(
    ("evaluation", "task", "message"),
    [
        (Completion((2,)), LinearRegression(), "grey square images"),
        (Completion((9,)), Images(), "within 1 and 8"),
        (Forecast(), Images(), "windows of a table"),
        (PrefixError(), Images(), r"tokens \(x, y\)"),
        (QueryError(), LinearRegression(), "layout joint_masked"),
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
