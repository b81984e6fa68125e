"""Learners in context: their roots against numpy, their executions against the plainest one."""

import dataclasses
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import close, modes

from wsrnn import bench, data, estimators
from wsrnn.experiment import Experiment
from wsrnn.models.lift import LiftConfig
from wsrnn.models.phi import PhiConfig
from wsrnn.models.selective import DeltaWarpConfig
from wsrnn.models.stack import StackConfig
from wsrnn.models.textbook import TextbookConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.root import Descent, Gated, Residual, RootNet
from wsrnn.tasks.regression import LinearRegression

SUMMING = {
    "drive": "value",
    "layout": "read_before_write",
    "transition": TransitionConfig("identity"),
    "read_time": False,
    "read_input": True,
}
PLAIN = WarpConfig(width=3, depth=1, activation="tanh", **SUMMING)
BUILT_IN = WarpConfig(
    root_form="tied",
    root_steps=3,
    lift=LiftConfig("bilinear"),
    write="identity",
    **SUMMING,
)
LEARNERS = {
    "tied": BUILT_IN,
    "cg": replace(BUILT_IN, root_form="cg"),
    "cg, diagonal": replace(
        BUILT_IN, root_form="cg", transition=TransitionConfig("diagonal", start="decay")
    ),
    "tied, learned B": replace(BUILT_IN, write="learned", input_scale=0.1),
    "residual": replace(
        PLAIN,
        root_form="residual",
        depth=2,
        lift=LiftConfig("low_rank", size=5),
        input_scale=0.2,
    ),
    "looped": replace(
        PLAIN,
        root_form="residual",
        root_repeats=3,
        lift=LiftConfig("outer", size=4),
        width=4,
        write="identity",
    ),
    "gated": replace(PLAIN, root_form="gated", input_scale=0.2),
    "low rank": replace(PLAIN, lift=LiftConfig("low_rank", size=5), input_scale=0.2),
}
TASK = LinearRegression(d=3, examples=12, noise=0.25)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def sums(d, O, N, seed=0):  # noqa: E741
    """S, positive definite, and s, of N least squares problems."""
    X, Y = normal(seed, N, 2 * d, d), normal(seed + 1, N, 2 * d, O)
    S = np.einsum("nti,ntj->nij", X, X) + 0.3 * np.eye(d)
    return S, np.einsum("nto,ntj->noj", Y, X)


def packed(S, s, *rest):
    parts = [S.reshape(len(S), -1), s.reshape(len(S), -1), *rest]
    return jnp.asarray(np.concatenate(parts, 1).T)


@pytest.mark.parametrize(("d", "O"), [(1, 1), (4, 1), (3, 2)])
def test_conjugate_gradients_solve_ridge_in_d_steps(d, O, x64):  # noqa: E741
    S, s = sums(d, O, 6)
    z = normal(5, d, 6)
    y = Descent(d, O, "cg", d).apply(packed(S, s), jnp.asarray(z))
    w = np.linalg.solve(S, np.swapaxes(s, 1, 2))
    close(y, np.einsum("nio,in->on", w, z), 1e-9)
    more = Descent(d, O, "cg", d + 5).apply(packed(S, s), jnp.asarray(z))
    close(more, y, 1e-9)  # what follows after the solution is no 0 / 0


def test_tied_layers_are_steps_of_gradient_descent(x64):
    S, s = sums(4, 2, 6)
    z, steps = normal(5, 4, 6), normal(6, 6, 3) ** 2
    y = Descent(4, 2, "tied", 3).apply(packed(S, s, steps), jnp.asarray(z))
    for n in range(6):
        w = np.zeros((2, 4))
        for rate in steps[n]:
            w += rate * (s[n] - w @ S[n]) / np.linalg.norm(S[n])
        close(y[:, n], w @ z[:, n], 1e-10)


