"""Real tables in context: files, scales, prompts like them, the root that reads them, ratios."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import close

from wsrnn import data
from wsrnn.errors import UserError
from wsrnn.evaluations.tables import TableErrors, predictions
from wsrnn.models import Model
from wsrnn.models.warp import Bilinear, Features, Moments, Query, summing
from wsrnn.models.warp.textbook import TextbookConfig
from wsrnn.recurrence import Scalar
from wsrnn.root import Evidence, Network
from wsrnn.tasks.drawn import draw
from wsrnn.tasks.layouts import ReadBeforeWrite
from wsrnn.tasks.tables import SyntheticTables, Tables
from wsrnn.tasks.training import Curriculum

LEARNER = summing(Evidence(priors=2), Moments(), features=Features(units=1), mode="auto")
SMALL = SyntheticTables(d=4, examples=12, units=4)
TINY = SyntheticTables(d=1, examples=6, units=2)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture
def csv(tmp_path):
    """A table of 30 rows: a constant column, two others, and a target between them."""
    rows = normal(0, 30, 4) * [0, 3, 1, 5] + [7, -2, 0, 100]
    path = tmp_path / "mine.csv"
    path.write_text("same,a,price,b\n" + "\n".join(",".join(map(str, row)) for row in rows))
    return path, rows


def test_rows_are_scaled_by_the_context_alone_and_filled_up(csv):
    path, rows = csv
    task = Tables(str(path), target="price", columns=5, examples=6)
    batch = data.examples(task, "test", 3, 20)
    assert batch.inputs.shape == (20, 7, 6)
    np.testing.assert_array_equal(batch.inputs[..., [0, 3, 4]], 0)  # constant, and not there
    known = batch.inputs[:, :6, [1, 2, 5]]
    np.testing.assert_allclose(known.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(known.std(1), 1, atol=1e-5)
    np.testing.assert_array_equal(batch.inputs[..., 5:], batch.targets)
    np.testing.assert_array_equal(batch.mask, np.eye(7)[[6] * 20])
    # Undone, tokens are rows of the table, each at most once.
    context, query = task.draw(np.random.default_rng(0), 24)
    both = np.concatenate([context, query])[:, [1, 2, 5]]
    order = np.random.default_rng(0).permutation(30)
    seen = rows[order[:6]][:, [1, 3, 2]]
    np.testing.assert_allclose(both * seen.std(0) + seen.mean(0), rows[order][:, [1, 3, 2]])


def test_positions_are_drawn_alike_and_apart(csv):
    task = Tables(str(csv[0]), columns=3, examples=6)
    first, again = (data.examples(task, "test", 0, 4).inputs for _ in range(2))
    np.testing.assert_array_equal(first, again)
    for split, seed in (("train", 0), ("test", 1)):
        assert np.any(first != data.examples(task, split, seed, 4).inputs)


def test_a_table_needs_no_line_of_names(csv, tmp_path):
    bare = tmp_path / "bare.csv"
    bare.write_text(csv[0].read_text().split("\n", 1)[1])
    np.testing.assert_array_equal(
        Tables(str(bare), target="3").rows(), Tables(str(csv[0]), target="price").rows()
    )


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n3,red", {}, r"bad.csv line 3, column b: 'red' is not .* drop that row, or the"),
        ("1,2\n3,nan", {}, "line 2, column 2: 'nan' is not"),
        ("nan,2\n3,4", {}, "line 1, column 1: 'nan' is not"),
        ("a,b\n1,2\n3,4", {"target": "c"}, "no column c; its columns are a, b"),
        ("a,b,c\n1,2,3\n4,5,6", {"columns": 1}, "2 input columns, more than the 1"),
        ("a\n1\n2", {}, "one column: a table needs inputs"),
        ("a,b\n1,2\n3,4", {"examples": 2}, "2 rows, too few for 2 examples .* set fewer"),
        (None, {}, "no table .*bad.csv: give the path"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(text, options, message, tmp_path):
    path = tmp_path / "bad.csv"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        Tables(str(path), **options).draw(np.random.default_rng(0))
    assert "\n" not in str(error.value)


def raw(task, count):
    rng = np.random.default_rng(0)
    drawn = {name: draw(r, rng, count) for name, r in sorted(task.draws("train").items())}
    return drawn | {"index": np.arange(count)}


def test_prompts_like_tables_are_the_same_in_numpy_and_jax():
    numbers = raw(SMALL, 32)
    with jax.numpy_rank_promotion("allow"):
        theirs = jax.jit(lambda raw: SMALL.build(raw, "train", jnp))(numbers)
    ours = SMALL.build(numbers, "train")
    for a, b in zip(ours[:4], theirs[:4], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3, rtol=2e-3)
    assert all(leaf.dtype == np.float32 for leaf in ours[:4])


@pytest.mark.parametrize("split", ["train", "test"])
def test_prompts_like_tables_are_scaled_like_them(split):
    batch = data.examples(SMALL, split, 0, 600)
    n = batch.mask.argmax(1)
    assert np.all(batch.mask.sum(1) == 1) and set(n) == set(range(SMALL.least, 13))
    columns = np.any(batch.inputs[..., :-1] != 0, 1).sum(1)
    assert set(columns) == {0, 1, 2, 3, 4}  # 0 where the only one is constant
    for tokens, count in zip(batch.inputs[:50], n[:50], strict=True):
        spread = tokens[:count].std(0)
        assert np.all(np.abs(spread - 1) < 1e-4, where=np.any(tokens[:count] != 0, 0))
        assert np.abs(tokens[:count].mean(0)).max() < 1e-4
    # From almost no noise to more noise than function.
    off = (batch.inputs[..., -1] - batch.targets[..., 0]).std(1)
    assert off.min() < 0.1 and off.max() > 0.8


def test_the_root_is_the_mean_over_priors_by_their_evidence(x64):
    """Against the same in the space of examples, where priors are covariances."""
    d, K, T = 3, 2, 7
    x, y, z = normal(0, T, d), normal(1, T), normal(2, d)
    root = Network(Evidence(K), d, 1)
    numbers = normal(3, 2 + K * d + K)
    n_0, q_0 = np.exp(numbers[:2])
    P, c = np.exp(numbers[2:-K]).reshape(K, d), numbers[-K:]
    a = np.concatenate([x, y[:, None]], 1)
    lifted = Moments().build(d + 1, 1, rngs=nnx.Rngs(0))(jnp.asarray(a))
    theta = root.initial(jnp.asarray(numbers)).at[: root.written].add(lifted.sum(0))
    found = jax.jit(root.apply)(theta[:, None], jnp.asarray(z)[:, None])[0, 0]
    evidence, predicted = [], []
    for k in range(K):
        cov = x / P[k] @ x.T + np.eye(T)
        left = q_0 + y @ np.linalg.solve(cov, y)
        size = np.linalg.slogdet(cov)[1]
        evidence.append(np.exp((-size - (T + n_0) * np.log(left) + c[k]) / 2))
        predicted.append(z / P[k] @ x.T @ np.linalg.solve(cov, y))
    close(found, np.dot(evidence, predicted) / np.sum(evidence), 1e-9)
    assert root.init(jax.random.key(0)).shape == numbers.shape


def test_one_prior_is_ridge_whatever_came_before(x64):
    root = Network(Evidence(1), 2, 1)
    x, y = normal(0, 9, 2), normal(1, 9)
    a = np.concatenate([x, y[:, None]], 1)
    G = (a.T @ a)[np.triu_indices(3)]
    theta = jnp.asarray(np.concatenate([G, [9.0], np.log([0.5, 2.0]), [0.0]]))[:, None]
    w = np.linalg.solve(x.T @ x + np.diag([0.5, 2.0]), x.T @ y)
    found = jax.jit(root.apply)(jnp.tile(theta, (1, 2)), jnp.eye(2))
    close(found[0], w, 1e-10)


def test_features_of_columns_that_are_not_there_are_nothing():
    features = Features(5).build(3, 1, rngs=nnx.Rngs(0))
    token = jnp.asarray(normal(0, 4, 6, 4), jnp.float32)
    apply = jax.jit(lambda token: features(token))
    found = np.asarray(apply(token))
    assert found.shape == (4, 6, 1 + 3 + 5 + 1)
    W, b = np.asarray(features.W[...]), np.asarray(features.b[...])
    x = np.asarray(token)[..., :3]
    np.testing.assert_allclose(found[..., 4:9], np.tanh(x @ W.T + b) - np.tanh(b), atol=1e-5)
    np.testing.assert_array_equal(found[..., 1:4], x)
    np.testing.assert_array_equal(found[..., 9], token[..., 3])
    np.testing.assert_array_equal(found[..., 0], 1)
    np.testing.assert_allclose(apply(token * jnp.eye(4)[3][None, None])[..., 1:-1], 0, atol=1e-6)


def test_every_execution_of_the_learner_is_the_plainest_one(x64):
    batch = data.examples(TINY, "test", 0, 3)
    inputs, times = (jnp.asarray(a, jnp.float64) for a in batch[:2])
    at = jnp.asarray(batch.mask.argmax(1))
    _, start = nnx.split(LEARNER.build(2, 1, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(p + 0.1 * rng.normal(size=p.shape)), start)

    def found(config):
        """Every step, the steps `at` alone, and the gradients through these."""
        graph = nnx.graphdef(config.build(2, 1, rngs=nnx.Rngs(0)))

        def loss(params):
            model = nnx.merge(graph, params)
            y = model(inputs, times, steps=at)
            return (y**2).sum(), (y, model(inputs, times))

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    fields = {name: getattr(LEARNER, name) for name in LEARNER.__dataclass_fields__}
    expected = found(TextbookConfig(**fields | {"mode": "scan"}))
    for mode in ("scan", "conv", "parallel"):
        close(found(replace(LEARNER, mode=mode)), expected, 1e-8, mode)
    # One token after another, as a stream gives them.
    model = nnx.merge(nnx.graphdef(LEARNER.build(2, 1, rngs=nnx.Rngs(0))), params)
    advance, state = jax.jit(type(model).advance), model.start(inputs[:, 0])
    for t in range(4):
        state, y = advance(model, state, inputs[:, t], times[:, t])
        close(y, expected[0][1][1][:, t], 1e-9)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: replace(LEARNER, lift=Bilinear()), "set lift Moments"),
        (lambda: replace(LEARNER, transition=Scalar()), "transition Identity"),
        (lambda: replace(LEARNER, query=Query(inputs=True)), "query.time False"),
        (lambda: Evidence(priors=0), "at least 1"),
        (lambda: replace(LEARNER, layout="standard"), "layout read_before_write"),
        (lambda: SyntheticTables(least=1), "least within 2"),
        (lambda: SyntheticTables(layout=ReadBeforeWrite("all")), "train_on any or longest"),
        (lambda: SyntheticTables(training=Curriculum()), "training must be Fresh or Finite"),
        (lambda: Tables(examples=1), "at least 2"),
        (lambda: TableErrors(contexts=(10,)), "among contexts"),
        (lambda: TableErrors(contexts=(2,), boosted=()), "at least 5"),
    ],
)
def test_what_cannot_be_is_refused(make, cure, unchecked):
    with pytest.raises(ValueError, match=cure):
        make()


class Mean(Model):
    """Predicts the mean of the labels before: the last token's y must play no part."""

    def __call__(self, inputs, times, *, steps):
        return inputs[:, :-1, -1:].mean(1) + 0 * steps[:, None]


def test_ratios_of_a_model_that_is_one_of_the_baselines(csv):
    path = csv[0]
    evaluation = TableErrors((str(path),), contexts=(6, 8, 50), boosted=(8,), draws=5, queries=3)
    task = SyntheticTables(d=4)
    evaluation.prepare(task)
    result = evaluation(Mean(), task, 0)
    for part in ("", ", least", ", most"):
        np.testing.assert_allclose(result.rows[f"this model / mean{part}"], [1, 1, np.nan], 1e-5)
    trees = result.rows["this model / boosted trees"]
    assert np.isnan(trees[0]) and trees[1] < 1  # labels are noise, which trees learn
    assert set(result.figures) == {"tables"} and len(result.scalars()) == 3


def test_predictions_of_a_query_do_not_depend_on_other_queries():
    context, query = normal(0, 3, 5, 2), normal(1, 3, 2, 1)
    model = LEARNER.build(2, 1, rngs=nnx.Rngs(0))
    both = predictions(model, context, query)
    assert both.shape == (3, 2)
    np.testing.assert_allclose(predictions(model, context, query[:, 1:]), both[:, 1:], atol=1e-5)
