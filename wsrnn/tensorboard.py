"""TensorBoard event files, through the `tensorboard` package alone: no TensorFlow.

The package's own `Writer` has scalars only and its image and experiment summaries import
TensorFlow, so those two are put together from its protocol buffers here.
"""

import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util


class TensorBoard:
    """Writes one run's curves, histograms, images, texts and hyper-parameters."""

    def __init__(self, folder: Path, step: int):
        """Begin at `step`: readers drop what an earlier session wrote at it and beyond."""
        self._writer = EventFileWriter(str(folder))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._event(step, session_log=start)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each curve."""
        for tag, value in values.items():
            self._event(step, summary=scalar_pb(tag, float(value)))

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

    def hparams(self, name: str, config: dict[str, Any], metrics: dict[str, float]) -> None:
        """Enter the run's config and results into TensorBoard's table of hyper-parameters."""
        experiment = api_pb2.Experiment(
            hparam_infos=[api_pb2.HParamInfo(name=key, type=_kind(v)) for key, v in config.items()],
            metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics],
        )
        end = plugin_data_pb2.SessionEndInfo(
            status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time()
        )
        self._event(0, summary=_hparams(metadata.EXPERIMENT_TAG, experiment=experiment))
        self._event(0, summary=hparams_pb(config, trial_id=name))
        self._event(0, summary=_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end))
        self.flush()

    def flush(self) -> None:
        """Make everything readable."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()

    def _event(self, step: int, **content) -> None:
        self._writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, **content))


def _hparams(tag: str, **content: Any) -> summary_pb2.Summary:
    summary = summary_pb2.Summary()
    kind = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
    summary.value.add(tag=tag, metadata=kind, tensor=metadata.NULL_TENSOR)
    return summary


def _kind(value: Any) -> int:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_FLOAT64 if isinstance(value, int | float) else api_pb2.DATA_TYPE_STRING
