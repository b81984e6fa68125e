"""A researcher's own root, transition, lift and optimiser, in one file, are as good as ours."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import wsrnn
from wsrnn.errors import UserError
from wsrnn.recipe import Recipe

FILE = Path(__file__).parents[1] / "experiments" / "own_parts.py"
SMALL = (
    *("--steps", "4", "--batch-size", "8", "--eval-every", "2", "--eval-batches", "1"),
    *("--save-every", "2", "--evaluation.prompts", "32", "--model.root.inner.width", "4"),
    *("--model.lift.size", "6"),
)


@pytest.fixture
def run(run):
    """Call the command line, which must succeed; returns (stdout, stderr)."""

    def call(*argv):
        code, out, err = run(*argv)
        assert code == 0, err
        return out, err

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of four steps in each mode."""
    runs = {mode: tmp_path_factory.mktemp("runs") / mode for mode in ("conv", "scan")}
    for mode, out in runs.items():
        wsrnn.fit(Recipe.read(FILE, None, (*SMALL, "--model.mode", mode)), out)
    return runs


def experiment(*flags):
    return Recipe.read(FILE, None, flags).experiment()


def losses(folder):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return np.array([row["loss"] for row in rows if "loss" in row])


def test_the_file_has_at_most_sixty_lines():
    assert len(FILE.read_text().splitlines()) <= 60


def test_both_modes_train_to_the_same_losses(trained):
    scan, conv = losses(trained["scan"]), losses(trained["conv"])
    assert len(scan) == 4 and np.ptp(scan) > 0
    np.testing.assert_allclose(conv, scan, rtol=1e-5)


def test_a_run_that_lost_its_last_checkpoint_continues_to_the_same_losses(trained, tmp_path):
    whole, folder = trained["conv"], tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "4")
    wsrnn.fit(Recipe.read(FILE, None, (*SMALL, "--model.mode", "conv")), folder)
    np.testing.assert_array_equal(losses(folder), losses(whole))


def test_it_is_trained_and_evaluated_from_the_command_line(trained, run, tmp_path):
    folder = shutil.copytree(trained["conv"], tmp_path / "run")
    trained_again = json.loads(run("train", FILE, *SMALL, "--out", folder, "--json")[0])
    evaluated = json.loads(run("eval", folder, "--json")[0])
    assert trained_again["step"] == 4
    assert [*evaluated["rows"]][:2] == ["this model", "zero"]
    assert np.isfinite(evaluated["rows"]["this model"]).all()


def test_it_is_shown_with_its_own_fields_and_every_execution_it_has(run):
    shown = json.loads(run("show", FILE, "--json", *SMALL)[0])
    config = shown["config"]
    assert config["model.transition"] == "Householder" and config["model.transition.count"] == 2
    assert config["model.root.formula"].endswith(":fourier")
    assert config["optim.rule"] == "Lion" and config["model.lift"] == "Sines"
    assert {row["plan"].split()[0].strip(",:") for row in shown["plans"]} >= {"scan", "conv"}


def test_it_is_benched_in_the_modes_that_it_has(run, tmp_path):
    words = ("bench", FILE, "--repeats", "1", "--json", "--out", tmp_path / "b", *SMALL)
    assert {"scan", "conv"} <= json.loads(run(*words)[0])["rows"].keys()


def test_its_fields_are_flags():
    changed = experiment(
        *("--model.transition.count", "4", "--model.root.inner.width", "16"),
        *("--model.root.outputs", "5", "--model.lift.size", "8", "--optim.rule.b1", "0.5"),
    )
    model = changed.model
    assert model.transition.count == 4 and model.lift.size == 8 and changed.optim.rule.b1 == 0.5
    assert model.root.inner.width == 16 and model.root.outputs == 5
    before, after = (e.parameter_count() for e in (experiment(), changed))
    assert before != after


def test_its_classes_are_choices_beside_the_packages():
    mine = experiment("model.transition:householder", "--model.transition.count", "3")
    assert mine.model.transition.count == 3
    ours = experiment("model.transition:dense", "optim.rule:adam", "model.lift:mlp-lift")
    parts = ours.model.transition, ours.optim.rule, ours.model.lift
    assert [type(part).__name__ for part in parts] == ["Dense", "Adam", "MlpLift"]


@pytest.mark.parametrize(
    ("flag", "cure"),
    [
        ("--model.transition.cuont", "--model.transition.count"),
        ("--model.root.inner.wdith", "--model.root.inner.width"),
        ("--model.lift.sizes", "--model.lift.size"),
        ("--optim.rule.b3", "--optim.rule.b1"),
        ("model.transition:housholder", "model.transition:householder"),
        ("optim.rule:loin", "optim.rule:lion"),
    ],
)
def test_a_misspelt_field_or_class_is_answered_with_the_nearest(flag, cure):
    with pytest.raises(UserError, match=f"did you mean {cure}"):
        experiment(*([flag] if ":" in flag else [flag, "1"]))


