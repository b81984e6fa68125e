"""Image sets, opened lazily: idx files, a folder or zip of image files, arrays in npz files.

A set has a length, and `[i]` is (uint8 [H, W, C], label or None). It holds paths and no open file,
so grain's workers can unpickle it; numpy and Pillow only.
"""

from pathlib import Path

from wsrnn.datasets import SETS
from wsrnn.errors import UserError
from wsrnn.files import data_command, data_root
from wsrnn.images.arrays import open_idx, open_npz
from wsrnn.images.base import SPLITS, Images
from wsrnn.images.pictures import PARTITION, open_files

__all__ = ["IDX", "PLACES", "Images", "open_images"]

IDX = ("mnist", "fashion_mnist")
"""Sets of idx files, in folders of their names."""

PLACES = {
    "cifar10_jpeg": "train.zip and test.zip, of JPEG files in folders train/CLASS and test/CLASS",
    "celeba": f"img_align_celeba.zip (or the folder in it) and {PARTITION}",
    "pathfinder": "train.npz, valid.npz and test.npz, of arrays images uint8 [N, H, W] and labels",
}
"""Sets by name, each in its folder below images/, and what lies there."""


def open_images(
    name: str, split: str, data_dir: Path | None = None, side: int | None = None
) -> Images:
    """Open a split of a set by its name in `IDX` or `PLACES`, or by the path of a folder or zip.

    A folder holds an npz file for each split, or image files of any format that Pillow reads, as
    they are or in zips: in folders (or zips) train, valid and test, there perhaps in one for each
    class, or divided by `PARTITION`. If a side is given, images are scaled to [side, side] by
    Lanczos' filter, whatever their proportions. Where there is no validation part the last
    `HELD_OUT` training images are it; classes take turns, so that each has its share there.

    cifar10_jpeg is CIFAR-10 at JPEG quality 75 with 20,000 of its training images. It is lossy:
    likelihoods and accuracies are not those of CIFAR-10.

    Raises UserError for a split or set that is not there, and for counts that do not match.
    """
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}: choose from {', '.join(SPLITS)}")
    if name in IDX:
        return open_idx(name, split, data_dir, side)
    root = Path(name).expanduser()
    if name in PLACES:
        root = data_root(data_dir) / "images" / name
        source = SETS[name].source + data_command(SETS[name].files[0].path, data_dir)
        cure = f"get {PLACES[name]} from {source} and put them there"
    else:
        cure = (
            "put images there in folders train, valid and test, or name one of "
            f"{', '.join([*IDX, *PLACES])}"
        )
    if not root.exists():
        raise UserError(f"there are no images at {root}: {cure}")
    if any(root.glob("*.npz")):
        return open_npz(root, split, side)
    return open_files(root, split, side)
