"""Image sets of every form: what is read is what was written, and what is wrong is named."""

import io
import pickle
import zipfile
from pathlib import Path

import grain
import numpy as np
import pytest
from PIL import Image

from wsrnn.errors import UserError
from wsrnn.images import open_images

SHARED = Path(__file__).parents[2] / "shared" / "data"
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 5, 3), np.uint8)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image if isinstance(image, bytes) else png(image))


def write_idx(folder, part, images, labels):
    folder.mkdir(parents=True, exist_ok=True)
    for name, magic, array in (("images-idx3", 2051, images), ("labels-idx1", 2049, labels)):
        head = np.array([magic, *array.shape], ">u4").tobytes()
        (folder / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())


def celeba(folder, packed, count=40):
    """The layout of CelebA: files, perhaps in a zip, and every fifth of them valid or test."""
    folder.mkdir(parents=True)
    lines = []
    for i in range(count):
        name, part = f"{i + 1:06}.png", {3: 1, 4: 2}.get(i % 5, 0)
        lines.append(f"{name} {part}\n")
        if packed:
            with zipfile.ZipFile(folder / "img_align_celeba.zip", "a") as file:
                file.writestr(f"img_align_celeba/{name}", png(IMAGES[i]))
        else:
            write(folder / "img_align_celeba" / name, IMAGES[i])
    (folder / "list_eval_partition.txt").write_text("".join(lines))


def equal(images, expected, labels=None):
    assert len(images) == len(expected)
    for i, image in enumerate(expected):
        found, label = images[i]
        np.testing.assert_array_equal(found, image)
        assert found.dtype == np.uint8 and label == (None if labels is None else labels[i])


def test_idx_files_are_split_before_their_last_tenth(tmp_path):
    grey, labels = IMAGES[..., 0], np.arange(40, dtype=np.uint8) % 10
    write_idx(tmp_path / "mnist", "train", grey[:30], labels[:30])
    write_idx(tmp_path / "mnist", "t10k", grey[30:], labels[30:])
    for split, part in (("train", slice(27)), ("valid", slice(27, 30)), ("test", slice(30, 40))):
        images = open_images("mnist", split, tmp_path)
        equal(images, grey[part][..., None], labels[part].tolist())


@pytest.mark.parametrize("packed", [False, True])
def test_celeba_is_split_by_its_partition(tmp_path, packed):
    celeba(tmp_path / "images" / "celeba", packed)
    parts = {s: open_images("celeba", s, tmp_path) for s in ("train", "valid", "test")}
    equal(parts["train"], IMAGES[np.arange(40) % 5 < 3])
    equal(parts["valid"], IMAGES[3::5])
    equal(parts["test"], IMAGES[4::5])


def test_a_zip_beside_its_partition_is_named_by_itself(tmp_path):
    celeba(tmp_path / "c", True)
    equal(open_images(str(tmp_path / "c" / "img_align_celeba.zip"), "test"), IMAGES[4::5])


