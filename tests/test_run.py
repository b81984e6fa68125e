"""Run folders: rebuilt from the tree of classes that they record, executing no stranger's code."""

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from edits import at
from experiment_files import FILES
from tiny import experiment as tiny

import wsrnn
from wsrnn import tree
from wsrnn.errors import UserError
from wsrnn.recipe import Recipe
from wsrnn.run import read_record, reopen

TINY = Path(__file__).with_name("tiny.py")
ROOT = TINY.parents[1]
SHORT = replace(tiny, steps=2, eval_every=2)


def module_of(name):
    assert name.startswith("wsrnn") or tree.is_installed(name)
    return sys.modules.get(name) or tree.import_module(name)


def back(value):
    """A value that went through the JSON of a run's config."""
    return tree.from_tree(json.loads(json.dumps(tree.to_tree(value), allow_nan=False)), module_of)


@pytest.mark.parametrize("path", FILES.values(), ids=FILES)
def test_every_variant_of_every_experiment_survives_the_tree(path):
    module = Recipe.read(path).module()
    sweep = getattr(module, "sweep", lambda experiment: {})
    for variant in (module.experiment, *getattr(module, "variants", {}).values()):
        for experiment in (variant, *sweep(variant).values()):
            rebuilt = back(experiment)
            assert rebuilt == experiment and type(rebuilt.model) is type(experiment.model)


@dataclass(frozen=True)
class Box:
    """Holds anything."""

    value: Any = None


def a_function(x):
    return 2 * x


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 0.1, "word", float("inf"), (1, (2, "x"), ()), [1, (2,)], {"a": 1, 2: (3,)},
        Path("/data/x.csv"), Box(Box((1, None))), a_function, jnp.sin, jax.nn.relu, jnp.maximum,
        optax.adam,
    ],
)  # fmt: skip
def test_values_survive_the_tree(value):
    assert back(Box(value)) == Box(value)
    assert type(back(value)) is type(value) or isinstance(value, PurePath)


