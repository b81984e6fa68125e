"""Malformed configs and files: exit code 2, one line that names the place, nothing is written."""

import gzip
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from edits import at
from experiment_files import FILES

from wsrnn import loop
from wsrnn.recipe import Recipe

TESTS = Path(__file__).parents[1]
TINY, SINES = ((TESTS / f"{name}.py").read_text() for name in ("tiny", "sines"))
INPUTS = np.zeros((2, 4, 3), np.float32)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def replaced(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


def text_of_an_older_run(content):
    return {"source": "", "name": "tiny", "variant": None, "member": None, "flags": [],
            "config": {"init_from": None}, "earlier sources": []}  # fmt: skip


DAMAGED = ["config.json is damaged"]
CONFIGS = [
    (lambda content: "", [*DAMAGED, "not JSON"]),
    (lambda content: "{", [*DAMAGED, "not JSON"]),
    (lambda content: "\udcff\udcfe", [*DAMAGED, "not JSON"]),
    (lambda content: "[1]", DAMAGED),
    (lambda content: "null", DAMAGED),
    (text_of_an_older_run, ["written before", "wsrnn of commit 1ea37aa"]),
    (at("recipe", {"source": 3}), DAMAGED),
    (at("written by", []), DAMAGED),
    (at("init_from", 3), DAMAGED),
    (at("earlier recipes", None), DAMAGED),
    (at("experiment", {}), DAMAGED),
    (at("experiment", 3), ["not an Experiment"]),
    (at("experiment.class", "wsrnn.experiment:Experimnet"), ["no class or function Experim"]),
    (at("experiment.class", "wsrnn.optim:OptimConfig"), ["OptimConfig has no field"]),
    (at("experiment.steps", 0), ["steps must be at least 1", "written by wsrnn 0.1.0"]),
    (at("experiment.steps", "many"), ["cannot be rebuilt"]),
    (at("experiment.stpes", 3), ["Experiment has no field stpes"]),
    (
        at("experiment.task.cumsum", "none"),
        ["LinearRegression has no field cumsum", "older run opens with wsrnn of commit 393cd70"],
    ),
    (at("experiment.model.root.width", [4]), ["config.json"]),
    (at("experiment.model.drive", {"what": 1}), ["model.drive", "an object with the keys"]),
    (at("experiment.model.drive", {"float": "x"}), ["float 'x' is damaged"]),
    (at("experiment.model.class", "no_such_package.x:A"), ["no_such_package", "not installed"]),
    (at("experiment.model.class", 3), ["3 is no module:name"]),
]

NAN = INPUTS.copy()
NAN[1, 2, 0] = np.nan
HEAD = "id,t,x,y,z\n"
SEQUENCES = [  # for predict, by a model of three inputs
    ("none.npz", None, ["does not exist"]),
    ("folder.npz/inside", "", ["folder.npz does not exist"]),
    ("a.txt", "x", [".npz and .csv"]),
    ("a.npz", "x", ["cannot be read"]),
    ("a.npz", npz(inputs=INPUTS)[:-30], ["cannot be read"]),
    ("a.npz", npz(inputs=np.array([{}])), ["cannot be read", "Object arrays"]),
    ("a.npz", npz(x=INPUTS), ["no array `inputs`"]),
    ("a.npz", npz(inputs=INPUTS[0]), ["[N, T, D]", "[4, 3]"]),
    ("a.npz", npz(inputs=INPUTS[:, :0]), ["[N, T, D]", "[2, 0, 3]"]),
    ("a.npz", npz(inputs=INPUTS > 0), ["`inputs` must be numbers", "bool"]),
    ("a.npz", npz(inputs=INPUTS[..., :2]), ["2 input channel(s)", "takes 3"]),
    ("a.npz", npz(inputs=NAN), ["inputs[1, 2, 0] is not a finite number"]),
    ("a.npz", npz(inputs=np.full((1, 4, 3), 1e300)), ["inputs[0, 0, 0] is not"]),
    ("a.npz", npz(inputs=INPUTS, times=INPUTS), ["`times` must be numbers [2, 4]"]),
    ("a.csv", "", ["holds no rows"]),
    ("a.csv", "id,x,y,z\n1,2,3,4\n", ["no column t", "id, x, y, z"]),
    ("a.csv", "id,t\na,0\n", ["no channel beside id and t"]),
    ("a.csv", "id,t,x\na,0,1\n", ["1 input channel(s)"]),
    ("a.csv", f"{HEAD}a,0,1,2,3\na,1,1,,3\n", ["line 3", "column y"]),
    ("a.csv", f"{HEAD}a,0,1,2\n", ["line 2 has 4 cells"]),
    ("a.csv", f"{HEAD}a,0,1,2,1e39\n", ["line 2", "column z: '1e39'"]),
    ("a.csv", f"{HEAD}a,noon,1,2,3\n", ["line 2, column t: 'noon' is not a time"]),
    ("a.csv", "id;t;x;y;z\na;0;1,5;2;3\n", ["by ';' and has decimal commas"]),
    (
        "a.csv",
        f"{HEAD}a,0,1,2,3\na,0,1,2,3\n\n",
        ["line 3: id 'a' has several rows at t = 0, another on line 2"],
    ),
    ("a.csv.gz", f"{HEAD}a,0,1,2,3\n", ["cannot be read", "Not a gzipped file"]),
    ("a.csv.gz", gzip.compress(f"{HEAD}a,0,1,2,3\n".encode())[:-9], ["truncated or damaged"]),
]


def tiny(old, new):
    return replaced(TINY, old, new)


EXPERIMENTS = [
    ("", ["defines no `experiment"]),
    ("x = 1\n", ["defines no `experiment"]),
    ("experiment = 3\n", ["defines no `experiment"]),
    (b"\xff\xfe", ["it is not a text file"]),
    ("\0", ["line ?: SyntaxError"]),
    ("x = (\n", ["line 1: SyntaxError"]),
    ("  x = 1\n", ["line 1: IndentationError"]),
    ("\nimport nothing_here\n", ["line 2"]),
    ("from wsrnn import Nothing\n", ["line 1: ImportError", "Nothing"]),
    ("import sys\nsys.exit(0)\n", ["line 2: SystemExit"]),
    (tiny("root=Mlp(width=4,", "root=Mlp(width=-4,"), ["line 36", "-4"]),
    (tiny("steps=12", "steps='12'"), ["line 33", "steps must be an integer, got '12'"]),
    (tiny("steps=12", "step=12"), ["line 33", "unexpected keyword argument 'step'"]),
    (tiny("log_every=2", "log_every=0"), ["log_every must be at least 1, got 0"]),
    (tiny("root=Mlp(width=4, depth=1)", "root=Mlp"), ["root is the class Mlp: write Mlp()"]),
    (tiny("evaluation=PrefixError(", "evaluation=str("), ["line 44: TypeError"]),
    (tiny("drive=", "drive=3 or "), ["WarpConfig.drive 3 is unknown"]),
    (tiny("variants = {", "variants = 3, {"), ["variants must be a dict of experiments"]),
    (f"{TINY}\nvariants = dict(a=3)\n", ["variants must be a dict of experiments"]),
    (f"{TINY}\nsweep = 3\n", ["sweep(experiment): TypeError"]),
    (f"{TINY}\ndef sweep(e):\n    return 1 / 0\n", ["line 58, sweep: ZeroDivisionError"]),
    (f"{TINY}\ndef sweep(e):\n    return [e]\n", ["must return a dict of experiments"]),
    (f"{TINY}\ndef sweep(e):\n    return dict(a=e, b=3)\n", ["must return a dict of experim"]),
    (f"{TINY}\ndef sweep(e):\n    return {{'../a': e}}\n", ["names that folders can have"]),
]

SERIES = "t,x\n" + "".join(f"{t},{np.sin(t):.4f}\n" for t in range(99))
IMAGES, LABELS = "d/mnist/train-images-idx3-ubyte", "d/mnist/train-labels-idx1-ubyte"
IDX = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x1c\0\0\0\x1c" + bytes(1568)
DATA = [
    ("d.csv", SERIES[:50], ["longer than the train part"]),
    ("d.csv", replaced(SERIES, "\n50,", "\nfifty,"), ["line 52, column t: 'fifty'"]),
    ("d.csv", replaced(SERIES, "\n50,", "\n49,"), ["line 52, column t: 49 is not later"]),
    ("d.csv", replaced(SERIES, "\n50,", "\n50,nan,"), ["line 52 has 3 cells"]),
    ("d.csv", b"\xff\xfe" * 40, ["is UTF-16 text"]),
    ("d.csv", "t\n1\n2\n", ["no column beside t"]),
    (IMAGES, IDX[:-1], ["truncated or damaged: 1567 bytes"]),
    (IMAGES, b"", ["magic number is missing"]),
    (IMAGES, b"\0\0\x08\x03" + b"\xff" * 12, ["truncated or damaged: 0 bytes"]),
    (LABELS, b"\0\0\x08\x01\0\0\0\x02a", ["truncated or damaged: 1 bytes"]),
    (LABELS, b"\0\0\x08\x01\0\0\0\x01a", ["does not belong", "2 images"]),
]

PLACES = [
    ("eval run/config.json", ["config.json is not a run"]),
    ("icl empty", ["empty is not a run"]),
    ("eval run --step 1.5", ["--step takes best, last or a number, not '1.5'"]),
    ("icl run --prompts x", ["--prompts", "'x'"]),
    ("icl run --data-dir d", ["--data-dir is an option of"]),
    ("eval run --optim.learning-rate 1", ["is of training, which is over"]),
    ("train tiny.py --out empty --init-from empty", ["empty is not a run"]),
    ("train tiny.py --out file/below/r", ["cannot be written: file is a file"]),
    ("train tiny.py --out r --mesh.model 3", ["batch_size 8 is not divisible by the mesh's 6"]),
    ("train tiny.py --out r --optim.accumulate 3", ["not divisible by optim.accumulate 3"]),
    ("train tiny.py --out r --optim.freeze C", ["optim.freeze 'C' matches no parameter"]),
    ("train tiny.py --out r --coordinator x", ["several processes need --processes"]),
    ("train tiny.py --out r --profile 3:x", ["--profile takes START:STEPS"]),
    ("train tiny.py --out r --workers -1", ["workers must be at least 0"]),
    ("trials tiny.py --out file", ["file is a file"]),
    ("trials tiny.py --out r --seeds 0", ["at least 1 seed, got 0"]),
    ("trials tiny.py --out r --rates nan", ["--rates must be above 0 and finite, got nan"]),
    ("trials tiny.py --out r --only nobody", ["no sibling 'nobody': choose from 'tiny'"]),
    ("bench tiny.py --out file/below", ["--out file/below cannot be made"]),
    ("bench tiny.py --out r --over seed x y", ["--seed", "'x'"]),
    ("plan tiny.py --devices ,", ["--devices takes numbers of devices"]),
    ("report run --out file/r.html", ["file is no folder that may be written"]),
    ("report run --out r.pdf", ["name an .html file"]),
    ("report run --out r.html --figures thta", ["thta"]),
    ("report empty --out r.html", ["empty holds no run"]),
    ("watch file", ["file is a file"]),
    ("watch run --once --every nan", ["every must be above 0 and finite, got nan"]),
    ("data mnist --check --data-dir file", ["mnist is missing in file"]),
]


def unopened():
    """(words, {path: content, or a function from a config's tree to it}, words of the line)."""
    commands = ("eval run", "icl run", "predict run good.npz")
    for number, (change, parts) in enumerate(CONFIGS):
        yield commands[number % 3], {"run/config.json": change}, parts
    yield "train tiny.py --out run", {"run/config.json": lambda content: "{"}, DAMAGED
    yield "train tiny.py --out run", {"run/checkpoints": "x"}, ["checkpoints in it is a file"]
    yield "eval run", {"run/checkpoints": "x"}, ["no checkpoint yet"]
    for name, content, parts in SEQUENCES:
        yield f"predict run {name.partition('/')[0]}", {name: content}, parts
    commands = ("train", "trials", "show", "plan", "bench")
    for number, (source, parts) in enumerate(EXPERIMENTS):
        command = "train" if "sweep" in str(source) else commands[number % 5]
        yield f"{command} x.py", {"x.py": source}, ["x.py", *parts]
    for name, content, parts in DATA:
        whole = {IMAGES: IDX, LABELS: b"\0\0\x08\x01\0\0\0\x02ab"} if "mnist" in name else {}
        words = f"train {FILES['images']} --data-dir d"
        if not whole:  # by its whole path, for a process reads a path once
            words = "train sines.py --variant windows --task.path {folder}/d.csv"
        yield words, whole | {name: content}, [Path(name).name, *parts]
    for words, parts in PLACES:
        yield words, {}, parts


CASES = list(unopened())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    loop.fit(Recipe.read(TESTS / "tiny.py"), out)
    return out


def write(path, content):
    if content is None:
        return
    if callable(content):
        tree = json.loads(path.read_text())
        tree = tree if (other := content(tree)) is None else other
        content = tree if isinstance(tree, str) else json.dumps(tree)
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else os.fsencode(content))


