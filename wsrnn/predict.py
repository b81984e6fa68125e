"""Predictions of a trained model on a user's own file, npz or csv."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from wsrnn.errors import UserError
from wsrnn.evaluations import in_batches
from wsrnn.figures import Figure, finish, new_figure
from wsrnn.files import read_csv, unfit
from wsrnn.models import Model
from wsrnn.tasks import Task, clock

Clock = Callable[[int], np.ndarray]  # from T to times [T]


class Sequences(NamedTuple):
    """The sequences of a file, each padded with its last row to the longest."""

    inputs: Float[np.ndarray, "N T D"]  # float32
    times: Float[np.ndarray, "N T"]  # float32
    lengths: Int[np.ndarray, " N"]
    ids: list[str]


def check_task(task: Task) -> None:
    """UserError for a task whose outputs are more than one call of the model."""
    name, continued = type(task).__name__, "wsrnn.evaluations.continuation.continued"
    if task.feeds_back:
        raise UserError(
            f"{name} feeds predictions back after a context, which predict does not: from Python "
            f"call model.rollout, or {continued}"
        )
    if task.has_units:
        raise UserError(
            f"{name} counts in units of each context, which predict does not know: from Python "
            f"call {continued} and scale its forecasts back by task.statistics"
        )


def read_sequences(path: Path, d_in: int, clock: Clock = clock) -> Sequences:
    """Return the sequences of an npz (`inputs`, maybe `times`) or a long csv (id, t, ...).

    The csv has one row a step, its channels in the columns beside id and t; t is a number or an ISO
    date, and rows are sorted by it in each id. npz times are taken as they are; without them, and
    for a csv, a sequence of T steps has the times clock(T), such as `Task.times`. Raises UserError
    for anything that does not fit, naming the place.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist: name an npz or csv file")
    kind = path.suffix.lower()
    if kind not in (".npz", ".csv", ".gz"):
        raise UserError(f"{path}: predict reads .npz and .csv (or .csv.gz) files")
    sequences = (_from_npz if kind == ".npz" else _from_csv)(path, clock)
    channels = sequences.inputs.shape[2]
    if channels != d_in:
        raise UserError(f"{path} has {channels} input channel(s), the model takes {d_in}")
    return sequences


def _from_npz(path: Path, clock: Clock) -> Sequences:
    try:
        archive = np.load(path)
        if isinstance(archive, np.ndarray):
            raise ValueError("it holds one bare array; save it with numpy.savez(..., inputs=...)")
        with archive:
            arrays = {name: archive[name] for name in ("inputs", "times") if name in archive}
    except Exception as error:  # numpy raises what the zip and the pickle modules raise
        raise UserError(f"{path} cannot be read as an npz file: {error}") from None
    if "inputs" not in arrays:
        raise UserError(f"{path} has no array `inputs` [N, T, D]")
    inputs = arrays["inputs"]
    if inputs.ndim != 3 or 0 in inputs.shape or not _real(inputs):
        raise UserError(
            f"{path}: `inputs` must be numbers [N, T, D], it is {inputs.dtype} {list(inputs.shape)}"
        )
    default = np.broadcast_to(clock(inputs.shape[1]), inputs.shape[:2])
    times = arrays.get("times", default)
    if times.shape != inputs.shape[:2] or not _real(times):
        raise UserError(
            f"{path}: `times` must be numbers {list(inputs.shape[:2])} like inputs, "
            f"it is {times.dtype} {list(times.shape)}"
        )
    for name, array in (("inputs", inputs), ("times", times)):
        bad = unfit(array)
        if len(bad):
            raise UserError(f"{path}: {name}{bad[0].tolist()} is not a finite number (in float32)")
    lengths = np.full(len(inputs), inputs.shape[1])
    ids = [str(i) for i in range(len(inputs))]
    return Sequences(inputs.astype(np.float32), times.astype(np.float32), lengths, ids)


def _from_csv(path: Path, clock: Clock) -> Sequences:
    csv = read_csv(path)
    keys, stamps = csv.columns(["id", "t"])
    channels = [name for name in csv.names if name not in ("id", "t")]
    if not channels:
        raise UserError(f"{path} has no channel beside id and t")
    times, table = csv.times("t"), csv.numbers(channels)
    ids, owner, series = list(dict.fromkeys(keys)), np.array(keys), []
    for name in ids:
        rows = np.flatnonzero(owner == name)
        rows = rows[np.argsort(times[rows], kind="stable")]
        again = np.flatnonzero(times[rows[1:]] == times[rows[:-1]])
        if len(again):
            first, second = rows[again[0] :][:2]
            raise UserError(
                f"{path} line {csv.lines[second]}: id {name!r} has several rows at t = "
                f"{stamps[second]}, another on line {csv.lines[first]}; drop one"
            )
        series.append(table[rows])
    lengths = np.array([len(own) for own in series])
    steps = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
    inputs = np.stack([own[i] for own, i in zip(series, steps, strict=True)])
    times = np.stack([clock(int(n))[i] for n, i in zip(lengths, steps, strict=True)])
    return Sequences(inputs.astype(np.float32), times, lengths, ids)


def _real(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)


def predict(model: Model, sequences: Sequences) -> Float[np.ndarray, "N T O"]:
    """Return the model's outputs; not a number at steps beyond a sequence's length.

    Raises UserError for sequences that the model refuses, such as those of a wrong length.
    """
    try:
        outputs = in_batches(model, "__call__", 64, sequences.inputs, sequences.times)
    except ValueError as error:  # what models raise says what they take
        line = str(error).partition("\n")[0]
        raise UserError(f"the model cannot read these sequences: {line}") from error
    beyond = np.arange(outputs.shape[1]) >= sequences.lengths[:, None]
    return np.where(beyond[..., None], np.nan, outputs)


def draw_predictions(
    times: Float[np.ndarray, "N T"],
    outputs: Float[np.ndarray, "N T O"],
    inputs: Float[np.ndarray, "N T D"],
    title: str,
) -> Figure:
    """The outputs of a model over time, one panel a sequence, over its inputs in grey."""
    count = len(outputs)
    figure = new_figure(9, 1.9 * count)
    for panel, axes in enumerate(figure.subplots(count, 1, squeeze=False)[:, 0]):
        axes.plot(times[panel], inputs[panel], color="#bbbbbb", lw=1)
        axes.plot(times[panel], outputs[panel], lw=1.5)
        finish(axes, legend=False)
    axes.set_xlabel("time   (grey: inputs, colours: predictions)")
    figure.suptitle(title, fontsize=10)
    return figure
