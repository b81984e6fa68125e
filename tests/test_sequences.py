"""Systems, recall and few-shot classes: their laws, and what classical algorithms reach on them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx
from test_prompts import built_by_jax, raw

from wsrnn import estimators
from wsrnn.errors import UserError
from wsrnn.evaluations.sequences import Recall, StepScores, baselines, sums
from wsrnn.models import Model
from wsrnn.models.warp import WarpConfig
from wsrnn.recurrence import Identity
from wsrnn.root import Mlp
from wsrnn.step import measure
from wsrnn.tasks.check import check_examples
from wsrnn.tasks.classes import BurstyClasses, NewClasses
from wsrnn.tasks.drawn import choose
from wsrnn.tasks.dynamics import LinearSystem
from wsrnn.tasks.recall import Mqar, VectorRecall

TASKS = {
    "system": LinearSystem(d=4, length=6),
    "partly seen": LinearSystem(d=4, length=6, observed=2, radius=0.9, pairs=True),
    "queries": VectorRecall(d=4, d_value=3, pairs=5, queries=3, noise=0.1, masked=True),
    "answers shown": VectorRecall(d=4, d_value=3, pairs=5, masked=False),
    "mqar": Mqar(vocabulary=32, length=20, pairs=3, channels=16),
    "new classes": NewClasses(d=3, examples=6, classes=4),
    "bursty": BurstyClasses(d=3, examples=6, classes=12, labels=4, burstiness=2, alpha=1.0),
    "in weights": BurstyClasses(d=3, examples=6, classes=12, labels=4, burstiness=0),
}
tasks = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())


@tasks
def test_numpy_and_jax_build_the_same_as_promised(task):
    for split in ("train", "test"):
        check_examples(task, split, 0)
    numbers = raw(task, "test", 8)
    ours, theirs = task.build(numbers, "test"), built_by_jax(task, numbers)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    for leaf in ours[:2] + ours[3:4]:
        assert leaf.dtype == np.float32
    scored = (ours.mask > 0).sum(1)
    assert (scored == 1).all() == (task.steps("test") == "last") and scored.min() > 0


def drawn(task, count, split="test"):
    return task.build(raw(task, split, count), split)


def score(task, count=2000):
    """Every rival's score over all scored steps."""
    batch = drawn(task, count)
    totals = {name: sums(predicted, batch) for name, predicted in baselines(task, batch).items()}
    return {name: above.sum() / below.sum() for name, (above, below) in totals.items()}


def test_systems_follow_their_equation_and_W_is_haar():
    batch = drawn(LinearSystem(d=3, length=9, noise=0.04), 20_000)
    W, s = batch.latents["W"].astype(np.float64), batch.inputs.astype(np.float64)
    np.testing.assert_allclose(W @ np.swapaxes(W, 1, 2) - np.eye(3), 0, atol=1e-5)
    np.testing.assert_allclose(batch.targets, np.einsum("nde,nte->ntd", W, s), atol=1e-5)
    eps = s[:, 1:] - batch.targets[:, :-1]
    assert np.var(eps) == pytest.approx(0.04, rel=0.02)
    # moments of the Haar measure on O(3): E tr W = 0, E (tr W)^2 = 1, E (tr W)^4 = 3 + ..
    trace = np.trace(W, axis1=1, axis2=2)
    assert abs(trace.mean()) < 4 / 20_000**0.5
    assert np.mean(trace**2) == pytest.approx(1, rel=0.05)
    # a rotation about a uniform angle and axis has trace 1 + 2 cos(angle), density 1 - cos
    turned = trace[np.linalg.det(W) > 0]
    assert turned.size == pytest.approx(10_000, rel=0.04)
    angle = np.arccos(np.clip((turned - 1) / 2, -1, 1))
    law = scipy.stats.kstest(angle, lambda a: (a - np.sin(a)) / np.pi)
    assert law.pvalue > 1e-3
    damped = drawn(LinearSystem(d=3, length=9, noise=0.0, radius=0.5), 50)
    sizes = np.linalg.norm(damped.inputs, axis=-1)
    np.testing.assert_allclose(sizes[:, 1:] / sizes[:, :-1], 0.5, rtol=1e-4)


