"""TensorBoard event files, through the `tensorboard` package alone: no TensorFlow.

The package's own `Writer` has scalars only and its image summaries import TensorFlow, so those are
put together from its protocol buffers here.

Files are cut back to the step where a run continues, because readers differ in what they make of a
restart: TensorBoard's fast loading and `EventAccumulator` show what was overwritten.
"""

import math
import os
import re
import struct
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import ArrayLike
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_metadata
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from wsrnn.artifacts import LogFile, writing

FILES = "events.out.tfevents."
VALIDATION = "valid/"  # begins the tags that a validation writes first
FINAL = "final"
"""The folder in a run for what is known at its end: a run of its own to TensorBoard, whose table of
hyper-parameters has a column for each curve of a run."""
POINT = scalar_pb("", 0.0).value[0]  # of a curve
UTILISATION = "model FLOP utilisation"
LAYOUT = {
    "learning": {
        "loss": ["train/loss$", "valid/loss$"],
        "gradient norm": ["train/grad norm"],
        "learning rate": ["train/learning rate"],
        "skipped steps": ["train/skipped steps"],
    },
    "speed": {
        "ms a step": ["speed/step ms$"],
        "goodput: share of time in steps, and in all else": ["goodput/.*"],
        UTILISATION: ["speed/MFU"],
        "operations a second, by formula": ["speed/FLOP per s"],
        "memory in use (MiB)": ["memory/.*"],
        "programs compiled": ["speed/programs compiled"],
    },
    "inside": {
        "spectral radius of A": ["A/spectral radius"],
        "norm of theta_t, and its drift": ["theta/.*"],
        "gradient norms": ["gradient norms/.*"],
    },
}
"""Charts of `TensorBoard.layout`, by category: regular expressions of tags."""


