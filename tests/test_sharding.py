"""Many devices: the same numbers on any mesh, each large array in parts, states moved once."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from numerics import close

import wsrnn
from wsrnn import data, loop
from wsrnn.metrics_log import read_metrics
from wsrnn.models.peers.fast_weights import FastWeightsConfig, Ttt
from wsrnn.models.peers.oscillator import OscillatorConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.peers.transformer import Transformer, TransformerConfig
from wsrnn.models.warp import Matrix, WarpConfig
from wsrnn.models.warp.stack import StackConfig
from wsrnn.recipe import Recipe
from wsrnn.recurrence.plan import RATES
from wsrnn.sharding import Layout, MeshConfig
from wsrnn.step import to_devices

TINY = Path(__file__).with_name("tiny.py")
SPEED = Path(__file__).parents[1] / "experiments" / "speed.py"


def recipe(*flags):
    return Recipe.read(TINY, None, flags)


def losses(run):
    return np.array([row["loss"] for row in read_metrics(run) if "loss" in row])


def on_mesh(data, model):
    return "--mesh.data", str(data), "--mesh.model", str(model)


@pytest.fixture
def split_all(monkeypatch):
    """Split small parameters too."""
    monkeypatch.setattr("wsrnn.sharding.WORTH_SPLITTING", 30)


@pytest.mark.parametrize("mesh", [(8, 1), (4, 2), (1, 8)])
def test_any_mesh_gives_the_same_losses(tmp_path, mesh, split_all):
    if not (reference := tmp_path.parent / "reference").exists():
        loop.fit(recipe("--mesh.data", "1"), reference)
    loop.fit(recipe(*on_mesh(*mesh)), tmp_path / "run")
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(reference), rtol=1e-5)


def test_a_checkpoint_continues_on_another_mesh(tmp_path, split_all):
    flags = ("--batch-size", "12", "--optim.schedule.steps", "6")
    loop.fit(recipe("--mesh.data", "1", *flags), tmp_path / "reference")
    # P = 17 is padded to 18, then not at all, then to 20.
    for steps, mesh in ((4, (2, 3)), (8, (2, 1)), (12, (1, 4))):
        loop.fit(recipe("--steps", str(steps), *flags, *on_mesh(*mesh)), tmp_path / "run")
        model, _ = wsrnn.load(tmp_path / "run", "last")
        assert model.A["matrix"].shape == (17, 17)
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(tmp_path / "reference"), rtol=1e-4)


def test_a_run_starts_from_one_of_another_mesh(tmp_path, split_all):
    flags = ("--batch-size", "12", "--steps", "2", "--eval-every", "2")
    loop.fit(recipe(*flags, *on_mesh(1, 4)), tmp_path / "run")
    loop.fit(recipe(*flags, *on_mesh(1, 3)), tmp_path / "started", tmp_path / "run")
    assert len(losses(tmp_path / "started")) == 2


def speed(mesh, *flags, N=12, T=24):
    """The experiment of the measurements, compiled for a mesh, and a batch."""
    flags = ("--batch-size", str(N), "--task.length", str(T), *on_mesh(*mesh), *flags)
    experiment = Recipe.read(SPEED, None, flags).experiment().resolve()
    mesh = experiment.mesh.build(N)
    batch = next(data.train_stream(experiment.task, N, 0))
    return loop.compose(experiment, mesh), to_devices(batch, mesh)


@pytest.mark.parametrize("form", ["dense", "block-diagonal"])
@pytest.mark.parametrize("read", ["all", "last"])
@pytest.mark.parametrize("mode", ["conv", "scan"])
def test_split_parameters_have_the_same_gradients(form, read, mode, split_all):
    flags = ("--model.root.width", "4", "--model.root.depth", "2", "--model.mode", mode)
    flags += (f"model.transition:{form}", "--task.last", str(read == "last"))
    found = []
    for mesh in (
        (1, 1),
        (2, 3),
    ):  # three devices share P = 33, but not the blocks of a layer
        program, batch = speed(mesh, *flags)
        gradients, sums = program.gradients(program.init().params, batch)
        gradients = jax.device_get(gradients)
        found.append((jax.tree.map(Layout.trim, program.layouts.params, gradients), sums))
    close(found[1], found[0], 1e-5)


AHEAD = {"layout": "read_before_write"}
LAST = WarpConfig(drive="value", write=Matrix(scale=0.1), mode="conv", **AHEAD)


@dataclass(frozen=True)
class OwnConfig(TransformerConfig):
    def build(self, d_in, d_out, *, rngs):
        return Own(self, d_in, d_out, rngs=rngs)


class Own(Transformer):
    """One that goes through its layers in a way of its own."""

    def hidden(self, x, mode=None):
        x = self.embed(x)
        return sum(layer(x) for layer in self.layers)


LAYERED = {
    "Transformer": lambda n: TransformerConfig(width=16, depth=n, heads=2, **AHEAD),
    "in a way of its own": lambda n: OwnConfig(width=16, depth=n, heads=2, **AHEAD),
    "DeltaNet": lambda n: FastWeightsConfig(width=16, depth=n, **AHEAD),
    "TTT": lambda n: FastWeightsConfig(rule=Ttt(batch=4), width=16, depth=n, **AHEAD),
    "LSTM": lambda n: RnnConfig(cell="lstm", width=12, layers=n, **AHEAD),
    "S5": lambda n: SsmConfig(width=12, states=8, layers=n, **AHEAD),
    "S5 by FFT": lambda n: SsmConfig(width=12, states=8, layers=n, mode="conv", **AHEAD),
    "LinOSS": lambda n: OscillatorConfig(width=12, states=8, layers=n, **AHEAD),
    "WARPs": lambda n: StackConfig(layers=n, channels=12, last=LAST),
    "gated WARPs": lambda n: StackConfig(layers=n, channels=12, gated=True, last=LAST),
}


def layered(model, layers, mesh):
    """A model of so many layers, compiled for a mesh, and a batch."""
    experiment = replace(
        recipe().experiment(), batch_size=12, model=LAYERED[model](layers)
    ).resolve()
    mesh = MeshConfig(*mesh).build(12)
    batch = next(data.train_stream(experiment.task, 12, 0))
    return loop.compose(experiment, mesh), to_devices(batch, mesh)


@pytest.mark.parametrize("model", LAYERED)
def test_layers_that_are_gathered_one_by_one_have_the_same_gradients(model, split_all):
    found = []
    for mesh in ((1, 1), (2, 3)):
        program, batch = layered(model, 3, mesh)
        gradients, sums = program.gradients(program.init().params, batch)
        gradients = jax.device_get(gradients)
        found.append((jax.tree.map(Layout.trim, program.layouts.params, gradients), sums))
    close(found[1], found[0], 3e-5)


@pytest.mark.parametrize("model", ["Transformer", "gated WARPs"])
def test_more_layers_need_no_more_gathers_as_these_are_in_a_loop(model, split_all):
    gathers = []
    for layers in (3, 5):
        program, batch = layered(model, layers, (2, 3))
        compiled = program.gradients.lower(program.abstract.params, batch).compile()
        gathers.append(len(instructions_of(compiled.as_text())["all-gather"]))
    assert gathers[0] == gathers[1]


@pytest.mark.parametrize("method", ["blocked", "spectral"])
def test_states_are_exchanged_once_and_transformed_where_they_are(method, monkeypatch):
    if method == "spectral":
        cpu = RATES["cpu"]
        preferred = cpu.per_second._replace(thin=1.0, transform=1e15)
        monkeypatch.setitem(RATES, "cpu", cpu._replace(per_second=preferred))
    N, T, P, parts = 16, 24, 1273, 2
    n, rows = N // 8, 637
    program, batch = speed((4, parts), "--model.mode", "conv", N=N, T=T)
    compiled = program.train_step.lower(program.abstract, batch).compile()
    instructions = instructions_of(compiled.as_text())

    # One exchange of the states from weights to sequences, and one of their gradients back: on each
    # device its rows of n parts sequences, whose T steps a method may pad.
    exchanges = instructions.pop("all-to-all")
    assert len(exchanges) == 2
    for shapes in exchanges:
        assert all(rows in shape for shape in shapes)
        assert n * parts * T * rows <= entries(shapes) <= 1.5 * n * parts * T * rows
    # Transforms are of a device's rows.
    transforms = instructions.pop("fft", [])
    assert bool(transforms) == (method == "spectral")
    for shapes in transforms:
        assert P not in shapes[0] and entries(shapes) <= n * parts * rows * 3 * T
    # The others move the thin vectors of the kernel at each step, all of it once for dA, the
    # drives, and at the end the gradients: of A a device's own rows.
    assert instructions.keys() == {"all-gather", "reduce-scatter", "all-reduce"}
    for shapes in instructions["all-gather"] + instructions["reduce-scatter"]:
        assert entries(shapes) <= 2 * T * parts * rows
    for shapes in instructions["all-reduce"]:
        assert entries(shapes) <= rows * P


def instructions_of(text):
    """The shapes that collectives and transforms of a compiled program return, by operation."""
    names = "fft|all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute"
    found = {}
    for results, name in re.findall(rf" = (.*?) ({names})(?:-start)?\(", text):
        shapes = re.findall(r"[a-z]\d+\[([\d,]*)\]", results)
        shapes = [[int(n) for n in shape.split(",") if n] for shape in shapes]
        found.setdefault(name, []).append(shapes)
    return found


def entries(shapes):
    return sum(map(np.prod, shapes))


@pytest.mark.parametrize("form", ["low_rank", "diagonal"])
def test_a_hundred_thousand_weights_fit_a_small_machine(form):
    experiment = Recipe.read(SPEED, f"wide_{form}", ("--mesh.data", "1")).experiment().resolve()
    program = loop.compose(experiment, experiment.mesh.build(4))
    batch = next(data.train_stream(experiment.task, 4, 0))._replace(latents={})
    compiled = program.gradients.lower(program.abstract.params, batch).compile()
    assert experiment.task.length == 1024 and batch.inputs.shape == (4, 1024, 1)
    assert compiled.memory_analysis().temp_size_in_bytes < 1.2e9  # the states of one take 0.4e9


def test_a_dense_A_takes_its_share_of_the_bytes_on_each_device():
    program, _ = speed((1, 8), "--model.transition.start", "identity", N=16)
    assert program.layouts.params["A"]["matrix"].shape == (1273, 1273)
    state = program.init()
    A = state.params["A"]["matrix"]
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.shape == A.shape]
    assert len(moments) == 2
    for array in (A, *moments):
        assert {part.data.shape for part in array.addressable_shards} == {(160, 1273)}
    np.testing.assert_array_equal(A[1273:], 0)
