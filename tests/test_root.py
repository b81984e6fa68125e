"""Root networks against an independent forward pass in numpy."""

import math
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import close

from wsrnn.root import (
    ACTIVATIONS,
    ROOTS,
    ConjugateGradients,
    Descent,
    Evidence,
    Formula,
    Linear,
    Mlp,
    Network,
    Residual,
    Root,
)

LAYERED = {"linear": Linear(), "one": Mlp(5, 1), "two": Mlp(4, 2, "tanh")}
layered = pytest.mark.parametrize("root", LAYERED.values(), ids=LAYERED)
EXAMPLES = [root() for root in ROOTS if root is not Residual] + [Residual(4, 2, "tanh", repeats=3)]
every_root = pytest.mark.parametrize("root", [*EXAMPLES, Formula(lambda o, z: o)])

FORMULAS = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "tanh": lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "sin": np.sin,
    "identity": lambda x: x,
}


def forward(theta, z, sizes, activation):
    """One network at one input: kernel [out, in] row-major, then bias, layer by layer."""
    theta, z = list(np.asarray(theta, np.float64)), np.asarray(z, np.float64)
    for layer, (i, o) in enumerate(pairwise(sizes)):
        rows = [[theta.pop(0) for _ in range(i)] for _ in range(o)]
        bias = [theta.pop(0) for _ in range(o)]
        z = np.array([np.dot(row, z) + b for row, b in zip(rows, bias, strict=True)])
        if layer < len(sizes) - 2:
            z = FORMULAS[activation](z)
    assert not theta
    return z


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def layers(network, key=0):
    """Kernel and bias of each layer at the start."""
    theta = network.init(jax.random.key(key))[:, None]
    root, d_in, d_out = network.root, network.d_in, network.d_out
    return [(kernel[..., 0], bias[..., 0]) for kernel, bias in root.unflatten(theta, d_in, d_out)]


def test_the_papers_root_network_has_1273_weights():
    assert Network(Mlp(24, 3), 1, 1).size == 1273


@pytest.mark.parametrize(("d_in", "d_out"), [(1, 1), (3, 2), (2, 4)])
@layered
def test_size_counts_what_init_draws_and_what_unflatten_uses(root, d_in, d_out):
    network = Network(root, d_in, d_out)
    assert network.init(jax.random.key(0)).shape == (network.size,)
    assert sum(part.size for layer in layers(network) for part in layer) == network.size


@every_root
def test_every_root_reads_a_theta_of_its_size_and_ignores_what_follows(root, x64):
    network = Network(root, 3, 1)
    theta = network.initial(network.init(jax.random.key(0)))
    assert theta.shape == (network.size,) == (sum(network.blocks),)
    assert 0 < network.written <= network.size
    assert network.operations > 0
    theta = theta + 0.1 * jnp.abs(normal(1, network.size))
    z = normal(2, 3, 7)
    theta = jnp.broadcast_to(theta[:, None], (network.size, 7))
    apply = jax.jit(network.apply)
    y = apply(theta, z)
    assert y.shape == (1, 7)
    padded = apply(jnp.pad(theta, ((0, 2), (0, 0)), constant_values=9.0), z)
    close(padded, y, 1e-12)


@every_root
def test_other_axes_of_every_root_are_a_batch_of_networks(root, x64):
    network = Network(root, 3, 1)
    start = network.initial(network.init(jax.random.key(0)))
    theta = jnp.abs(start[None, None, :, None] + 0.1 * normal(1, 2, 2, network.size, 3))
    z, apply = normal(2, 2, 2, 3, 3), jax.jit(network.apply)
    y = apply(theta, z)
    for *m, n in np.ndindex(2, 2, 3):
        one = apply(theta[*m, :, n, None], z[*m, :, n, None])
        close(y[*m, :, n], one[:, 0], 1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activations(activation, x64):
    x = jnp.linspace(-4, 4, 101)
    np.testing.assert_allclose(ACTIVATIONS[activation](x), FORMULAS[activation](x), atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(1, 1, 0, 1), (3, 5, 0, 2), (2, 4, 1, 3), (3, 4, 2, 2)])
