"""What every image set is, how sets are split, and how images are scaled."""

import struct
import zipfile
import zlib
from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SPLITS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
"""What the folder, zip or npz of a split may be called."""
HELD_OUT = 5_000
"""The last training images, at most a tenth of them, validate a set that has no such part."""

Labelled = tuple[UInt8[np.ndarray, "H W C"], int | None]


class Images(ABC):
    """Images of one split, in an order that never changes."""

    shape: tuple[int, int, int]
    """H, W and C, the same for all."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, i: int) -> Labelled:
        """Return image i and its label; UserError, which names the file, if it cannot be read."""


BROKEN = (
    OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error, zipfile.BadZipFile,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow and zipfile raise for a damaged file."""


def pixels_of(image: Image.Image, side: int | None) -> UInt8[np.ndarray, "H W C"]:
    """The pixels of an image, scaled to a side if one is given."""
    if side and image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    pixels = np.array(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def part_of(split: str, train: int, valid: int, test: int) -> tuple[str, range]:
    """The part that holds a split, and where in it, from the counts of the parts."""
    held = 0 if valid else min(HELD_OUT, train // 10)
    if split == "train":
        return split, range(train - held)
    if split == "valid" and held:
        return "train", range(train - held, train)
    return split, range({"valid": valid, "test": test}[split])
