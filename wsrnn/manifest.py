"""Checksums of the files of a folder, kept in it as `sha256sum` writes and checks them.

A bit that flips on a disk is read back without an error: only a checksum tells. Keep the format:
``sha256sum -c SHA256SUMS`` within the folder must agree.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path

NAME = "SHA256SUMS"
UNFINISHED = NAME + ".tmp"


def add(folder: Path, leave_out: Collection[str] = ()) -> None:
    """List the files that are not listed yet, but those to `leave_out`.

    Costs reading them, about 1 s for each GB, without the interpreter's lock.
    """
    listed = _read(folder)
    for name in sorted(_files(folder) - listed.keys() - set(leave_out)):
        listed[name] = _digest(folder / name)
    (folder / UNFINISHED).write_text(_text(listed))
    (folder / UNFINISHED).replace(folder / NAME)


def damage(folder: Path, may_be_new: Collection[str] = ()) -> str | None:
    """What differs from when the files were listed, in words; None if nothing does.

    Files of `may_be_new` need not be listed. Costs reading all files.
    """
    try:
        content = (folder / NAME).read_bytes()  # once: a save may be about to replace it
        listed, found = _parsed(content), _files(folder)
        if content != _text(listed).encode():
            return f"{NAME} is no list of checksums"
        for name, digest in listed.items():
            if name not in found:
                return f"{name} is missing"
            if _digest(folder / name) != digest:
                return f"{name} is not as it was written"
        unlisted = found - listed.keys() - set(may_be_new)
        return f"{min(unlisted)} is not in {NAME}" if unlisted else None
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"


def _files(folder: Path) -> set[str]:
    """The files below a folder, without the list itself."""
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return found - {NAME, UNFINISHED}


def _read(folder: Path) -> dict[str, str]:
    """The checksums that are listed, by file."""
    return _parsed((folder / NAME).read_bytes()) if (folder / NAME).exists() else {}


def _parsed(content: bytes) -> dict[str, str]:
    lines = content.decode("utf-8", "replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _text(listed: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in listed.items())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
