"""Image sets of a file for each image, of any format that Pillow reads, in folders or zip files."""

import os
import zipfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wsrnn.errors import UserError
from wsrnn.images.base import BROKEN, SPLITS, Images, part_of, pixels_of

PARTITION = "list_eval_partition.txt"
"""CelebA's file of splits: lines such as `000001.jpg 0`; 0 train, 1 valid, 2 test."""

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Those of Pillow that are 8 bits of grey or colour: it clips larger numbers to white."""


@dataclass(frozen=True)
class FileImages(Images):
    """Images of a file each, decoded when they are asked for, all of one shape."""

    root: Path
    """The folder that names are relative to."""
    names: tuple[str, ...]
    """Files, or zip files and their members: `train.zip/train/cat/1.jpg`."""
    labels: tuple[int, ...] | None
    """The class of each, as a place in `classes`."""
    classes: tuple[str, ...]
    """Names of classes in alphabetical order."""
    shape: tuple[int, int, int]
    """That of the first; one channel where that one is grey, otherwise three."""
    side: int | None = None
    """Pixels along a side; None takes images that are all of one size as they are."""

    def __len__(self):
        return len(self.names)

    def __getitem__(self, i):
        pixels = _decode(self.root, self.names[i], self.side, grey=self.shape[2] == 1)
        if pixels.shape != self.shape:
            found, first = (" x ".join(map(str, shape[:2])) for shape in (pixels.shape, self.shape))
            raise UserError(
                f"the image {self.root / self.names[i]} is {found} pixels, the first of its split "
                f"is {first}: give a side to scale them to"
            )
        return pixels, self.labels[i] if self.labels else None


def open_files(root: Path, split: str, side: int | None) -> FileImages:
    """Open a split of a folder or zip of image files."""
    where, names = _listed(root)
    partition = (root if root.is_dir() else where) / PARTITION
    divided = _by_partition(partition, names) if partition.is_file() else _by_folder(names)
    part, keep = part_of(split, *(len(divided[part]) for part in SPLITS))
    if not keep:
        raise UserError(
            f"{root} has no images of the split {split} (of {len(names)} in all): put them into a "
            f"folder {part}, or add {PARTITION} of lines such as `000001.jpg 0` (0 train, 1 "
            "valid, 2 test)"
        )
    folders = {} if partition.is_file() else _classes(divided)
    chosen = _in_turns(divided[part], folders) if folders else divided[part]
    chosen = [chosen[i] for i in keep]
    number = {name: i for i, name in enumerate(sorted({*folders.values()}))}
    labels = tuple(number[folders[name]] for name in chosen) if folders else None
    shape = _decode(where, chosen[0], side).shape
    return FileImages(where, tuple(chosen), labels, tuple(number), shape, side)


def _decode(
    root: Path, name: str, side: int | None, grey: bool | None = None
) -> UInt8[np.ndarray, "H W C"]:
    """The pixels of a file or member of a zip; UserError if it cannot be read."""
    path, zipped, member = name.partition(".zip/")
    try:
        source = _zip(root / f"{path}.zip", os.getpid()).open(member) if zipped else root / name
        with Image.open(source) as image:
            if image.mode not in MODES:
                raise UserError(
                    f"the image {root / name} has pixels of Pillow's mode {image.mode}, which are "
                    "not 8 bits of grey or colour: save it as 8 bits, grey or RGB"
                )
            grey = image.mode in ("1", "L") if grey is None else grey
            return pixels_of(image.convert("L" if grey else "RGB"), side)
    except UserError:
        raise
    except BROKEN as error:
        wrong = str(error).partition("\n")[0]
        raise UserError(
            f"the image {root / name} cannot be read ({wrong}): replace it or fetch it again"
        ) from None


def _listed(root: Path) -> tuple[Path, list[str]]:
    """The folder that names are relative to, and the names of all image files, sorted."""
    ends = {e for e, kind in Image.registered_extensions().items() if kind in Image.OPEN}

    def images(names):
        return sorted(
            name
            for name in names
            if os.path.splitext(name)[1].lower() in ends and "/." not in f"/{name}"
            and not name.startswith("__MACOSX/")
        )  # fmt: skip

    where, zips = root, sorted(root.glob("*.zip"))
    if not root.is_dir():
        where, zips = root.parent, [root]
    else:
        walked = (Path(at, name) for at, _, files in os.walk(root) for name in files)
        if found := images(path.relative_to(root).as_posix() for path in walked):
            return root, found
    try:
        members = {path.name: images(_zip(path, os.getpid()).namelist()) for path in zips}
    except BROKEN as error:
        raise UserError(f"a zip file of {root} cannot be read ({error}): fetch it again") from None
    found = [f"{path}/{member}" for path, inside in members.items() for member in inside]
    if not found:
        raise UserError(f"{root} holds no image files, and no zip files of them")
    return where, found


def _by_partition(partition: Path, names: list[str]) -> dict[str, list[str]]:
    """The names of each split, by a file of the form of CelebA's."""
    paths = {name.rpartition("/")[2]: name for name in names}
    divided: dict[str, list[str]] = {split: [] for split in SPLITS}
    missing = []
    for number, line in enumerate(partition.read_text().splitlines(), 1):
        match line.split():
            case [name, ("0" | "1" | "2") as part] if name in paths:
                divided[list(SPLITS)[int(part)]].append(paths[name])
            case [name, "0" | "1" | "2"]:
                missing.append(name)
            case []:
                pass
            case _:
                raise UserError(
                    f"{partition} line {number}: {line[:60]!r} is not a file name and 0, 1 or 2"
                )
    if missing:
        raise UserError(
            f"{partition} names {len(missing)} images that are not among the {len(names)} beside "
            f"it, such as {missing[0]}: unpack or fetch the images again"
        )
    return divided


def _by_folder(names: list[str]) -> dict[str, list[str]]:
    """The names of each split, by the first folder or zip on their way that is called as one."""
    splits = {word: split for split, words in SPLITS.items() for word in words}
    divided: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        way = [part.removesuffix(".zip") for part in name.split("/")[:-1]]
        if split := next((splits[part] for part in way if part in splits), None):
            divided[split].append(name)
    return divided


def _classes(divided: dict[str, list[str]]) -> dict[str, str]:
    """The class of each name, its folder; none where one lies in no folder but that of a split."""
    names = [name for part in divided.values() for name in part]
    folders = {name: name.split("/")[-2].removesuffix(".zip") for name in names}
    splits = {word for words in SPLITS.values() for word in words}
    return {} if splits & {*folders.values()} else folders


def _in_turns(names: list[str], folders: dict[str, str]) -> list[str]:
    """The names in an order in which every stretch has nearly its share of each class."""
    sizes = Counter(folders[name] for name in names)
    seen: Counter[str] = Counter()
    place = {}
    for name in names:
        its = folders[name]
        place[name] = ((seen[its] + 0.5) / sizes[its], its)
        seen[its] += 1
    return sorted(names, key=place.__getitem__)


@cache
def _zip(path: Path, process: int) -> zipfile.ZipFile:
    """An open zip file; its position is not to be shared with a process that was forked."""
    return zipfile.ZipFile(path)