def test_partial_functions_and_numpy_numbers_survive_the_tree():
    function = back(functools.partial(optax.adam, b1=0.8))
    assert (function.func, function.args, function.keywords) == (optax.adam, (), {"b1": 0.8})
    assert back(Box(np.float32(0.5))) == Box(0.5)
    assert np.isnan(back(Box(float("nan"))).value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda x: x, ["lambda", "top of a file"]),
        (functools.cache(lambda: 0), ["lambda"]),
        (np.zeros(3), ["experiment.value is a ndarray", "frozen dataclass"]),
        (object(), ["experiment.value is a object"]),
        (type("Lost", (), {}), ["Lost", "find again"]),
    ],
)
def test_what_a_run_cannot_record_is_named_before_training(value, words):
    with pytest.raises(UserError) as raised:
        tree.to_tree(Box(value))
    assert all(word in str(raised.value) for word in words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of an experiment made in Python."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert wsrnn.fit(SHORT, out)["step"] == 2
    return out


@pytest.fixture
def edited(trained, tmp_path):
    """A copy of the run with another config.json."""

    def copy(change, folder="copy"):
        shutil.copytree(trained, tmp_path / folder)
        config = tmp_path / folder / "config.json"
        content = json.loads(config.read_text())
        content = change(content) or content
        config.write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / folder

    return copy


def test_an_experiment_made_in_python_is_a_run_like_any_other(run, trained, tmp_path):
    _, experiment = wsrnn.load(trained)
    assert experiment == SHORT.resolve()
    code, out, _ = run("eval", trained, "--json", "--model.mode", "scan", "--step", "last")
    assert code == 0 and json.loads(out)["step"] == 2
    shutil.copytree(trained, tmp_path / "r")
    with pytest.raises(UserError, match="batch_size 8 -> 16"):
        wsrnn.fit(replace(SHORT, batch_size=16), tmp_path / "r")
    assert wsrnn.fit(replace(SHORT, steps=3), tmp_path / "r")["step"] == 3
    code, _, _ = run("train", TINY, "--steps", "4", "--eval-every", "2", "--out", tmp_path / "r")
    assert code == 0 and read_record(tmp_path / "r")["recipe"].name == "tiny"
    assert not wsrnn.fit(SHORT, tmp_path / "from", trained)["stopped"]
    assert read_record(tmp_path / "from")["init_from"] == f"{trained}@2"


def test_a_run_names_the_versions_that_wrote_it(trained):
    (writer,) = read_record(trained)["written by"]
    assert writer["wsrnn"] == wsrnn.__version__ and writer["jax"] == jax.__version__
    assert writer["python"] == sys.version.split()[0]


def poison(content, path, classes=False):
    """Give a run the text of an experiment file that writes to `path`."""
    source = TINY.read_text() + f"\nopen({str(path)!r}, 'w').write('x')\n"
    content["recipe"] = {
        "source": source, "name": "stranger", "variant": None, "member": None, "flags": []
    }  # fmt: skip
    if classes:
        task = content["experiment"]["task"]
        task["class"] = "wsrnn_experiment_stranger:Poisoned"


def test_a_strangers_text_is_not_executed_where_the_packages_classes_do(edited, run, tmp_path):
    folder = edited(lambda content: poison(content, tmp_path / "mark"))
    code, _, err = run("eval", folder)
    assert code == 0 and "executing" not in err and not (tmp_path / "mark").exists()
    assert wsrnn.load(folder)[1] == SHORT.resolve()
    assert not (tmp_path / "mark").exists()


def test_a_text_is_executed_for_its_classes_and_a_line_says_so(edited, run, tmp_path):
    folder = edited(lambda content: poison(content, tmp_path / "mark", classes=True))
    code, _, err = run("eval", folder)
    line = f"executing the code kept in {folder}/config.json: its classes are in stranger.py"
    assert code == 0 and line in err and (tmp_path / "mark").exists()
    (tmp_path / "mark").unlink()
    _, experiment = wsrnn.load(folder)
    assert type(experiment.task).__name__ == "Poisoned" and experiment.task.sound == 10**9
    assert not (tmp_path / "mark").exists()  # this process has executed it


@pytest.mark.parametrize(
    "named",
    [
        {"function": "os:system"}, {"function": "wsrnn.cli:os.system"}, {"class": "os:system"},
        {"function": "builtins:exec"}, {"function": "wsrnn.run:execute.__globals__"},
        {"class": "subprocess:Popen", "args": "true"}, {"class": "wsrnn.checkpoint:Checkpoints"},
        {"function": "wsrnn.run:contextlib"}, {"function": "wsrnn.run:Path"},
        {"partial": [{"function": "os:system"}, ["true"], {"dict": []}]},
    ],
)  # fmt: skip
def test_a_tree_names_dataclasses_and_functions_of_packages_alone(edited, run, named):
    code, _, err = run("eval", edited(at("experiment.model.mode", named)))
    assert code == 2 and "cannot be rebuilt: " in err, err


def test_a_file_of_the_current_folder_is_not_imported_for_a_tree(edited, run, monkeypatch):
    folder = edited(at("experiment.model.class", "beside_the_run:Config"))
    mark = folder / "mark"
    (folder / "beside_the_run.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")
    monkeypatch.syspath_prepend(str(folder))
    code, _, err = run("eval", folder)
    assert code == 2 and "beside_the_run, which is not installed" in err and not mark.exists()


SCRIPT = '''
import sys
from dataclasses import dataclass, replace
import wsrnn
from tiny import experiment
from wsrnn.tasks.regression import LinearRegression

@dataclass(frozen=True)
class Mine(LinearRegression):
    """A task of this script."""

    extra: int = 3

def main():
    mine = replace(experiment, task=Mine(d=2, examples=3), steps=1)
    print(wsrnn.fit(mine, sys.argv[1]))
    task = wsrnn.load(sys.argv[1])[1].task
    assert task == Mine(d=2, examples=3), task
    print(wsrnn.fit(mine, sys.argv[1]))
'''


def start(script, *argv):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, str(script), *map(str, argv)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_script_that_defines_classes_and_trains_is_kept_with_the_run(run, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(f'{SCRIPT}\nif __name__ == "__main__":\n    main()\n')
    result = start(script, tmp_path / "r")
    assert result.returncode == 0 and result.stdout.count("'step': 1") == 2, result.stderr
    assert "executing" not in result.stderr
    code, _, err = run("eval", tmp_path / "r")
    assert code == 0 and "its classes are in mine.py" in err
    assert reopen(tmp_path / "r").task.extra == 3


def test_a_file_beside_the_script_is_kept_with_the_run(run, tmp_path):
    classes, use = SCRIPT.split("def main():")
    (tmp_path / "my_tasks.py").write_text(classes)
    imports = "import sys, wsrnn\nfrom dataclasses import replace\nfrom tiny import experiment\n"
    script = tmp_path / "mine.py"
    script.write_text(f"{imports}from my_tasks import Mine\ndef main():{use}\nmain()\n")
    result = start(script, tmp_path / "r")
    assert result.returncode == 0 and result.stdout.count("'step': 1") == 2, result.stderr
    code, _, err = run("eval", tmp_path / "r")
    assert code == 0 and "its classes are in my_tasks.py" in err
    assert reopen(tmp_path / "r").task.extra == 3


def test_a_script_that_would_train_when_it_is_opened_is_refused(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(f"{SCRIPT}\nmain()\n")
    result = start(script, tmp_path / "r")
    assert result.returncode == 1 and not (tmp_path / "r").exists()
    assert 'train under `if __name__ == "__main__":`' in result.stderr.splitlines()[-1]


def test_classes_of_a_notebook_belong_in_a_file(monkeypatch, tmp_path):
    @dataclass(frozen=True)
    class Mine(type(tiny.task)):
        pass

    Mine.__module__, Mine.__qualname__ = "__main__", "Mine"
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Mine", Mine, raising=False)
    monkeypatch.delattr(main, "__file__", raising=False)
    with pytest.raises(UserError, match=r"notebook.*put them in a \.py file and import it"):
        wsrnn.fit(replace(SHORT, task=Mine(d=2, examples=3)), tmp_path / "r")
    assert not (tmp_path / "r").exists()
