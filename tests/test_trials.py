"""Trials: a copy is the run it would be alone, and stopping loses nothing."""

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from wsrnn import cli, loop, trials, trials_table
from wsrnn.artifacts import write_json
from wsrnn.copies import Copies, program
from wsrnn.errors import RunError
from wsrnn.metrics_log import read_metrics
from wsrnn.recipe import Recipe

TINY = Path(__file__).with_name("tiny.py")


def run(*words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["trials", str(TINY), *map(str, words)])
    return stop.value.code


def validations(folder):
    return [row for row in read_metrics(folder) if "valid/loss" in row]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("trials") / "whole"
    assert run("--seeds", 2, "--rates", "0.01", "0.03", "--out", out) == 0
    return out


@pytest.mark.parametrize(("rate", "seed"), [(0.01, 0), (0.03, 0)])
def test_a_copy_is_the_run_it_would_be_alone(whole, tmp_path, rate, seed):
    flags = ("--optim.learning-rate", str(rate), "--seed", str(seed))
    loop.fit(Recipe.read(TINY, None, flags), tmp_path / "run")
    alone = [row["valid/loss"] for row in validations(tmp_path / "run")]
    copy = [row[f"valid/rate {rate} seed {seed}"] for row in validations(whole / "tiny")]
    np.testing.assert_allclose(copy, alone, rtol=1e-5)


def test_copies_start_as_models_of_their_seeds_do():
    experiment = Recipe.read(TINY).experiment().resolve()
    init, *_ = program(experiment, Copies((0.01, 0.03), (0, 1)))
    copies = init().state.params
    for at, seed in enumerate((0, 1, 0, 1)):
        alone = nnx.as_pure(nnx.state(replace(experiment, seed=seed).build_model()))
        for one, all_ in zip(jax.tree.leaves(alone), jax.tree.leaves(copies), strict=True):
            np.testing.assert_allclose(all_[at], one, rtol=1e-6)


def test_steps_without_trace_are_told(tmp_path, capsys):
    words = ("--variant", "poisoned", "--seeds", 2, "--out", tmp_path / "out")
    assert run(*words, "--task.sound", 8 * 5) == 0
    assert "tiny, rate 0.01 seed 1: 7 of 12 steps left no trace" in capsys.readouterr().out
    row = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]["tiny"]
    assert row["skipped"] == [[7, 7]]


def test_a_rate_at_which_all_is_lost_is_not_the_best(tmp_path, capsys):
    assert run("--rates", "1e30", "0.01", "--out", tmp_path / "out") == 0
    row = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]["tiny"]
    assert row["rate"] == 0.01
    assert run("--rates", "1e30", "--out", tmp_path / "lost") == 1
    assert "the loss of no copy is finite" in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_best_rate_is_reported_from_every_seed(whole):
    row = json.loads((whole / "results.json").read_text())["rows"]["tiny"]
    losses = np.array(row["validation"])
    assert losses.shape == (2, 2) and len(np.unique(losses)) == 4
    assert row["rate"] == row["rates"][int(losses.mean(1).argmin())]
    assert np.shape(row["values"]) == (2, len(row["columns"])) and row["columns"] == ["n=0", "n=3"]
    assert row["state floats"] == 17 + 2 * 3 and row["operations per token"] > row["parameters"]
    assert {path.name for path in (whole / "figures").iterdir()} == {"rates.png", "errors.png"}
    # a row of TensorBoard's table of hyper-parameters each
    copies = {f"rate {rate} seed {seed}" for rate in (0.01, 0.03) for seed in (0, 1)}
    assert {path.name for path in (whole / "tiny" / "final").iterdir()} == copies


@pytest.mark.parametrize("draw", ["host", "step"])
def test_continued_equals_uninterrupted(tmp_path, monkeypatch, draw):
    words = ("--seeds", 2, "--draw", draw)
    assert run(*words, "--out", tmp_path / "whole") == 0

    class Stop(trials.StopFlag):
        asked, exit_code = 0, 75

        def __bool__(self):
            Stop.asked += 1
            return Stop.asked == 7  # within the validation of step 4

    with monkeypatch.context() as patched:
        patched.setattr(trials, "StopFlag", Stop)
        assert run(*words, "--out", tmp_path / "stopped") == 75
    stopped = tmp_path / "stopped" / "tiny"
    assert not validations(stopped) and (stopped / "checkpoints" / "4").is_dir()
    assert run(*words, "--out", tmp_path / "stopped") == 0
    assert validations(tmp_path / "stopped" / "tiny") == validations(tmp_path / "whole" / "tiny")
    before = (tmp_path / "stopped" / "results.json").read_text()
    assert run(*words, "--out", tmp_path / "stopped") == 0  # nothing is trained again
    assert (tmp_path / "stopped" / "results.json").read_text() == before


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--rates", "0.1", "0.1"), "twice"),
        (("--rates", "-1"), "above 0"),
        (("--rates", "1e-3,1e-2"), "]}: separate values by spaces"),
        (("--rates", "1e39"), "finite"),
        (("--seeds", "0"), "at least 1 seed"),
        (("--seeds", "x"), "invalid"),
        (("--rates", "0.1", "--optim.learning-rate", "0.2"), "give one of them"),
        (("--max-skipped", "3"), "leave out --max-skipped"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, words, part):
    assert run(*words, "--out", tmp_path / "run") == 2
    assert part in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--batch-size", "4"), "batch_size 8 -> 4"),
        (("--mesh.data", "2"), "one device"),
        (("--steps", "8"), "steps 12 -> 8"),
    ],
)
def test_a_finished_trial_is_not_taken_for_another(whole, capsys, words, part):
    before = (whole / "results.json").read_bytes()
    assert run("--seeds", 2, "--rates", "0.01", "0.03", *words, "--out", whole) == 2
    assert part in capsys.readouterr().err.strip().splitlines()[-1]
    assert (whole / "results.json").read_bytes() == before


