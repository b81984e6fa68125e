"""What the README shows runs."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from experiment_files import FILES

from wsrnn import cli
from wsrnn.recipe import Recipe

README = Path(__file__).parents[1] / "README.md"


def test_it_is_short_and_its_links_lead_somewhere():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (README.parent / link).exists(), link


def test_every_file_and_function_of_its_map_exists():
    package = "\n".join(p.read_text() for p in (README.parent / "wsrnn").rglob("*.py"))
    part = README.read_text().partition("## The map")[2].partition("## Development")[0]
    for name in re.findall(r"`([\w./]+)`", part):
        if "/" in name and name.endswith((".py", "/")):
            assert (README.parent / "wsrnn" / name).exists() or name == "wsrnn/", name
        else:
            word = name.rpartition(".")[2]
            defined = rf"(def|class) {word}\b|^ *{word}(:| =)|\.{word}\("
            module = any((README.parent / "wsrnn").rglob(f"{word}.py"))
            assert module or re.search(defined, package, re.M), name


def test_the_experiment_file_trains_on_a_csv(tmp_path, monkeypatch, capsys):
    block = re.search(r"```python\n(from dataclasses.*?)```", README.read_text(), re.S)
    (tmp_path / "mine.py").write_text(block[1])
    rows = np.random.default_rng(0).normal(size=(500, 3)).cumsum(0)
    np.savetxt(tmp_path / "mine.csv", rows, delimiter=",", header="a,b,c")
    monkeypatch.chdir(tmp_path)
    few = ["--steps", "2", "--batch-size", "8", "--eval-batches", "1", "--task.length", "8"]
    with jax.numpy_rank_promotion("allow"), pytest.raises(SystemExit) as stop:
        cli.main(["train", "mine.py", "--model.transition.places", "2", *few])
    assert stop.value.code == 0, capsys.readouterr().err
    assert (tmp_path / "runs" / "mine" / "results.json").is_file()


FLAG = r"--[a-z]+\.[\w.-]+(?: [\w.]+)+|[a-z]+(?:\.[a-z]+)+:[a-z-]+"
VALUES = {"D": "8", "M": "2"}  # of what the README leaves open
ELSEWHERE = {  # what stands with another file than the default
    "--evaluation.tables": ["real_tables"],
    "--task.path": ["forecasting", "--variant", "csv"],
}
PROSE = re.sub(r"```.*?```", "", README.read_text(), flags=re.S)
EXAMPLES = [
    words
    for span in re.findall(r"`([^`]+)`", PROSE)
    if (words := " ".join(re.findall(FLAG, span)).split()) and "mine.py" not in span  # see above
]


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_its_flags_work_on_the_experiment_that_they_stand_with(words, capsys):
    name, *variant = ELSEWHERE.get(words[0], ["in_context"])
    with pytest.raises(SystemExit) as stop:
        cli.main(["show", str(FILES[name]), *variant, *(VALUES.get(word, word) for word in words)])
    assert stop.value.code == 0, capsys.readouterr().err


def test_it_has_examples_of_flags_and_classes():
    every = [word for words in EXAMPLES for word in words]
    assert {"--task.d", "--model.root.width", "model.root:gated", "model.lift:none"} <= {*every}


def test_the_variants_it_names_exist():
    named = re.findall(r"(\w+)\.py --variant (\w+)", PROSE)
    assert named and all(variant in Recipe.read(FILES[file]).variants() for file, variant in named)
