"""Images as sequences of pixels, row by row: to be completed, or to be classified."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import grain
import numpy as np
from jaxtyping import Float, UInt8

from wsrnn.checks import check_fields, check_positive
from wsrnn.errors import UserError
from wsrnn.images import Images, open_images
from wsrnn.tasks import Batch, Split, Task, clock
from wsrnn.tasks.continuation import Continuation, Sequence


@dataclass(frozen=True)
class ImageCompletion(Continuation):
    """An image of [0, 1] pixels, of which the first L are known (the paper's section 3.2)."""

    images: str = "mnist"
    """A set by name (mnist, fashion_mnist, cifar10_jpeg, celeba), or the path of a folder or zip of
    image files: see `wsrnn.images.open_images`."""
    side: int = 28
    """Pixels along a side; images of another size are scaled."""
    colour: bool = False
    """Three channels; one if False."""
    data_dir: Path | None = None
    """Where the files lie; else $WSRNN_DATA, else ~/.cache/wsrnn."""

    def __post_init__(self):
        check_positive(self, "side", least=2)
        super().__post_init__()

    @property
    def channels(self):
        """Grey, or red, green and blue."""
        return 3 if self.colour else 1

    @property
    def samples(self):
        """Pixels."""
        return self.side**2

    def sequences(self, split, seed):
        """Return the images in the order of their files; the seed plays no part."""
        images = _open(self.images, split, self.data_dir, self.side, self.channels)

        def sequence(i: int) -> Sequence:
            pixels, label = images[i]
            values = pixels_in_order(pixels)
            return Sequence(values, {} if label is None else {"label": np.int32(label)})

        return grain.MapDataset.range(len(images)).map(sequence)


@dataclass(frozen=True)
class ImageClasses(Task):
    """The class of an image, predicted after its last pixel."""

    images: str = "mnist"
    """A set by name, such as pathfinder, or the path of one: see `wsrnn.images.open_images`."""
    side: int = 28
    """Pixels along a side; images of another size are scaled."""
    colour: bool = False
    """Three channels; one if False."""
    classes: int = 10
    """How many there are."""
    data_dir: Path | None = None
    """Where the files lie; else $WSRNN_DATA, else ~/.cache/wsrnn."""
    loss: Literal["cross_entropy"] = "cross_entropy"

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "side", "classes")

    @property
    def d_in(self):
        """Grey, or red, green and blue."""
        return 3 if self.colour else 1

    @property
    def d_out(self):
        """A logit for each class."""
        return self.classes

    @property
    def length(self):
        """Pixels."""
        return self.side**2

    def dataset(self, split, seed):
        """Return the images in the order of their files; the seed plays no part."""
        images = _open(self.images, split, self.data_dir, self.side, self.d_in)

        def example(i: int) -> Batch:
            pixels, label = images[i]
            if label is None:
                raise UserError(
                    f"the images of {self.images} have no classes: put each class into a folder"
                )
            ones = np.ones(self.length, np.float32)
            return Batch(pixels_in_order(pixels), clock(self.length), np.int32(label), ones, {})

        return grain.MapDataset.range(len(images)).map(example)


def pixels_in_order(pixels: UInt8[np.ndarray, "H W C"]) -> Float[np.ndarray, "pixels C"]:
    """Pixels from 0 to 1, row by row."""
    return pixels.reshape(-1, pixels.shape[-1]).astype(np.float32) / 255


@cache
def _open(name: str, split: Split, data_dir: Path | None, side: int, channels: int) -> Images:
    images = open_images(name, split, data_dir, side)
    if images.shape != (side, side, channels):
        raise UserError(
            f"the images of {name} have {images.shape[2]} channel(s): set task.colour "
            f"{images.shape[2] == 3}"
        )
    return images