def test_a_finished_trial_goes_on_and_is_judged_anew(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "more")
    words = ("--seeds", 2, "--rates", "0.01", "0.03", "--out", tmp_path / "more")
    assert run(*words, "--steps", 14, "--evaluation.prefixes", 1, 2) == 0
    row = json.loads((tmp_path / "more" / "results.json").read_text())["rows"]["tiny"]
    assert row["steps"] == 14 and row["columns"] == ["n=1", "n=2"]
    assert row["curves"]["step"] == [4, 8, 12, 14]


def test_a_single_run_is_no_place_for_trials(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert run("--out", tmp_path / "run") == 2
    assert "something else" in capsys.readouterr().err.strip().splitlines()[-1]
    loop.fit(Recipe.read(TINY, None, ("--steps", "1")), tmp_path / "out" / "tiny")
    assert run("--out", tmp_path / "out") == 2
    assert "holds a single run" in capsys.readouterr().err.strip().splitlines()[-1]


def test_trials_are_no_run(whole, capsys):
    for words in (("eval", whole / "tiny"), ("train", TINY, "--out", whole / "tiny")):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(word) for word in words])
        assert stop.value.code == 2
        assert "holds trials" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_kill_between_two_writes_and_a_damaged_file(tmp_path, capsys):
    (tmp_path / "out" / "tiny").mkdir(parents=True)
    (tmp_path / "out" / "tiny" / "trials.json").write_text("{")
    assert run("--steps", 1, "--out", tmp_path / "out") == 0
    (tmp_path / "out" / "tiny" / "trials.json").write_text("{")
    (tmp_path / "out" / "results.json.tmp").touch()
    assert run("--steps", 1, "--out", tmp_path / "out") == 2
    assert "is damaged" in capsys.readouterr().err.strip().splitlines()[-1]


def test_other_copies_want_another_folder(whole, capsys):
    assert run("--seeds", 3, "--rates", "0.01", "0.03", "--out", whole) == 2
    assert "choose another --out" in capsys.readouterr().err.strip().splitlines()[-1]


def row(value=1.0, **more):
    """What a sibling leaves behind."""
    base = {
        "title": "error", "columns": ["n=0", "n=3"], "values": [[value, 2 * value]],
        "baselines": {}, "rates": [0.01], "seeds": [0], "rate": 0.01, "steps": 12,
        "parameters": 7, "state floats": None, "operations per token": 9,
        "validation": [[value]], "skipped": [[0]],
    }  # fmt: skip
    return base | more


def names_in(table):
    """The names of a table's rows, below its title and head."""
    return [line.partition("  ")[0] for line in table.splitlines()[2:]]