def test_the_network_is_an_mlp_read_from_a_flat_vector(sizes, activation, x64):
    d_in, width, depth, d_out = sizes
    network = Network(Mlp(width, depth, activation) if depth else Linear(), d_in, d_out)
    theta, z = normal(1, network.size), normal(2, d_in)
    expected = forward(theta, z, [d_in, *[width] * depth, d_out], activation)
    y = network.apply(theta[:, None], z[:, None])[:, 0]
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("pad", "lead"), [(0, (2,)), (3, ())])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [0, 2])
def test_gradients_are_those_of_plain_sums(depth, activation, lead, pad, x64):
    network, N = Network(Mlp(5, depth, activation) if depth else Linear(), 2, 3), 7
    theta, z = normal(1, *lead, network.size + pad, N), normal(2, *lead, 2, N)

    def plain(theta, z):
        for layer, (kernel, bias) in enumerate(network.root.unflatten(theta, 2, 3)):
            z = jnp.einsum("...oin,...in->...on", kernel, z) + bias
            z = ACTIVATIONS[activation](z) if layer < depth else z
        return z

    expected, pull_plain = jax.vjp(plain, theta, z)
    y, pull = jax.vjp(network.apply, theta, z)
    g = normal(3, *y.shape)
    close(y, expected, 1e-12)
    close(pull(g), pull_plain(g), 1e-12)
    if pad:
        assert not np.any(pull(g)[0][..., network.size :, :])


def test_bfloat16_is_the_network_alone(x64):
    exact, rounded = (Network(Mlp(8, 2, "tanh", bfloat16=b), 2, 1) for b in (False, True))
    theta, z = normal(1, exact.size, 50), normal(2, 2, 50)
    y, pull = jax.vjp(rounded.apply, theta, z)
    assert y.dtype == theta.dtype
    error = np.abs(y - exact.apply(theta, z)).max()
    assert 1e-4 < error < 0.1
    dtheta, _ = pull(jnp.ones_like(y))
    assert dtheta.dtype == theta.dtype
    close(dtheta, jax.grad(lambda theta: exact.apply(theta, z).sum())(theta), 0.1)


def test_a_linear_root_is_linear(x64):
    network = Network(Linear(), 3, 2)
    theta, z, w = normal(1, network.size, 1), normal(2, 3, 1), normal(3, 3, 1)
    zero = network.apply(theta, jnp.zeros((3, 1)))
    np.testing.assert_allclose(
        network.apply(theta, z + 2 * w) - zero,
        (network.apply(theta, z) - zero) + 2 * (network.apply(theta, w) - zero),
        rtol=1e-10,
    )
    assert network.size == 3 * 2 + 2


def test_the_uniform_start_fills_its_bounds_in_every_layer():
    for kernel, bias in layers(Network(Mlp(100, 2), 4, 9)):
        bound = kernel.shape[1] ** -0.5
        for part in (kernel, bias):
            assert np.abs(part).max() <= bound
            assert np.std(part) == pytest.approx(bound / 3**0.5, rel=0.25)
        assert np.abs(kernel).max() > 0.95 * bound
        assert kernel.min() < -0.95 * bound


def test_the_he_start_has_zero_biases_and_variance_2_over_in():
    for kernel, bias in layers(Network(Mlp(200, 2, start="he"), 8, 50)):
        assert not np.any(bias)
        assert np.var(kernel) == pytest.approx(2 / kernel.shape[1], rel=0.1)
        assert abs(np.mean(kernel)) < 0.1 * np.std(kernel)


