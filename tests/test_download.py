"""Known data sets: what is here is checked, what is missing is brought whole or not at all."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from experiment_files import FILES

from wsrnn import cli, datasets
from wsrnn.datasets import SETS, Dataset, File, checksums
from wsrnn.download import bring, check, state
from wsrnn.errors import UserError

SHARED = Path(__file__).parents[2] / "shared" / "data"
TABLE = b"a,b\n1,2\n3,4\n"
CASES = b"@problemName P\n@classLabel true a b\n@data\n1,2:a\n3,4:b\n"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder, and the address at which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.fixture
def tables(server, monkeypatch):
    """A set of two tables, one served as it is and one packed, with known checksums."""
    folder, url = server
    (folder / "a.csv").write_bytes(TABLE)
    (folder / "b.csv.gz").write_bytes(gzip.compress(TABLE))
    files = (File("t/a.csv", 2, f"{url}/a.csv"), File("t/b.csv", 2, f"{url}/b.csv.gz"))
    known = Dataset("tiny", "two tables", files, "CC0", "We 2026", "nowhere.org", "tables")
    known_sums = {file.path: hashlib.sha256(TABLE).hexdigest() for file in files}
    monkeypatch.setitem(checksums(), "t/a.csv", known_sums["t/a.csv"])
    monkeypatch.setitem(checksums(), "t/b.csv", known_sums["t/b.csv"])
    monkeypatch.setitem(SETS, "tiny", known)
    return known


@pytest.fixture
def pooch():
    return pytest.importorskip("pooch")


@pytest.fixture
def run(capsys):
    def call(*argv):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(word) for word in argv])
        return stop.value.code, *capsys.readouterr()

    return call


def contents(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_set_is_downloaded_checked_and_not_fetched_again(tables, tmp_path, pooch, server):
    root = tmp_path / "data"
    assert state(check(tables, root)) == "missing"
    assert state(bring(tables, root)) == "present"
    assert contents(root) == ["t/a.csv", "t/b.csv.gz"] and not list(root.glob(".partial*"))
    shutil.rmtree(server[0])
    assert state(bring(tables, root)) == "present"


def test_what_is_damaged_is_replaced_once_its_successor_is_whole(tables, tmp_path, pooch):
    root = tmp_path / "data"
    (root / "t").mkdir(parents=True)
    (root / "t" / "a.csv").write_bytes(TABLE)
    (root / "t" / "b.csv").write_bytes(TABLE[:7])
    found = check(tables, root)
    assert state(found) == "damaged" and "checksum" in found[1].note
    assert state(bring(tables, root)) == "present"
    assert contents(root) == ["t/a.csv", "t/b.csv.gz"]


def test_a_file_that_is_not_the_one_expected_is_not_kept(tables, tmp_path, pooch, server):
    (server[0] / "b.csv.gz").write_bytes(gzip.compress(TABLE)[:-9])
    root = tmp_path / "data"
    with pytest.raises(UserError, match=r"b\.csv\.gz gave a file that is not the one .* not kept"):
        bring(tables, root)
    assert contents(root) == ["t/a.csv"] and state(check(tables, root)) == "partly"


def test_a_killed_download_leaves_nothing_that_looks_whole(tables, tmp_path, pooch, monkeypatch):
    def killed(url, known_hash, fname, path, progressbar):
        Path(path, fname).write_bytes(TABLE[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch, "retrieve", killed)
    with pytest.raises(KeyboardInterrupt):
        bring(tables, tmp_path / "data")
    assert state(check(tables, tmp_path / "data")) == "missing"


def test_without_a_network_it_says_what_to_put_where(tables, tmp_path, pooch, server):
    (server[0] / "a.csv").unlink()
    with pytest.raises(UserError) as error:
        bring(tables, tmp_path / "data")
    for part in (
        f"{server[1]}/a.csv cannot be downloaded (404",
        f"save {server[1]}/a.csv as {tmp_path}/data/t/a.csv, ",
        f"b.csv.gz as {tmp_path}/data/t/b.csv.gz; then run: wsrnn data tiny --check",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there_is_named(tables, tmp_path, pooch, monkeypatch):
    files = (replace(tables.files[0], url="http://127.0.0.1:9/a.csv"),)
    with pytest.raises(UserError, match=r"127.0.0.1:9 cannot be reached; save http:.*a\.csv as /"):
        bring(replace(tables, files=files), tmp_path / "data")


def test_without_pooch_it_says_what_to_put_where(tables, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(UserError, match=r"pip install 'wsrnn\[data\]'\); save http.*a\.csv as /"):
        bring(tables, tmp_path)


def problem(url):
    files = (File("uea/P/P_TRAIN.ts", 2), File("uea/P/P_TEST.ts", 2))
    return Dataset("P", "", files, "", "", "here", archive=f"{url}/P.zip", exact=False)


def test_the_files_of_a_problem_come_out_of_its_zip(server, tmp_path, pooch):
    with zipfile.ZipFile(server[0] / "P.zip", "w") as archive:
        archive.writestr("P_TRAIN.ts", CASES)
        archive.writestr("P/P_TEST.ts", CASES)
        archive.writestr("P_TEST.txt", b"")
    assert state(bring(problem(server[1]), tmp_path / "data")) == "present"
    assert contents(tmp_path / "data") == ["uea/P/P_TEST.ts", "uea/P/P_TRAIN.ts"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no P_TRAIN.ts"), (b"<html>", "gave no whole zip file")],
)
def test_a_zip_that_is_another_is_named(server, tmp_path, pooch, content, message):
    with zipfile.ZipFile(server[0] / "P.zip", "w") as archive:
        archive.writestr("Q_TRAIN.ts", CASES)
    if content:
        (server[0] / "P.zip").write_bytes(content)
    with pytest.raises(UserError, match=message):
        bring(problem(server[1]), tmp_path / "data")
    assert contents(tmp_path / "data") == []


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TABLE),
        ("a.ts", CASES),
        ("a.txt", b"1.jpg 0\n2.jpg 2\n"),
        ("a.npz", npz(x=np.zeros((2, 9)), first=np.array(7))),
        ("a.zip", zipped("i/", "i/1.jpg", "i/2.jpg")),
        ("a-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x02ab"),
        ("a-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x01ab"),
    ],
)
def test_counts_tell_a_whole_file_from_another(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    known = Dataset("s", "", (File(name, 2),), "", "", "")
    assert state(check(known, tmp_path)) == "present"
    (found,) = check(replace(known, files=(File(name, 3),)), tmp_path)
    assert (found.state, found.note) == ("damaged", "it holds 2 where 3 are expected")
    (tmp_path / name).write_bytes(content[:-3])
    if name.endswith((".npz", ".zip", "ubyte")):
        assert state(check(known, tmp_path)) == "damaged"


def test_another_version_of_what_was_made_elsewhere_is_judged_by_its_count(tables, tmp_path):
    (tmp_path / "t").mkdir()
    for name in "ab":
        (tmp_path / "t" / f"{name}.csv").write_bytes(TABLE.replace(b"4", b"5"))
    assert state(check(tables, tmp_path)) == "damaged"
    found = check(replace(tables, exact=False), tmp_path)
    assert state(found) == "present" and "another version" in found[0].note


def test_the_command_lists_brings_and_checks(tables, tmp_path, run, pooch):
    where = ("--data-dir", tmp_path / "data")
    code, out, _ = run("data", *where)
    assert code == 0 and all(name in out for name in SETS) and "non-commercial" in out
    code, _, err = run("data", "tiny", "--check", *where)
    assert code == 2 and "tiny is missing" in err and "run: wsrnn data tiny" in err
    code, out, _ = run("data", "tiny", *where)
    assert code == 0 and "licence   CC0" in out and "citation  We 2026" in out
    code, out, _ = run("data", "TINY", "--check", "--json", *where)
    assert code == 0 and json.loads(out)["tiny"]["state"] == "present"
    code, out, _ = run("data", "--json", *where)
    assert json.loads(out)["sets"]["tiny"]["bytes"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fashion-mnist"], "unknown data set fashion-mnist: did you mean fashion_mnist?"),
        (["celeba"], "celeba: it has to be fetched by hand; get from mmlab.ie.cuhk.edu.hk"),
        (["--check"], "--check takes the NAME"),
        (["--chekc"], "unknown flag --chekc: did you mean --check?"),
        (["mnist", "--variant", "x"], "--variant is an option of wsrnn train"),
        (["mnist", "more"], "unexpected argument more"),
        (["mnist", "--check", "more"], "more"),
        (["mnist", "model:rnn"], "model:rnn"),
    ],
)
def test_mistakes_get_one_line(run, tmp_path, monkeypatch, words, message):
    monkeypatch.setenv("WSRNN_DATA", str(tmp_path))
    code, out, err = run("data", *words)
    assert (code, out) == (2, "") and message in err and len(err.splitlines()) == 1


def test_a_task_whose_file_is_missing_names_the_command(run, tmp_path):
    code, _, err = run("train", FILES["images"], "--data-dir", tmp_path, "--out", "r")
    assert code == 2 and f"wsrnn data mnist --data-dir {tmp_path}" in err


def test_every_checksum_is_of_a_file_of_a_set():
    files = {file.path for known in SETS.values() for file in known.files}
    assert set(checksums()) <= files
    assert all(known.licence and known.citation and known.source for known in SETS.values())


def test_they_are_known_without_heavy_imports():
    code = (
        f"import sys, {datasets.__name__}; assert not {{'jax', 'numpy', 'PIL'}} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data files are not beside the repository")
@pytest.mark.parametrize("by", ["checksums", "counts"])
def test_the_real_files_are_as_their_checksums_and_their_counts_say(monkeypatch, by):
    if by == "counts":
        monkeypatch.setattr("wsrnn.download.checksums", dict)
    found = {known.name: check(known, SHARED) for known in SETS.values()}
    assert all(f.state in ("present", "missing") for files in found.values() for f in files)
    for name in ("mnist", "ETTh1", "uci_regression", "pems08_tail", "speech_commands_4word"):
        assert state(found[name]) == "present"
    assert state(found["Heartbeat"]) == "partly" and state(found["celeba"]) == "missing"