def test_a_pair_holds_the_next_state_and_is_scored_on_it_without_its_noise():
    states, pairs = (drawn(LinearSystem(d=3, length=9, pairs=pairs), 4) for pairs in (False, True))
    np.testing.assert_array_equal(pairs.inputs[..., :3], states.inputs)
    np.testing.assert_array_equal(pairs.inputs[:, :-1, 3:], states.inputs[:, 1:])
    np.testing.assert_array_equal(pairs.targets, states.targets)


def test_without_noise_a_system_is_known_after_d_steps():
    task = LinearSystem(d=4, length=9, noise=0.0)
    batch = drawn(task, 300)
    rows = baselines(task, batch)
    errors = {name: np.divide(*sums(predicted, batch)) for name, predicted in rows.items()}
    assert np.all(errors["least squares"][:4] > 0.05)
    np.testing.assert_allclose(errors["least squares"][5:], 0, atol=1e-4)
    np.testing.assert_allclose(errors["Kalman filter that knows W"], 0, atol=1e-6)
    np.testing.assert_allclose(errors["zero"], 1)


def test_ridge_with_its_penalty_is_better_than_least_squares_and_others_on_systems():
    """Entries of W have the variance 1 / d, so that d times the noise is the penalty."""
    task = LinearSystem(d=5, length=16, noise=0.1)
    found = score(task)
    assert found["Kalman filter that knows W"] < 1e-10
    assert found["ridge (0.5)"] < 0.7 * found["least squares"] and found["ridge (0.5)"] < 1
    batch = drawn(task, 2000)
    s = batch.inputs.astype(np.float64)
    for penalty in (0.05, 5.0):
        worse = estimators.ridge(s[:, :10], s[:, 1:11], s[:, 10], penalty)
        best = estimators.ridge(s[:, :10], s[:, 1:11], s[:, 10], 0.5)
        worse, best = (np.mean((p - batch.targets[:, 10]) ** 2) for p in (worse, best))
        assert best < worse


def test_the_kalman_filter_is_the_conditional_mean():
    """Against conditioning the joint normal law of all states, three steps of two of four seen."""
    T, d, m, noise = 3, 4, 2, 0.3
    batch = drawn(LinearSystem(d=d, length=T, observed=m, noise=noise, radius=0.9), 3)
    for W, seen in zip(batch.latents["W"].astype(float), batch.inputs.astype(float), strict=True):
        # s_t = W^t s_0 + sum_i W^(t-i) eps_i, as a matrix on (s_0, eps_1 .. eps_T)
        power = [np.linalg.matrix_power(W, k) for k in range(T + 1)]
        rows = [
            np.concatenate([power[t], *(power[t - i] * (i <= t) for i in range(1, T + 1))], 1)
            for t in range(T + 1)
        ]  # fmt: skip
        M, V = np.stack(rows), np.diag(np.r_[np.ones(d), noise * np.ones(T * d)])
        found = estimators.kalman(W[None], seen[None], noise)[0]
        for t in range(T):
            known, next_ = M[: t + 1, :m].reshape(-1, M.shape[-1]), M[t + 1, :m]
            gain = next_ @ V @ known.T @ np.linalg.inv(known @ V @ known.T)
            np.testing.assert_allclose(found[t], gain @ seen[: t + 1].ravel(), atol=1e-6)


@pytest.mark.parametrize("pairs", [5, 20])
def test_closed_forms_of_recall(pairs):
    d = 10
    found = score(VectorRecall(d=d, d_value=4, pairs=pairs, queries=2), 3000)
    assert found["nearest key"] < 1e-10
    assert found["pseudo-inverse"] == pytest.approx(max(0, 1 - d / pairs), rel=0.04, abs=1e-9)
    assert found["linear attention"] == pytest.approx((pairs - 1) / (pairs + d - 1), rel=0.04)


