"""The page about a set of runs: what it gathers, what it tells, and that it needs nothing else."""

import csv
import json
import math
import os
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from experiment_files import FILES

from wsrnn import cli, page, tree
from wsrnn.evaluations import Evaluation
from wsrnn.page import published
from wsrnn.page.groups import spread
from wsrnn.page.inside import principal
from wsrnn.recipe import Recipe
from wsrnn.tasks.archive import Archive
from wsrnn.tasks.images import ImageClasses, ImageCompletion
from wsrnn.tasks.regression import LinearRegression
from wsrnn.tasks.series import Ett, Series, Traffic
from wsrnn.tasks.systems import LotkaVolterra, MassSpringDamper, Sine

TINY = Path(__file__).with_name("tiny.py")


@pytest.fixture
def report(capsys):
    """Call `wsrnn report`; returns (exit code, stdout, stderr)."""

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            cli.main(["report", *map(str, words)])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of one config, one seed of another, and trials.

    Trained are the first and the trials; the others are the first as if trained so.
    """
    out = tmp_path_factory.mktemp("runs")
    for command, folder, *words in (
        ("train", "a0"),
        ("trials", "trials", "--seeds", "2", "--steps", "4"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main([command, str(TINY), "--out", str(out / folder), *words])
        assert stop.value.code == 0
    for folder, factor in (("a1", 1.25), ("b0", 1.5)):
        shutil.copytree(out / "a0", out / folder)
        record = json.loads((out / folder / "config.json").read_text())
        results = json.loads((out / folder / "results.json").read_text())
        if folder == "a1":
            record["experiment"]["seed"] = 1
        else:
            record["experiment"]["model"]["root"]["width"] = 5
        own = results["rows"]["this model"]
        results["rows"]["this model"] = [factor * value for value in own]
        (out / folder / "config.json").write_text(json.dumps(record))
        (out / folder / "results.json").write_text(json.dumps(results))
    return out


class Page(HTMLParser):
    """Checks that elements close, and keeps the rows of tables and all attributes."""

    VOID = ("meta", "img", "br", "use", "path", "link", "rect")

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text("utf-8")
        self.open, self.rows, self.attributes = [], [], []
        self.feed(self.text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, start):
        (found,) = [row for row in self.rows if row and row[0].startswith(start)][:1]
        return found


def csv_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def copy(runs, folder, name="a0"):
    shutil.copytree(runs / name, folder / name)
    return folder / name


def test_runs_that_differ_in_the_seed_alone_are_one_row(runs, tmp_path, report):
    code, out, _ = report(runs, "--out", tmp_path / "page.html")
    assert code == 0 and "5 trainings in 3 groups" in out
    shown = Page(tmp_path / "page.html")
    assert [row[0] for row in shown.rows if row[0].startswith("width")][:2] == [
        "width 4, steps 12", "width 5, steps 12",
    ]  # fmt: skip
    results = [json.loads((runs / f"a{k}/results.json").read_text()) for k in (0, 1)]
    values = [result["rows"]["this model"][1] for result in results]
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    assert f"{mean:.4f}" in shown.row("width 4, steps 12")
    assert f"± {deviation:.4f}" in shown.row("width 4, steps 12")
    assert "zerobaseline" in [row[0] for row in shown.rows]


def test_the_csv_holds_what_the_table_shows(runs, tmp_path, report):
    report(runs, "--out", tmp_path / "page.html")
    shown, rows = Page(tmp_path / "page.html"), csv_rows(tmp_path / "page.csv")
    head = shown.rows[0]
    for label in ("width 4, steps 12", "width 5, steps 12", "width 4, steps 4"):
        cells = shown.row(label)
        own = [row for row in rows if row["group"] == label]
        for metric in ("n=0", "n=3"):
            values = [float(row["value"]) for row in own if row["metric"] == metric]
            assert f"{statistics.mean(values):.4f}" in cells
            assert len(values) == 1 or f"± {statistics.stdev(values):.4f}" in cells
        assert {row["seed"] for row in own} == ({"0"} if "5" in label else {"0", "1"})
    assert "seeds" in head and "parameters" in head
    known = {row["metric"]: row["value"] for row in rows if row["group"] == "width 5, steps 12"}
    assert float(known["parameters"]) > 0 and float(known["steps"]) == 12
    assert {row["kind"] for row in rows} == {"result", "cost", "baseline"}


def test_the_page_needs_no_other_file(runs, tmp_path, report):
    report(runs, "--out", tmp_path / "page.html")
    shown = Page(tmp_path / "page.html")
    for tag, name, value in shown.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("data:image/png;base64,", "#")), (tag, name, value[:50])
    assert not re.search(r"url\((?!#)|@import|<script|<link", shown.text)
    assert shown.text.count("<svg") == 3 and "data:image/png" in shown.text
    ids = [value for _, name, value in shown.attributes if name == "id"]
    assert len(ids) == len(set(ids))  # those of several figures too
    assert shown.text == (tmp_path / "page.html").read_text()
    before = shown.text
    report(runs, "--out", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == before
    assert sorted(os.listdir(tmp_path)) == ["page.csv", "page.html"]


def test_names_are_escaped(runs, tmp_path, report):
    folder = copy(runs, tmp_path / "<i>in")
    record = json.loads((folder / "config.json").read_text())
    record["recipe"]["name"] = "<script>alert(1)</script>"
    (folder / "config.json").write_text(json.dumps(record))
    results = json.loads((folder / "results.json").read_text())
    results["columns"][0], results["rows"]["<b>&"] = '"><b>', results["rows"].pop("zero")
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "timing.jsonl").write_text("<u>")
    code, *_ = report(tmp_path, "--out", tmp_path / "page.html", "--title", "<s> & co")
    shown = Page(tmp_path / "page.html")
    assert code == 0 and not re.search(r"<script|<b>|<u>|<i>|<s>", shown.text)
    assert "<b>&baseline" in [row[0] for row in shown.rows] and '"><b>' in shown.rows[0]
    assert "&lt;s&gt; &amp; co" in shown.text


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("file", "content", "note"),
    [
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[1]", "config.json is damaged"),
        ("config.json", None, "is not a run"),
        ("results.json", '{"rows": {"x": [1]}, "columns": ["a", "b"]}', "table cannot be read"),
        ("results.json", '{"test": {"loss": "low"}}', "table cannot be read"),
        ("results.json", "{", "results.json is damaged"),
        ("results.json", None, "has no test results"),
        ("metrics.jsonl", '{"step": 3, "loss": 1.0}\n{"st', "has done 3 of 12 steps"),
        ("metrics.jsonl", '{"step": 3, "loss": 1.0}\n', "it lacks the steps 1 to 2"),
        ("metrics.jsonl", "\0\0", "metrics.jsonl is damaged"),
        ("metrics.jsonl", '[]\n"loss"\n', "metrics.jsonl is damaged"),
        ("timing.jsonl", '{"step": 3}\n', "timing.jsonl is damaged"),
        ("figures/error.png", "no picture", "error.png is damaged"),
        ("figures/error.png", half, "error.png is damaged"),
        ("trials.json", "{}", "it is not what trials write"),
    ],
)
def test_a_damaged_run_is_shown_with_what_it_has_and_a_note(
    runs, tmp_path, report, file, content, note
):
    folder = copy(runs, tmp_path)
    if content is None:
        (folder / file).unlink()
    elif callable(content):
        content(folder / file)
    else:
        (folder / file).write_text(content)
    before = sorted(path.name for path in folder.iterdir())
    code, out, err = report(folder, "--out", tmp_path / "page.html")
    assert code == 0 and note in out and "Traceback" not in err
    shown = Page(tmp_path / "page.html")
    assert note in re.sub(r"&#x27;", "'", shown.text)
    assert ("n=3" in shown.text) == (file not in ("results.json", "trials.json"))
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_run_and_its_copy_count_once(runs, tmp_path, report):
    copy(runs, tmp_path)
    code, out, _ = report(runs / "a0", tmp_path, runs, "--out", tmp_path / "page.html")
    assert code == 0 and "left out" in out and "3 groups" in out


def test_a_place_without_runs_is_named_and_nothing_written(runs, tmp_path, report):
    (tmp_path / "empty").mkdir()
    for words, part in (
        ((runs, tmp_path / "empty"), "empty holds no run"),
        ((tmp_path / "nowhere",), "nowhere does not exist"),
        ((TINY,), "tiny.py is a file"),
        ((), "needs run folders"),
        ((runs, "--steps", "3"), "unknown flag --steps"),
        ((runs, "--variant", "v"), "option of wsrnn train"),
        ((runs, "--out", tmp_path), "name an .html file"),
        ((runs, "--out", tmp_path / "page.txt"), "name an .html file"),
        ((runs, "--figures", "other"), "theta"),
    ):
        out = () if "--out" in words else ("--out", tmp_path / "page.html")
        code, printed, err = report(*words, *out)
        assert (code, printed) == (2, "") and part in err.strip().splitlines()[-1]
    assert os.listdir(tmp_path) == ["empty"]


def test_what_the_file_holds_is_not_executed(runs, tmp_path, report):
    folder = copy(runs, tmp_path)
    record = json.loads((folder / "config.json").read_text())
    record["recipe"]["source"] = "raise SystemExit('executed')"
    (folder / "config.json").write_text(json.dumps(record))
    assert report(folder, "--out", tmp_path / "page.html")[0] == 0


def test_models_are_drawn_where_it_is_asked_for(runs, tmp_path, report):
    words = ("--figures", "theta", "root", "--out", tmp_path / "page.html")
    code, out, _ = report(runs / "a0", runs / "trials", *words)
    shown = Page(tmp_path / "page.html").text
    assert code == 0 and "is not drawn" not in out
    assert shown.count("principal components") == shown.count("function at several t") == 1
    shutil.rmtree(copy(runs, tmp_path, "b0") / "checkpoints")
    code, out, _ = report(tmp_path / "b0", *words)
    assert code == 0 and "its model is not drawn" in out


def test_the_principal_plane_holds_all_of_what_lies_in_a_plane():
    rng = np.random.default_rng(0)
    plane, points = np.linalg.qr(rng.normal(size=(7, 2)))[0], rng.normal(size=(3, 5, 2)) * [3, 1]
    found, parts = principal(points @ plane.T + 4)
    assert math.isclose(parts.sum(), 1, rel_tol=1e-9)
    flat, back = (x.reshape(-1, 2) - x.reshape(-1, 2).mean(0) for x in (points, found))
    between = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (flat, back)]
    np.testing.assert_allclose(*between, atol=1e-9)


def test_the_spread_leaves_out_what_is_not_finite():
    found = spread([1.0, 2.0, 4.0, math.nan, math.inf])
    assert found == pytest.approx((7 / 3, statistics.stdev([1, 2, 4]), 3))
    assert spread([2.0]) == (2.0, None, 1) and spread([math.nan]) is None


def test_every_published_number_has_a_source_that_is_explained():
    tables, words = published.document()
    assert tables and all(table.source and table.setting for table in tables)
    assert {number.trust for table in tables for number in table.numbers} <= words.keys()


TITLES = {  # the start of a table's title, by a part of an experiment that it goes with
    "MNIST": ImageCompletion(),
    "CelebA": ImageCompletion(images="celeba"),
    "Traffic": Traffic(),
    "Mass, spring": MassSpringDamper(),
    "Lotka-Volterra": LotkaVolterra(),
    "SINE": Sine(),
    "ETT": Ett(name="ETTm1"),
    "In-context": Recipe.read(FILES["figure5"]).experiment().evaluation,
    "UEA": Archive("Heartbeat"),
}


def test_every_published_table_goes_with_a_task():
    found = [table.title for table in published.document()[0]]
    assert [next(t for t in found if t.startswith(title)) for title in TITLES] == found


@pytest.mark.parametrize(
    ("part", "title"),
    [*((part, title) for title, part in TITLES.items()),
     (ImageClasses(), None), (ImageCompletion(images="fashion_mnist"), None),
     (Archive("BasicMotions"), None), (LinearRegression(), None)],
)  # fmt: skip
def test_published_numbers_stand_with_their_task(part, title):
    name = "evaluation" if isinstance(part, Evaluation) else "task"
    config = tree.flatten_tree(tree.to_tree(part), name)  # as a run records it
    (section,) = page.gather([page.runs.Trained(Path("run"), "mine", config=config, seed=0)])
    found = [table.title for table in published.published(section)]
    assert len(found) == (title is not None) and all(t.startswith(title) for t in found)


@pytest.mark.parametrize("side", [28, 14])
def test_published_numbers_stand_in_line_with_the_same_setting_alone(tmp_path, side):
    config = {"task": "ImageCompletion", "task.side": side, "task.images": "mnist"}
    run = page.runs.Trained(tmp_path, "mine", config=config, seed=0, results={"L=300": 0.1234})
    (tmp_path / "page.html").write_text(page.page(page.gather([run]), "t"))
    shown = Page(tmp_path / "page.html")
    assert (["WARPpublished, Table 1", "0.042", ""] in shown.rows) == (side == 28)
    assert ["WARP", "0.071recalled", "0.042notes", "0.014air"] in shown.rows


def test_a_baseline_has_the_columns_of_all_groups(tmp_path):
    made = [
        page.runs.Trained(
            tmp_path, "mine", config={"task": "Mine", "task.context": L}, seed=0,
            results={f"L={L}": error}, baselines={"mean": {f"L={L}": 2 * error}},
        )
        for L, error in ((100, 3.0), (600, 1.0))
    ]  # fmt: skip
    (tmp_path / "page.html").write_text(page.page(page.gather(made), "t"))
    (row,) = [row for row in Page(tmp_path / "page.html").rows if row[0] == "meanbaseline"]
    assert row[1:3] == ["6.0000", "2.0000"]


def test_data_sets_make_a_heat_map(tmp_path):
    made = [
        page.runs.Trained(
            tmp_path, "ett", config={"task.name": name, "model": "WarpConfig"}, seed=seed,
            results={"MSE": value}, baselines={"last": {"MSE": 4.0}},
        )
        for name, seed, value in (("ETTh1", 0, 1.0), ("ETTh1", 1, 3.0), ("ETTm1", 0, 5.0))
    ]  # fmt: skip
    (tmp_path / "page.html").write_text(page.page(page.gather(made), "t"))
    shown = Page(tmp_path / "page.html")
    assert ["", "ETTh1", "ETTm1"] in shown.rows
    assert ["Warp", "2", "5"] in shown.rows and ["last", "4", "4"] in shown.rows


def test_a_data_set_is_the_class_of_the_task_and_what_names_its_data(tmp_path):
    tasks = [Archive("Heartbeat"), Archive("EigenWorms"), ImageClasses(), ImageCompletion(),
             Traffic(), Series()]  # fmt: skip
    made = [
        page.runs.Trained(
            tmp_path, "mine", config=tree.flatten_tree(tree.to_tree(task), "task") | {"model": "M"},
            seed=0, results={"error": float(k)},
        )
        for k, task in enumerate(tasks)
    ]  # fmt: skip
    (tmp_path / "page.html").write_text(page.page(page.gather(made), "t"))
    rows = Page(tmp_path / "page.html").rows
    at = rows.index(["", "Heartbeat", "EigenWorms", "ImageClasses mnist", "ImageCompletion mnist"])
    assert rows[at + 1] == ["M", "0", "1", "2", "3"]
    (tmp_path / "page.html").write_text(page.page(page.gather(made[4:]), "t"))
    assert "by data set" not in Page(tmp_path / "page.html").text
