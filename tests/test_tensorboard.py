"""What TensorBoard shows of runs: read back by each of the ways that there are to read it."""

import contextlib
import struct
import time
from collections import defaultdict

import pytest
from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.data import provider as data
from tensorboard.data.server_ingester import SubprocessServerDataIngester, get_server_binary
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.util.grpc_util import ChannelCredsType

from wsrnn.tensorboard import TensorBoard

NOW = context.RequestContext()
TAGS = ("train/loss", "theta", "note", "picture")  # of `session`


@contextlib.contextmanager
def slow(logdir):
    """The data of TensorBoard's loading in Python."""
    multiplexer = EventMultiplexer(tensor_size_guidance=defaultdict(int))
    multiplexer.AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    yield MultiplexerDataProvider(multiplexer, str(logdir))


@contextlib.contextmanager
def fast(logdir):
    """The data of its fast loading, the default, by a server of its own."""
    server = SubprocessServerDataIngester(
        server_binary=get_server_binary(), logdir=str(logdir), reload_interval=3600,
        channel_creds_type=ChannelCredsType.LOCAL,
        samples_per_plugin=dict.fromkeys(["scalars", "histograms", "text", "images"], 0),
    )  # fmt: skip
    server.start()
    yield server.data_provider


def steps(provider):
    """{(run, tag): steps} of all that is shown."""
    found = {}
    for plugin in ("scalars", "histograms", "text", "images"):
        kind = {"scalars": "scalars", "images": "blob_sequences"}.get(plugin, "tensors")
        what = dict(experiment_id="", plugin_name=plugin)
        for run, tags in getattr(provider, f"list_{kind}")(NOW, **what).items():
            shown = getattr(provider, f"read_{kind}")(NOW, **what, downsample=10**6)[run]
            found |= {(run, tag): [point.step for point in shown[tag]] for tag in tags}
    return found


def table(provider):
    """TensorBoard's table of hyper-parameters: its columns, and {row: (sessions, its cells)}."""
    backend = Context(TBContext(data_provider=provider))
    none = data.ListHyperparametersResult(hyperparameters=[], session_groups=[])
    tags = backend.hparams_metadata(NOW, "")
    columns = backend.experiment_from_metadata(NOW, "", True, tags, none)
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[api_pb2.STATUS_SUCCESS], slice_size=100
    )
    groups = list_session_groups.Handler(NOW, backend, "", request).run().session_groups
    rows = {}
    for group in groups:
        cells = {k: getattr(v, v.WhichOneof("kind")) for k, v in group.hparams.items()}
        cells |= {v.name.tag: round(v.value, 6) for v in group.metric_values}
        rows[group.name] = [session.name for session in group.sessions], cells
    names = {i.name for i in columns.hparam_infos} | {i.name.tag for i in columns.metric_infos}
    return names, rows


def old_steps(logdir):
    """As scripts read them, by an accumulator that keeps what a restart has overwritten."""
    found = {}
    for folder in sorted({path.parent for path in logdir.rglob("events.*")}):
        events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
        events.Reload()
        for tag in events.Tags()["tensors"]:
            name = str(folder.relative_to(logdir)), tag
            found[name] = [event.step for event in events.Tensors(tag)]
    return found


def assert_shown(logdir, expected):
    """Whatever reads the folder sees these steps, each once and in order."""
    assert old_steps(logdir) == expected
    with slow(logdir) as provider:
        assert steps(provider) == expected
    with fast(logdir) as provider:
        assert_becomes(expected, lambda: steps(provider))


def assert_becomes(expected, read):
    """Once everything is loaded."""
    deadline = time.monotonic() + 10
    while read() != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert read() == expected


@pytest.fixture
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "one.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 3, 2))
    return path


def session(run, first, last, every, png):
    """Begin, or continue, a run's curves; it is not closed, as if it were killed."""
    board = TensorBoard(run, step=first)
    for step in range(first, last + 1):
        if step % every == 0:
            board.scalars(step, {"train/loss": 1.0})
            board.histogram(step, "theta", [1.0, 2.0])
            board.text(step, "note", "text")
            board.image(step, "picture", png)
    return board


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        # (first step, last step, steps between points) of a run that is killed again and again
        ([(0, 13, 1), (11, 15, 1)], range(16)),
        ([(0, 13, 1), (11, 20, 5)], [*range(11), 15, 20]),  # no point where another was
        ([(0, 9, 1), (6, 8, 1), (4, 6, 1)], range(7)),  # twice, to earlier and earlier ones
        ([(0, 9, 1), (0, 4, 2)], [0, 2, 4]),  # before the first checkpoint
        ([(0, 9, 1), (10, 9, 1)], range(10)),  # nothing is left to do
    ],
)
def test_curves_do_not_double_back(tmp_path, png, sessions, expected):
    for first, last, every in sessions:
        session(tmp_path / "run", first, last, every, png)
    assert_shown(tmp_path, {("run", tag): [*expected] for tag in TAGS})