def test_images_are_scaled_by_lanczos(tmp_path):
    celeba(tmp_path / "images" / "celeba", False)
    pixels, _ = open_images("celeba", "test", tmp_path, side=4)[2]
    truth = Image.fromarray(IMAGES[14]).resize((4, 4), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(pixels, np.asarray(truth))


@pytest.mark.parametrize("form", ["folders", "a zip", "zips"])
def test_folders_of_splits_and_classes(tmp_path, form):
    root = tmp_path / "set"
    for i in range(40):
        name = f"{'test' if i < 10 else 'train'}/{'ba'[i % 2]}/{i:02}.png"
        if form == "folders":
            write(root / name, IMAGES[i])
            continue
        root.mkdir(exist_ok=True)
        with zipfile.ZipFile(root / f"{'all' if form == 'a zip' else name[:4]}.zip", "a") as file:
            file.writestr(name, png(IMAGES[i]))
    name = str(root / "all.zip" if form == "a zip" else root)
    order = np.arange(40).reshape(20, 2)[:, ::-1].reshape(-1)  # class a first, and in turns
    for split, part in (("test", slice(10)), ("train", slice(10, 37)), ("valid", slice(37, 40))):
        images = open_images(name, split)
        equal(images, IMAGES[order][part], [int(i % 2 == 0) for i in order[part]])
        assert images.classes == ("a", "b")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_with_and_without_labels(tmp_path, save):
    root = tmp_path / "images" / "pathfinder"
    root.mkdir(parents=True)
    save(root / "train.npz", images=IMAGES[:20, ..., 0], labels=np.arange(20) % 2)
    save(root / "val.npz", images=IMAGES[20:30, ..., 0], labels=np.ones(10, np.int64))
    save(root / "test.npz", images=IMAGES[30:])
    labels = [i % 2 for i in range(20)]
    equal(open_images("pathfinder", "train", tmp_path), IMAGES[:20, ..., :1], labels)
    equal(open_images("pathfinder", "valid", tmp_path), IMAGES[20:30, ..., :1], [1] * 10)
    equal(open_images("pathfinder", "test", tmp_path), IMAGES[30:])
    assert open_images("pathfinder", "test", tmp_path, 4)[0][0].shape == (4, 4, 3)


def test_arrays_in_the_order_of_fortran(tmp_path):
    np.savez(tmp_path / "train.npz", images=np.asfortranarray(IMAGES))
    equal(open_images(str(tmp_path), "train"), IMAGES[:36])
    equal(open_images(str(tmp_path), "valid"), IMAGES[36:])


def test_grey_files_have_one_channel_and_formats_may_be_mixed(tmp_path):
    grey = IMAGES[..., 0]
    write(tmp_path / "test" / "1.png", grey[0])
    Image.fromarray(grey[1]).save(tmp_path / "test" / "2.bmp")
    Image.fromarray(grey[2]).save(tmp_path / "test" / "3.TIFF")
    (tmp_path / "test" / "about.txt").write_text("no image")
    images = open_images(str(tmp_path), "test")
    equal(images, grey[:3, ..., None])
    assert images.shape == (6, 5, 1) and open_images(str(tmp_path), "test", side=9).shape[:2] == (
        9,
        9,
    )


def test_an_image_of_another_size_needs_a_side(tmp_path):
    write(tmp_path / "train" / "1.png", IMAGES[0])
    write(tmp_path / "train" / "2.png", IMAGES[1, :4])
    with pytest.raises(UserError, match=r"2\.png is 4 x 5 pixels, the first .* 6 x 5: give a side"):
        open_images(str(tmp_path), "train")[1]
    assert open_images(str(tmp_path), "train", side=3)[1][0].shape == (3, 3, 3)


def test_a_pickled_set_reads_the_same_in_grain(tmp_path):
    celeba(tmp_path / "images" / "celeba", True)
    images = pickle.loads(pickle.dumps(open_images("celeba", "valid", tmp_path)))
    found = grain.MapDataset.source(images).map(lambda pair: pair[0]).batch(8)[0]
    np.testing.assert_array_equal(found, IMAGES[3::5])


def test_only_the_image_that_is_asked_for_is_decoded(tmp_path):
    celeba(tmp_path / "images" / "celeba", False)
    broken = tmp_path / "images" / "celeba" / "img_align_celeba" / "000010.png"
    broken.write_bytes(broken.read_bytes()[:70])
    images = open_images("celeba", "test", tmp_path)
    np.testing.assert_array_equal(images[0][0], IMAGES[4])
    with pytest.raises(UserError, match=r"the image .*/000010\.png cannot be read \(.*fetch it"):
        images[1]


def refused(message, *args):
    with pytest.raises(UserError, match=message) as error:
        open_images(*args)[0]
    assert "\n" not in str(error.value)


def test_what_is_missing_is_named_with_what_to_put_where(tmp_path):
    refused("no split 'tests': choose from train, valid, test", "mnist", "tests", tmp_path)
    refused("mnist/train-images-idx3-ubyte .* --data-dir", "mnist", "train", tmp_path)
    refused(
        r"no images at .*/celeba: get img_align.* and list_eval.*run: wsrnn data celeba --data",
        *("celeba", "train", tmp_path),
    )
    refused("no images at .*nowhere.* or name one of mnist, .*celeba", "nowhere", "train", tmp_path)
    refused("holds no image files", str(tmp_path), "train")
    write(tmp_path / "1.png", IMAGES[0])
    refused("no images of the split valid .of 1 in all.* folder valid", str(tmp_path), "valid")


def test_counts_that_do_not_match_are_named(tmp_path):
    write_idx(tmp_path / "mnist", "train", IMAGES[..., 0], np.zeros(39, np.uint8))
    refused("does not belong .*: 40 images, labels uint8 .39.", "mnist", "train", tmp_path)
    np.savez(tmp_path / "train.npz", images=IMAGES, labels=np.zeros(40))
    refused("does not belong .* labels float64 .40.; an integer", str(tmp_path), "train")
    np.savez(tmp_path / "train.npz", images=IMAGES / 255)
    refused("images are float64 .40, 6, 5, 3.; uint8 .* from 0 to 255", str(tmp_path), "train")
    np.savez(tmp_path / "train.npz", x=IMAGES)
    refused("no array named images", str(tmp_path), "train")
    (tmp_path / "train.npz").write_bytes(b"PK no zip")
    refused("train.npz cannot be read .* fetch it again", str(tmp_path), "train")


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_pixels_of_more_than_8_bits_are_refused(tmp_path, kind):
    write(tmp_path / "train" / "1.png", IMAGES[0])
    Image.fromarray(IMAGES[1, ..., 0].astype(kind)).save(tmp_path / "train" / "0.tiff")
    refused(
        r"train/0\.tiff has pixels of .* mode [IF].*: save it as 8 bits", str(tmp_path), "train"
    )


def test_a_partition_that_does_not_fit_is_named(tmp_path):
    celeba(tmp_path / "c", False, 5)
    (tmp_path / "c" / "img_align_celeba" / "000002.png").unlink()
    refused("names 1 images that are not among the 4 beside it, such as 000002.png",
            str(tmp_path / "c"), "train")  # fmt: skip
    (tmp_path / "c" / "list_eval_partition.txt").write_text("000001.png 0\n000003.png 3\n")
    refused("line 2: '000003.png 3' is not a file name and 0, 1 or 2", str(tmp_path / "c"), "test")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data files are not beside the repository")
def test_the_real_files():
    counts = {
        "mnist": (55_000, 5_000, 10_000),
        "cifar10_jpeg": (18_000, 2_000, 10_000),
    }
    for name, expected in counts.items():
        sets = [open_images(name, split, SHARED) for split in ("train", "valid", "test")]
        assert tuple(map(len, sets)) == expected
    assert [open_images("mnist", "test", SHARED)[i][1] for i in range(5)] == [7, 2, 1, 0, 4]
    labels = np.bincount(sets[1].labels)
    assert labels.tolist() == [200] * 10 and sets[1].classes[:2] == ("airplane", "automobile")
    pixels = np.stack([sets[2][i][0] for i in range(0, 10_000, 9)]) / 255
    assert pixels.shape[1:] == (32, 32, 3)
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), [0.4941, 0.4851, 0.4504], atol=0.02)
