"""Bring the files of a known data set into the data folder, and check what lies there.

A file is downloaded beside its place, checked there and moved when it is whole: what a killed
download leaves behind is in a folder `.partial-*` that nothing reads.
"""

import hashlib
import lzma
import os
import re
import sys
import zipfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import numpy as np

from wsrnn.datasets import Dataset, File, checksums
from wsrnn.errors import UserError
from wsrnn.files import read_bytes, read_csv, read_idx

State = Literal["present", "missing", "damaged"]


class Found(NamedTuple):
    """A file of a set, as it lies in the data folder."""

    file: File
    state: State
    path: Path | None = None
    note: str = ""
    """What is wrong, or how it differs from the file whose checksum is known."""

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        if not self.path:
            return 0
        inside = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(path.stat().st_size for path in inside)


def check(known: Dataset, root: Path) -> list[Found]:
    """Look at every file of a set under the data folder: its checksum, or its count."""
    return [_examine(known, file, _located(root / file.path)) for file in known.files]


def state(found: list[Found]) -> str:
    """The one word for a set: present, missing, partly there, or damaged."""
    states = {file.state for file in found}
    if "damaged" in states:
        return "damaged"
    return "partly" if len(states) > 1 else states.pop()


def bring(known: Dataset, root: Path) -> list[Found]:
    """Download what is missing or damaged, and return `check` of it all.

    Raises UserError, which says what to get from where and where to put it, for a set that may not
    or cannot be downloaded, without a network, and for a file that is not the one expected.
    """
    found = check(known, root)
    lacking = [file for file in found if file.state != "present"]
    if not lacking:
        return found
    if not known.archive and not all(file.file.url for file in lacking):
        raise UserError(_by_hand(known, root, lacking, "it has to be fetched by hand"))
    try:
        import pooch
        import requests  # which pooch downloads with
    except ImportError:
        why = "downloading needs pooch (pip install 'wsrnn[data]')"
        raise UserError(_by_hand(known, root, lacking, why)) from None
    pooch.get_logger().setLevel("ERROR")
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".partial-", dir=root) as folder:

        def fetch(url: str) -> Path:
            try:
                name = url.rpartition("/")[2]
                return Path(
                    pooch.retrieve(url, None, name, folder, progressbar=sys.stderr.isatty())
                )
            except (requests.ConnectionError, requests.Timeout):
                why = f"{url} cannot be downloaded: {url.split('/')[2]} cannot be reached"
                raise UserError(_by_hand(known, root, lacking, why)) from None
            except requests.RequestException as error:
                why = f"{url} cannot be downloaded ({error})"
                raise UserError(_by_hand(known, root, lacking, why)) from None

        if known.archive:
            packed = fetch(known.archive)
            for file in lacking:
                _place(known, file, _unpacked(packed, file.file, known.archive), root)
        else:
            for file in lacking:
                assert file.file.url
                _place(known, file, fetch(file.file.url), root)
    return check(known, root)


def _by_hand(known: Dataset, root: Path, lacking: list[Found], why: str) -> str:
    """The line that says what a person has to do."""
    if known.archive:
        names = " and ".join(file.file.path.rpartition("/")[2] for file in lacking)
        place = (root / known.files[0].path).parent
        cure = f"get {known.archive} and put {names} out of it into {place}"
    else:
        first = [
            f"{file.file.url} as {root / file.file.path}{_packed(file.file.url)}"
            if file.file.url
            else str(root / file.file.path)
            for file in lacking[:3]
        ]
        more = f", and {len(lacking) - 3} more like these" if len(lacking) > 3 else ""
        what = "save" if lacking[0].file.url else f"get from {known.source} what goes to"
        cure = f"{what} {', '.join(first)}{more}"
    return f"{known.name}: {why}; {cure}; then run: wsrnn data {known.name} --check"


def _packed(url: str | None) -> str:
    return ".gz" if url and url.endswith(".gz") else ""


def _unpacked(packed: Path, file: File, url: str) -> Path:
    """A file out of the downloaded archive, beside it."""
    name = file.path.rpartition("/")[2]
    try:
        with zipfile.ZipFile(packed) as archive:
            members = [m for m in archive.namelist() if m.rpartition("/")[2] == name]
            if not members:
                raise UserError(f"{url} holds no {name}; nothing was changed")
            (packed.parent / name).write_bytes(archive.read(members[0]))
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{url} gave no whole zip file ({error}); nothing was changed") from None
    return packed.parent / name


def _place(known: Dataset, old: Found, new: Path, root: Path) -> None:
    """Move a downloaded file to its place if it is what is expected."""
    found = _examine(known, old.file, new)
    if found.state != "present":
        raise UserError(
            f"{old.file.url or known.archive} gave a file that is not the one expected: "
            f"{found.note}; it was not kept, try again or get it from {known.source}"
        )
    target = root / f"{old.file.path}{'.gz' if new.suffix == '.gz' else ''}"
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(new, target)
    if old.path and old.path != target:
        old.path.unlink()  # damaged, and it would be found first


def _located(path: Path) -> Path | None:
    """A file as it is called, or packed; for a zip also the folder that it was unpacked to."""
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.is_file():
            return candidate
    folder = path.with_suffix("")
    return folder if path.suffix == ".zip" and folder.is_dir() else None


def _examine(known: Dataset, file: File, path: Path | None) -> Found:
    if path is None:
        return Found(file, "missing")
    expected = checksums().get(file.path)
    try:
        if expected and path.is_file():
            if _digest(path) == expected:
                return Found(file, "present", path)
            if known.exact:
                return Found(file, "damaged", path, "its checksum is another")
        count = _count(path)
    except UserError as error:
        return Found(file, "damaged", path, str(error).removeprefix(f"{path} "))
    except (OSError, ValueError, EOFError, lzma.LZMAError, zipfile.BadZipFile) as error:
        return Found(file, "damaged", path, str(error).partition("\n")[0])
    if file.count is not None and count != file.count:
        return Found(file, "damaged", path, f"it holds {count:,} where {file.count:,} are expected")
    note = "another version than that of the known checksum; its count agrees" if expected else ""
    return Found(file, "present", path, note)


def _digest(path: Path) -> str:
    if path.suffix == ".gz":
        return hashlib.sha256(read_bytes(path)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _count(path: Path) -> int:
    """How many images, cases, rows or clips a file holds, by the form that its name tells."""
    name = path.name.removesuffix(".gz")
    if path.is_dir():
        return sum(len(files) for *_, files in os.walk(path))
    if name.endswith("-ubyte"):
        return len(read_idx(path, 2051 if "idx3" in name else 2049))
    if name.endswith(".csv"):
        return len(read_csv(path).rows)
    if name.endswith(".ts"):
        cases = read_bytes(path).lower().partition(b"@data")[2]
        return sum(1 for line in cases.splitlines() if line.strip())
    if name.endswith(".npz"):
        with np.load(path) as arrays:
            return max((len(array) for array in arrays.values() if array.ndim), default=0)
    if name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            return sum(not member.endswith("/") for member in archive.namelist())
    if clip := re.search(r"x(\d+)\.raw\.xz$", name):  # int16
        return len(lzma.decompress(path.read_bytes())) // (2 * int(clip[1]))
    return sum(1 for line in read_bytes(path).splitlines() if line.strip())
