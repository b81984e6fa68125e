"""Every task keeps its contract; the real files are read as their owners wrote them."""

import gzip
import os
import pickle
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from wsrnn.errors import UserError
from wsrnn.metrics import LOSSES
from wsrnn.tasks import SPLITS
from wsrnn.tasks.continuation import Direct, Recursive
from wsrnn.tasks.images import ImageClasses, ImageCompletion
from wsrnn.tasks.regression import LinearRegression
from wsrnn.tasks.series import CHANNELS, PUBLIC, Ett, Public, Traffic

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A data folder with small files of the real formats."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    write_idx(root / "mnist", "train", rng.integers(0, 256, (60_000, 28, 28), np.uint8), rng)
    write_idx(root / "mnist", "t10k", rng.integers(0, 256, (20, 28, 28), np.uint8), rng)
    write_ett(root / "ett" / "ETTh1.csv", rng.standard_normal((14_400, 7)))
    return root


def write_idx(folder, part, images, rng):
    folder.mkdir(exist_ok=True)
    head = np.array([2051, *images.shape], ">u4").tobytes()
    (folder / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
    labels = rng.integers(0, 10, len(images), np.uint8)
    head = np.array([2049, len(images)], ">u4").tobytes()
    packed = gzip.compress(head + labels.tobytes(), 1)
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(packed)


def hours(count):
    """Times of hourly rows, as numpy writes them."""
    return np.datetime64("2016-07-01T00") + np.arange(count) * np.timedelta64(1, "h")


def write_ett(path, values, dates=None):
    """Write rows [R, 7], an hour apart unless their `dates` are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["date," + ",".join(CHANNELS)]
    dates = hours(len(values)) if dates is None else dates
    for date, row in zip(dates, values, strict=True):
        lines.append(f"{date}," + ",".join(f"{v:.6f}" for v in row))
    path.write_text("\n".join(lines) + "\n")


TASKS = {
    "regression": LinearRegression(),
    "noisy regression": LinearRegression(d=3, examples=4, noise=0.25),
    "completion": ImageCompletion(side=14),
    "completion, nll": ImageCompletion(loss="nll"),
    "image classes": ImageClasses(side=14),
    "ett": Ett(),
}


@pytest.fixture(params=TASKS, ids=TASKS.keys())
def task(request, files):
    task = TASKS[request.param]
    if hasattr(task, "data_dir"):
        task = type(task)(**{**vars(task), "data_dir": files})
    return task


@pytest.mark.parametrize("split", SPLITS)
def test_contract(task, split):
    ds = task.dataset(split, 0)
    example = ds[1]
    assert example.inputs.shape == (task.length, task.d_in)
    assert example.times.shape == example.mask.shape == (task.length,)
    assert task.loss in LOSSES
    if task.loss == "cross_entropy":
        assert example.targets.shape == () and 0 <= example.targets < task.d_out
        assert example.targets.dtype == np.int32
    else:
        assert example.targets.shape == (task.length, task.d_out * (1 + task.has_units))
        assert example.targets.dtype == np.float32
    assert example.inputs.dtype == example.times.dtype == example.mask.dtype == np.float32
    assert 0 <= example.times[0] < example.times[-1] == 1
    assert example.mask.sum() > 0
    if task.loss != "cross_entropy" and task.steps(split) == "last":
        assert example.mask.sum() == 1
    again = pickle.loads(pickle.dumps(task)).dataset(split, 0)[1]
    np.testing.assert_array_equal(example.inputs, again.inputs)
    assert not np.array_equal(example.inputs, ds[2].inputs)


def test_regression_prompts_are_linear_and_training_reads_one_random_step():
    task = LinearRegression(d=3, examples=6, noise=0.5)
    examples = [task.dataset("train", 0)[i] for i in range(400)]
    for e in examples[:20]:
        np.testing.assert_allclose(e.targets[:, 0], e.inputs[:, :3] @ e.latents["w"], rtol=1e-5)
    noise = np.stack([e.inputs[:, 3] - e.targets[:, 0] for e in examples])
    assert abs(noise.var() - 0.5) < 0.05
    steps = np.bincount([e.mask.argmax() for e in examples], minlength=7)
    assert steps.min() > 30  # uniform on 0..6 would give 57 each


def test_pixels_shift_by_one_and_split_the_training_file(files):
    task = ImageCompletion(Recursive(), data_dir=files)
    e = task.dataset("train", 0)[5]
    np.testing.assert_array_equal(e.inputs[1:], e.targets[:-1])
    assert len(task.dataset("train", 0)) == 55_000
    assert len(task.dataset("valid", 0)) == 5_000
    raw = np.fromfile(files / "mnist" / "train-images-idx3-ubyte", np.uint8)[16:]
    first = ImageClasses(data_dir=files).dataset("valid", 0)[0]
    expected = raw[55_000 * 784 : 55_001 * 784] / np.float32(255)
    np.testing.assert_allclose(first.inputs[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(task.dataset("valid", 0)[0].targets[:, 0], expected[1:], rtol=1e-6)


def test_ett_scales_by_the_training_rows_and_splits_by_months(files):
    task = Ett(Direct("last"), (10,), horizon=5, normalise=False, independent=False, data_dir=files)
    table = np.genfromtxt(files / "ett" / "ETTh1.csv", delimiter=",", skip_header=1)[:, 1:]
    scaled = (table - table[:8640].mean(0)) / table[:8640].std(0)
    assert len(task.dataset("train", 0)) == 8640 - 15 + 1
    assert len(task.dataset("valid", 0)) == len(task.dataset("test", 0)) == 2880 - 5 + 1
    e = task.dataset("test", 0)[3]
    start = 8640 + 2880 - 10 + 3
    np.testing.assert_allclose(e.inputs[:10, :7], scaled[start : start + 10], atol=1e-5)
    np.testing.assert_allclose(e.targets, scaled[start + 1 : start + 15], atol=1e-5)
    assert (e.inputs[10:, :7] == e.inputs[9, :7]).all()
    np.testing.assert_array_equal(e.mask, [0] * 9 + [1] * 5)


def damage(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08\x01\0\0\0\x01a", "magic number is 2049, not 2051"),
        (b"\0\0\x08\x03\0\0\0\x02\0\0\0\x1c\0\0\0\x1cabc", "truncated or damaged: 3 bytes"),
        (b"\0\0\x08\x03\0\0", "truncated or damaged: 0 bytes"),
        (b"\0\0\x08", "magic number is missing"),
        (b"", "magic number is missing"),
        (b"\0\0\x08\x03\0\0\0\x02\0\0\0\x1c\0\0\0\x1c" + bytes(1568), "does not belong"),
    ],
)
def test_damaged_idx_files(tmp_path, content, message):
    damage(tmp_path / "mnist" / "train-images-idx3-ubyte", content)
    damage(tmp_path / "mnist" / "train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x01a")
    with pytest.raises(UserError, match=message):
        ImageCompletion(data_dir=tmp_path).dataset("train", 0)


def test_truncated_gzip(tmp_path):
    whole = gzip.compress(os.urandom(1000))
    damage(tmp_path / "mnist" / "train-images-idx3-ubyte.gz", whole[:500])
    damage(tmp_path / "mnist" / "train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x01a")
    with pytest.raises(UserError, match="truncated or damaged"):
        ImageCompletion(data_dir=tmp_path).dataset("train", 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("date,HUFL\n1,2\n", "no column HULL"),
        (
            "date," + ",".join(CHANNELS) + "\n1,1,2,3,4,5,6,7\n2,1,2,,4,5,6,7\n",
            "line 3, column MUFL",
        ),
        ("date," + ",".join(CHANNELS) + "\n1,1,2,3,nan,5,6,7\n", "line 2, column MULL: 'nan'"),
        ("date," + ",".join(CHANNELS) + "\n1,1,2,3,4,5,-1e39,7\n", "line 2, column LULL: '-1e39'"),
        ("time," + ",".join(CHANNELS) + "\n1,1,2,3,4,5,6,7\n", "no column date; its columns are t"),
        ("date;" + ";".join(CHANNELS) + "\n1;1,5;2;3;4;5;6;7\n", "separated by ';' and has decim"),
        ("date," + ",".join(CHANNELS) + "\n1,1,2\n", "line 2 has 3 cells"),
        ("date," + ",".join(CHANNELS) + "\n", "no rows"),
    ],
)
def test_damaged_csv_files(tmp_path, content, message):
    damage(tmp_path / "ett" / "ETTh1.csv", content.encode())
    with pytest.raises(UserError, match=message):
        Ett(data_dir=tmp_path).dataset("train", 0)


VALUES = np.random.default_rng(1).standard_normal((14_400, 7))
WITH_ZONES = [
    time.replace(tzinfo=UTC).astimezone(ZoneInfo("Europe/Berlin"))
    for time in hours(14_400).tolist()
]


@pytest.mark.parametrize(
    "dates",
    [
        WITH_ZONES,  # +02:00 and +01:00
        [f"{date}Z" for date in hours(14_400)],
        [f" {date:%Y-%m-%d %H:%M:%S.%f}" for date in hours(14_400).tolist()],
        range(14_400),
        [repr(0.1 * i) for i in range(14_400)],  # 0.1, 0.2, 0.30000000000000004
        range(1_467_331_200_000, 1_519_171_200_000, 3_600_000),  # unix time in ms
    ],
    ids=["zones", "Z", "microseconds", "rows", "rounded", "unix"],
)
def test_times_that_rise_by_one_step_are_read(tmp_path, dates):
    write_ett(tmp_path / "ett" / "ETTh1.csv", VALUES, dates)
    found = Ett(data_dir=tmp_path).dataset("test", 0)
    write_ett(tmp_path / "plain" / "ett" / "ETTh1.csv", VALUES)
    plain = Ett(data_dir=tmp_path / "plain").dataset("test", 0)
    assert len(found) == len(plain) == 2785 * 7
    np.testing.assert_array_equal(found[7].targets, plain[7].targets)


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (
            hours(14_400)[::-1],
            "column date: it does not rise from row to row as times do; .* sort",
        ),
        (
            np.delete(hours(14_401), 100),
            "line 102, .*: 2016-07-05T05 is not one step of 1:00:00 after 2016-07-05T03 of line 1",
        ),
        (
            np.delete(hours(14_401), 1),
            "line 3, .*: 2016-07-01T02 is not one step of 1:00:00 after 2016-07-01T00 of line 2;",
        ),
        (
            np.insert(hours(14_399), 7, hours(7)[-1]),
            "line 9, .*: 2016-07-01T06 is not later than 2016-07-01T06 of line 8; sort",
        ),
        (
            [*hours(14_399), "2018-02-20T22:15"],
            "line 14401, .*: 2018-02-20T22:15 is not one step of 1:00:00 after 2018-02-20T22 of",
        ),
        (
            [f"{date:%Y-%m-%d %H:%M}" for date in WITH_ZONES],  # winter time comes
            "line 2907, .*: 2016-10-30 02:00 is not later than 2016-10-30 02:00 of line 2906",
        ),
        ([*range(50), *range(51, 14_401)], "line 52, .*: 51 is not one step of 1.0 after 49 of"),
        (["nan"] * 14_400, "line 2, column date: 'nan' is not a finite number"),
        ([*hours(14_399), ""], "line 14401, column date: '' is not a time; write ISO dates"),
        (["01/07/2016 00:00"] * 14_400, "line 2, column date: '01/07/2016 00:00' is not a time"),
        (
            np.datetime64("2016-07-01T00:00") + np.arange(14_400) * np.timedelta64(15, "m"),
            "ETTh1.csv has its rows 0:15:00 apart, not 1:00:00 as its name says; get it from",
        ),
    ],
    ids=[
        "newest first", "gap", "gap at the start", "twice", "other step at the end",
        "daylight saving", "numbers", "nan", "empty", "not ISO", "another file",
    ],
)  # fmt: skip
def test_the_line_where_times_break_their_step_is_named(tmp_path, dates, message):
    write_ett(tmp_path / "ett" / "ETTh1.csv", VALUES, dates)
    with pytest.raises(UserError, match=message) as error:
        Ett(data_dir=tmp_path).dataset("test", 0)
    assert "\n" not in str(error.value)


def test_a_column_that_cannot_be_scaled_is_named(tmp_path):
    constant = VALUES.copy()
    constant[:8640, 2] = 0.1
    write_ett(tmp_path / "ett" / "ETTh1.csv", constant)
    with pytest.raises(UserError, match=r"column MUFL: it is 0\.1 in all 8640 rows of the train"):
        Ett(data_dir=tmp_path).dataset("test", 0)


def test_a_column_that_is_constant_after_training_is_read(tmp_path):
    constant = VALUES.copy()
    constant[8640:, 2] = 0.1
    write_ett(tmp_path / "ett" / "ETTh1.csv", constant)
    (window, *_) = Ett(data_dir=tmp_path).windows("test")
    scaled = (0.1 - constant[:8640, 2].mean()) / constant[:8640, 2].std()
    np.testing.assert_allclose(window[:, 2], scaled, rtol=1e-4)


def test_a_short_csv_is_refused(tmp_path):
    write_ett(tmp_path / "ett" / "ETTh1.csv", np.ones((300, 7)))
    with pytest.raises(UserError, match="300 rows"):
        Ett(data_dir=tmp_path).dataset("test", 0)


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("WSRNN_DATA", str(tmp_path / "env"))
    with pytest.raises(UserError, match=r"env \(\$WSRNN_DATA\): get it from github"):
        Ett().dataset("train", 0)
    with pytest.raises(UserError, match=r"told \(--data-dir\)"):
        Ett(data_dir=tmp_path / "told").dataset("train", 0)
    monkeypatch.delenv("WSRNN_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"\.cache/wsrnn \(the default\)"):
        Ett().dataset("train", 0)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: LinearRegression(d=0),
        lambda: LinearRegression(noise=-1.0),
        lambda: ImageCompletion(side=1),
        lambda: ImageClasses(classes=0),
        lambda: Ett(horizon=0),
    ],
)
def test_bad_values_are_refused(bad, unchecked):
    with pytest.raises(ValueError):
        bad()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data files are not beside the repository")
def test_the_real_files():
    mnist = ImageCompletion(data_dir=SHARED)
    assert [len(mnist.dataset(s, 0)) for s in SPLITS] == [55_000, 5_000, 10_000]
    labels = [int(mnist.dataset("test", 0)[i].latents["label"]) for i in range(10)]
    assert labels == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    for name, rows in (("ETTh1", 2785), ("ETTm1", 11_425)):
        windows = Ett(name=name, data_dir=SHARED).windows("test")
        assert len(windows) == rows
        path = next((SHARED / "ett").glob(f"{name}.csv*"))
        table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(1, 8))
        month = 30 * (96 if "m" in name else 24)
        train, end = table[: 12 * month], table[20 * month - 191 : 20 * month]
        scaled = (end - train.mean(0)) / train.std(0)
        np.testing.assert_allclose(windows[-1, 1:], scaled, rtol=1e-6, atol=1e-6)
    for name in PUBLIC:
        for split in SPLITS:
            Public(name=name, context=(12,), horizon=6, data_dir=SHARED).rows(split)
    assert Traffic(data_dir=SHARED).windows("test").shape == (1420, 24, 170)
