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
from wsrnn.models.warp import (
    LIFTS,
    Bilinear,
    LowRankLift,
    Matrix,
    MlpLift,
    Outer,
    Query,
    WarpConfig,
    summing,
)
from wsrnn.models.warp.selective import DeltaWarpConfig
from wsrnn.models.warp.stack import StackConfig
from wsrnn.models.warp.textbook import TextbookConfig
from wsrnn.recurrence import Diagonal, Rotation
from wsrnn.root import ConjugateGradients, Descent, Gated, Linear, Mlp, Network, Residual
from wsrnn.tasks.regression import LinearRegression

MLP = Mlp(width=3, depth=1, activation="tanh")
PLAIN = summing(MLP, None, write=Matrix(), mode="auto")
BUILT_IN = summing(Descent(steps=3), Bilinear(), mode="auto")
SMALL_B = Matrix(scale=0.2)
LEARNERS = {
    "descent": BUILT_IN,
    "conjugate gradients": replace(BUILT_IN, root=ConjugateGradients(steps=3)),
    "conjugate gradients, diagonal": replace(
        BUILT_IN, root=ConjugateGradients(steps=3), transition=Diagonal(start="decay")
    ),
    "descent, learned B": replace(BUILT_IN, write=Matrix(scale=0.1)),
    "residual": replace(
        PLAIN, root=Residual(3, 2, "tanh"), lift=LowRankLift(size=5), write=SMALL_B
    ),
    "looped": summing(Residual(4, 1, "tanh", repeats=3), Outer(size=4), mode="auto"),
    "gated": replace(PLAIN, root=Gated(3, 1, "tanh"), write=SMALL_B),
    "low rank": replace(PLAIN, lift=LowRankLift(size=5), write=SMALL_B),
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
    y = Network(ConjugateGradients(d), d, O).apply(packed(S, s), jnp.asarray(z))
    w = np.linalg.solve(S, np.swapaxes(s, 1, 2))
    close(y, np.einsum("nio,in->on", w, z), 1e-9)
    more = Network(ConjugateGradients(d + 5), d, O).apply(packed(S, s), jnp.asarray(z))
    close(more, y, 1e-9)  # what follows after the solution is no 0 / 0


def test_layers_of_a_descent_root_are_steps_of_gradient_descent(x64):
    S, s = sums(4, 2, 6)
    z, steps = normal(5, 4, 6), normal(6, 6, 3) ** 2
    y = Network(Descent(3), 4, 2).apply(packed(S, s, steps), jnp.asarray(z))
    for n in range(6):
        w = np.zeros((2, 4))
        for rate in steps[n]:
            w += rate * (s[n] - w @ S[n]) / np.linalg.norm(S[n])
        close(y[:, n], w @ z[:, n], 1e-10)


def test_steps_below_2_converge_for_every_prompt(x64):
    """Short prompts and other scales: the error never grows with the steps."""
    count, d = 200, 5
    x = normal(0, count, 12, d) * 3.0 ** np.linspace(-2, 2, count)[:, None, None]
    solve = jax.jit(Network(Descent(12), d, 1).apply)
    for n in (1, 3, 12):
        S = np.einsum("nti,ntj->nij", x[:, :n], x[:, :n]) + 0.25 * np.eye(d)
        w = normal(1, count, 1, d)
        theta = packed(S, w @ S, np.full((count, 12), 1.9))
        found = [solve(theta, jnp.tile(jnp.asarray(e)[:, None], (1, count))) for e in np.eye(d)]
        off = np.stack(found, -1)[0] - w[:, 0]
        energy = np.einsum("ni,nij,nj->n", off, S, off)
        assert np.all(energy <= np.einsum("ni,nij,nj->n", w[:, 0], S, w[:, 0]) * (1 + 1e-9))


def test_the_start_of_least_squares_is_the_prior():
    for solver, count in ((Descent, 9), (ConjugateGradients, 1)):
        root = Network(solver(prior=0.5), 3, 2)
        drawn = root.init(jax.random.key(0))
        theta = np.asarray(root.initial(drawn))
        assert drawn.shape == (count,) and theta.shape == (root.size,)
        np.testing.assert_allclose(theta[:9].reshape(3, 3), 0.5 * np.eye(3), rtol=1e-6)
        np.testing.assert_array_equal(theta[9 : root.written], 0)


def test_a_gated_root_is_an_mlp_of_products(x64):
    mlp = Network(Mlp(4, 2, "tanh"), 2, 3)
    root, N = Network(Gated(4, 2, "tanh"), 2, 3), 5
    v, g = normal(0, mlp.size, N), normal(1, mlp.size, N)
    theta, z = jnp.asarray(np.concatenate([v, g])), jnp.asarray(normal(2, 2, N))
    close(root.apply(theta, z), mlp.apply(jnp.asarray(v / (1 + np.exp(-g))), z), 1e-12)
    start = root.initial(root.init(jax.random.key(0)))
    assert start.shape == (2 * mlp.size,)
    first = mlp.apply(jnp.tile(mlp.init(jax.random.key(0))[:, None], N), z)
    close(root.apply(jnp.tile(start[:, None], N), z), first, 1e-6)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_residual_root_adds_layers_of_unit_size(repeats, x64):
    root, N = Network(Residual(3, 2, "tanh", repeats), 2, 2), 4
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


@pytest.mark.parametrize("size", [3, 5])
def test_an_outer_product_is_written_whole(size):
    config = replace(LEARNERS["looped"], lift=Outer(size=size))
    with pytest.raises(ValueError, match=f"first 16 weights, and the lift has {size**2}"):
        config.build(4, 1, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "root", [Residual(3), Descent(), Mlp(5, 1, "tanh"), Gated(5, 1, "tanh"), Linear()], ids=str
)
def test_an_open_outer_product_fits_any_root(root):
    config = summing(root, Outer()).sized_for(4, 1, 0.0)
    model = config.build(4, 1, rngs=nnx.Rngs(0))
    assert model.channels == model.network.written <= config.lift.channels(4, 1)
    batch = data.examples(TASK, "test", 0, 3)
    slope = nnx.jit(nnx.grad(lambda model: jnp.sum(model(batch.inputs, batch.times) ** 2)))(model)
    for side in (slope.lift.left, slope.lift.right):  # every row and every column has a use
        assert np.all(side.bias[...] != 0)


def test_an_open_outer_product_is_refused_outside_an_experiment():
    for build in (Outer().build, DeltaWarpConfig(psi=Outer()).build):
        with pytest.raises(ValueError, match=r"Outer has a size of None, .* task: set it"):
            build(4, 1, rngs=nnx.Rngs(0))
    for size in (0, (2, 0)):
        with pytest.raises(ValueError, match="sizes of at least 1"):
            Outer(size)


def test_tokens_write_the_layers_of_a_residual_root_alone():
    model = LEARNERS["residual"].build(4, 1, rngs=nnx.Rngs(0))
    batch = data.examples(TASK, "test", 0, 3)
    theta = np.asarray(jax.jit(model.states)(batch.inputs, batch.times))
    moved = np.ptp(theta, axis=(0, 1)) > 0
    assert moved[: model.network.written].all() and not moved[model.network.written :].any()


@pytest.mark.parametrize("config", [Bilinear(), LowRankLift(size=7), Outer(size=7)])
def test_lifts_are_products_of_a_token_with_itself(config, x64):
    lift = config.build(5, 2, rngs=nnx.Rngs(0))
    token = normal(0, 4, 6, 5)
    lifted = lift(jnp.asarray(token))
    assert lifted.shape == (4, 6, config.channels(5, 2))
    if config == Bilinear():
        x, y = token[..., :3], token[..., 3:]
        outer = [np.einsum("nti,ntj->ntij", a, x).reshape(4, 6, -1) for a in (x, y)]
        close(lifted, np.concatenate([*outer, x, y], -1), 1e-12)
    else:
        left, right = (
            token @ np.asarray(m.kernel[...]) + np.asarray(m.bias[...])
            for m in (lift.left, lift.right)
        )
        if config == Outer(size=7):
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
    for mode in modes(type(config.transition).__name__):
        close(found(replace(config, mode=mode)), expected, 1e-9, mode)


def test_cg_is_ridge_for_every_prompt_and_scale():
    """Untrained, in float32, in convolution mode, from no example to 4 d of them."""
    for scale in ("none", "x / 3", "3 x"):
        task = LinearRegression(d=5, examples=20, noise=0.25, shift=scale)
        batch = data.examples(task, "test", 0, 2000)
        config = replace(BUILT_IN, root=ConjugateGradients(steps=5), mode="conv")
        model = config.build(6, 1, rngs=nnx.Rngs(0))
        outputs = np.asarray(jax.jit(model)(batch.inputs, batch.times))[..., 0]
        x, y = batch.inputs[..., :-1].astype(float), batch.inputs[..., -1].astype(float)
        for n in range(21):
            best = estimators.ridge(x[:, :n], y[:, :n], x[:, n], 0.25)
            error, least = (
                np.mean((p - batch.targets[:, n, 0]) ** 2) for p in (outputs[:, n], best)
            )
            assert error <= 1.01 * least, (scale, n)


@pytest.mark.parametrize("lift", LIFTS)
def test_every_lift_has_the_channels_that_it_names(lift):
    config = lift(size=3) if lift is Outer else lift()
    lifted = jax.eval_shape(lambda: config.build(5, 2, rngs=nnx.Rngs(0))(jnp.ones((3, 4, 5))))
    assert lifted.shape == (3, 4, config.channels(5, 2))


@pytest.mark.parametrize("solver", [Descent, ConjugateGradients])
def test_a_solver_needs_a_prior(solver):
    with pytest.raises(ValueError, match="prior must be above 0"):
        solver(prior=0.0)


def test_lifts_and_writes_that_do_not_fit_the_task_are_refused():
    with pytest.raises(ValueError, match="leaves no x"):
        replace(PLAIN, layout="standard", lift=Bilinear()).build(1, 1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="and the lift has 4"):
        replace(BUILT_IN, lift=None).build(4, 1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="and the lift has 13"):  # of which one would do nothing
        config = replace(BUILT_IN, lift=LowRankLift(size=13))
        config.build(4, 1, rngs=nnx.Rngs(0))


def test_a_root_corrected_by_the_delta_rule_starts_as_normalised_least_mean_squares():
    batch = data.examples(TASK, "test", 0, 8)
    model = DeltaWarpConfig(gated=False).build(TASK.d_in, 1, rngs=nnx.Rngs(0))
    y = jax.jit(model)(batch.inputs, batch.times)[..., 0]
    x, labels = batch.inputs[..., :-1].astype(float), batch.inputs[..., -1].astype(float)
    for n in (0, 1, 7, 12):
        close(y[:, n], estimators.normalised_lms(x[:, :n], labels[:, :n], x[:, n]), 1e-4)


BELOW = WarpConfig(
    root=MLP,
    transition=Rotation(start="decay"),
    write=Matrix(scale=0.3),
    query=Query(time=False, inputs=True),
    mode="scan",
)
STACK = StackConfig(below=BELOW, layers=2, channels=4, last=replace(PLAIN, mode="scan"))


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
    tokens = np.asarray(inputs)
    for layer in model.below:
        plain = TextbookConfig(**vars(layer.config)).build(tokens.shape[2], 4, rngs=nnx.Rngs(0))
        nnx.update(plain, nnx.state(layer))
        tokens = np.asarray(jax.jit(plain)(jnp.asarray(tokens), times))
    last, B = model.last, np.asarray(model.last.B[...])
    theta = np.asarray(last.phi.theta[...]) + np.zeros((2, 1))
    for t in range(inputs.shape[1]):
        read = last.network.apply(jnp.asarray(theta.T), inputs[:, t, :-1].T)
        close(y[:, t], read.T, 1e-9)
        theta = theta + tokens[:, t] @ B.T


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
        ({"last": replace(PLAIN, mode="conv", lift=MlpLift())}, "set last.lift None"),
        ({"last": replace(PLAIN, mode="auto")}, "set below.mode and last.mode"),
    ],
)
def test_a_stack_that_cannot_work_is_refused_with_the_cure(changes, cure):
    with pytest.raises(ValueError, match=cure):
        replace(STACK, **changes)
