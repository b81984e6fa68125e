"""Images as sequences of pixels, row by row: MNIST and Fashion-MNIST from their idx files."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import grain
import numpy as np

from wsrnn.checks import check_fields
from wsrnn.choices import choice
from wsrnn.errors import UserError
from wsrnn.files import find, read_idx
from wsrnn.tasks import Batch, Loss, Task, clock

SOURCES = {
    "mnist": "yann.lecun.com/exdb/mnist",
    "fashion_mnist": "github.com/zalandoresearch/fashion-mnist",
}
TRAIN = 55_000  # the rest of the 60,000 training images validates


class Target(ABC):
    """What is predicted of an image; a new target is one class."""

    loss: Loss
    d_out: int

    @abstractmethod
    def cut(self, pixels: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray | np.int32]:
        """Inputs [T, 1] and targets, of pixels [side^2, 1]."""


@dataclass(frozen=True)
class NextPixel(Target):
    """y_t is scored on pixel t + 1; T = side^2 - 1."""

    loss: Literal["mse", "nll"] = "mse"
    """Squared error, or the likelihood of a mean and a scale."""

    d_out = 1

    def __post_init__(self):
        check_fields(self)

    def cut(self, pixels, label):
        """All pixels but the last, and all but the first."""
        return pixels[:-1], pixels[1:]


@dataclass(frozen=True)
class Label(Target):
    """The last step is scored on the class of the image; T = side^2."""

    loss = "cross_entropy"
    d_out = 10

    def cut(self, pixels, label):
        """All pixels, and the class."""
        return pixels, np.int32(label)


@dataclass(frozen=True)
class PixelSequence(Task):
    """Pixels on [0, 1], one a step (D = 1); 55,000 / 5,000 / 10,000 images."""

    name: Literal["mnist", "fashion_mnist"] = "mnist"
    """The folder of the files under the data folder."""
    side: Literal[28, 14] = 28
    """Pixels along a side; 14 keeps every second row and column, as the paper's does."""
    target: Annotated[Target, choice(lambda: (NextPixel, Label))] = field(default_factory=NextPixel)
    """Predict the next pixel, or the class."""
    data_dir: Path | None = None
    """Where the files lie; else $WSRNN_DATA, else ~/.cache/wsrnn."""

    def __post_init__(self):
        check_fields(self)

    @property
    def loss(self):
        """That of the target."""
        return self.target.loss

    @property
    def d_in(self):
        """Grey."""
        return 1

    @property
    def d_out(self):
        """One pixel or ten classes."""
        return self.target.d_out

    @property
    def length(self):
        """Steps: as many as the target leaves."""
        return len(self.target.cut(np.zeros((self.side**2, 1)), 0)[0])

    def dataset(self, split, seed):
        """Return the images of a split in the order of their file; the seed plays no part."""
        part, least = ("t10k", 0) if split == "test" else ("train", TRAIN)
        images = self._file(f"{part}-images-idx3-ubyte", 2051)
        labels = self._file(f"{part}-labels-idx1-ubyte", 2049)
        if images.shape[1:] != (28, 28) or len(images) != len(labels) or len(images) <= least:
            raise UserError(
                f"the {part} files of {self.name} do not belong together: images "
                f"{list(images.shape)}, {len(labels)} labels; more than {least} of 28 x 28 are "
                "expected, fetch them again"
            )
        keep = {"train": slice(TRAIN), "valid": slice(TRAIN, None), "test": slice(None)}[split]
        images, labels = images[keep], labels[keep]
        return grain.MapDataset.range(len(images)).map(
            lambda i: self.example(images[i], int(labels[i]))
        )

    def _file(self, name: str, magic: int) -> np.ndarray:
        source = SOURCES[self.name]
        return _read(find(f"{self.name}/{name}", self.data_dir, source), magic)

    def example(self, image: np.ndarray, label: int) -> Batch:
        """Turn one uint8 image [28, 28] into a sequence."""
        step = 28 // self.side
        pixels = image[::step, ::step].reshape(-1, 1).astype(np.float32) / 255
        inputs, targets = self.target.cut(pixels, label)
        mask = np.ones(self.length, np.float32)
        return Batch(inputs, clock(self.length), targets, mask, {"label": np.int32(label)})


_read = cache(read_idx)
