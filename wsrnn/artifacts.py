"""The files that commands leave behind: JSON documents and figures, and names for them.

A document is written whole or not at all: keep it so, a killed process must not leave half of one.
"""

import errno
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wsrnn.errors import RunError
from wsrnn.figures import Figure


def write_json(path: Path, document: Any) -> None:
    """Write a document atomically."""
    write_text(path, to_json(document))


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, in UTF-8; RunError where it cannot be written."""
    unfinished = path.with_name(path.name + ".tmp")
    with writing(path):
        unfinished.write_text(text, "utf-8")
        unfinished.replace(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the disk, full or read-only, into a RunError that names the path."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from None


class LogFile(io.FileIO):
    """A file that grows. What is written is there at once, whenever the process is killed.

    Raises RunError where it cannot be opened or written.
    """

    def __init__(self, path: Path, mode: str):
        with writing(path):
            super().__init__(path, mode)

    def write(self, content: Any) -> int:
        """Write all bytes, or raise."""
        with writing(Path(str(self.name))):
            if (written := super().write(content)) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written


def to_json(document: Any) -> str:
    """Standard JSON: numbers that are not finite become null."""
    return json.dumps(_finite(document), indent=1)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def save_figures(figures: Mapping[str, Figure], folder: Path) -> dict[str, str]:
    """Write each figure as a PNG; returns their paths by name."""
    paths = {name: folder / f"{name}.png" for name in figures}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(paths[name])
    return {name: str(path) for name, path in paths.items()}


def slug(step: int, flags: Sequence[str]) -> str:
    """The name of a folder or file for the results of a step, evaluated with these flags."""
    return re.sub(r"[^\w.+-]+", "_", " ".join([f"step-{step}", *flags])).strip("_")[:120]