@pytest.mark.parametrize(
    ("baselines", "expected"),
    [
        ([{"zero": [math.nan, 1]}, {"zero": [math.nan, 1]}], ["zero"]),
        ([{"zero": [None, 1]}, {"zero": [math.nan, 1]}], ["zero"]),  # as JSON has kept it
        ([{"zero": [math.nan, 1]}, {"zero": [0.5, 1]}], ["zero", "zero, b"]),
        ([{"zero": [0.5, 1]}, {"zero": [0.5, math.inf]}], ["zero", "zero, b"]),
        ([{"b": [0.5, 1]}, {"b": [0.5, 1]}], ["b, baseline"]),
    ],
)
def test_a_baseline_is_a_row_of_its_own_once(baselines, expected):
    rows = {name: row(baselines=known) for name, known in zip("ab", baselines, strict=True)}
    table = trials_table.text(rows)
    assert names_in(table) == ["a", "b", *expected]
    assert "[2, 2]" in table.splitlines()[3]  # b's own


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Runs `wsrnn trials` on siblings a, b and c, of which `ends` says how training ends."""
    text = TINY.read_text() + (
        "\n\ndef sweep(experiment):\n"
        "    return {n: replace(experiment, seed=k) for k, n in enumerate(('alpha', 'b', 'c'))}\n"
    )
    (tmp_path / "three.py").write_text(text)
    trained = []

    def call(*words, **ends):
        def trial(run, copies, stopping):
            name = run.folder.name
            with run.locked():
                write_json(run.folder / "trials.json", copies._asdict())
                run.write()
            trained.append(name)
            if ends.get(name) == "lost":
                raise RunError(f"{name}: the loss of no copy is finite")
            if ends.get(name) == "stopped":
                os.kill(os.getpid(), signal.SIGTERM)
                assert stopping
                return None
            result = row(ord(name[0]), steps=run.experiment.steps)
            write_json(run.folder / "results.json", result)
            return result

        trained.clear()
        monkeypatch.setattr(trials, "_trial", trial)
        with pytest.raises(SystemExit) as stop:
            cli.main(["trials", str(tmp_path / "three.py"), "--seeds", "1", *words,
                      "--out", str(tmp_path / "out")])  # fmt: skip
        return stop.value.code, trained

    return call


def kept(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text())


def test_stopped_trials_show_what_is_finished_and_what_is_missing(three, tmp_path, capsys):
    assert three(b="stopped") == (75, ["alpha", "b"])
    out = capsys.readouterr().out
    assert names_in(kept(tmp_path)["text"])[0] == "alpha" and kept(tmp_path)["text"] in out
    assert "b is missing: stopped\nc is missing: stopped\n" in out
    assert "the same command continues" in out.splitlines()[-1]
    assert three(alpha="stopped") == (75, ["alpha"])  # finished before: its row is as it was
    assert [*kept(tmp_path)["rows"]] == ["alpha"]
    assert three() == (0, ["alpha", "b", "c"])
    assert [*kept(tmp_path)["rows"]] == ["alpha", "b", "c"] and not kept(tmp_path)["missing"]


def test_trials_stopped_before_anything_is_finished_have_no_table(three, tmp_path, capsys):
    assert three(alpha="stopped") == (75, ["alpha"])
    assert capsys.readouterr().out.startswith("stopped; the same command continues")
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_sibling_that_is_lost_does_not_hide_the_others(three, tmp_path, capsys):
    assert three(b="lost") == (1, ["alpha", "b", "c"])
    assert [*kept(tmp_path)["rows"]] == ["alpha", "c"]
    assert "b is missing: b: the loss of no copy is finite" in capsys.readouterr().out


def test_data_that_cannot_be_read_cost_no_step(tmp_path, capsys):
    unreadable = (
        TINY.read_text()
        + """

@dataclass(frozen=True)
class Cut(LinearRegression):
    def dataset(self, split, seed):
        def read(i, example):
            if split == "train" and i >= 40:
                raise OSError(5, "cannot be read", "data.csv")
            return example

        return super().dataset(split, seed).map_with_index(read)


experiment = replace(experiment, task=Cut(d=2, examples=3), save_every=12, eval_every=12)
"""
    )
    (tmp_path / "cut.py").write_text(unreadable)
    with pytest.raises(SystemExit) as stop:
        cli.main(["trials", str(tmp_path / "cut.py"), "--seeds", "1", "--out", str(tmp_path / "o")])
    assert stop.value.code == 1
    assert "data.csv'; the same command continues from step 5" in capsys.readouterr().err
    assert (tmp_path / "o" / "cut" / "checkpoints" / "5").is_dir()


def test_only_some_siblings_are_trained_and_finished_ones_stay_in_the_table(
    three, tmp_path, capsys
):
    assert three("--only", "c") == (0, ["c"])
    assert kept(tmp_path)["missing"] == dict.fromkeys(["alpha", "b"], "--only leaves it out")
    assert three("--only", "alpha") == (0, ["alpha"])
    assert [*kept(tmp_path)["rows"]] == ["alpha", "c"] and [*kept(tmp_path)["missing"]] == ["b"]
    assert three("--only", "b", "--steps", "14") == (0, ["b"])  # the others have not got so far
    assert [*kept(tmp_path)["rows"]] == ["b"]
    for words, part in (
        (["alhpa"], "no sibling 'alhpa': did you mean 'alpha'?"),
        (["c", "x"], "no sibling 'x': choose from 'alpha', 'b', 'c'"),
        ([], "one name of a sibling or several"),
    ):
        assert three("--only", *words) == (2, [])
        assert part in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_sibling_that_is_left_out_is_not_built(three, tmp_path, monkeypatch, capsys):
    built, experiment = set(), Recipe.experiment

    def noting(recipe):
        built.add(recipe.member)
        return experiment(recipe)

    monkeypatch.setattr(Recipe, "experiment", noting)
    for words in (("--only", "nope"), ("--rates", "0"), ("--only", "c", "--seeds", "0")):
        assert three(*words) == (2, []) and built <= {None}
    assert three("--only", "c") == (0, ["c"]) and built <= {None, "c"}