@pytest.mark.parametrize("start", ["uniform", "he"])
def test_layers_and_keys_are_drawn_independently(start):
    network = Network(Mlp(6, 2, start=start), 6, 6)
    one, two = (network.init(jax.random.key(k)) for k in (0, 1))
    assert np.abs(one - two).max() > 0.01
    (first, _), (second, _), *_ = layers(network)
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize(
    "build",
    [
        lambda: Network(Mlp(4, 1), 0, 1),
        lambda: Network(Mlp(4, 1), 1, 0),
        lambda: Mlp(width=0),
        lambda: Mlp(depth=0),
        lambda: Residual(width=0),
        lambda: Residual(width=4, repeats=0),
        lambda: Descent(steps=0),
        lambda: ConjugateGradients(steps=0),
        lambda: Evidence(priors=0),
        lambda: Formula(lambda o, z: o, outputs=0),
    ],
)
def test_sizes_that_make_no_network_are_refused(build):
    with pytest.raises(ValueError, match="at least 1"):
        build()


@pytest.mark.parametrize("root", [Mlp, Residual])
def test_an_unknown_activation_is_refused_with_the_nearest(root, unchecked):
    with pytest.raises(ValueError, match="activation 'gelu' is unknown: did you mean relu"):
        root(activation="gelu")


@every_root
def test_root_networks_are_static(root):
    assert hash(Network(root, 3, 1)) == hash(Network(root, 3, 1))
    assert Network(root, 3, 1) == Network(root, 3, 1) != Network(root, 4, 1)


# Formulas


def oscillation(o, z):
    """A damped oscillation over time from amplitude, rate, frequency and phase."""
    c, k, w, p = o
    return (c * jnp.exp(-jax.nn.softplus(k) * z[0]) * jnp.cos(w * z[0] + p))[None]


def test_a_formula_passes_on_what_its_inner_network_needs():
    for inner in (Descent(), Evidence(), Mlp()):
        for name in ("reads_query_alone", "reads_sums_of"):
            assert getattr(Formula(oscillation, inner), name) == getattr(inner, name)
    inner = Residual(repeats=None)
    sized = Formula(oscillation, inner.sized(3, 1, 0.25), outputs=4)
    assert Formula(oscillation, inner, outputs=4).sized(3, 1, 0.25) == sized


def test_a_formula_is_applied_to_the_inner_outputs_at_every_read(x64):
    inner = Mlp(width=3, depth=1, activation="tanh")
    network = Network(Formula(oscillation, inner=inner, outputs=4), 2, 1)
    plain = Network(inner, 2, 4)
    assert network.size == plain.size
    theta, z = normal(1, 3, network.size, 5), normal(2, 3, 2, 5)
    y, outputs = network.apply(theta, z), np.asarray(plain.apply(theta, z))
    for m, n in np.ndindex(3, 5):
        c, k, w, p = outputs[m, :, n]
        tau = z[m, 0, n]
        expected = c * np.exp(-np.log1p(np.exp(k)) * tau) * np.cos(w * tau + p)
        np.testing.assert_allclose(y[m, 0, n], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("formula", "cure"),
    [
        (lambda o, z: o[:, None], r"must return an array \[1\], got \(2, 1\)"),
        (lambda o, z: (o, z), r"must return an array \[1\], got tuple"),
        (lambda o, z: o[0] @ z, "fails for 2 outputs and z of 3"),
        (lambda o, z: o[:1] * 1j, "must return real floating-point numbers, got complex64"),
        (lambda o, z: jnp.round(o[:1]).astype(int), "floating-point numbers, got int"),
        (lambda o, z: o[:1] if o[0] > 0 else -o[:1], r"test_root\.py line \d+, <lambda>: use jnp"),
        (lambda o, z: np.exp(o[:1]), "use jnp functions and jnp.where in place of np, math, if"),
        (lambda o, z: math.exp(o[0]) * z[:1], "in place of np, math, if and float"),
        (
            lambda o, z: o[2] * z[:1],
            r"test_root\.py line \d+.*: index 2 is out of bounds .* size 2",
        ),
        (lambda o, z: o[-3] * z[:1], r"index -3 is out of bounds for axis 0 with size 2"),
        (lambda o, z: jnp.log(o[:1] - 100), "has a value that is not finite"),
        (lambda o, z: jnp.sqrt(z[:1] * 0 * o[:1]), "has a gradient that is not finite"),
    ],
)
def test_a_formula_that_cannot_work_is_refused_when_the_network_is_made(formula, cure):
    with pytest.raises(ValueError, match=cure) as error:
        Network(Formula(formula, inner=Mlp(4, 1), outputs=2), 3, 1)
    assert "\n" not in str(error.value)