def test_tied_steps_of_any_size_below_2_converge_for_every_prompt(x64):
    """Short prompts and other scales: the error never grows with the steps."""
    count, d = 200, 5
    x = normal(0, count, 12, d) * 3.0 ** np.linspace(-2, 2, count)[:, None, None]
    solve = jax.jit(Descent(d, 1, "tied", 12).apply)
    for n in (1, 3, 12):
        S = np.einsum("nti,ntj->nij", x[:, :n], x[:, :n]) + 0.25 * np.eye(d)
        w = normal(1, count, 1, d)
        theta = packed(S, w @ S, np.full((count, 12), 1.9))
        found = [solve(theta, jnp.tile(jnp.asarray(e)[:, None], (1, count))) for e in np.eye(d)]
        off = np.stack(found, -1)[0] - w[:, 0]
        energy = np.einsum("ni,nij,nj->n", off, S, off)
        assert np.all(energy <= np.einsum("ni,nij,nj->n", w[:, 0], S, w[:, 0]) * (1 + 1e-9))


def test_the_start_of_least_squares_is_the_prior():
    for method, numbers in (("tied", 9), ("cg", 1)):
        root = Descent(3, 2, method, prior=0.5)
        drawn = root.init(jax.random.key(0))
        theta = np.asarray(root.start(drawn))
        assert drawn.shape == (numbers,) and theta.shape == (root.size,)
        np.testing.assert_allclose(theta[:9].reshape(3, 3), 0.5 * np.eye(3), rtol=1e-6)
        np.testing.assert_array_equal(theta[9 : root.written], 0)