class TensorBoard:
    """Writes one run's curves, histograms, images, texts and hyper-parameters."""

    def __init__(
        self,
        folder: Path,
        part: str = "curves",
        step: int | None = None,
        unvalidated: bool = False,
    ):
        """Write a part of what the folder shows, in place of what it held of that part.

        With `step` the curves go on there: whatever the folder holds of it and beyond, in any part,
        is gone. Without it the other parts are left alone, for a run may be training. What the
        validation of the step before has left is gone too if that is `unvalidated`, as when it was
        interrupted. Raises RunError where the files cannot be written.
        """
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            before = sorted(folder.glob(f"{FILES}*"))
            inner = folder.glob(f"{FINAL}/{FILES}*") if step is not None else ()
            for path in (*before, *inner):
                if step is not None:
                    _cut_back(path, step, unvalidated)
                elif path.name.endswith(f".{part}"):
                    path.unlink(missing_ok=True)
        # Readers take files by name: later than the last, whatever this machine's clock says.
        numbers = [int(found[1]) for p in before if (found := re.match(rf"{FILES}(\d+)", p.name))]
        number = max([int(time.time()), *(n + 1 for n in numbers)])
        path = folder / f"{FILES}{number:010d}.{os.getpid()}.{part}"
        self._writer = RecordWriter(LogFile(path, "xb"))
        self._event(0, file_version="brain.Event:2")
        if step is not None:  # a TensorBoard that has read what is gone
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._event(step, session_log=start)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each curve: all in one event and from one template, which is cheap."""
        summary = summary_pb2.Summary()
        for tag, value in values.items():
            point = summary.value.add()
            point.CopyFrom(POINT)
            point.tag = tag
            point.tensor.float_val[0] = value
        self._event(step, summary=summary)

    def histogram(self, step: int, tag: str, values: ArrayLike) -> None:
        """Add a histogram; values that are not finite are left out."""
        values = np.asarray(values, np.float64).ravel()
        self._event(step, summary=histogram_pb(tag, values[np.isfinite(values)], buckets=60))

    def text(self, step: int, tag: str, markdown: str) -> None:
        """Add a text."""
        self._event(step, summary=text_pb(tag, markdown))

    def image(self, step: int, tag: str, path: Path | str) -> None:
        """Add a PNG file as an image."""
        png = Path(path).read_bytes()
        width, height = struct.unpack(">II", png[16:24])  # as the format has it
        strings = [str(width).encode(), str(height).encode(), png]
        tensor = tensor_util.make_tensor_proto(np.array(strings, dtype=object))
        summary = summary_pb2.Summary()
        kind = image_metadata.create_summary_metadata(None, None, converted_to_tensor=True)
        summary.value.add(tag=tag, tensor=tensor, metadata=kind)
        self._event(step, summary=summary)

    def layout(self, without: Collection[str] = ()) -> None:
        """Lay out the page Custom Scalars: the charts that matter, in their order, of which those
        by these names are left out."""
        categories = [
            layout_pb2.Category(
                title=title,
                chart=[
                    layout_pb2.Chart(
                        title=name, multiline=layout_pb2.MultilineChartContent(tag=tags)
                    )
                    for name, tags in charts.items()
                    if name not in without
                ],
            )
            for title, charts in LAYOUT.items()
        ]
        content = layout_pb2.Layout(category=categories).SerializeToString()
        summary = summary_pb2.Summary()
        summary.value.add(
            tag=custom_metadata.CONFIG_SUMMARY_TAG,
            metadata=custom_metadata.create_summary_metadata(),
            tensor=tensor_util.make_tensor_proto(np.array(content, dtype=object)),
        )
        self._event(0, summary=summary)

    def hparams(self, step: int, config: dict[str, Any]) -> None:
        """Enter the run into TensorBoard's table of hyper-parameters, its curves as the metrics.

        No list of columns is written: TensorBoard would take one run's for all, where without any
        it shows those of every run. An empty `trial_id` makes a row of each folder.
        """
        cells = {name: _cell(value) for name, value in config.items() if value is not None}
        end = plugin_data_pb2.SessionEndInfo(
            status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time()
        )
        content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
        summary = summary_pb2.Summary()
        summary.value.add(
            tag=metadata.SESSION_END_INFO_TAG,
            metadata=metadata.create_summary_metadata(content),
            tensor=metadata.NULL_TENSOR,
        )
        self._event(step, summary=hparams_pb(cells, trial_id=""))
        self._event(step, summary=summary)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _event(self, step: int, **content) -> None:
        event = event_pb2.Event(wall_time=time.time(), step=step, **content)
        self._writer.write(event.SerializeToString())


def _cut_back(path: Path, step: int, unvalidated: bool) -> None:
    """Leave of a file what comes before `step`, or before the validation of the step before."""
    kept, validating = [], False
    for event, record in _records(path):
        if unvalidated and event.step == step - 1:
            validating |= any(v.tag.startswith(VALIDATION) for v in event.summary.value)
            if validating:
                continue
        if event.step < step:
            kept.append(record)
    if not kept:
        path.unlink()
        return
    unfinished = path.with_name("events.tmp")  # a name that TensorBoard does not read
    with writing(path):
        unfinished.write_bytes(b"".join(kept))
        unfinished.replace(path)


def _records(path: Path) -> Iterator[tuple[event_pb2.Event, bytes]]:
    """The events of a file, and as they lie there; a torn end is left out."""
    content, begin = path.read_bytes(), 0
    while begin + 16 <= len(content):  # length, its checksum, data, their checksum
        end = begin + 16 + struct.unpack_from("<Q", content, begin)[0]
        if end > len(content):
            return
        try:
            event = event_pb2.Event.FromString(content[begin + 12 : end - 4])
        except DecodeError:
            return
        yield event, content[begin:end]
        begin = end


def _cell(value: Any) -> bool | int | float | str:
    """A value as the table can show it: it drops lists and what is not finite."""
    if isinstance(value, bool | str) or (isinstance(value, int | float) and math.isfinite(value)):
        return value
    return str(value)