def test_what_was_final_goes_when_training_goes_on(tmp_path, png):
    run = tmp_path / "run"
    session(run, 0, 3, 1, png)
    board = TensorBoard(run / "final", "results")
    board.scalars(4, {"test/loss": 2.0})
    board.hparams(4, {"steps": 4})
    board.close()
    with slow(tmp_path) as provider:
        assert table(provider)[1] == {"run/final": (["run/final"], {"steps": 4, "test/loss": 2})}
    session(run, 4, 5, 1, png)
    assert_shown(tmp_path, {("run", tag): [*range(6)] for tag in TAGS})


def test_the_layout_of_custom_scalars_is_read_back(tmp_path):
    board = TensorBoard(tmp_path / "run", step=0)
    board.layout(without=["model FLOP utilisation"])
    board.close()
    with slow(tmp_path) as provider:
        read = dict(experiment_id="", plugin_name="custom_scalars", downsample=9)
        (points,) = provider.read_tensors(NOW, **read)["run"].values()
    layout = layout_pb2.Layout.FromString(points[0].numpy.item())
    charts = {chart.title: list(chart.multiline.tag) for c in layout.category for chart in c.chart}
    assert charts["loss"] == ["train/loss$", "valid/loss$"]
    assert "ms a step" in charts and "model FLOP utilisation" not in charts


def test_curves_go_on_where_a_clock_is_late_and_a_file_is_torn(tmp_path, png, monkeypatch):
    session(tmp_path / "run", 0, 6, 2, png)
    (file,) = (tmp_path / "run").iterdir()
    file.write_bytes(file.read_bytes()[:-30])  # within the image of step 6
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 1.0)  # of another machine
        session(tmp_path / "run", 5, 8, 2, png)
    assert_shown(tmp_path, {("run", tag): [0, 2, 4, 6, 8] for tag in TAGS})


def test_results_lie_beside_the_curves_once_and_go_when_training_goes_on(tmp_path, png):
    run = tmp_path / "run"

    def results(step):
        for _ in range(2):
            board = TensorBoard(run, "results")
            board.scalars(step, {"test/loss": 2.0})
            board.hparams(step, {"steps": step})
            board.close()

    training = session(run, 0, 3, 1, png)
    results(4)  # `wsrnn eval` of a run that is being trained
    training.scalars(4, {"train/loss": 1.0})
    training.scalars(5, {"train/loss": 1.0})
    board = TensorBoard(run, "icl")
    board.image(6, "icl", png)
    board.close()
    curves = {("run", tag): [0, 1, 2, 3] for tag in TAGS} | {("run", "train/loss"): [*range(6)]}
    hparams = "_hparams_/session_start_info", "_hparams_/session_end_info"
    found = old_steps(tmp_path)
    assert [found.pop(("run", tag)) for tag in hparams] == [[4], [4]]
    assert found == curves | {("run", "test/loss"): [4], ("run", "icl"): [6]}
    with slow(tmp_path) as provider:
        assert steps(provider) == found
        assert table(provider)[1] == {
            "run": (["run"], {"steps": 4, "test/loss": 2, "train/loss": 1})
        }
    session(run, 4, 5, 1, png)
    assert_shown(
        tmp_path, {("run", tag): [*range(6)] for tag in ("train/loss", "theta", "note", "picture")}
    )


@pytest.mark.parametrize("load", [slow, fast])
def test_every_run_is_a_row_with_its_own_values(tmp_path, load):
    rows = {
        "a/main": ({"seed": 1, "radius": 0.5, "model": "Warp"}, {"test/loss": 0.25}),
        "b/main": ({"seed": 2, "radius": None, "model": "Warp"}, {"test/loss": 0.75}),
        "b/deep/er/main": ({"seed": 2, "radius": None, "model": "Warp"}, {"test/loss": 0.5}),
        "other": ({"prefixes": [1, 2], "bound": float("inf")}, {"test/accuracy": 1.0}),
    }
    for name, (config, metrics) in rows.items():
        board = TensorBoard(tmp_path / name, "results")
        board.scalars(7, metrics)
        board.hparams(7, config)
        board.close()
    expected = {
        name: ([name], {k: v for k, v in (config | metrics).items() if v is not None})
        for name, (config, metrics) in rows.items()
    }
    expected["other"][1].update({"prefixes": "[1, 2]", "bound": "inf"})
    columns = {"seed", "radius", "model", "prefixes", "bound", "test/loss", "test/accuracy"}
    with load(tmp_path) as provider:
        assert_becomes((columns, expected), lambda: table(provider))