def test_the_mode_that_needs_cheap_powers_is_refused():
    with pytest.raises(UserError, match="Householder: set mode auto, scan or conv"):
        experiment("--model.mode", "parallel")


def test_a_run_opens_by_executing_its_own_code_and_says_so(trained, tmp_path, caplog):
    folder = shutil.copytree(trained["conv"], tmp_path / "run")
    record = json.loads((folder / "config.json").read_text())
    record["recipe"]["source"] += "# a text that this process has not executed\n"
    (folder / "config.json").write_text(json.dumps(record))
    model, loaded = wsrnn.load(folder)
    assert "executing the code kept in" in caplog.text and "own_parts.py" in caplog.text
    assert caplog.records[0].levelname == "WARNING"  # which Python shows without a set-up
    assert type(loaded.model.transition).__name__ == "Householder"
    batch = loaded.task.batches("test", 0, 2)[0]
    outputs = model(batch.inputs, batch.times)
    expected = wsrnn.load(trained["scan"])[0](batch.inputs, batch.times)
    assert outputs.shape == batch.targets.shape
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)


MINE = """
import jax, jax.numpy as jnp
from dataclasses import dataclass
from wsrnn import Experiment, Matrix, Mlp, Transition, Lift, summing
from wsrnn.tasks.regression import LinearRegression


@dataclass(frozen=True)
class Mine(Transition):
    def init(self, key, blocks):
        P = sum(blocks)
        return {init}

    def apply(self, A, theta):
        return {apply}


@dataclass(frozen=True)
class Raised(Lift):
    def channels(self, d_in, d_out):
        return 3

    def build(self, d_in, d_out, *, rngs):
        return {build}


model = summing(Mlp(width=2, depth=1), Raised(), transition=Mine(), write=Matrix(scale=0.3))
experiment = Experiment(LinearRegression(d=2, examples=3), model)
"""
GOOD = {"init": "{'a': jnp.ones(P)}", "apply": "A['a'][None] * theta", "build": "lambda x: x"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"init": "next(iter(()))"}, "transition Mine: StopIteration"),
        ({"init": "{}['b']"}, "transition Mine: KeyError: 'b'"),
        ({"init": "jnp.ones(P) + 'x'"}, "transition Mine: TypeError: unsupported operand"),
        ({"init": "{'a': 0.5}"}, "transition Mine: init must return arrays of floats, and A['a']"),
        ({"init": "{'a': jnp.ones(P, int)}"}, "arrays of floats, and A['a'] is of int32"),
        ({"init": "None"}, "transition Mine: apply fails for theta [2, 9] and A of shapes None"),
        ({"init": "{'a': jnp.ones(P + 1)}"}, "apply fails for theta [2, 9] and A of shapes {'a': "),
        ({"apply": "A['b'] * theta"}, "and A of shapes {'a': [9]}: KeyError: 'b'"),
        ({"apply": "theta[:, :4]"}, "transition Mine: apply must return [2, 9], got [2, 4]"),
        ({"apply": "jnp.tanh(theta)"}, "transition Mine: transpose fails, which needs an apply"),
        ({"apply": "A['a'][None] * theta + 0.1"}, "apply must be linear, and A 0 is 0.1, not 0"),
        ({"build": "next(iter(()))"}, "mine.py line 24, Raised.build: StopIteration"),
        ({"build": "lambda x: x[..., :2]"}, "lift Raised: the module of build must return [*N, 3]"),
        ({"build": "lambda x: x.sum()"}, "for tokens [*N, 3], got () for N = 2"),
        ({"build": "lambda x: None"}, "for tokens [*N, 3], got None for N = 2"),
        ({"build": "lambda x, y: x"}, "lift Raised: its module fails for tokens [2, 3]: TypeError"),
        ({"build": "{}['b']"}, "mine.py line 24, Raised.build: KeyError: 'b'"),
    ],
)
def test_what_is_wrong_with_a_part_of_ones_own_is_one_line(changed, message):
    text = MINE
    for name, code in (GOOD | changed).items():
        text = text.replace(f"{{{name}}}", code)
    with pytest.raises(UserError) as error:
        Recipe(text, "mine").experiment()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_right_part_of_ones_own_is_taken():
    text = MINE
    for name, code in GOOD.items():
        text = text.replace(f"{{{name}}}", code)
    assert Recipe(text, "mine").experiment().parameter_count() > 9