def listing():
    return {path: path.lstat().st_mtime_ns for path in Path().rglob("*")}


@pytest.fixture
def folder(tmp_path, monkeypatch, trained, unchecked):
    """The current folder, with a run, an empty folder, and files of which nothing is wrong."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    Path("empty").mkdir()
    good = {"tiny.py": TINY, "sines.py": SINES, "file": "x", "good.npz": npz(inputs=INPUTS)}
    for name, content in good.items():
        write(Path(name), content)
    return tmp_path


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: f"{i}-{CASES[i][0].split()[0]}")
def test_what_is_malformed_gets_one_line_and_writes_nothing(run, folder, case):
    words, files, parts = CASES[case]
    for name, content in files.items():
        write(Path(name), content)
    before = listing()
    code, out, err = run(*words.format(folder=folder).split())
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("wsrnn: ") and "Traceback" not in err
    assert all(part in err for part in parts), err
    assert listing() == before


def test_how_many():
    print(f"{len(CASES)} malformed configs and files")
    assert len(CASES) >= 40


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
@pytest.mark.parametrize(
    "rows",
    [
        b"\xff\xfe\0" * 9,
        b'{"step": "x"}\n[1]\n"a"\n{"step": 1e99}\n',
        b'{"step": 3, "loss": "x", "valid/loss": {}}\n',
        b'{"step": 99999999999, "loss": 1}\n',  # of which a list of steps would fill the memory
    ],
    ids=["no text", "no rows", "no numbers", "far"],
)
def test_damaged_rows_of_a_log_are_passed_over(run, folder, name, rows):
    write(Path("run", name), rows)
    for words in ("watch run --once", "report run --out r.html"):
        code, _, err = run(*words.split())
        assert code == 0 and "Traceback" not in err, err


def test_a_config_whose_steps_are_no_number_can_be_watched(run, folder):
    write(Path("run/config.json"), at("experiment.steps", "many"))
    code, out, _ = run("watch", "run", "--once")
    assert code == 0 and "no config.json that can be read" in out
