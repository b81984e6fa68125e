"""In-context tasks: one law in numpy and jax, and the closed forms of what can be learned."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from wsrnn import data, estimators
from wsrnn.evaluations.prefix_errors import inliers
from wsrnn.tasks.inputs import Normal, Uniform
from wsrnn.tasks.layouts import (
    Interleaved,
    JointMasked,
    LegacySums,
    ReadBeforeWrite,
    TokenSums,
)
from wsrnn.tasks.prompts import Pool
from wsrnn.tasks.regression import (
    DecisionTree,
    GaussianProcess,
    LinearRegression,
    OutlierRegression,
    Parity,
    Quadratic,
    ReluNetwork,
    Sinusoid,
)
from wsrnn.tasks.shifts import SHIFTS
from wsrnn.tasks.training import Curriculum, Finite, Growth

FAMILIES = {
    "linear": LinearRegression(d=4, examples=6),
    "noisy": LinearRegression(d=4, examples=6, noise=0.25),
    "spectrum k": LinearRegression(d=4, examples=6, inputs=Normal("k")),
    "spectrum 1/k": LinearRegression(d=4, examples=6, inputs=Normal("1/k")),
    "uniform": LinearRegression(d=4, examples=6, inputs=Uniform(1.0)),
    "sparse": LinearRegression(d=6, examples=6, sparse=2),
    "pool": LinearRegression(d=4, examples=6, pool=Pool(3)),
    "quadratic": Quadratic(d=4, examples=6),
    "relu": ReluNetwork(d=4, examples=6, hidden=10),
    "tree": DecisionTree(d=4, examples=6, depth=3),
    "sinusoid": Sinusoid(),
    "sinusoid, correlated": Sinusoid(legacy_correlated=True),
    "process": GaussianProcess(d=2, examples=6),
    "parity": Parity(d=5, examples=6, k=2),
}
families = pytest.mark.parametrize("task", FAMILIES.values(), ids=FAMILIES.keys())
MASKED = LinearRegression(d=4, examples=6, layout=JointMasked(), noise=0.1, weights="uniform")
VARIANTS = {
    "tokens summed": replace(MASKED, layout=TokenSums()),
    "legacy sums": replace(MASKED, layout=LegacySums()),
    "outliers": OutlierRegression(d=4, examples=6),
    "orthogonal outliers": OutlierRegression(d=4, examples=6, dummy="orthogonal"),
}
builds = pytest.mark.parametrize(
    "task", (FAMILIES | VARIANTS).values(), ids=(FAMILIES | VARIANTS).keys()
)


def raw(task, split, count, seed=0):
    """Raw numbers of one long block."""
    from wsrnn.tasks.drawn import draw

    rng = np.random.default_rng(seed)
    drawn = {name: draw(r, rng, count) for name, r in sorted(task.draws(split).items())}
    return drawn | {"index": np.arange(count)}


def in_jax(task, split, count):
    """The same prompts, drawn and built by jax."""
    return data.in_step(task, split, 0)(jnp.arange(count))


def built_by_jax(task, numbers):
    with jax.numpy_rank_promotion("allow"):
        return jax.jit(lambda numbers: task.build(numbers, "test", jnp))(numbers)


@builds
def test_numpy_and_jax_build_the_same_from_the_same_numbers(task):
    numbers = raw(task, "test", 16)
    ours, theirs = task.build(numbers, "test"), built_by_jax(task, numbers)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


@families
def test_the_power_of_the_values_and_their_law(task):
    """Monte Carlo of E y^2 over points and functions, drawn by numpy and by jax."""
    for batch in (data.examples(task, "test", 0, 6000), in_jax(task, "test", 6000)):
        values = np.asarray(batch.targets)[:, -1, 0]
        spread = np.std(values**2) / len(values) ** 0.5 / task.power
        assert abs(np.mean(values**2) / task.power - 1) < 4 * spread + 1e-6


def test_training_may_be_on_the_longest_prompts_alone():
    task = LinearRegression(d=2, examples=5, layout=ReadBeforeWrite("longest"))
    for split in ("train", "valid"):
        assert task.steps(split) == "last"
        assert (data.examples(task, split, 0, 9).mask == [0, 0, 0, 0, 0, 1]).all()
    assert task.steps("test") == "all" and data.examples(task, "test", 0, 9).mask.all()
    grown = replace(task, training=Curriculum(3, Growth(2), Growth(2, 2)))
    assert (data.examples(grown, "train", 0, 9).mask.argmax(1) == [1] * 3 + [3] * 3 + [5] * 3).all()


def test_training_may_be_on_all_prefixes_that_a_curriculum_has_reached():
    task = LinearRegression(d=2, examples=5, layout=ReadBeforeWrite("all"))
    assert task.steps("train") == "all" and data.examples(task, "train", 0, 9).mask.all()
    grown = replace(task, training=Curriculum(3, Growth(2), Growth(2, 2)))
    sums = data.examples(grown, "train", 0, 9).mask.sum(1)
    assert (sums == [2] * 3 + [4] * 3 + [6] * 3).all()
    with pytest.raises(ValueError, match=r"set training\.points None"):
        replace(grown, layout=JointMasked())


def prompts(task, count=20_000):
    batch = task.build(raw(task, "test", count), "test")
    x, y = batch.inputs[..., :-1].astype(np.float64), batch.inputs[..., -1].astype(np.float64)
    return x, y, batch.targets[:, -1, 0], task.power


def error(estimate, task):
    x, y, target, power = prompts(task)
    predicted = estimate(x[:, :-1], y[:, :-1], x[:, -1])
    return np.mean((predicted - target) ** 2) / power


@pytest.mark.parametrize("noise", [0.0, 0.25])
@pytest.mark.parametrize("n", [3, 20])
def test_closed_forms_of_linear_regression(n, noise):
    d = 5
    task = LinearRegression(d=d, examples=n, noise=noise)
    near = pytest.approx
    assert error(estimators.zero, task) == near(1, rel=0.03)
    step = (d + 1 + noise) / (n + d + 1 + noise)
    found = error(lambda *p: estimators.gradient_step(*p, noise=noise), task)
    assert found == near(step, rel=0.03)
    over, under = noise / (n - d - 1), 1 - n / d + noise * n / (d * (d - n - 1))
    expected = over if n > d + 1 else under
    assert error(estimators.least_squares, task) == near(expected, rel=0.04, abs=1e-6)


@pytest.mark.parametrize("n", [3, 12])
def test_closed_forms_of_sequential_and_of_repeated_steps(n):
    d = 5
    task = LinearRegression(d=d, examples=n)
    assert error(estimators.averaging, task) == pytest.approx((d + 1) / n, rel=0.03)
    found = error(estimators.normalised_lms, task)
    assert found == pytest.approx((1 - 1 / d) ** n, rel=0.05)
    x, y = prompts(task, 50)[:2]
    given = x[:, :-1], y[:, :-1], x[:, -1]
    many = estimators.gradient_descent(*given, steps=20_000, rate=0.2)
    np.testing.assert_allclose(many, estimators.least_squares(*given), atol=2e-2)
    one = estimators.gradient_descent(*given, steps=1, rate=n / (n + d + 1))
    np.testing.assert_allclose(one, estimators.gradient_step(*given), atol=1e-9)


def test_the_published_anchors_of_ridge_and_its_neighbours():
    """d = 5, n = 20, noise 0.25: ridge 0.0174, least squares 0.0178, NLMS 0.092 and 0.064."""
    task = LinearRegression(d=5, examples=20, noise=0.25)
    assert error(lambda *p: estimators.ridge(*p, penalty=0.25), task) == pytest.approx(
        0.0174, rel=0.03
    )
    for rate, expected in ((1, 0.092), (0.5, 0.064)):
        found = error(lambda *p, r=rate: estimators.normalised_lms(*p, rate=r), task)
        assert found == pytest.approx(expected, rel=0.05)


def test_estimators_that_must_agree():
    x, y = prompts(LinearRegression(d=4, examples=9, noise=0.1), 40)[:2]
    given = x[:, :-1], y[:, :-1], x[:, -1]
    exact = estimators.ridge(*given, penalty=0.3)
    np.testing.assert_allclose(
        estimators.recursive_least_squares(*given, penalty=0.3), exact, atol=1e-9
    )
    full = estimators.principal_components(*given, components=4)
    np.testing.assert_allclose(full, estimators.least_squares(*given), atol=1e-9)
    twice = np.repeat(x[:, :1], 3, 1), np.repeat(y[:, :1], 3, 1), x[:, -1]  # of rank 1
    found = estimators.principal_components(*twice, components=2)
    np.testing.assert_allclose(found, estimators.least_squares(*twice), atol=1e-9)
    # ridge is the posterior mean of the linear kernel, and a dense pool of weights comes near it
    few = np.random.default_rng(0).standard_normal((50_000, 4))
    near = estimators.pool_posterior(*given, pool=few, noise=0.3)
    np.testing.assert_allclose(near, exact, atol=0.5)
    assert np.corrcoef(near, exact)[0, 1] > 0.98


def test_the_pool_knows_its_functions_from_few_examples():
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((6, 8))
    w, x = pool[rng.integers(6, size=500)], rng.standard_normal((500, 4, 8))
    y = np.einsum("nid,nd->ni", x[:, :-1], w) + 0.1 * rng.standard_normal((500, 3))
    found = estimators.pool_posterior(x[:, :-1], y, x[:, -1], pool, 0.01)
    assert np.mean((found - np.einsum("nd,nd->n", w, x[:, -1])) ** 2) < 0.01


def test_the_posterior_of_a_process_is_the_best_of_all():
    task = GaussianProcess(d=1, examples=15, scale=0.3)
    best = error(lambda *p: estimators.gaussian_process(*p, scale=0.3, noise=0.01), task)
    other = error(lambda *p: estimators.gaussian_process(*p, scale=0.6, noise=0.01), task)
    assert best < other < error(estimators.nearest_neighbours, task) < 1


def test_one_gradient_step_on_uniform_points():
    d, n = 5, 20
    task = LinearRegression(d=d, examples=n, inputs=Uniform(1.0))

    def step(x, y, query):
        w = np.einsum("nid,ni->nd", x, y) / (n + d - 0.2) * 3
        return (w * query).sum(-1)

    assert error(step, task) == pytest.approx((d - 0.2) / (n + d - 0.2), rel=0.03)


def test_the_spectrum_of_the_points():
    for name, expected in (("k", [1, 2, 3, 4]), ("1/k", [1, 1 / 2, 1 / 3, 1 / 4])):
        x = prompts(LinearRegression(d=4, examples=6, inputs=Normal(name)))[0].reshape(-1, 4)
        expected = np.diag(expected) / np.sum(expected)
        np.testing.assert_allclose(x.T @ x / len(x), expected, atol=0.01)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_pool_holds_so_many_functions_and_tests_are_of_new_ones(split):
    task = LinearRegression(d=3, examples=4, pool=Pool(5))
    w = data.examples(task, split, 0, 200).latents["w"]
    assert len(np.unique(w, axis=0)) == (5 if split == "train" else 200)
    inside = np.asarray(in_jax(task, "train", 50).latents["w"])
    assert len(np.unique(np.concatenate([w, inside]), axis=0)) == (5 if split == "train" else 205)


def test_so_many_prompts_repeat():
    task = LinearRegression(d=2, examples=3, training=Finite(10))
    inputs = data.examples(task, "train", 0, 25).inputs
    np.testing.assert_array_equal(inputs[10:20], inputs[:10])
    np.testing.assert_array_equal(inputs[20:], inputs[:5])
    assert len(np.unique(inputs[:10], axis=0)) == 10
    inside = np.asarray(in_jax(task, "train", 25).inputs)
    np.testing.assert_array_equal(inside[20:], inside[:5])
    assert len(np.unique(data.examples(task, "test", 0, 25).inputs, axis=0)) == 25


def test_a_curriculum_masks_what_it_has_not_reached():
    grows = Curriculum(1000, dimensions=Growth(2, 1), points=Growth(3, 2))
    task = LinearRegression(d=5, examples=8, training=grows)
    batch = data.examples(task, "train", 0, 5000)
    for stage in range(5):
        part = slice(1000 * stage, 1000 * (stage + 1))
        coordinates = np.any(batch.inputs[part, :, :-1] != 0, (0, 1))
        assert coordinates.sum() == min(2 + stage, 5)
        steps = np.any(batch.mask[part] > 0, 0)
        assert steps.sum() == steps[: min(3 + 2 * stage, 9)].sum() == min(3 + 2 * stage, 9)
    assert np.all(data.examples(task, "test", 0, 5).inputs[..., -2] != 0)


def test_the_layouts_show_the_same_prompt():
    task = LinearRegression(d=3, examples=4, noise=0.1)
    numbers = raw(task, "test", 5)
    read, joint, turns = (
        replace(task, layout=layout).build(numbers, "test")
        for layout in (ReadBeforeWrite(), JointMasked(), Interleaved())
    )
    np.testing.assert_array_equal(joint.inputs[:, :-1], read.inputs[:, :-1])
    np.testing.assert_array_equal(joint.inputs[:, -1, :-1], read.inputs[:, -1, :-1])
    assert np.all(joint.inputs[:, -1, -1] == 0) and np.all(joint.mask == [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(turns.inputs[:, ::2, :-1], read.inputs[..., :-1])
    np.testing.assert_array_equal(turns.inputs[:, 1::2, -1], read.inputs[:, :-1, -1])
    assert np.all(turns.inputs[:, ::2, -1] == 0) and np.all(turns.inputs[:, 1::2, :-1] == 0)
    np.testing.assert_array_equal(turns.targets[:, ::2], read.targets)
    assert np.all(turns.mask == [1, 0] * 4 + [1]) and turns.inputs.shape == (5, 9, 4)
    for batch in (read, joint):
        np.testing.assert_array_equal(batch.targets[:, -1], read.targets[:, -1])


def test_sums_of_tokens_and_as_in_the_code_of_warp():
    plain = replace(MASKED, layout=ReadBeforeWrite()).build(raw(MASKED, "test", 30), "test")
    x, y = np.split(plain.inputs, [4], -1)
    tokens, legacy = (
        replace(MASKED, layout=layout).build(raw(MASKED, "test", 30), "test")
        for layout in (TokenSums(), LegacySums())
    )
    sums = np.array([sum(y[:, i] for i in range(n + 1)) for n in range(7)])[..., 0].T
    for n in range(7):
        np.testing.assert_allclose(tokens.inputs[:, n, :4], x[:, : n + 1].sum(1), atol=1e-5)
        np.testing.assert_allclose(tokens.inputs[:, n, 4], sums[:, min(n, 5)], atol=1e-5)
        keys = np.stack([x[:, n, : k + 1].sum(-1) for k in range(4)], -1)
        np.testing.assert_allclose(legacy.inputs[:, n, :4], keys, atol=1e-5)
    np.testing.assert_array_equal(tokens.targets[:, -1], plain.targets[:, -1])
    np.testing.assert_allclose(legacy.inputs[:, :-1, 4], sums[:, :-1], atol=1e-5)
    assert np.all(legacy.inputs[:, -1, 4] == 0)
    np.testing.assert_allclose(legacy.targets[:, :-1, 0], sums[:, :-1], atol=1e-5)
    asked = sums[:, -2] + plain.targets[:, -1, 0]
    np.testing.assert_allclose(legacy.targets[:, -1, 0], asked, atol=1e-5)


def test_carrying_the_sum_explains_all_but_1_over_N_of_it_and_nothing_of_the_query():
    task = LinearRegression(
        d=2, examples=15, layout=LegacySums(), inputs=Uniform(1.0), weights="uniform"
    )
    batch = task.build(raw(task, "test", 40_000), "test")
    carried, total = batch.inputs[:, -2, -1], batch.targets[:, -1, 0]
    wrong = np.mean((carried - total) ** 2)
    assert 1 - wrong / np.var(total) == pytest.approx(1 - 1 / 16, abs=0.002)
    assert wrong / task.power == pytest.approx(1, rel=0.03)
    w = batch.latents["w"]
    assert np.abs(w).max() <= 1 and np.var(w) == pytest.approx(1 / 3, rel=0.02)


@pytest.mark.parametrize("dummy", ["ones", "orthogonal"])
def test_outliers_carry_no_label_and_inliers_are_a_thinner_prompt(dummy):
    n, d, p = 12, 5, 0.5
    task = OutlierRegression(d=d, examples=n, outliers=p, dummy=dummy)
    numbers = raw(task, "test", 20_000)
    batch = task.build(numbers, "test")
    outlier, x = batch.latents["outlier"], batch.inputs[..., :-1]
    assert outlier[:, :-1].mean() == pytest.approx(p, abs=0.01) and not outlier[:, -1].any()
    w = batch.latents["w"]
    if dummy == "ones":
        assert np.all(x[outlier] == 1)
    else:
        assert np.abs(np.einsum("ntd,nd->nt", x, w)[outlier]).max() < 1e-3
        np.testing.assert_allclose((x[outlier] ** 2).sum(-1), d, rtol=1e-3)
    assert np.all(batch.inputs[outlier, -1] == 0)
    np.testing.assert_array_equal(batch.mask, ~outlier)
    plain = LinearRegression(d=d, examples=n).build(numbers, "test")
    np.testing.assert_array_equal(batch.inputs[~outlier], plain.inputs[~outlier])
    # min-norm least squares on Binomial(n, 1 - p) examples, max(0, 1 - k / d) each
    kept, y = inliers(task, batch)[:, :-1], batch.inputs[:, :-1, -1].astype(float)
    found = estimators.least_squares(kept, y, x[:, -1].astype(float))
    k = np.arange(n + 1)
    expected = (scipy.stats.binom.pmf(k, n, 1 - p) * np.maximum(0, 1 - k / d)).sum()
    error = np.mean((found - batch.targets[:, -1, 0]) ** 2) / d
    assert error == pytest.approx(expected, rel=0.06)


def test_outliers_are_not_asked_for_in_training_either():
    grows = Curriculum(20, Growth(3, 1), Growth(4, 2))
    task = OutlierRegression(d=3, examples=8, training=grows)
    numbers = raw(task, "train", 40)
    batch = task.build(numbers, "train")
    points = np.where(np.arange(40) < 20, 4, 6)[:, None]
    expected = ~batch.latents["outlier"] & (np.arange(9) < points)
    np.testing.assert_array_equal(batch.mask, expected)
    assert task.steps("train") == "all"
    masked = replace(task, layout=JointMasked(), training=replace(grows, points=None))
    assert masked.steps("train") == "last"
    assert np.all(masked.build(numbers, "train").mask.argmax(1) == 8)


@pytest.mark.parametrize("shift", SHIFTS)
def test_every_shift_builds_alike_in_numpy_and_jax(shift):
    task = LinearRegression(d=4, examples=7, shift=shift)
    numbers = raw(task, "test", 8)
    ours, theirs = task.build(numbers, "test"), built_by_jax(task, numbers)
    np.testing.assert_allclose(ours.inputs, theirs.inputs, atol=1e-4)
    changed = ours.inputs != replace(task, shift="none").build(numbers, "test").inputs
    assert changed.any() == (shift != "none")
    if SHIFTS[shift].query and shift != "query orthogonal":
        assert not changed[:, :-1].any()


def points(shift, d=4, n=7):
    return prompts(LinearRegression(d=d, examples=n, shift=shift))[0]


def test_shifts_do_what_they_say():
    x = points("skewed").reshape(-1, 4)
    assert np.mean(x**2) == pytest.approx(1, rel=0.03)
    half = points("half subspace")
    assert np.all(np.linalg.matrix_rank(half[:50], tol=1e-3) == 2)
    assert np.mean(half**2) == pytest.approx(1, rel=0.03)
    for name in ("Laplace x", "exponential x"):
        x = points(name)
        assert np.mean(x**2) == pytest.approx(1, rel=0.03) and abs(np.mean(x)) < 0.02
    x = points("query orthogonal")
    assert np.abs(np.einsum("nid,nd->ni", x[:, :-1], x[:, -1])).max() < 1e-4
    assert np.all(np.linalg.norm(x[:, -1], axis=1) > 0)
    x = points("query seen")
    np.testing.assert_array_equal(x[:, -1], x[:, 0])
    x = points("query in the opposite orthant")
    assert np.all(np.sign(x[:, :1]) == np.sign(x[:, 1:-1]))
    assert np.all(np.sign(x[:, -1]) == -np.sign(x[:, 0]))
    assert np.mean(points("3 x") ** 2) == pytest.approx(9, rel=0.03)
    task = LinearRegression(d=4, examples=8, shift="another function until the middle")
    x, y, target, _ = prompts(task, 200)
    fitted = estimators.least_squares(x[:, 4:-1], y[:, 4:-1], x[:, -1])
    np.testing.assert_allclose(fitted, target, atol=1e-3, rtol=1e-2)
    assert np.mean((estimators.least_squares(x[:, :4], y[:, :4], x[:, -1]) - target) ** 2) > 1


def test_a_tree_splits_by_the_sign_of_its_coordinates():
    task = DecisionTree(d=3, examples=40, depth=2)
    batch = task.build(raw(task, "test", 20), "test")
    for x, y, coordinate, leaf in zip(
        batch.inputs[..., :-1], batch.targets[..., 0], batch.latents["coordinate"],
        batch.latents["leaf"], strict=True,
    ):  # fmt: skip
        for point, value in zip(x, y, strict=True):
            first = int(point[coordinate[0]] > 0)
            second = int(point[coordinate[1 + first]] > 0)
            assert value == leaf[2 * first + second]
    used = data.examples(DecisionTree(d=3), "test", 0, 300).latents["coordinate"]
    assert set(np.unique(used)) == {0, 1, 2}


def test_the_processes_have_their_kernel():
    task = GaussianProcess(d=1, examples=6, scale=0.5)
    batch = task.build(raw(task, "test", 40_000), "test")
    x, y = batch.inputs[..., 0], batch.targets[..., 0]
    expected = np.exp(-((x[:, 0] - x[:, 1]) ** 2) / 0.5)
    assert np.mean(y[:, 0] * y[:, 1]) == pytest.approx(np.mean(expected), rel=0.03)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: LinearRegression(sparse=9), "within 1 and d = 5"),
        (lambda: Normal("red"), "Normal.spectrum 'red' is unknown"),
        (lambda: Uniform(0.0), "bound must be above 0"),
        (lambda: Pool(0), "sizes of at least 1, got size 0"),
        (lambda: Finite(0), "sizes of at least 1, got prompts 0"),
        (lambda: Growth(0), "sizes of at least 1, got start 0"),
        (lambda: Curriculum(0), "sizes of at least 1, got every 0"),
        (lambda: Sinusoid(d=2), "d must be 1"),
        (lambda: Parity(d=3, k=4), "within 1 and d = 3"),
        (lambda: GaussianProcess(scale=0.0), "scale must be above 0"),
        (lambda: DecisionTree(depth=0), "depth must be at least 1"),
        (
            lambda: LinearRegression(layout="joint_masked"),
            "layout must be PromptLayout, got 'joint",
        ),
        (lambda: LinearRegression(layout=Growth()), "layout must be PromptLayout, got Growth"),
        (lambda: ReadBeforeWrite("some"), "train_on 'some' is unknown"),
        (lambda: OutlierRegression(outliers=1.0), "between 0 and 1"),
        (lambda: OutlierRegression(d=1, dummy="orthogonal"), "raise d"),
        (lambda: OutlierRegression(layout=Interleaved("any")), "train_on longest or all"),
        (lambda: ReluNetwork(hidden=0), "hidden must be at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, cure, unchecked):
    with pytest.raises(ValueError, match=cure):
        make()
