"""Whatever the environment says of jax and matplotlib, commands run or say why they do not."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import close
from tiny import experiment as tiny

import wsrnn
from wsrnn.models.peers.fast_weights import FastWeightsConfig
from wsrnn.models.peers.linear_attention import LinearAttentionConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.peers.transformer import TransformerConfig
from wsrnn.models.warp import Matrix, Query, WarpConfig, Waves
from wsrnn.root import Mlp

TINY = Path(__file__).with_name("tiny.py")
COMMANDS = """
import sys
from wsrnn import cli
for words in ("train", FILE, "--out", OUT), ("eval", OUT), ("bench", FILE, "--errors", "--out", B):
    try:
        cli.main(words)
    except SystemExit as stop:
        assert not stop.code, words
"""


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )


def test_commands_run_in_a_notebooks_environment_and_where_float64_and_strict_types_are_set(
    tmp_path,
):
    names = f"FILE, OUT, B = {str(TINY)!r}, {str(tmp_path / 'run')!r}, {str(tmp_path / 'b')!r}\n"
    result = python(
        names + COMMANDS,
        MPLBACKEND="module://a_notebook_that_is_not_installed",
        JAX_ENABLE_X64="1",
        JAX_NUMPY_DTYPE_PROMOTION="strict",
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "figures" / "error.png").read_bytes()[:4] == b"\x89PNG"


def test_what_draws_nothing_imports_no_matplotlib(tmp_path):
    code = (
        "import sys; from wsrnn import cli\n"
        f"try: cli.main(['show', {str(TINY)!r}])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_a_backend_that_is_not_there_is_named_and_not_the_file():
    result = python(
        f"from wsrnn import cli; cli.main(['show', {str(TINY)!r}])", JAX_PLATFORMS="nonsense"
    )
    assert result.returncode == 2
    assert "wsrnn: jax cannot start on nonsense" in result.stderr.splitlines()[-1]


CONFIGS = {
    **{
        mode: WarpConfig(
            Mlp(width=3, depth=1), query=Query(waves=Waves(count=2)), write=Matrix(0.2), mode=mode
        )
        for mode in ("scan", "conv")
    },
    "gru": RnnConfig(width=4),
    "ssm": SsmConfig(width=4, states=4, layers=1, spectra=1),
    "transformer": TransformerConfig(width=4, depth=1, heads=1),
    "fast weights": FastWeightsConfig(width=4, heads=1, depth=1),
    "linear attention": LinearAttentionConfig(),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_of_float32_stays_so_under_float64_and_strict_types(name):
    inputs = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    times = np.broadcast_to(np.linspace(0, 1, 5, dtype=np.float32), (2, 5))
    graph, params = nnx.split(CONFIGS[name].build(3, 1, rngs=nnx.Rngs(0)))

    def loss(params, inputs):
        outputs = nnx.merge(graph, params)(inputs, times)
        return (outputs**2).sum(), outputs

    def results(params):
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params, inputs)

    expected = results(params)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        found = results(params)
        if name == "scan":  # and one step at a time
            model = nnx.merge(graph, params)
            state, y = model.advance(model.start(inputs[:, 0]), inputs[:, 0], 0.0)
            assert state.theta.dtype == y.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    close(found, expected, 1e-5)


@pytest.mark.parametrize("config", [CONFIGS["scan"], CONFIGS["gru"]], ids=["warp", "gru"])
def test_a_model_made_under_float64_runs_and_continues_sequences(config, x64):
    inputs = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    times = np.linspace(0, 1, 5, dtype=np.float32) * np.ones((2, 1), np.float32)
    model = config.build(3, 3, rngs=nnx.Rngs(0))
    assert np.isfinite(model(inputs, times)).all()
    if config.generates:
        given = model.generate(inputs[:, :3], times)
        close(given[:, :3], model(inputs, times, mode="scan")[:, :3], 1e-6)


def test_training_and_loading_from_a_program_in_float64_give_float32(tmp_path, x64):
    wsrnn.fit(tiny, tmp_path / "run")
    model, _ = wsrnn.load(tmp_path / "run")
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
