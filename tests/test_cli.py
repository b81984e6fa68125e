"""The command line: what works prints a result, a mistake gets one clear line."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from experiment_files import FILES
from numerics import close

import wsrnn
from wsrnn import cli, data
from wsrnn.recipe import Recipe

TINY = Path(__file__).with_name("tiny.py")
PARTS = Path(__file__).with_name("parts.py")
SINES = Path(__file__).with_name("sines.py")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", str(TINY), "--out", str(out)])
    assert stop.value.code == 0
    return out


def refused(result, *parts):
    code, out, err = result
    assert code == 2 and out == ""
    line = err.strip().splitlines()[-1]
    assert line.startswith("wsrnn: ")
    assert "Traceback" not in err
    for part in parts:
        assert part in line


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, wsrnn.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'flax', 'grain', 'matplotlib', 'tyro'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert all(command in shown.stdout for command in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0 and f"usage: wsrnn {command}" in out and "--json" in out
    fields = cli.COMMANDS[command].fields
    assert ("--model.root.width" in out and "the units of each layer" in out) == fields
    assert ("model.transition:dense" in out and "A full matrix, as in the paper" in out) == fields


@pytest.mark.parametrize("words", [[TINY], [TINY, "--variant", "poisoned"]])
def test_help_lists_options_fields_and_classes(run, words):
    code, out, _ = run("train", *words, "evaluation:loss-only", "--help")
    assert code == 0 and "--init-from" in out and "--optim.learning-rate" in out
    assert ("--task.sound" in out) == (len(words) > 1)
    assert "tiny.py (variants: poisoned)" in out
    assert "model:rnn" in out and "task:sinusoid" in out
    assert "--evaluation.prefixes" not in out  # which the class that was named does not have
    out = run("train", *words, "--help")[1]
    assert "--evaluation.prefixes" in out and "evaluation:loss-only" in out


def test_help_lists_the_classes_of_inner_parts(run):
    out = run("show", PARTS, "model.root:formula", "--help")[1]
    for word in (
        "* model.root:formula",
        "  model.root:mlp",
        "* model.root.inner:mlp",
        "  model.transition:low-rank",
        "* model.lift:none",
        "  model.root:my-own",
    ):
        assert f" {word}" in out
    assert "--model.root.outputs" in out and "--model.root.inner.width" in out
    out = run("show", PARTS, "--help", "--variant", "pile")[1]
    assert "  model.last.root:gated " in out and "--model.last.root.width" in out


def test_help_for_a_run_shows_its_own_values(run, trained):
    code, out, _ = run("eval", trained, "--help")
    assert code == 0 and "usage: wsrnn eval DIR" in out and "--step" in out
    assert f"the run {trained}" in out
    assert "(default: 12)" in out  # steps


@pytest.fixture
def config(run):
    """The fields that the words of a command line make of an experiment file."""

    def call(file, *words):
        code, out, err = run("show", file, "--json", *words)
        assert code == 0, err
        return json.loads(out)["config"]

    return call


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--model.root.width 32", {"root": "Mlp", "root.width": 32}),
        ("model.root:mlp", {"root": "Mlp", "root.width": 7}),  # that of the file
        ("model.root:gated", {"root": "Gated", "root.width": 24}),  # another: at its defaults
        ("model.root:gated --model.root.width 12", {"root": "Gated", "root.width": 12}),
        ("--model.root.width 12 model.root:gated", {"root": "Gated", "root.width": 12}),
        ("--model.transition.rank 8 --steps 3 model.transition:low-rank", {"transition.rank": 8}),
        ("model.lift:mlp-lift --model.lift.size 9", {"lift": "MlpLift", "lift.size": 9}),
        ("model.lift:mlp-lift model.root:gated", {"lift.size": 5, "root": "Gated"}),
        ("model.lift:none", {"lift": None}),
        (
            "model.root.inner:gated --model.root.inner.width=3 model.root:formula",
            {"root": "Formula", "root.inner": "Gated", "root.inner.width": 3, "root.outputs": 1},
        ),
        ("model.root:my_own --model.root.wiggles 4", {"root": "MyOwn", "root.wiggles": 4}),
        ("--variant own --model.root.names a b", {"root": "MyOwn", "root.names": ["a", "b"]}),
        ("--variant own model.root:mlp", {"root": "Mlp", "root.width": 24}),
        ("--variant pile model.last.root:gated", {"last.root": "Gated", "last.root.width": 24}),
        ("model.last.transition:low-rank --variant pile --model.last.transition.rank 2",
         {"last.transition.rank": 2}),
    ],
)  # fmt: skip
def test_a_part_may_be_of_another_class(config, words, fields):
    shown = config(PARTS, *words.split())
    assert {name: shown[f"model.{name}"] for name in fields} == fields


def test_whole_parts_of_an_experiment_are_chosen_by_name(config):
    words = ["evaluation:step-scores", "task:linear-system", "model:rnn", "--model.width", "5"]
    shown = config(TINY, *words, "--task.pairs", "True", "--model.layout", "read_before_write")
    assert (shown["task"], shown["model"], shown["model.width"]) == ("LinearSystem", "RnnConfig", 5)
    assert shown["evaluation"] == "StepScores" and shown["steps"] == 12


def test_options_and_fields_stand_in_any_order(config):
    groups = [["--variant", "poisoned"], ["--steps", "7"], ["evaluation:loss-only"],
              ["--task.sound=5"], ["model.head.final:clip"],
              ["--model.head.final.bound", "2"]]  # fmt: skip
    first = config(TINY, *chain(*groups))
    assert (first["steps"], first["task.sound"]) == (7, 5)
    for i in range(1, len(groups)):
        assert config(TINY, *chain(*groups[i:], *groups[:i])) == first
    assert config(TINY, *chain(*groups[::-1])) == first


def test_a_field_takes_several_words(config):
    tables = FILES["real_tables"]
    shown = config(tables, "--evaluation.tables", "a.csv", "b.py", "--evaluation.draws", "3")
    assert shown["evaluation.tables"] == ["a.csv", "b.py"] and shown["evaluation.draws"] == 3
    shown = config(TINY, "--evaluation.prefixes", "1", "2", "3", "model:warp", "--steps", "2")
    assert shown["evaluation.prefixes"] == [1, 2, 3]


def test_classes_may_be_named_without_a_file(run):
    code, out, _ = run("show", "evaluation:loss-only", "--json")
    assert code == 0 and json.loads(out)["config"]["evaluation"] == "LossOnly"


def test_an_experiment_file_is_executed_once(run, tmp_path):
    count = tmp_path / "count"
    source = TINY.read_text().replace(
        "    sound: int = 10**9\n", "    sound: int = 10**9\n    data_dir: str | None = None\n"
    )
    file = tmp_path / "counts.py"
    file.write_text(f"{source}\nopen({str(count)!r}, 'a').write('x')\n")
    out = ["--out", tmp_path / "r", "--steps", "1", "--variant", "poisoned", "--json"]
    code, out, _ = run("train", file, "--data-dir", tmp_path, *out)
    assert code == 0 and json.loads(out)["step"] == 1
    assert count.read_text() == "x"


def test_the_default_experiment_is_the_main_job(run):
    code, out, _ = run("show", "--json")
    shown = json.loads(out)
    assert code == 0 and shown["config"]["task"] == "LinearRegression"
    assert shown["config"]["model.mode"] == "conv"


@pytest.mark.parametrize("path", FILES.values(), ids=FILES)
def test_every_experiment_and_variant_can_be_shown(run, path):
    for variant in [None, *Recipe.read(path).variants()]:
        code, out, _ = run("show", path, "--json", *(["--variant", variant] if variant else []))
        shown = json.loads(out)
        assert code == 0
        assert shown["parameters"]["total"] == sum(
            n for part, n in shown["parameters"].items() if part != "total"
        )
        assert len([k for k in shown["config"] if "." not in k]) <= 20


def test_show_counts_what_a_model_really_holds(run):
    code, out, _ = run("show", TINY, "--json", "model.start:learned")
    shown = json.loads(out)
    model = Recipe.read(TINY).experiment().build_model()
    sizes = {
        "B": model.B[...].size,
        "A": model.A["matrix"][...].size,
        "phi": model.phi.theta[...].size,
    }
    assert code == 0 and {k: shown["parameters"][k] for k in sizes} == sizes
    P, T, channels = 17, 4, 3 + 1  # the lifted tokens and the impulse of the start
    assert shown["sizes"]["P"] == P and shown["sizes"]["kernel bytes"] == 4 * P * T * channels


def test_training_prints_one_json_document(run, tmp_path):
    code, out, err = run("train", TINY, "--json", "--out", tmp_path / "r", "--steps", "4")
    document = json.loads(out)
    assert code == 0 and document["step"] == 4 and "validation" in err
    assert document["columns"] == ["n=0", "n=3"] and len(document["rows"]["this model"]) == 2


def test_the_main_job_can_be_tried_in_a_few_steps(run, tmp_path):
    code, out, _ = run("train", "--steps", "2", "--batch-size", "8", "--out", tmp_path / "r")
    assert code == 0 and "this model" in out


QUICK_SWEEP = (
    *("--steps", "4", "--eval-every", "2", "--optim.schedule.warmup", "0"),
    *("--task.examples", "5", "--mesh.data", "1"),
)


def test_a_sweep_trains_siblings_and_compares_them(run, tmp_path):
    out = tmp_path / "both"
    code, printed, _ = run("train", FILES["modes"], "--out", out, "--json", *QUICK_SWEEP)
    document = json.loads(printed)
    assert code == 0 and set(document["rows"]) == {"scan", "conv"}
    assert document["rows"]["conv"]["relative"] < 1e-5
    assert document["rows"]["scan"]["validation loss"] > 0
    for name in ("loss", "time"):
        assert (out / "figures" / f"{name}.png").is_file()


def test_a_flag_that_leaves_one_sibling_makes_a_single_run(run, tmp_path):
    flags = ("--out", tmp_path / "one", *QUICK_SWEEP)
    code, _, _ = run("train", FILES["modes"], "--model.mode", "scan", *flags)
    assert code == 0 and (tmp_path / "one" / "metrics.jsonl").is_file()
    refused(run("train", FILES["modes"], *flags), "single run")


def test_eval_judges_any_checkpoint_in_any_mode(run, trained):
    results = {}
    for mode in ("scan", "conv"):
        code, out, _ = run("eval", trained, "--step", "last", "--model.mode", mode, "--json")
        results[mode] = json.loads(out)
        assert code == 0 and results[mode]["step"] == 12 and results[mode]["mode"] == mode
    np.testing.assert_allclose(
        results["scan"]["rows"]["this model"], results["conv"]["rows"]["this model"], rtol=1e-4
    )
    code, out, _ = run("eval", trained)
    assert code == 0 and "this model" in out


def test_eval_with_flags_keeps_the_runs_own_result(run, trained):
    before = (trained / "results.json").read_text()
    shutil.rmtree(trained / "evaluations", ignore_errors=True)  # of the tests before this one
    code, out, _ = run("eval", trained, "--json", "--model.mode", "scan")
    document = json.loads(out)
    assert code == 0 and document["flags"] == ["--model.mode", "scan"]
    assert (trained / "results.json").read_text() == before
    written = list((trained / "evaluations").glob("*scan/results.json"))
    assert len(written) == 1


def test_predict_on_an_npz_is_the_model(run, trained, tmp_path):
    model, experiment = wsrnn.load(trained)
    batch = data.examples(experiment.task, "test", 0, 5)
    np.savez(tmp_path / "mine.npz", inputs=batch.inputs)
    code, out, _ = run("predict", trained, tmp_path / "mine.npz", "--json")
    document = json.loads(out)
    written = np.load(document["outputs"])
    assert code == 0
    np.testing.assert_allclose(written["outputs"], model(batch.inputs, batch.times), rtol=1e-5)
    assert Path(document["figure"]).read_bytes()[:4] == b"\x89PNG"


def test_predict_on_a_csv_with_sequences_of_unequal_length(run, trained, tmp_path):
    rows = [
        ("b", 2.0, 5, 6, 7),
        ("a", 0, 1, 2, 3),
        ("b", 1.0, 1, 2, 3),
        ("a", 1, 0, 0, 1),
        ("a", 2, 1, 1, 1),
    ]
    lines = ["id,t,u,v,w", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    # step by step, where the length that sequences are padded to cannot change the rounding
    scan, out = ("--model.mode", "scan"), tmp_path / "p.npz"
    code, _, _ = run("predict", trained, tmp_path / "mine.csv", "--out", out, *scan)
    written = np.load(out)
    model, _ = wsrnn.load(trained, flags=scan)
    assert code == 0 and written["ids"].tolist() == ["b", "a"]
    assert written["lengths"].tolist() == [2, 3]
    alone = model(np.array([[[1, 2, 3], [5, 6, 7]]], np.float32), np.array([[0, 1]], np.float32))
    close(written["outputs"][0, :2], alone[0], 5e-6)  # float32, in a batch of another shape
    assert np.isnan(written["outputs"][0, 2:]).all()


@pytest.fixture
def sines(run, tmp_path):
    """Train sines.py for its one step, with flags; returns the run."""

    def call(*flags):
        code, _, err = run("train", SINES, *flags, "--out", tmp_path / "sines")
        assert code == 0, err
        return tmp_path / "sines"

    return call


def test_predictions_have_the_times_that_the_task_trains_with(run, sines, tmp_path):
    folder = sines()
    model, experiment = wsrnn.load(folder)
    batch = data.examples(experiment.task, "test", 0, 2)
    rows = [f"{i},{t},{x},{y}" for i in (0, 1) for t, (x, y) in enumerate(batch.inputs[i])]
    for path in (
        npz(tmp_path / "mine.npz", inputs=batch.inputs),
        text(tmp_path / "mine.csv", "\n".join(["id,t,x,known", *rows])),
    ):
        code, out, _ = run("predict", folder, path, "--json")
        written = np.load(json.loads(out)["outputs"])
        assert code == 0
        np.testing.assert_allclose(written["times"], [np.arange(1, 8) / 7] * 2, rtol=1e-6)
        close(written["outputs"], model(batch.inputs, batch.times), 1e-5)


@pytest.mark.parametrize(
    ("variant", "parts"),
    [
        ("fed_back", ["Sine feeds predictions back", "call model.rollout"]),
        ("windows", ["Series counts in units of each context", "task.statistics"]),
        ("fixed", ["cannot read these sequences: inputs must have T = 7 steps, got 5"]),
    ],
)
def test_what_predict_cannot_do_is_refused(run, sines, tmp_path, variant, parts):
    rows = "\n".join(f"{t},{np.sin(t)}" for t in range(100))
    table = text(tmp_path / "table.csv", f"t,x\n{rows}\n")
    flags = ["--task.path", table] if variant == "windows" else []
    folder = sines("--variant", variant, *flags)
    path = npz(tmp_path / "mine.npz", inputs=np.zeros((1, 5, 2), np.float32))
    refused(run("predict", folder, path), *parts)


@pytest.fixture
def bench(run, tmp_path):
    """Benchmark the tiny experiment with flags; returns the document and where it was written."""

    def call(*flags):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        code, out, _ = run("bench", TINY, "--repeats", "1", "--json", "--out", folder, *flags)
        assert code == 0
        return json.loads(out), folder

    return call


@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        (["--textbook"], ["scan", "conv", "textbook", "textbook, checkpoint"]),
        (["model.transition:rotation"], ["scan", "conv", "parallel"]),
        (["--model.weight-clip", "1"], ["scan"]),
        (["--model.mode=conv"], ["conv"]),
    ],
)
def test_bench_measures_every_mode_that_the_model_can_run(bench, flags, rows):
    document, folder = bench(*flags)
    assert document["machine"]["product"] > 0 and document["peak_mib"] > 50
    assert json.loads((folder / "bench.json").read_text()) == document
    assert (folder / "bench.png").read_bytes()[:4] == b"\x89PNG"
    assert [*document["rows"]] == rows
    for row in document["rows"].values():
        assert row["step_ms"] > 0 and row["tokens_per_s"] > 0 and row["temporary_mib"] > 0
        assert row["parameters"] > 0 and row["operations"] > 0 and row["fraction"] > 0


def test_bench_of_the_mode_that_auto_chooses_has_its_row_alone(bench):
    document, _ = bench("--model.mode=auto")
    assert [*document["rows"]] == [document["auto"]]


@pytest.mark.parametrize("flag", ["--textbook", "--errors"])
def test_a_matrix_that_would_not_fit_is_refused(run, tmp_path, monkeypatch, flag):
    monkeypatch.setattr("wsrnn.bench.rows.memory", lambda: 3000)
    refused(run("bench", TINY, flag, "--out", tmp_path / "b"), "P = 17", "leave out --textbook")
    assert not (tmp_path / "b").exists()


def test_bench_says_how_the_mode_that_auto_chooses_compares(run, bench, tmp_path):
    chosen = json.loads(run("show", TINY, "--json")[1])["config"]["model.mode"]
    document, _ = bench()
    steps = {name: row["step_ms"] for name, row in document["rows"].items()}
    assert document["auto"] == chosen
    assert document["auto_over_best"] == pytest.approx(steps[chosen] / min(steps.values()))
    (other,) = steps.keys() - {chosen}
    document, _ = bench("--model.mode", other)
    assert document["auto"] == chosen and document["auto_over_best"] is None
    argv = ["bench", TINY, "--repeats", "1", "--out", tmp_path / "b", "--model.mode"]
    assert f"auto chooses {chosen}: not timed here" in run(*argv, other)[1]
    assert f"auto chooses {chosen}: 1.00 times the step" in run(*argv, chosen)[1]


def test_bench_over_a_field_has_rows_of_each_value(bench):
    flags = ["--model.mode", "conv", "--textbook"]
    document, folder = bench("--over", "task.examples", "4", "6", *flags)
    assert document["field"] == "task.examples" and [*document["values"]] == ["4", "6"]
    for value in document["values"].values():
        assert set(value["rows"]) == {"conv", "textbook", "textbook, checkpoint"}
        assert value["auto"] in ("scan", "conv")
    assert (folder / "bench.png").read_bytes()[:4] == b"\x89PNG"
    document, _ = bench("--over", "model.mode", "scan", "conv")  # which have no scale
    assert [[*value["rows"]] for value in document["values"].values()] == [["scan"], ["conv"]]


def errors(run, file, folder, *flags):
    code, out, _ = run("bench", file, "--errors", "--json", "--out", folder, *flags)
    document = json.loads(out)
    assert code == 0 and json.loads((folder / "errors.json").read_text()) == document
    assert [path.name for path in folder.iterdir()] == ["errors.json"]
    return document


def check_errors(rows):
    for name, row in rows.items():
        # in float32 something is always rounded, and in float64 far less
        assert 1e-9 < row["outputs"] < 1e-5 and 1e-9 < row["gradients"] < 1e-4
        assert row["parameter"]
        wide = row["gradients_float64"]
        assert wide is None if name == "textbook" else wide < 1e-12


def test_bench_of_errors_compares_every_mode_with_float64(run, tmp_path):
    document = errors(run, TINY, tmp_path / "e", "model.transition:rotation")
    assert set(document["rows"]) == {"scan", "conv", "parallel", "textbook"}
    check_errors(document["rows"])


def test_bench_of_errors_where_every_step_is_read(run, tmp_path):
    source = TINY.read_text()
    task = "experiment = Experiment(\n    task=LinearRegression(d=2, examples=3)"
    assert task in source
    every = (
        "class Every(LinearRegression):\n"
        "    def steps(self, split):\n"
        "        return 'all'\n\n\n"
        "experiment = Experiment(\n    task=Every(d=2, examples=3)"
    )
    file = text(tmp_path / "every.py", source.replace(task, every))
    flags = ["--model.mode", "conv", "--over", "task.examples", "4", "6"]
    document = errors(run, file, tmp_path / "e", *flags)
    assert document["field"] == "task.examples" and [*document["values"]] == ["4", "6"]
    for value in document["values"].values():
        assert set(value["rows"]) == {"conv", "textbook"}
        check_errors(value["rows"])


def test_bench_of_errors_names_what_it_cannot_compare(run, tmp_path):
    source = TINY.read_text() + (
        "\nfrom wsrnn.models.peers.ssm import SsmConfig\n"
        "experiment = replace(experiment, model=SsmConfig(\n"
        "    width=8, states=4, layers=1, spectra=1, layout='read_before_write'))\n"
    )
    file = text(tmp_path / "ssm.py", source)
    result = run("bench", file, "--errors", "--out", tmp_path / "e")
    refused(result, "--errors", "of a WARP", "SsmConfig", "name another experiment")
    assert not (tmp_path / "e").exists()
    refused(run("bench", TINY, "--errors", "--peers"), "--errors", "leave out --peers")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["show", "--textbook"], ["--textbook", "wsrnn bench"]),
        (["bench", "--texbook"], ["did you mean --textbook?"]),
        (["bench", "--over", "evaluation", "loss-only", "loss"], ["--evaluation"]),
        (["show", "--mesh", "2"], ["--mesh holds several fields", "--mesh.data"]),
        (["show", "--model.root.wdith", "2"], ["--model.root.width?"]),
        (["bench", "--over", "--task.examples", "3"], ["without dashes"]),
        (["bench", "--over", "task.examples", "3", "3"], ["a value twice"]),
        (["bench", "--over", "seed", "1", "--over", "steps", "2"], ["one field"]),
        (["bench", "--errors", "--repeats", "2"], ["--errors times nothing"]),
        (["bench", "--mesh.data", "99"], ["visible device"]),
        (["bench", "--over", "mesh.data", "1", "99"], ["visible device"]),
    ],
)
def test_mistakes_are_found_before_anything_is_measured(run, tmp_path, words, parts):
    command, *rest = words
    out = ["--out", tmp_path / "out"] if command == "bench" else []
    refused(run(command, TINY, *rest, *out), *parts)
    assert not (tmp_path / "out").exists()


def test_a_wrong_value_is_one_line_in_any_encoding():
    for encoding in ("utf-8", "latin-1"):
        result = subprocess.run(
            [sys.executable, "-m", "wsrnn", "show", TINY, "--model.root.width", "x"],
            env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 2
        assert result.stderr.startswith("wsrnn: --model.root.width: invalid"), result.stderr
        assert len(result.stderr.splitlines()) == 1 and "---" not in result.stderr


def test_an_array_too_large_for_the_machine_is_one_line(run, monkeypatch, tmp_path):
    def huge(*_):
        raise MemoryError("Unable to allocate 1 PiB")

    monkeypatch.setattr("wsrnn.bench.measure", huge)
    code, _, err = run("bench", TINY, "--out", tmp_path / "b")
    assert code == 1 and err.startswith("wsrnn: out of memory: lower batch_size")


def test_show_lists_the_plans_that_auto_chooses_from(run):
    code, out, _ = run("show", TINY)
    document = json.loads(run("show", TINY, "--json")[1])
    mode = document["config"]["model.mode"]
    (chosen,) = [row["plan"] for row in document["plans"] if row["chosen"]]
    assert code == 0 and chosen.startswith(mode + " (")
    assert {row["plan"].split()[0] for row in document["plans"]} == {"scan", "conv"}
    assert all(row["plan"] in out for row in document["plans"])
    named = json.loads(run("show", TINY, "--json", "--model.mode", "scan")[1])["plans"]
    assert [row["plan"] for row in named] == [row["plan"] for row in document["plans"]]
    assert all(row["chosen"] == row["plan"].startswith("scan") for row in named)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def text(path, content):
    path.write_text(content)
    return path


MISTAKES = {
    "no command": ([], ["COMMAND"]),
    "unknown command": (["trian"], ["trian", "train"]),
    "unknown flag": (
        ["train", TINY, "--model.root.wdith", "3"],
        ["--model.root.wdith", "--model.root.width"],
    ),
    "unknown option": (["train", TINY, "--uot", "x"], ["--uot", "did you mean --out?"]),
    "flag given twice": (
        ["show", TINY, "--seed", "1", "--task.noise", "0", "--seed", "2"],
        ["--seed is given twice"],
    ),
    "unknown option like a field": (
        ["show", TINY, "--width", "3"],
        ["did you mean --model.root.width?"],
    ),
    "option of another command": (
        ["eval", TINY, "--init_from", "x"],
        ["wsrnn train, not of eval"],
    ),
    "unknown class": (
        ["show", TINY, "evaluation:loss-onyl"],
        ["did you mean evaluation:loss-only?"],
    ),
    "unknown part": (["show", TINY, "evaluaton:loss-only"], ["did you mean evaluation:loss-only?"]),
    "class of nothing": (["show", TINY, "model.width:3"], ["unknown class model.width:3"]),
    "a field of another class": (
        ["show", PARTS, "--model.transition.rank", "3"],
        ["model.transition:dense has no rank", "model.transition:low-rank"],
    ),
    "a class with dashes": (
        ["show", TINY, "--model.root:gated", "--steps", "3"],
        ["classes are named without dashes: model.root:gated"],
    ),
    "a misspelt class with dashes": (
        ["show", TINY, "--model.root:gatde"],
        ["unknown class --model.root:gatde: did you mean model.root:gated?"],
    ),
    "a class as a value": (
        ["show", TINY, "--model.root", "gated"],
        ["classes are named without dashes: model.root:gated"],
    ),
    "an evaluation as a value": (
        ["show", TINY, "--evaluation=loss-only"],
        ["classes are named without dashes: evaluation:loss-only"],
    ),
    "two classes for one field": (
        ["show", TINY, "model.root:gated", "model.root:mlp"],
        ["model.root:mlp is one class too many for its field"],
    ),
    "a value for an optional part": (
        ["show", TINY, "--model.head.scale", "0.1"],
        ["--model.head.scale takes no value", "model.head.scale:CLASS, one of scale, none"],
    ),
    "a field of an optional part": (
        ["show", TINY, "--model.query.waves.count", "4"],
        ["model.query.waves:none has no count", "has it, model.query.waves:waves"],
    ),
    "a misspelt optional part": (
        ["show", TINY, "model.features:feature"],
        ["did you mean model.features:features?"],
    ),
    "a loss of a task that has one": (
        ["show", TINY, "--task.loss", "nll"],
        ["task:linear-regression has no loss"],
    ),
    "numbers too many": (
        ["show", TINY, "model.lift:outer", "--model.lift.size", "1", "2", "3"],
        ["--model.lift.size: ['1', '2', '3'] is no"],
    ),
    "a class that refuses its fields": (
        ["show", PARTS, "--model.transition.rank", "0", "model.transition:low-rank"],
        ["LowRank.rank must be at least 1, got 0"],
    ),
    "a class that does not fit the others": (
        ["show", TINY, "task:linear-system"],
        ["evaluation by prefixes is for prompts"],
    ),
    "file after flags": (["show", "--steps", "3", TINY], ["tiny.py", "stand first"]),
    "value of a switch": (["show", TINY, "--json", "True"], ["unexpected argument True"]),
    "a word too many": (["eval", "nowhere", "else"], ["unexpected argument else"]),
    "flag without value": (["train", TINY, "--steps"], ["--steps"]),
    "not a number": (["train", TINY, "--steps", "many"], ["--steps", "many"]),
    "unknown mode": (["train", TINY, "--model.mode", "fft"], ["fft", "scan", "conv"]),
    "out of range": (["train", TINY, "--steps", "0"], ["steps must be at least 1", "0"]),
    "bad learning rate": (["train", TINY, "--optim.learning-rate", "-1"], ["learning_rate", "-1"]),
    "bad combination": (
        ["train", TINY, "--model.weight-clip", "0.5", "--model.mode", "conv"],
        ["weight_clip", "not linear", "set mode scan or auto"],
    ),
    "a mode that the form of A cannot run": (
        ["train", TINY, "--model.mode", "parallel"],
        ["mode parallel", "transition Dense", "set mode auto, scan or conv"],
    ),
    "a rank that the form of A does not have": (
        ["train", TINY, "--model.transition.rank", "2"],
        [
            "model.transition:dense has no rank",
            "name a class that has it, model.transition:low-rank",
        ],
    ),
    "a block that does not fit": (
        ["show", TINY, "model.transition:block-diagonal", "--model.transition.block=3"],
        ["transition BlockDiagonal: block 3 does not divide", "P = 17"],
    ),
    "a rank above P": (
        ["show", TINY, "model.transition:low-rank", "--model.transition.rank=18"],
        ["P = 17", "got 18", "set transition.rank to at most 17"],
    ),
    "a head without its loss": (
        ["train", TINY, "model.head.scale:scale"],
        ["task.loss mse", "set model.head.scale:none"],
    ),
    "a loss without its head": (
        ["show", TINY, "task:image-completion", "evaluation:loss-only", "--task.loss", "nll"],
        ["task.loss nll", "set model.head.scale:scale"],
    ),
    "batch and mesh": (
        ["train", TINY, "--batch-size", "9"],
        ["batch_size 9 is not divisible by the mesh's 8"],
    ),
    "too few devices": (["train", TINY, "--mesh.data", "9"], ["mesh.data 9", "8 visible"]),
    "more of an axis than devices": (
        ["train", TINY, "--mesh.model", "16"],
        ["mesh.model 16", "8 visible"],
    ),
    "a mesh that splits nothing": (
        ["train", TINY, "--mesh.model", "2"],
        ["mesh.model 2 would split nothing", "set mesh.model 1"],
    ),
    "no such file": (["train", "nothing.py"], ["nothing.py", "No such file"]),
    "not an experiment file": (["train", "runs"], [".py", "runs"]),
    "unknown variant": (["train", TINY, "--variant", "posioned"], ["posioned", "poisoned"]),
    "data folder without use": (["train", TINY, "--data-dir", "x"], ["reads no files"]),
    "init from nothing": (["train", TINY, "--init-from", "nowhere"], ["nowhere is not a run"]),
    "eval of nothing": (["eval", "nowhere"], ["nowhere is not a run"]),
    "predict without data": (["predict", "nowhere"], ["DATA"]),
    "prefix too long": (
        ["train", TINY, "--evaluation.prefixes", "0", "9"],
        ["[0, 9]", "3 examples"],
    ),
    "answers in the tokens": (
        ["train", TINY, "--model.layout", "standard"],
        ["hold the answers", "read_before_write"],
    ),
    "endless validation": (["train", TINY, "--eval-batches", "None"], ["no end"]),
    "no prompts": (["train", TINY, "--evaluation.prompts", "0"], ["prompts must be at least 1"]),
    "seed too large": (["train", TINY, "--seed", "5000000000"], ["seed", "2^32"]),
    "noise that is no number": (["train", TINY, "--task.noise", "nan"], ["noise"]),
    "no rates": (["trials", TINY, "--rates", "--steps", "3"], ["--rates takes one"]),
    "a number or nothing": (
        ["show", TINY, "--model.weight-clip", "x"],
        ["['x'] is no {None}|FLOAT"],
    ),
    "repeats": (["bench", TINY, "--repeats", "0"], ["--repeats"]),
    "values of no field": (["bench", TINY, "--over", "task.examples"], ["--over", "its values"]),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda name: name.replace(" ", "_"))
def test_mistakes_get_one_clear_line(run, tmp_path, monkeypatch, mistake):
    argv, parts = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    refused(run(*argv), *parts)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_a_class_that_no_flag_can_complete_says_why(run, tmp_path):
    file = text(tmp_path / "other.py", f"from wsrnn import Formula\n{TINY.read_text()}")
    missing = "model.root.formula has no default and no flag: set it in the experiment file"
    refused(run("show", file, "model.root:formula"), missing)


def test_missing_data_is_found_out_before_anything_is_written(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = FILES["images"]
    result = run("train", pixels, "--data-dir", tmp_path / "none", "--out", "r")
    refused(result, "train-images-idx3-ubyte", str(tmp_path / "none"), "get it from", "--data-dir")
    assert not (tmp_path / "r").exists()


def test_bad_output_folders(run, trained, tmp_path):
    file = text(tmp_path / "file", "x")
    refused(run("train", TINY, "--out", file), "is a file")
    refused(run("train", TINY, "--out", file / "below"), "cannot be written")
    (tmp_path / "begun").mkdir()
    text(tmp_path / "begun" / "config.json.tmp", "{")  # killed while it was written
    code, _, _ = run("train", TINY, "--out", tmp_path / "begun", "--steps", "1")
    assert code == 0
    (tmp_path / "full").mkdir()
    text(tmp_path / "full" / "thesis.tex", "x")
    refused(run("train", TINY, "--out", tmp_path / "full"), "not empty and not a run")
    result = run("train", TINY, "--out", trained, "--model.root.width", "9")
    refused(result, "another config", "model.root.width 4 -> 9", "choose another --out")
    assert (tmp_path / "full" / "thesis.tex").read_text() == "x"


def test_checkpoints_that_are_not_there_or_do_not_fit(run, trained, tmp_path):
    refused(run("eval", trained, "--step", "7"), "no step 7", "12")
    refused(run("eval", trained, "--step", "newest"), "newest")
    refused(
        run("eval", trained, "--model.root.width", "5"), "is [17, 17] there and [21, 21] in this"
    )
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    shutil.rmtree(copy / "checkpoints")
    refused(run("eval", copy), "no checkpoint yet")


def test_predictions_never_overwrite_the_data(run, trained, tmp_path):
    path = npz(tmp_path / "a.npz", inputs=np.zeros((1, 4, 3), np.float32))
    before = path.read_bytes()
    refused(run("predict", trained, path, "--out", path), "is the data itself")
    refused(run("predict", trained, path, "--out", tmp_path / "a.csv"), "written as .npz")
    assert path.read_bytes() == before
    code, _, _ = run("predict", trained, path, "--out", tmp_path, "--step", "last")
    assert code == 0 and (tmp_path / "a.npz-step-12.npz").is_file()


def test_a_task_that_breaks_its_promise_is_named_before_training(run, tmp_path):
    source = TINY.read_text()
    wider = source.replace(
        "experiment = Experiment(\n    task=LinearRegression(d=2, examples=3)",
        "class Wider(LinearRegression):\n"
        "    def build(self, *args):\n"
        "        batch = super().build(*args)\n"
        "        return batch._replace(targets=batch.targets[..., 0])\n\n\n"
        "experiment = Experiment(\n    task=Wider(d=2, examples=3)",
    )
    result = run("train", text(tmp_path / "wider.py", wider), "--out", tmp_path / "r")
    refused(result, "example 0 of Wider (train) has targets [4]", "promise [4, 1]")
    assert not (tmp_path / "r").exists()


def test_a_task_that_fails_is_one_line_with_its_place(run, tmp_path):
    failing = TINY.read_text().replace(
        "experiment = Experiment(\n    task=LinearRegression(d=2, examples=3)",
        "class Failing(LinearRegression):\n"
        "    def build(self, *args):\n"
        "        return 1 / 0\n\n\n"
        "experiment = Experiment(\n    task=Failing(d=2, examples=3)",
    )
    result = run("train", text(tmp_path / "failing.py", failing), "--out", tmp_path / "r")
    refused(result, "Failing cannot make train example 0: ZeroDivisionError", "failing.py")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--task.length", "abc"], ["abc", "--task.length"]),
        (["--task.length", "0"], ["must be at least 1", "got 0"]),
        (["--model.transition.radius", "inf"], ["radius", "finite"]),
    ],
)
def test_wrong_values_for_a_class_of_the_file_are_one_line(run, tmp_path, flags, words):
    speed = FILES["speed"]
    refused(run("train", speed, *flags, "--out", tmp_path / "r"), *words)
    assert not (tmp_path / "r").exists()


def test_batches_are_drawn_in_the_step_only_for_tasks_that_can(run, tmp_path):
    refused(run("train", TINY, "--draw", "step", "--workers", "2"), "set workers 0")
    result = run("train", TINY, "--variant", "poisoned", "--draw", "sometimes")
    refused(result, "draw")
    speed = FILES["speed"]
    result = run("train", speed, "--draw", "step", "--out", tmp_path / "r")
    refused(result, "Noise is not", "set draw host")
    assert not (tmp_path / "r").exists()


def test_two_processes_do_not_train_in_one_folder(run, tmp_path):
    (tmp_path / "r").mkdir()
    with (tmp_path / "r" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(run("train", TINY, "--out", tmp_path / "r"), "another process is training there")
    code, _, _ = run("train", TINY, "--out", tmp_path / "r", "--steps", "1")
    assert code == 0