def test_a_formula_may_count_from_the_end_and_need_arrays_of_jax():
    def formula(o, z):
        return (o[-1] * o.at[0].set(1) + 1 / (o[-2] + 3))[1:]

    Network(Formula(formula, inner=Mlp(4, 1), outputs=2), 3, 1)


@dataclass(frozen=True)
class Polynomial(Root):
    """A root of a user's own: y = sum_k theta_k z^k, of one input and one output."""

    degree: int = 2
    wrong: str = ""

    def blocks(self, d_in, d_out):
        return (self.degree + 1,)

    def init(self, key, d_in, d_out):
        return jnp.zeros(self.degree + 1 + (self.wrong == "start"))

    def apply(self, theta, z, d_out):
        if self.wrong == "one read":
            return theta[: self.degree + 1] @ z
        powers = jnp.concatenate([z**k for k in range(self.degree + 1)], -2)
        y = (theta[..., : self.degree + 1, :] * powers).sum(-2, keepdims=True)
        return y[..., 0, :] if self.wrong == "outputs" else y


def test_a_root_of_ones_own_is_a_polynomial(x64):
    theta, z = normal(1, 2, 3, 5), normal(2, 2, 1, 5)
    y = Network(Polynomial(), 1, 1).apply(theta, z)
    expected = theta[:, 0] + theta[:, 1] * z[:, 0] + theta[:, 2] * z[:, 0] ** 2
    close(y[:, 0], expected, 1e-12)


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ("outputs", r"return y \[2, 1, 3\] .* got \[3\] and \[2, 3\]"),
        ("start", r"start at a theta \[3\] .* got \[4\]"),
        ("one read", "whose last axis is that of the reads"),
    ],
)
def test_a_root_of_wrong_shapes_is_refused_when_the_network_is_made(wrong, cure):
    with pytest.raises(ValueError, match=cure):
        Network(Polynomial(wrong=wrong), 1, 1)


@pytest.mark.parametrize(
    ("d", "noise", "width", "repeats", "spread"),
    [(5, 0.25, 8, 16, 1.0), (1, 1.0, 4, 16, 1.0), (10, 0.25, 13, 23, 4.0), (20, 0.25, 23, 32, 4.0),
     (5, 0.01, 8, 24, 4.0)],
)  # fmt: skip
def test_open_sizes_of_a_residual_root_follow_the_task(d, noise, width, repeats, spread):
    root = Residual(repeats=None, spread=None).sized(d, 1, noise)
    assert (root.width, root.repeats, root.spread) == (width, repeats, spread)
    assert Residual(width=3).sized(d, 1, noise) == Residual(width=3)
    with pytest.raises(ValueError, match="only an experiment fills in"):
        Network(Residual(repeats=None, spread=None), d, 1)


def test_gains_start_spread_around_their_usual_size():
    gains = [
        Network(Residual(4, repeats=5, spread=spread), 3, 1).init(jax.random.key(0))[-5:]
        for spread in (1.0, 4.0)
    ]
    np.testing.assert_allclose(gains[0], 5**-0.5, rtol=1e-6)
    np.testing.assert_allclose(gains[1] / gains[0], [1 / 4, 1 / 2, 1, 2, 4], rtol=1e-5)
