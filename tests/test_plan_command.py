"""Scaling on paper: what is counted for a mesh is what XLA compiles for it."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from wsrnn import costs, scaling
from wsrnn.recipe import Recipe
from wsrnn.scaling.traced import tally
from wsrnn.sharding import AXES, MODEL

TINY = Path(__file__).with_name("tiny.py")
SPEED = Path(__file__).parents[1] / "experiments" / "speed.py"


@pytest.fixture
def split_all(monkeypatch):
    """Split small parameters too."""
    monkeypatch.setattr("wsrnn.sharding.WORTH_SPLITTING", 30)


def speed(*flags, N=8, T=24, width=8):
    small = ("--model.root.width", str(width), "--model.root.depth", "2", "--task.length", str(T))
    flags = ("--batch-size", str(N), *small, *flags)
    return Recipe.read(SPEED, None, flags).experiment()


@pytest.mark.parametrize("mode", ["conv", "scan"])
def test_counted_exchanges_and_arguments_are_those_of_the_compiled_step(mode, split_all):
    """Gradients over data, gathers and scattered sums over model, rows of A and their states."""
    experiment = speed("--model.mode", mode)
    found = scaling.forecast(experiment, 2, 2)
    compiled, *_ = scaling.compile_step(experiment, 2, 2)
    counted, made = found.counted.volume(), scaling.volume(compiled)
    assert counted.keys() == made.keys() >= {("all-reduce", 2), ("all-gather", 2)}
    assert (("all-to-all", 2) in counted) == (mode == "conv")
    for key, size in counted.items():  # XLA may join or leave out single numbers
        assert made[key] == pytest.approx(size, abs=100), key
    assert scaling.memory(compiled).arguments == found.peak - found.counted.peak


def test_loops_and_calls_are_counted_as_often_as_they_run():
    mesh = AbstractMesh((1, 4), AXES, axis_types=(AxisType.Auto,) * 2)

    def on_each(x):  # [2, 8] of [8, 8]
        def step(carry, _):
            whole = jax.lax.all_gather(carry, MODEL, tiled=True)
            return jax.nn.relu(carry @ whole), None

        x, _ = jax.lax.scan(step, x, length=3)
        return jax.lax.psum(x, MODEL)

    spread = jax.shard_map(on_each, mesh=mesh, in_specs=P(MODEL), out_specs=P(), check_vma=False)
    shape = jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=NamedSharding(mesh, P(MODEL)))
    found = tally(jax.jit(spread).trace(shape), shape, mesh)
    assert found.volume() == {("all-gather", 4): 3 * 8 * 8 * 4, ("all-reduce", 4): 2 * 8 * 4}
    assert found.operations() == 3 * 2 * 2 * 8 * 8
    assert found.sent() == 3 * 256 * 3 / 4 + 2 * 64 * 3 / 4
    assert 256 <= found.peak <= 2 * 256 + 3 * 64


def test_counted_operations_are_near_those_of_the_formulas():
    experiment = speed("--model.mode", "conv", N=4, T=64)
    found = scaling.forecast(experiment, 1, 1)
    assert found.counted.operations() == pytest.approx(costs.operations(experiment), rel=0.3)


def test_more_devices_hold_less_and_send_more():
    experiment = speed(N=64, width=24)  # P = 673
    one, four, split = (scaling.forecast(experiment, *mesh) for mesh in [(1, 1), (4, 1), (2, 2)])
    assert one.counted.sent() == 0
    assert four.parameters == one.parameters > 1.9 * split.parameters
    assert four.counted.peak < one.counted.peak
    h100, a100 = scaling.DEVICES["h100"], scaling.DEVICES["a100"]
    assert four.exchanging(h100) > 0 and four.working(h100) < one.working(h100)
    assert one.seconds(a100) > one.seconds(h100)
    across = h100._replace(group=2)  # devices of a server
    assert split.exchanging(across) > split.exchanging(h100)


def test_the_command_prints_each_mesh_and_says_what_cannot_be(run):
    words = ("plan", TINY, "--device", "cpu", "--devices", "1,2,3", "--json")
    code, out, _ = run(*words)
    document = json.loads(out)
    assert code == 0
    assert [(row["data"], row["model"]) for row in document["rows"]] == [(1, 1), (2, 1)]
    assert document["rows"][0]["efficiency"] == 1
    batch, unsplit = document["notes"]
    assert batch == "batch_size 8 is not divisible by 3 device(s): set --batch-size 9"
    assert "no parameter is large enough" in unsplit


def test_a_count_that_does_not_divide_by_the_mesh_is_left_out(run, split_all):
    words = ("--devices", "1,2", "--mesh.model", "2", "--device", "cpu", "--json")
    code, out, err = run("plan", TINY, *words)
    document = json.loads(out)
    assert code == 0, err
    assert [(row["data"], row["model"]) for row in document["rows"]] == [(1, 2)]
    assert document["notes"] == ["1 device(s) do not divide by mesh.model 2: change one of them"]


def test_what_is_measured_stands_beside_it(run):
    code, out, _ = run("plan", TINY, "--device", "cpu", "--devices", "1", "--measure", "--json")
    row = json.loads(out)["rows"][0]
    held = row["parameter_bytes"] + row["optimiser_bytes"] + row["batch_bytes"]
    times = 8 * 4 * 4  # bytes of the batch that this model does not read
    assert code == 0 and row["measured"]["memory"]["arguments"] == held - times
    assert row["measured"]["step_s"] > 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--device", "h10"), "--device h10 is unknown: did you mean h100?"),
        (("--devices", "8;64"), "--devices takes numbers of devices, as 8,64,512, not '8;64'"),
        (("--devices", "3"), "batch_size 8 is not divisible by 3 device(s): set --batch-size 9"),
        (("--mesh.data", "2"), "leave out --mesh.data"),
        (("--devices", "4", "--mesh.model", "3"), "4 device(s) do not divide by mesh.model 3"),
        (("--devices", "16", "--measure"), "JAX_NUM_CPU_DEVICES=16"),
        (("--devices", "8", "--measure"), "--measure runs on what is here, cpu, which is no h100"),
    ],
)
def test_mistakes_get_one_line(run, words, line):
    code, out, err = run("plan", TINY, *words)
    assert code == 2 and out == "" and err.count("\n") == 1 and line in err


def test_show_prints_how_the_state_lies_on_a_mesh(run, split_all):
    code, out, _ = run("show", TINY, "--mesh.data", "2", "--mesh.model", "2", "--json")
    mesh = json.loads(out)["mesh"]
    leaves = {leaf["name"]: leaf for leaf in mesh["leaves"]}
    A = leaves["params.A.matrix"]
    assert code == 0
    assert (A["shape"], A["axis"], A["parts"], A["padding"]) == ([17, 17], 0, 2, 1)
    assert A["bytes"] == 9 * 17 * 4 == leaves["opt_state.2.mu.A.matrix"]["bytes"]
    held = sum(mesh[f"{part}_bytes"] for part in ("parameter", "optimiser", "batch"))
    times = 2 * 4 * 4  # bytes of the batch that this model does not read
    assert mesh["compiled"]["arguments"] == held - times
    code, out, _ = run("show", TINY, "--mesh.data", "8", "--mesh.model", "2")
    assert code == 2  # 8 examples on 16 devices
    code, out, _ = run("show", TINY, "--batch-size", "16", "--mesh.data", "8", "--mesh.model", "2")
    assert code == 0 and "JAX_NUM_CPU_DEVICES=16" in out
