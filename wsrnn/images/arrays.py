"""Image sets that are arrays: idx files, as MNIST's, and npz files."""

import math
import struct
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped, UInt8
from PIL import Image

from wsrnn.datasets import SETS
from wsrnn.errors import UserError
from wsrnn.files import find, read_idx
from wsrnn.images.base import BROKEN, SPLITS, Images, part_of, pixels_of


@dataclass(frozen=True)
class ArrayImages(Images):
    """Images of one array, read whole from idx or compressed npz files, once in a process.

    Of an npz file that is not compressed, as `np.savez` leaves it, only what is asked for is read.
    """

    files: tuple[Path, ...]
    """Images and labels in idx files, or one npz file with both."""
    keep: range
    """Which of its images."""
    shape: tuple[int, int, int]
    """What they are scaled to, if they are not of that height and width."""

    def __len__(self):
        return len(self.keep)

    def __getitem__(self, i):
        images, labels = _arrays(self.files)
        image = np.array(images[self.keep[i]])
        if image.shape[:2] != self.shape[:2]:
            grey = self.shape[2] == 1  # for which Pillow wants [H, W]
            image = image.reshape(image.shape[:2]) if grey else image
            image = pixels_of(Image.fromarray(image), self.shape[0])
        return image.reshape(self.shape), None if labels is None else int(labels[self.keep[i]])


def open_idx(name: str, split: str, data_dir: Path | None, side: int | None) -> ArrayImages:
    """Open a split of the four idx files of a set."""
    part = "t10k" if split == "test" else "train"
    files = tuple(
        find(f"{name}/{part}-{what}-ubyte", data_dir, SETS[name].source)
        for what in ("images-idx3", "labels-idx1")
    )
    count, shape = _sizes(files, side)
    return ArrayImages(files, part_of(split, count, 0, count)[1], shape)


def open_npz(root: Path, split: str, side: int | None) -> ArrayImages:
    """Open a split of a folder with an npz file for each: images and perhaps labels."""
    paths = {
        part: (path,)
        for part, words in SPLITS.items()
        for word in words
        if (path := root / f"{word}.npz").is_file()
    }
    counts = {part: _sizes(files, side)[0] for part, files in paths.items()}
    part, keep = part_of(split, *(counts.get(part, 0) for part in SPLITS))
    if not keep:
        raise UserError(f"{root} has no images of the split {split}: put a {part}.npz there")
    return ArrayImages(paths[part], keep, _sizes(paths[part], side)[1])


def _sizes(files: tuple[Path, ...], side: int | None) -> tuple[int, tuple[int, int, int]]:
    """How many images there are, and their shape once scaled."""
    count, height, width, *channels = _arrays(files)[0].shape
    return count, (side or height, side or width, channels[0] if channels else 1)


@dataclass(frozen=True)
class Rows:
    """An array in a file, of which one row is read at a time.

    It is not mapped to memory: a file that is cut while it is mapped ends the process by SIGBUS.
    """

    path: Path
    start: int
    """The byte at which the array begins."""
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self.shape)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, i: int) -> Shaped[np.ndarray, "..."]:
        count = math.prod(self.shape[1:])
        begin = self.start + i * count * self.dtype.itemsize
        try:
            row = np.fromfile(self.path, self.dtype, count, offset=begin)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from None
        if len(row) < count:
            raise UserError(f"{self.path} ends before its row {i}: it was cut, fetch it again")
        return row.reshape(self.shape[1:])


@cache
def _arrays(
    files: tuple[Path, ...],
) -> tuple[UInt8[np.ndarray, "N H W *C"] | Rows, Integer[np.ndarray, " N"] | None]:
    """Images and labels of one npz or two idx files, the images in memory or where they lie."""
    if files[0].suffix == ".npz":
        images, labels = _member(files[0], "images"), _member(files[0], "labels", whole=True)
        assert not isinstance(labels, Rows)
        if images is None:
            raise UserError(
                f"{files[0]} has no array named images: uint8 [N, H, W] or [N, H, W, C]"
            )
    else:
        images, labels = read_idx(files[0], 2051), read_idx(files[1], 2049)
    channels = images.shape[3] if images.ndim == 4 else 1
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or channels not in (1, 3):
        raise UserError(
            f"{files[0]}: images are {images.dtype} {list(images.shape)}; uint8 [N, H, W] or "
            "[N, H, W, C] with C of 1 or 3 is read, values from 0 to 255"
        )
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
        raise UserError(
            f"{files[-1]} does not belong to the images: {len(images)} images, labels "
            f"{labels.dtype} {list(labels.shape)}; an integer for each image is expected, fetch "
            "both again"
        )
    return images, labels


def _member(path: Path, name: str, whole: bool = False) -> np.ndarray | Rows | None:
    """An array of a npz file, left there if its rows lie in it as they are; None if missing."""
    try:
        with zipfile.ZipFile(path) as npz:
            if f"{name}.npy" not in npz.namelist():
                return None
            info = npz.getinfo(f"{name}.npy")
            with npz.open(info) as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError(f"{name} is in an unusual npy format")
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                header = file.tell()
                if whole or fortran or info.compress_type != zipfile.ZIP_STORED:
                    file.seek(0)
                    return np.lib.format.read_array(file)
        with path.open("rb") as raw:  # the member follows its own header in the zip, of two names
            raw.seek(info.header_offset + 26)
            start = info.header_offset + 30 + sum(struct.unpack("<HH", raw.read(4))) + header
        return Rows(path, start, shape, dtype)
    except BROKEN as error:
        raise UserError(f"{path} cannot be read ({error}): it is damaged, fetch it again") from None