def test_a_gated_root_is_an_mlp_of_products(x64):
    mlp = RootNet(2, 4, 2, 3, "tanh")
    root, N = Gated(mlp), 5
    v, g = normal(0, mlp.size, N), normal(1, mlp.size, N)
    theta, z = jnp.asarray(np.concatenate([v, g])), jnp.asarray(normal(2, 2, N))
    close(root.apply(theta, z), mlp.apply(jnp.asarray(v / (1 + np.exp(-g))), z), 1e-12)
    start = root.start(root.init(jax.random.key(0)))
    assert start.shape == (2 * mlp.size,)
    close(root._weights(start[:, None])[:, 0], mlp.init(jax.random.key(0)), 1e-6)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_residual_root_adds_layers_of_unit_size(repeats, x64):
    root, N = Residual(2, 3, 2, 2, "tanh", repeats), 4
    theta, z = normal(0, root.size, N), normal(1, 2, N)
    y = root.apply(jnp.asarray(theta), jnp.asarray(z))
    for n in range(N):
        W, E, e, V, v, gains = np.split(theta[:, n], np.cumsum([18, 6, 3, 6, 2]))
        h = E.reshape(3, 2) @ z[:, n] + e
        for gain, layer in zip(gains, [*W.reshape(2, 3, 3)] * repeats, strict=True):
            h = h + gain * layer @ np.tanh(h) / np.linalg.norm(layer)
        close(y[:, n], V.reshape(2, 3) @ h + v, 1e-10)
    larger = theta * np.where(np.arange(root.size) < root.written, 7.0, 1.0)[:, None]
    close(root.apply(jnp.asarray(larger), jnp.asarray(z)), y, 1e-9)
    assert root.init(jax.random.key(0)).shape == (root.size,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bfloat16": True}, "set bfloat16 False"),
        ({"phi": PhiConfig(start="he")}, "phi.start uniform"),
        ({"phi": PhiConfig("impulse"), "layout": "standard"}, "without a read-out"),
        ({"depth": 0}, "at least 1"),
        ({"root_repeats": 0}, "repeats of at least 1"),
        ({"root_form": "mlp", "root_repeats": 2}, "makes no use of root_repeats: set"),
    ],
)
def test_what_a_residual_root_has_no_use_for_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(LEARNERS["residual"], **changes).build(4, 1, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("size", [3, 5])
def test_an_outer_product_is_written_whole(size):
    config = replace(LEARNERS["looped"], lift=LiftConfig("outer", size=size))
    with pytest.raises(ValueError, match=f"first 16 weights, and the lift has {size**2}"):
        config.build(4, 1, rngs=nnx.Rngs(0))


def test_tokens_write_the_layers_of_a_residual_root_alone():
    model = LEARNERS["residual"].build(4, 1, rngs=nnx.Rngs(0))
    batch = data.examples(TASK, "test", 0, 3)
    theta = np.asarray(model.states(batch.inputs, batch.times))
    moved = np.ptp(theta, axis=(0, 1)) > 0
    assert moved[: model.root.written].all() and not moved[model.root.written :].any()


@pytest.mark.parametrize(("form", "size"), [("bilinear", 48), ("low_rank", 7), ("outer", 7)])
def test_lifts_are_products_of_a_token_with_itself(form, size, x64):
    config = LiftConfig(form, size=size)
    lift = config.build(5, 2, rngs=nnx.Rngs(0))
    token = normal(0, 4, 6, 5)
    lifted = lift(jnp.asarray(token))
    assert lifted.shape == (4, 6, config.channels(5, 2))
    if form == "bilinear":
        x, y = token[..., :3], token[..., 3:]
        outer = [np.einsum("nti,ntj->ntij", a, x).reshape(4, 6, -1) for a in (x, y)]
        close(lifted, np.concatenate([*outer, x, y], -1), 1e-12)
    else:
        left, right = (
            token @ np.asarray(m.kernel[...]) + np.asarray(m.bias[...])
            for m in (lift.left, lift.right)
        )
        if form == "outer":
            close(lifted, np.einsum("nti,ntj->ntij", left, right).reshape(4, 6, -1), 1e-6)
        else:
            close(lifted, left * right, 1e-6)


def build(config):
    """A model in float64 with every parameter moved off its start."""
    graph, params = nnx.split(config.build(4, 1, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    moved = jax.tree.map(lambda p: jnp.asarray(p + 0.05 * rng.normal(size=p.shape)), params)
    return graph, moved


@pytest.mark.parametrize("name", LEARNERS)
def test_every_execution_of_every_learner_is_the_plainest_one(name, x64):
    config = LEARNERS[name]
    batch = data.examples(TASK, "test", 0, 4)
    inputs, times, targets = (jnp.asarray(a, jnp.float64) for a in batch[:3])
    _, params = build(config)

    def found(config):
        graph = nnx.graphdef(config.build(4, 1, rngs=nnx.Rngs(0)))

        def loss(params):
            model = nnx.merge(graph, params)
            y = model(inputs, times)
            total, _ = model.total(
                lambda y, t: (((y - t) ** 2).sum(), y.sum()), inputs, times, (targets,)
            )
            return total, y

        (value, y), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return value, y, nnx.as_pure(gradients)

    own = {f.name: getattr(config, f.name) for f in dataclasses.fields(WarpConfig)}
    expected = found(TextbookConfig(**own | {"mode": "scan"}))
    assert np.abs(expected[1]).max() > 1e-3
    for mode in modes(config.transition.form):
        close(found(replace(config, mode=mode)), expected, 1e-9, mode)


def test_cg_is_ridge_for_every_prompt_and_scale():
    """Untrained, in float32, in convolution mode, from no example to 4 d of them."""
    for scale in ("none", "x / 3", "3 x"):
        task = LinearRegression(d=5, examples=20, noise=0.25, shift=scale)
        batch = data.examples(task, "test", 0, 2000)
        config = replace(BUILT_IN, root_form="cg", root_steps=5, mode="conv")
        model = config.build(6, 1, rngs=nnx.Rngs(0))
        outputs = np.asarray(model(batch.inputs, batch.times))[..., 0]
        x, y = batch.inputs[..., :-1].astype(float), batch.inputs[..., -1].astype(float)
        for n in range(21):
            best = estimators.ridge(x[:, :n], y[:, :n], x[:, n], 0.25)
            error, least = (
                np.mean((p - batch.targets[:, n, 0]) ** 2) for p in (outputs[:, n], best)
            )
            assert error <= 1.01 * least, (scale, n)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root_form": "cg", "read_time": True}, "read_time False"),
        ({"bfloat16": True}, "bfloat16 False"),
        ({"width": 8, "depth": 2}, "set width 24, depth 3"),
        ({"lift": LiftConfig("mlp"), "root_priors": 3}, "set root_priors 8"),
        ({"root_steps": 0}, "at least 1 step"),
        ({"root_prior": 0.0}, "prior above 0"),
        ({"write": "identity", "input_scale": 0.1}, "draws nothing"),
    ],
)
def test_learners_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        replace(BUILT_IN, **options).build(4, 1, rngs=nnx.Rngs(0))


def test_lifts_refuse_sizes_that_they_do_not_have():
    for form in ("none", "bilinear", "moments"):
        with pytest.raises(ValueError, match="width, size: set width 64, size 48"):
            LiftConfig(form, width=8, size=8).build(4, 1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="LiftConfig with form outer makes no use of width: set"):
        LiftConfig("outer", width=8).build(4, 1, rngs=nnx.Rngs(0))


def test_lifts_and_writes_that_do_not_fit_the_task_are_refused():
    with pytest.raises(ValueError, match="leaves no x"):
        replace(PLAIN, layout="standard", lift=LiftConfig("bilinear")).build(1, 1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="and the lift has 4"):
        replace(BUILT_IN, lift=LiftConfig(), root_form="cg").build(4, 1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="and the lift has 13"):  # of which one would do nothing
        config = replace(BUILT_IN, lift=LiftConfig("low_rank", size=13))
        config.build(4, 1, rngs=nnx.Rngs(0))


def test_a_root_corrected_by_the_delta_rule_starts_as_normalised_least_mean_squares():
    batch = data.examples(TASK, "test", 0, 8)
    model = DeltaWarpConfig(gated=False).build(TASK.d_in, 1, rngs=nnx.Rngs(0))
    y = jax.jit(model)(batch.inputs, batch.times)[..., 0]
    x, labels = batch.inputs[..., :-1].astype(float), batch.inputs[..., -1].astype(float)
    for n in (0, 1, 7, 12):
        close(y[:, n], estimators.normalised_lms(x[:, :n], labels[:, :n], x[:, n]), 1e-4)


SAYING = WarpConfig(
    width=3,
    depth=1,
    activation="tanh",
    transition=TransitionConfig("rotation", "decay"),
    read_time=False,
    read_input=True,
    phi=PhiConfig("none"),
    input_scale=0.3,
    mode="scan",
)
STACK = StackConfig(below=SAYING, layers=2, channels=4, last=replace(PLAIN, mode="scan"))


def test_a_stack_is_its_layers_one_after_another_in_both_modes(x64):
    batch = data.examples(TASK, "test", 0, 2)
    inputs, times = jnp.asarray(batch.inputs, float), jnp.asarray(batch.times, float)

    def outputs(mode):
        config = replace(
            STACK, below=replace(STACK.below, mode=mode), last=replace(STACK.last, mode=mode)
        )
        graph, params = nnx.split(config.build(TASK.d_in, 1, rngs=nnx.Rngs(0)))
        params = jax.tree.map(lambda p: jnp.asarray(p, float) + 0.1 * jnp.cos(p), params)
        model = nnx.merge(graph, params)
        return model, jax.jit(model)(inputs, times)

    model, y = outputs("scan")
    close(outputs("conv")[1], y, 1e-9)
    told = np.asarray(inputs)
    for layer in model.below:
        plain = TextbookConfig(**vars(layer.config)).build(told.shape[2], 4, rngs=nnx.Rngs(0))
        nnx.update(plain, nnx.state(layer))
        told = np.asarray(jax.jit(plain)(jnp.asarray(told), times))
    last, B = model.last, np.asarray(model.last.B[...])
    theta = np.asarray(last.phi.theta[...]) + np.zeros((2, 1))
    for t in range(inputs.shape[1]):
        read = last.root.apply(jnp.asarray(theta.T), inputs[:, t, :-1].T)
        close(y[:, t], read.T, 1e-9)
        theta = theta + told[:, t] @ B.T


def test_a_stack_is_timed_beside_other_models():
    rows = {"stack": STACK, "plain": replace(PLAIN, mode="conv")}
    rows = {name: Experiment(task=TASK, model=model, batch_size=8) for name, model in rows.items()}
    timed = bench.measure(rows, 1)
    assert timed["stack"].operations > timed["plain"].operations > 0


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"layers": 0}, "use WarpConfig"),
        ({"below": PLAIN}, "set below.layout standard"),
        ({"last": replace(PLAIN, mode="conv", lift=LiftConfig("mlp"))}, "set last.lift.form none"),
        ({"last": replace(PLAIN, mode="auto")}, "set below.mode and last.mode"),
    ],
)
def test_a_stack_that_cannot_work_is_refused_with_the_cure(changes, cure):
    with pytest.raises(ValueError, match=cure):
        replace(STACK, **changes)
