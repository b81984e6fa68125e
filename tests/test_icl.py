"""The study of a run, on models whose answers are known."""

import json
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wsrnn import cli, data
from wsrnn.evaluations.built_in import least_squares_root
from wsrnn.icl import errors, probes, robustness
from wsrnn.models import Model
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.warp import Matrix
from wsrnn.recurrence import Rotation
from wsrnn.root import Mlp
from wsrnn.tasks.layouts import ReadBeforeWrite
from wsrnn.tasks.prompts import Pool
from wsrnn.tasks.regression import GaussianProcess, LinearRegression, OutlierRegression, Quadratic

TINY = Path(__file__).with_name("tiny.py")
PICTURES = {"errors.png", "shifts.png", "states.png", "emergence.png"}
TASK = LinearRegression(d=4, examples=12, noise=0.25)


@pytest.fixture(scope="module")
def model():
    return least_squares_root(5, 1, 0.25)


@pytest.fixture(scope="module")
def batch():
    return data.examples(TASK, "test", 0, 1000)


def test_curves_of_a_model_that_is_ridge_are_those_of_ridge(model, batch):
    curves = errors.error_curves(model, TASK, batch)
    ours, ridge = curves["this model"], curves["ridge (0.25)"]
    for key in ("error", "low", "high"):
        np.testing.assert_allclose(ours[key], ridge[key], rtol=2e-2)
    rows = errors.aggregates(TASK, curves)
    assert rows["this model"]["largest ratio to ridge"] == pytest.approx(1, abs=0.02)
    assert rows["this model"]["error at 8"] == ours["error"][8]
    assert rows["zero"]["mean over n"] == 1


class Zero(Model):
    def __call__(self, inputs, times):
        return jnp.zeros((*times.shape, 1))


def test_of_lassos_the_best_is_shown_and_it_beats_least_squares_on_sparse_functions():
    task = LinearRegression(d=4, examples=4, sparse=1)
    curves = errors.error_curves(Zero(), task, data.examples(task, "test", 0, 300))
    (name,) = (name for name in curves if name.startswith("lasso"))
    assert float(name[7:-1]) in errors.PENALTIES
    assert curves[name]["error"][3] < 0.8 * curves["least squares"]["error"][3]


def test_outliers_do_not_count():
    task = OutlierRegression(d=4, examples=8)
    batch = data.examples(task, "test", 0, 300)
    curves = errors.error_curves(Zero(), task, batch)
    spoilt = batch._replace(
        targets=np.where(batch.mask[..., None] > 0, batch.targets, 100).astype(np.float32)
    )
    assert errors.error_curves(Zero(), task, spoilt) == curves
    assert curves["zero"]["error"] == [1] * 9
    assert curves["least squares on the inliers"]["error"][8] < curves["least squares"]["error"][8]


def test_each_family_has_the_algorithms_that_know_its_distribution():
    def at_the_end(task):
        batch = data.examples(task, "test", 0, 300)
        curves = errors.error_curves(Zero(), task, batch)
        return {name: curve["error"][-1] for name, curve in curves.items()}

    pooled = replace(TASK, pool=Pool(3), layout=ReadBeforeWrite("all"))
    linear = at_the_end(pooled)
    assert linear["ridge (0.25)"] < linear["16 gradient steps"] < linear["4 gradient steps"] < 1
    assert linear["ridge (0.25)"] < linear["recursive least squares (0.95)"] < 0.2
    assert linear["ridge (0.25)"] < linear["2 principal components"] < 1
    assert linear["posterior over the pool"] > 0.5  # of which fresh functions are no members
    curves = errors.error_curves(Zero(), pooled, data.examples(pooled, "train", 0, 300))
    assert (
        curves["posterior over the pool"]["error"][-1] < 0.01 < curves["ridge (0.25)"]["error"][-1]
    )
    process = at_the_end(GaussianProcess())
    assert min(process, key=process.get) == "Gaussian process"


def test_interventions_show_what_ridge_depends_on(model, batch):
    rows = {
        name: row["error"] for name, row in robustness.interventions(model, TASK, batch).items()
    }
    plain = rows["as they are"]
    assert rows["in reverse order"] == pytest.approx(plain, rel=1e-3)
    assert rows["labels zero"] == rows["query alone"] == pytest.approx(1)
    assert rows["others of another prompt"] > 1
    assert plain < rows["one left out"] < 2 * plain
    assert plain < rows["one doubled"] < 2 * plain


def test_implied_weights_are_those_of_ridge(model, batch):
    rows = probes.implied_weights(model, TASK, batch)
    assert rows["n = 12"]["with w"] > 0.95
    assert rows["n = 2"]["with w seen"] > rows["n = 2"]["with w"] + 0.1
    assert probes.implied_weights(model, Quadratic(d=4, examples=12), batch) == {}


def test_under_a_shift_the_model_stays_next_to_ridge(model):
    for name, row in robustness.shifted(model, TASK, 0, 300).items():
        if name != "noise 1":  # where the penalty is another one than the model's
            assert row["error"] == pytest.approx(row["ridge"], rel=0.05), name


def test_a_probe_finds_what_is_linear_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(800, 30))
    targets = features[:, :3] @ rng.normal(size=(3, 2))
    assert probes.probe(features, targets) > 0.999
    assert abs(probes.probe(features, rng.normal(size=(800, 2)))) < 0.1


def test_the_state_of_a_lifted_model_holds_the_sums_and_of_an_unlifted_one_no_w(model):
    """Tokens are uncorrelated with w, so that no linear map of theirs predicts it."""
    batch = data.examples(TASK, "test", 0, 1200)
    lifted = probes.states(model, TASK, batch).probes
    assert min(lifted["sum of y x"]) > 0.99 and lifted["w"][-1] > 0.5
    plain = replace(
        model.config, root=Mlp(4, 1), lift=None, write=Matrix(scale=1.0), transition=Rotation()
    )
    unlifted = probes.states(plain.build(5, 1, rngs=nnx.Rngs(0)), TASK, batch).probes
    assert max(map(abs, unlifted["w"])) < 0.1
    peer = RnnConfig(width=8, layout="read_before_write").build(5, 1, rngs=nnx.Rngs(0))
    assert probes.states(peer, TASK, batch) is None


def call(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in argv])
    return stop.value.code, *capsys.readouterr()


def test_the_command_writes_a_study(tmp_path, capsys):
    run = tmp_path / "run"
    assert call(capsys, "train", TINY, "--out", run)[0] == 0
    code, out, _ = call(capsys, "icl", run, "--prompts", "200")
    assert code == 0 and "interventions, after 3 examples" in out and "R^2" in out
    assert "sum of x x^T" in out and "plateaus of the training loss" in out
    (folder,) = (run / "icl").iterdir()
    document = json.loads((folder / "icl.json").read_text())
    assert len(document["errors"]["this model"]["error"]) == 4
    assert {p.name for p in folder.glob("*.png")} == PICTURES
    code, _, err = call(capsys, "icl", run, "--prompts", "9")
    assert code == 2 and "--prompts must be at least 100" in err
    noise = TINY.parents[1] / "experiments" / "speed.py"
    flags = ["--task.length", "8", "--model.root.width", "4", "--steps", "1", "--batch-size", "8"]
    assert call(capsys, "train", noise, "--out", tmp_path / "other", *flags)[0] == 0
    code, _, err = call(capsys, "icl", tmp_path / "other")
    assert code == 2 and "a study needs prompts" in err and "Traceback" not in err
