"""Forecasting: windows of a table, what they see, how they are scaled and judged."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wsrnn import data, fit
from wsrnn.errors import UserError
from wsrnn.evaluations.completion import Completion
from wsrnn.evaluations.forecast import Forecast, forecasts, ridge, seasonal
from wsrnn.evaluations.tables import TableErrors
from wsrnn.experiment import Experiment
from wsrnn.metrics import measures_of
from wsrnn.models import Model
from wsrnn.models.peers.dlinear import DLinearConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.warp import Matrix, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.recurrence import Dense
from wsrnn.root import Linear
from wsrnn.tasks import SPLITS
from wsrnn.tasks.archive import Archive
from wsrnn.tasks.check import check_examples
from wsrnn.tasks.continuation import Direct, Recursive
from wsrnn.tasks.series import Series, Traffic

R, L, H = 200, 8, 5
RNG = np.random.default_rng(0)
VALUES = np.stack(
    [np.sin(np.arange(R) / 3) + 0.1 * RNG.normal(size=R), 50 + RNG.normal(size=R).cumsum()], 1
)


def write(path, values=VALUES, times=None, names=("a", "b")):
    times = np.arange(len(values)) if times is None else times
    lines = [",".join(["time", *names])]
    lines += [
        f"{t}," + ",".join(map(repr, row.tolist())) for t, row in zip(times, values, strict=False)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def task(tmp_path):
    return Series(path=write(tmp_path / "mine.csv"), context=(L,), horizon=H, period=4)


def scaled():
    train = VALUES[:140]
    return ((VALUES - train.mean(0)) / train.std(0)).astype(np.float32)


def warp(task):
    config = WarpConfig(Linear(), Dense("orthogonal", 0.9), write=Matrix(scale=0.3), drive="value")
    return config.build(task.d_in, task.d_out, rngs=nnx.Rngs(0))


def test_every_row_of_a_part_is_forecast_once_at_each_distance(task):
    table = scaled()
    for split, first, last in (("train", 0, 140), ("valid", 140, 160), ("test", 160, 200)):
        windows, start = task.windows(split), max(0, first - L)
        assert len(windows) == last - start - L - H + 1
        np.testing.assert_allclose(windows[0], table[start : start + L + H], atol=1e-5)
        np.testing.assert_allclose(windows[-1], table[last - L - H : last], atol=1e-5)
        assert len(task.dataset(split, 0)) == 2 * len(windows)
    assert len(replace(task, stride=3).windows("valid")) == -(-len(task.windows("valid")) // 3)


def test_a_described_window_tells_its_mean_its_deviation_and_its_column(task):
    task = replace(task, describe=True)
    inputs = data.examples(task, "test", 0, 6).inputs
    seen = np.swapaxes(task.windows("test")[:3, :L], 1, 2).reshape(6, L)
    assert task.d_in == 2 + 2 + 2
    np.testing.assert_allclose(inputs[:, -1, 2], seen.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(inputs[:, -1, 3], np.sqrt(seen.var(1) + 1e-5), rtol=1e-4)
    np.testing.assert_array_equal(inputs[:, 3, 4:], np.tile(np.eye(2), (3, 1)))
    assert replace(task, independent=False).d_in == 3 + 4
    assert forecasts(warp(task), task, task.windows("test")).shape[1:] == (H, 2)


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("strategy", [Direct(), Direct("last"), Recursive(forcing=0.5)])
def test_every_kind_of_window_keeps_the_contract(task, independent, normalise, strategy):
    task = replace(task, independent=independent, normalise=normalise, strategy=strategy)
    for split in SPLITS:
        check_examples(task, split, 0)


def test_a_normalised_window_has_mean_0_and_deviation_1_within_its_context(task):
    batch = data.examples(task, "test", 0, 6)
    known = batch.inputs[:, :L, 0]
    np.testing.assert_allclose(known.mean(1), 0, atol=1e-4)
    np.testing.assert_allclose(known.std(1), 1, atol=1e-3)
    values, unit = np.split(batch.targets, 2, -1)
    window = task.windows("test")[2, :, 1]  # the sixth sequence: third window, second channel
    np.testing.assert_allclose(
        values[5, :, 0] * unit[5, :, 0] + window[:L].mean(), window[1:], rtol=1e-4, atol=1e-4
    )


def test_patches_hold_rows_and_are_normalised_by_the_column(task):
    task = replace(task, context=(2,), horizon=1, patch=4, independent=False)
    batch = data.examples(task, "test", 0, 1)
    window = task.windows("test")[0]
    mean, scale = window[:8].mean(0), np.sqrt(window[:8].var(0) + 1e-5)
    expected = ((window - mean) / scale).reshape(3, 8)
    assert (task.d_in, task.d_out, task.length) == (9, 8, 2)
    np.testing.assert_allclose(batch.inputs[0, :, :8], expected[:2], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(batch.targets[0, :, :8], expected[1:], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(batch.targets[0, 1, 8:], np.tile(scale, 4), rtol=1e-4)


PATCHES = dict(context=(2,), horizon=1, patch=4)


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("sizes", [{}, PATCHES])
def test_the_loss_of_normalised_windows_is_that_of_the_forecasts_scaled_back(
    task, independent, sizes
):
    task = replace(task, independent=independent, **sizes)
    model, windows = warp(task), task.windows("test")
    error = forecasts(model, task, windows) - windows[:, task.known :]
    batch = data.examples(task, "test", 0, 10_000)
    outputs = model(batch.inputs, batch.times)
    measures = measures_of("mse", outputs, jnp.asarray(batch.targets), jnp.asarray(batch.mask))
    assert measures["loss"].value == pytest.approx(np.mean(error**2), rel=1e-4)
    assert measures["mae"].value == pytest.approx(np.mean(np.abs(error)), rel=1e-4)
    assert measures["loss"].count == error.size


class Persistent(Model):
    """Every later sample is the last known one: zero where the unseen inputs hold it."""

    def __call__(self, inputs, times, **_):
        return jnp.asarray(inputs)[..., :-1]


def test_a_model_that_repeats_the_last_row_is_the_baseline_that_does(task):
    task = replace(task, strategy=Direct("last"))
    rows = Forecast(drawn=2)(Persistent(), task, 0).rows
    assert rows["this model"] == pytest.approx(rows["repeat last"], rel=1e-4)
    table, errors = scaled(), []
    for first in range(160, 200 - H + 1):
        repeated = table[[first - 4, first - 3, first - 2, first - 1, first - 4]]
        errors.append((repeated - table[first : first + H]) ** 2)
    assert rows["repeat 4 rows"][0] == pytest.approx(np.mean(errors), rel=1e-4)


def test_a_season_may_be_longer_than_the_context_but_not_than_the_past(task):
    np.testing.assert_array_equal(seasonal(task, 100)[0], task.rows("test")[0][60:65])
    Forecast(period=160).prepare(task)
    with pytest.raises(UserError, match="a period of 161 rows is longer than the 160 before"):
        Forecast(period=161).prepare(task)


def test_ridge_is_least_squares_with_the_penalty_that_is_best_on_validation(task):
    def centred(split):
        s = np.swapaxes(task.windows(split), 1, 2).reshape(-1, L + H).astype(float)
        s = s - s[:, :L].mean(1, keepdims=True)
        return s[:, :L], s[:, L:]

    weights, penalty = ridge(task)
    x, y = centred("train")
    unit = (x**2).sum() / L
    errors = {}
    for p in (1e-4, 1e-2, 1, penalty):
        extra = np.sqrt(p * unit) * np.eye(L)  # as rows of a plain least-squares problem
        W = np.linalg.lstsq(np.vstack([x, extra]), np.vstack([y, np.zeros((L, H))]))[0]
        x_valid, y_valid = centred("valid")
        errors[p] = np.mean((x_valid @ W - y_valid) ** 2)
        if p == penalty:
            np.testing.assert_allclose(weights, W, atol=1e-6)
    assert errors[penalty] == min(errors.values())


def test_dlinear_is_two_maps_of_the_context(task):
    model = DLinearConfig(average=5).sized(task).build(2, 1, rngs=nnx.Rngs(0))
    x = RNG.normal(size=(3, L + H - 1, 2)).astype(np.float32)
    times = np.zeros(x.shape[:2], np.float32)
    y = model(x, times)
    past = x[:, :L, 0]
    padded = np.concatenate([past[:, :1]] * 2 + [past] + [past[:, -1:]] * 2, 1)
    trend = np.stack([padded[:, i : i + 5].mean(1) for i in range(L)], 1)
    kernels = [np.asarray(layer.kernel[...]) for layer in (model.trend, model.rest)]
    future = trend @ kernels[0] + (past - trend) @ kernels[1]
    np.testing.assert_allclose(y[:, L - 1 :, 0], future, atol=1e-5)
    assert not np.any(y[:, : L - 1])
    x[:, L:] += 100
    np.testing.assert_array_equal(y, model(x, times))
    np.testing.assert_array_equal(model(x, times, steps="last"), y[:, -1])
    patched = DLinearConfig(4, 2, patch=2, average=5).build(3, 2, rngs=nnx.Rngs(0))
    plain = DLinearConfig(8, 4, average=5).build(2, 1, rngs=nnx.Rngs(0))  # the same maps
    rows = patched(x[:, :5].repeat(2, 2)[..., :3], times[:, :5])[:, 3:].reshape(3, 4)
    flat = np.zeros((3, 11, 2), np.float32)
    flat[:, :8, 0] = x[:, :4].repeat(2, 2)[..., :2].reshape(3, 8)
    np.testing.assert_allclose(rows, plain(flat, np.zeros((3, 11)))[:, 7:, 0], atol=1e-5)
    with pytest.raises(ValueError, match="T = 12 steps, got 11"):
        model(x[:, 1:], times[:, 1:])
    with pytest.raises(ValueError, match=r"set model\.context"):
        DLinearConfig().build(2, 1, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("model", [DLinearConfig(average=3), RnnConfig(width=8)])
def test_models_train_on_windows_and_are_judged(tmp_path, task, model):
    experiment = Experiment(
        task, model, Forecast(drawn=1), OptimConfig(learning_rate=1e-2), steps=60, batch_size=16,
        eval_every=30, eval_batches=None,
    )  # fmt: skip
    outcome = fit(experiment, tmp_path / "run")
    assert outcome["step"] == 60
    experiment.evaluation.prepare(experiment.task)


def traffic(root, flow):
    folder = root / "traffic" / "PEMS08_tail"
    folder.mkdir(parents=True)
    np.savez(folder / "PEMS08_flow_rows10700_17855.npz", flow=flow)
    return Traffic(data_dir=root)


FLOW = RNG.integers(1, 500, (400, 170)).astype(np.uint16)


@pytest.mark.parametrize("independent", [True, False])
def test_no_forecast_of_traffic_moves_with_the_future(tmp_path, independent):
    task = replace(traffic(tmp_path, FLOW), independent=independent)
    windows = task.windows("test")[::20].copy()
    model = warp(task)
    before = forecasts(model, task, windows)
    windows[:, 12:] = RNG.normal(size=windows[:, 12:].shape)
    np.testing.assert_array_equal(forecasts(model, task, windows), before)


def test_scales_and_ridge_of_traffic_are_those_of_the_past_alone(tmp_path):
    later = FLOW.copy()
    later[320:] = RNG.integers(1, 5, later[320:].shape)  # all that is forecast in the test
    one, other = traffic(tmp_path / "one", FLOW), traffic(tmp_path / "other", later)
    assert not np.array_equal(one.windows("test")[-1], other.windows("test")[-1])
    np.testing.assert_array_equal(one.windows("train"), other.windows("train"))
    np.testing.assert_array_equal(one.windows("test")[0, :12], other.windows("test")[0, :12])
    np.testing.assert_array_equal(ridge(one)[0], ridge(other)[0])


GAP = np.delete(np.arange(R + 1), 50)
NAN = VALUES.copy()
NAN[70, 1] = np.nan
MONTHS = (np.datetime64("1990-01") + np.arange(R)).astype("datetime64[D]")
FLAT = VALUES.copy()
FLAT[:140, 0] = 7


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (dict(times=GAP), {}, "line 52, column time: 51 is not one step of 1.0 after 49 of line"),
        (dict(times=np.arange(R)[::-1]), {}, "column time: it does not rise from row to row"),
        (dict(values=NAN), {}, "line 72, column b: 'nan' is not a finite number"),
        (dict(values=FLAT), {}, "column a: it is 7 in all 140 rows of the training part"),
        (
            {},
            dict(context=(150,)),
            "context of 150 rows and a horizon of 5 are longer than the tra",
        ),
        ({}, dict(period=161), "a period of 161 rows is longer than the 160 before the test"),
        ({}, dict(horizon=41), "longer than the valid part, which has 20;"),
        (
            dict(times=-np.arange(R)),
            {},
            "does not rise .*evenly spaced: --task.time None, and",
        ),
        (dict(times=MONTHS), {}, "not one step .* fill .*: --task.time None, and --task.columns"),
        (
            dict(times=MONTHS),
            dict(time=None),
            "column time: '1990-01-01' is not .* --task.columns nam",
        ),
        (dict(values=FLAT), {}, "leave it out of --task.columns or train on more rows"),
        ({}, dict(time="date"), "no column date; its columns are time, a, b"),
        ({}, dict(columns=("c",)), "no column c"),
        (
            {},
            dict(dates=("120", "90")),
            "dates 120 and 90 must rise within its times, 0.0 to 199.0",
        ),
        (
            {},
            dict(dates=("may", "june")),
            "'may' is not a time like those of the file, such as 0.0",
        ),
    ],
)
def test_what_a_csv_cannot_be_forecast_for_is_told_in_one_line(tmp_path, content, options, message):
    path = write(tmp_path / "mine.csv", **content)
    task = Series(**dict(path=path, context=(L,), horizon=H) | options)
    with pytest.raises(UserError, match=message) as error:
        Forecast().prepare(task)
    assert "\n" not in str(error.value) and str(path) in str(error.value) + str(path) * (
        "task.dates" in str(error.value)
    )


def test_a_csv_is_split_by_date_and_may_have_no_times(tmp_path):
    days = np.datetime64("2020-01-01") + np.arange(R)
    dated = Series(path=write(tmp_path / "days.csv", times=days), context=(L,), horizon=H)
    dated = replace(dated, dates=("2020-05-01", "2020-06-10"))
    assert dated.bounds(dated.table()) == (121, 161, R)
    bare = Series(path=write(tmp_path / "bare.csv"), time=None, columns=("b",))
    np.testing.assert_array_equal(bare.table().values[:, 0], VALUES[:, 1])
    assert bare.bounds(bare.table()) == (140, 160, R)
    with pytest.raises(UserError, match=r"does not exist: name a csv file with --task\.path"):
        Series(path=tmp_path / "none.csv").rows("train")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Series(horizon=0), "at least 1, got horizon 0"),
        (lambda: Series(fractions=(0.8, 0.2)), "leave rows for the test, got 0.8 0.2"),
        (lambda: Series(dates=("2020",)), "must be two times, got 2020"),
        (lambda: Series(columns=("a", "b", "a")), "task.columns has a twice"),
        (lambda: Completion(contexts=(100, 100)), "evaluation.contexts has 100 twice"),
        (lambda: TableErrors(contexts=(10, 10)), "evaluation.contexts has 10 twice"),
        (lambda: Archive(""), "task.problem is empty"),
        (lambda: Series(period=0), "period must be at least 1"),
        (lambda: Series(Recursive(), describe=True), "task.strategy:direct"),
        (lambda: DLinearConfig(average=4), "must be odd"),
    ],
)
def test_what_a_series_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
