"""Four spoken words from their waveforms: clips of one second, 16,000 steps."""

import lzma
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grain
import numpy as np
from jaxtyping import Int

from wsrnn.checks import check_fields, check_positive
from wsrnn.errors import UserError
from wsrnn.files import find, read_bytes, read_csv
from wsrnn.tasks import Batch, Task, clock

SAMPLES = 16_000  # of a clip, at 16 kHz
FOLDER = "audio/speech_commands_4word"
SOURCE = "github.com/Feevicun/audio-classifier-project (data/SpeechCommands)"
CLIPS = {"train": ("train", 600), "valid": ("val", 160), "test": ("test", 300)}


@dataclass(frozen=True)
class SpokenWords(Task):
    """The words yes, no, up and down: 600 / 160 / 300 clips by different speakers.

    A subset of Speech Commands v0.02 (Warden 2018, arXiv 1804.03209) whose speakers are split as
    published; not comparable with the usual 10 or 35 words. Every clip is scaled to unit power, for
    its loudness says nothing of the word. The last step is scored.
    """

    frame: int = 1
    """Samples of a step, which are its channels: 1 is the waveform, 64 makes 250 steps."""
    shift: int = 0
    """Training clips are moved by up to so many samples either way, anew in every epoch."""
    jitter: float = 0.0
    """Standard deviation of noise on training inputs, drawn anew in every epoch."""
    data_dir: Path | None = None
    """Where audio/speech_commands_4word lies; else $WSRNN_DATA, else ~/.cache/wsrnn."""

    loss = "cross_entropy"
    d_out = 4
    classes = ("yes", "no", "up", "down")

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "frame")
        if SAMPLES % self.frame:
            raise ValueError(f"frame must divide the {SAMPLES} samples of a clip, got {self.frame}")
        if not (0 <= self.shift < SAMPLES and 0 <= self.jitter < float("inf")):
            raise ValueError(
                f"shift must lie within 0 and {SAMPLES - 1} and jitter be at least 0, got "
                f"{self.shift} and {self.jitter}"
            )

    @property
    def d_in(self):
        """The samples of a frame."""
        return self.frame

    @property
    def length(self):
        """Frames."""
        return SAMPLES // self.frame

    def dataset(self, split, seed):
        """Return the clips of a split in the order of their file; the seed is the noise's."""
        name, count = CLIPS[split]
        clips = _clips(
            find(f"{FOLDER}/{name}_int16le_{count}x{SAMPLES}.raw.xz", self.data_dir, SOURCE), count
        )
        labels = _labels(find(f"{FOLDER}/{name}_files.csv", self.data_dir, SOURCE), count)
        times, mask = clock(self.length), np.ones(self.length, np.float32)

        def example(i, rng=None):
            x = clips[i].astype(np.float32)
            x /= np.sqrt(np.mean(x**2)) + 1e-3
            if rng is not None:
                by = rng.integers(-self.shift, self.shift + 1)
                x = np.pad(x, self.shift)[self.shift - by :][:SAMPLES]
                x = x + np.float32(self.jitter) * rng.standard_normal(SAMPLES, np.float32)
            return Batch(x.reshape(self.length, self.frame), times, labels[i], mask, {})

        ds = grain.MapDataset.range(count)
        if split == "train" and (self.shift or self.jitter):
            return ds.seed(seed).random_map(example)
        return ds.map(example)


@cache
def _clips(path: Path, count: int) -> Int[np.ndarray, "n samples"]:
    try:
        raw = lzma.decompress(read_bytes(path))
    except lzma.LZMAError as error:
        raise UserError(
            f"{path} cannot be read ({error}): it is truncated or damaged, fetch it again"
        ) from None
    if len(raw) != 2 * count * SAMPLES:
        raise UserError(
            f"{path} holds {len(raw):,} bytes, not {2 * count * SAMPLES:,}: it is truncated or "
            "damaged, fetch it again"
        )
    return np.frombuffer(raw, "<i2").reshape(count, SAMPLES)


@cache
def _labels(path: Path, count: int) -> Int[np.ndarray, " n"]:
    (labels,) = read_csv(path).columns(["label"])
    if len(labels) != count or not set(labels) <= {"0", "1", "2", "3"}:
        raise UserError(
            f"{path} must have {count} rows whose label is 0 to 3, it has {len(labels)}: fetch it "
            "again"
        )
    return np.array(labels, np.int32)
