"""Root networks against an independent forward pass in numpy."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import close

from wsrnn.root import ACTIVATIONS, MLPS, RootNet

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


def test_the_papers_root_network_has_1273_weights():
    assert RootNet(1, 24, 3, 1).size == 1273


@pytest.mark.parametrize("root_type", MLPS)
@pytest.mark.parametrize("sizes", [(1, 1, 0, 1), (3, 5, 0, 2), (2, 4, 1, 3), (3, 4, 2, 2)])
def test_size_counts_what_init_draws_and_what_unflatten_uses(root_type, sizes):
    root = root_type(*sizes)
    theta = root.init(jax.random.key(0))
    assert theta.shape == (root.size,)
    assert sum(part.size for layer in root.unflatten(theta[:, None]) for part in layer) == root.size


def layers(root, start):
    """Kernel and bias of each layer at the start."""
    theta = root.init(jax.random.key(0), start)[:, None]
    return [(kernel[..., 0], bias[..., 0]) for kernel, bias in root.unflatten(theta)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activations(activation, x64):
    x = jnp.linspace(-4, 4, 101)
    np.testing.assert_allclose(ACTIVATIONS[activation](x), FORMULAS[activation](x), atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(1, 1, 0, 1), (3, 5, 0, 2), (2, 4, 1, 3), (3, 4, 2, 2)])
def test_the_network_is_an_mlp_read_from_a_flat_vector(sizes, activation, x64):
    d_in, width, depth, d_out = sizes
    root = RootNet(d_in, width, depth, d_out, activation)
    theta, z = normal(1, root.size), normal(2, d_in)
    expected = forward(theta, z, [d_in, *[width] * depth, d_out], activation)
    y = root.apply(theta[:, None], z[:, None])[:, 0]
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
@pytest.mark.parametrize("root_type", MLPS)
def test_other_axes_are_a_batch_of_networks(root_type, lead, x64):
    root, N = root_type(3, 4, 2, 2, "tanh"), 3
    theta, z = normal(1, *lead, root.size, N), normal(2, *lead, 3, N)
    y = root.apply(theta, z)
    assert y.shape == (*lead, 2, N)
    for *m, n in np.ndindex(*lead, N):
        one = root.apply(theta[*m, :, n, None], z[*m, :, n, None])
        close(y[*m, :, n], one[:, 0], 1e-12)


@pytest.mark.parametrize(("pad", "lead"), [(0, (2,)), (3, ())])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("root_type", MLPS)
def test_gradients_are_those_of_plain_sums(root_type, depth, activation, lead, pad, x64):
    root, N = root_type(2, 5, depth, 3, activation), 7
    theta, z = normal(1, *lead, root.size + pad, N), normal(2, *lead, 2, N)

    def plain(theta, z):
        for layer, (kernel, bias) in enumerate(root.unflatten(theta)):
            z = jnp.einsum("...oin,...in->...on", kernel, z) + bias
            z = ACTIVATIONS[activation](z) if layer < depth else z
        return z

    expected, pull_plain = jax.vjp(plain, theta, z)
    y, pull = jax.vjp(root.apply, theta, z)
    g = normal(3, *y.shape)
    close(y, expected, 1e-12)
    close(pull(g), pull_plain(g), 1e-12)
    if pad:
        assert not np.any(pull(g)[0][..., root.size :, :])


def test_bfloat16_is_the_network_alone(x64):
    exact, rounded = RootNet(2, 8, 2, 1, "tanh"), RootNet(2, 8, 2, 1, "tanh", bfloat16=True)
    theta, z = normal(1, exact.size, 50), normal(2, 2, 50)
    y, pull = jax.vjp(rounded.apply, theta, z)
    assert y.dtype == theta.dtype
    error = np.abs(y - exact.apply(theta, z)).max()
    assert 1e-4 < error < 0.1
    dtheta, _ = pull(jnp.ones_like(y))
    assert dtheta.dtype == theta.dtype
    close(dtheta, jax.grad(lambda theta: exact.apply(theta, z).sum())(theta), 0.1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_depth_0_is_linear(activation, x64):
    root = RootNet(3, 7, 0, 2, activation)
    theta, z, w = normal(1, root.size, 1), normal(2, 3, 1), normal(3, 3, 1)
    zero = root.apply(theta, jnp.zeros((3, 1)))
    np.testing.assert_allclose(
        root.apply(theta, z + 2 * w) - zero,
        (root.apply(theta, z) - zero) + 2 * (root.apply(theta, w) - zero),
        rtol=1e-10,
    )
    assert root.size == 3 * 2 + 2


def test_the_uniform_start_fills_its_bounds_in_every_layer():
    root = RootNet(4, 100, 2, 9)
    for kernel, bias in layers(root, "uniform"):
        bound = kernel.shape[1] ** -0.5
        for part in (kernel, bias):
            assert np.abs(part).max() <= bound
            assert np.std(part) == pytest.approx(bound / 3**0.5, rel=0.25)
        assert np.abs(kernel).max() > 0.95 * bound
        assert kernel.min() < -0.95 * bound


def test_the_he_start_has_zero_biases_and_variance_2_over_in():
    root = RootNet(8, 200, 2, 50)
    for kernel, bias in layers(root, "he"):
        assert not np.any(bias)
        assert np.var(kernel) == pytest.approx(2 / kernel.shape[1], rel=0.1)
        assert abs(np.mean(kernel)) < 0.1 * np.std(kernel)


@pytest.mark.parametrize("start", ["uniform", "he"])
@pytest.mark.parametrize("root_type", MLPS)
def test_layers_and_keys_are_drawn_independently(root_type, start):
    root = root_type(6, 6, 2, 6)
    one, two = (root.init(jax.random.key(k), start) for k in (0, 1))
    assert np.abs(one - two).max() > 0.01
    (first, _), (second, _), *_ = layers(root, start)
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize(
    "sizes", [(0, 4, 1, 1), (1, 0, 1, 1), (1, 4, -1, 1), (1, 4, 1, 0), (1, -2, 3, 1)]
)
@pytest.mark.parametrize("root_type", MLPS)
def test_sizes_that_make_no_network_are_refused(root_type, sizes):
    with pytest.raises(ValueError, match="at least 1"):
        root_type(*sizes)


@pytest.mark.parametrize("root_type", MLPS)
def test_an_unknown_activation_is_refused_with_the_list(root_type, unchecked):
    with pytest.raises(ValueError, match="'gelu' is unknown") as refused:
        root_type(1, 4, 1, 1, "gelu")
    assert all(name in str(refused.value) for name in ACTIVATIONS)


@pytest.mark.parametrize("root_type", MLPS)
def test_root_networks_are_static(root_type):
    assert hash(root_type(1, 4, 1, 1)) == hash(root_type(1, 4, 1, 1))
    assert root_type(1, 4, 1, 1) == root_type(1, 4, 1, 1) != root_type(1, 5, 1, 1)