def test_vectors_lie_on_spheres_and_queries_are_keys():
    task = VectorRecall(d=6, d_value=3, pairs=4, queries=2, noise=0.25)
    batch = drawn(task, 4000)
    keys, values = np.split(batch.inputs[:, :4], [6], -1)
    np.testing.assert_allclose((keys**2).sum(-1), 6, rtol=1e-5)
    np.testing.assert_allclose((values**2).sum(-1), 3, rtol=1e-5)
    rows, asked = np.arange(4000)[:, None], batch.latents["asked"]
    np.testing.assert_array_equal(batch.targets[:, 4:], values[rows, asked])
    off = batch.inputs[:, 4:, :6] - keys[rows, asked]
    assert np.var(off) == pytest.approx(0.25, rel=0.03)
    assert np.all(batch.inputs[:, 4:, 6:] == 0) and np.all(batch.mask == [0, 0, 0, 0, 1, 1])
    shown = drawn(replace(task, masked=False), 20)
    np.testing.assert_array_equal(shown.inputs[..., 6:], shown.targets)


def test_mqar_asks_once_for_every_pair():
    task = Mqar(vocabulary=64, length=32, pairs=5, channels=24)
    batch = drawn(task, 300)
    tokens = batch.latents["tokens"]
    np.testing.assert_array_equal(batch.inputs, task.codes[tokens])
    assert np.all(np.abs(task.codes) == 1) and abs(task.codes.mean()) < 0.1
    for row, targets, mask in zip(tokens, batch.targets, batch.mask > 0, strict=True):
        keys, values = row[0:10:2], row[1:10:2]
        assert len({*keys}) == len({*values}) == 5 and keys.max() < 32 <= values.min()
        assert sorted(row[mask]) == sorted(keys) and not mask[:10].any()
        assert np.all(np.flatnonzero(mask) % 2 == 0)
        lookup = dict(zip(keys, values, strict=True))
        assert [lookup[key] for key in row[mask]] == targets[mask].tolist()
    found = score(task)
    assert found["lookup"] == 1
    assert found["always the first value"] == pytest.approx(1 / 5)
    # of one pair the gap follows the power law itself
    one = drawn(Mqar(vocabulary=16, length=10, pairs=1, channels=8, power=0.5), 20_000)
    gaps = np.bincount((one.mask.argmax(1) - 2) // 2, minlength=4) / 20_000
    p = np.arange(1, 5) ** -0.5
    np.testing.assert_allclose(gaps, p / p.sum(), atol=0.015)


def test_choosing_without_replacement_follows_its_odds():
    p = np.array([0.5, 0.3, 0.2])
    uniform = np.random.default_rng(0).random((40_000, 3), np.float32)
    first, second = choose(np.log(p), uniform, 2, np).T
    assert np.all(first != second)
    np.testing.assert_allclose(np.bincount(first) / 40_000, p, atol=0.01)
    after = np.bincount(second[first == 0], minlength=3) / np.sum(first == 0)
    np.testing.assert_allclose(after, [0, 0.6, 0.4], atol=0.01)


def test_the_nearest_mean_reaches_the_accuracy_of_known_means():
    """Two known clouds of distance D are told apart with the probability Phi(D / 2)."""
    task = NewClasses(d=2, examples=300, classes=2, masked=True)
    means = 2 * np.random.default_rng(0).random((100_000, 2, 2)) - 1
    distance = np.linalg.norm(means[:, 0] - means[:, 1], axis=-1)
    expected = scipy.stats.norm.cdf(distance / 2).mean()
    found = score(task, 3000)
    assert found["nearest class mean"] == pytest.approx(expected, abs=0.025)
    assert found["nearest example"] < found["nearest class mean"] - 0.02


def test_without_examples_a_class_is_a_guess_and_with_many_it_is_known():
    task = NewClasses(d=16, examples=40, classes=4)
    batch = drawn(task, 1000)
    accuracy = np.divide(*sums(baselines(task, batch)["nearest class mean"], batch))
    assert accuracy[0] == pytest.approx(1 / 4, abs=0.05) and accuracy[40] > 0.7
    assert np.all(batch.inputs[..., 16:].sum(-1) == 1)
    np.testing.assert_array_equal(batch.inputs[..., 16:].argmax(-1), batch.targets)


def test_bursty_prompts_hold_the_class_of_the_query():
    task = BurstyClasses(d=64, examples=8, classes=16, labels=16, burstiness=4, eps=0.1)
    train, test = drawn(task, 500, "train"), drawn(task, 500)
    for batch in (train, test):
        labels, query = batch.targets[:, :-1], batch.targets[:, -1]
        assert np.all((labels == query[:, None]).sum(1) == 4)
        x = batch.inputs[..., :64]
        assert np.mean((x**2).sum(-1)) == pytest.approx(1, rel=0.15)
    assert score(task, 500)["nearest class mean"] > 0.99
    # in training every label stands for one cloud, in tests for another in every prompt
    for batch, same in ((train, True), (test, False)):
        points = batch.inputs[batch.targets == 3, :64]
        assert (np.linalg.norm(points - points.mean(0), axis=1).max() < 0.3) == same


def test_zipf_and_in_weight_prompts():
    task = BurstyClasses(d=3, examples=6, classes=8, labels=8, burstiness=0, alpha=1.0)
    batch = drawn(task, 4000, "train")
    p = 1 / np.arange(1, 9)
    counts = np.sort(np.bincount(batch.targets.ravel()) / batch.targets.size)[::-1]
    np.testing.assert_allclose(counts, p / p.sum(), atol=0.015)


class Known(Model):
    """Answers the same whatever it is shown."""

    def __init__(self, outputs):
        self.outputs = outputs

    def __call__(self, inputs, times):
        return jnp.broadcast_to(jnp.asarray(self.outputs), (*times.shape, len(self.outputs)))


def test_scores_of_a_model_that_always_says_the_same():
    task = LinearSystem(d=3, length=8)
    result = StepScores(sequences=50, steps=(0, 7))(Known((0.0,) * 3), task, 0)
    assert result.rows["this model"] == pytest.approx([1, 1]) == result.rows["zero"]
    classes = BurstyClasses(d=3, examples=6, classes=12, labels=4, burstiness=2)
    result = StepScores(sequences=2000, steps=(6,))(Known((0.0, 1.0, 0.0, 0.0)), classes, 0)
    assert result.columns == ["t=6", "in weights"]
    assert result.rows["this model"] == pytest.approx([0.25, 0.25], abs=0.05)
    assert result.rows["nearest class mean"][1] == 0  # whose label no example has
    recall = Recall(sequences=40, pairs=(2, 8))(
        Known((0.0,) * 32), Mqar(vocabulary=32, length=20, pairs=3, channels=16), 0
    )
    assert recall.rows["this model"] == [0, 0] and recall.rows["lookup"] == [1, 1]
    assert recall.rows["always the first value"] == pytest.approx([1 / 2, 1 / 8])


class Linear(Model):
    """Logits that are a fixed linear map of the token."""

    def __init__(self, d_in, d_out):
        self.W = np.random.default_rng(0).standard_normal((d_in, d_out), np.float32)

    def __call__(self, inputs, times, *, steps="all"):
        y = jnp.asarray(inputs) @ self.W
        return y if isinstance(steps, str) else y[jnp.arange(len(y)), steps]


@pytest.mark.parametrize("name", ["mqar", "new classes", "bursty"])
def test_classes_are_scored_where_the_mask_says(name):
    """The loss is that of a plain loop over the scored steps."""
    task = TASKS[name]
    batch = jax.tree.map(jnp.asarray, drawn(task, 8, "train")._replace(latents={}))
    model = Linear(task.d_in, task.d_out)
    total, measures = measure(model, batch, task.loss, task.steps("train"))
    logits = np.asarray(batch.inputs, np.float64) @ model.W
    logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses, right = [], []
    for n, t in np.argwhere(np.asarray(batch.mask) > 0):
        losses.append(-logits[n, t, batch.targets[n, t]])
        right.append(logits[n, t].argmax() == batch.targets[n, t])
    assert total == pytest.approx(np.sum(losses), rel=1e-4)
    assert measures["accuracy"].value == pytest.approx(np.mean(right), abs=1e-6)
    assert measures["loss"].count == len(losses)


def test_a_class_for_the_sequence_is_not_one_at_every_step():
    class Single(NewClasses):
        def build(self, raw, split, xp=np):
            batch = super().build(raw, split, xp)
            return batch._replace(targets=batch.targets[:, -1])

    check_examples(Single(masked=True), "test", 0)  # where one step is read
    with pytest.raises(UserError, match=r"targets \[\].*promise \[33\]"):
        check_examples(Single(), "test", 0)


def test_a_warp_folds_over_classes_at_every_step():
    """`Model.total`, a few sequences at a time, gives what the outputs of all give."""
    task = TASKS["mqar"]
    batch = jax.tree.map(jnp.asarray, drawn(task, 8)._replace(latents={}))
    config = WarpConfig(
        root=Mlp(width=2, depth=1), transition=Identity(), drive="value", mode="conv"
    )
    model = config.build(task.d_in, task.d_out, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(model)

    def loss(params, read):
        return read(nnx.merge(graphdef, params))

    def folded(model):
        return measure(model, batch, "cross_entropy", "all")[0]

    def plain(model):
        log_p = jax.nn.log_softmax(model(batch.inputs, batch.times))
        picked = jnp.take_along_axis(log_p, batch.targets[..., None], -1)[..., 0]
        return -(picked * batch.mask).sum()

    ours, theirs = (
        jax.jit(jax.value_and_grad(partial(loss, read=read)))(params) for read in (folded, plain)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: LinearSystem(length=0), "length of at least 1"),
        (lambda: LinearSystem(radius=0.0), "radius must be above 0"),
        (lambda: LinearSystem(d=3, observed=4), "within 1 and d = 3"),
        (lambda: VectorRecall(pairs=0), "at least 1"),
        (lambda: Mqar(length=8, pairs=3), "a quarter of the length 8"),
        (lambda: Mqar(vocabulary=5), "even and hold"),
        (lambda: Mqar(vocabulary=64, channels=5), "raise channels"),
        (lambda: Mqar(power=0.0), "power must be above 0"),
        (lambda: NewClasses(classes=1), "at least 2"),
        (lambda: NewClasses(examples=0), "examples of at least 1"),
        (lambda: BurstyClasses(labels=5), "divide the 128 classes"),
        (lambda: BurstyClasses(burstiness=3), "divide the 8 examples"),
        (lambda: BurstyClasses(classes=4, labels=4), "raise classes"),
        (lambda: BurstyClasses(eps=-1.0), "alpha and eps"),
        (lambda: StepScores(steps=(9,)).check(NewClasses(examples=4), None), "within 0 and 4"),
        (lambda: StepScores(steps=(1,)).check(BurstyClasses(), None), "within 8 and 8"),
        (lambda: StepScores().check(Mqar(), None), "not Mqar"),
        (lambda: Recall(pairs=()), "not empty"),
        (lambda: Recall().check(NewClasses(), None), "not NewClasses"),
    ],
)
def test_what_makes_no_sense_is_refused(make, cure, unchecked):
    with pytest.raises(ValueError, match=cure):
        make()
