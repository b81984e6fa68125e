"""The files that commands leave behind: JSON documents and figures, and names for them.

A document is written whole or not at all: keep it so, a killed process must not leave half of one.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsrnn.figures import Figure


def write_json(path: Path, document: Any) -> None:
    """Write a document atomically."""
    write_text(path, to_json(document))


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, in UTF-8."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)


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
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        figure.savefig(paths[name])
    return {name: str(path) for name, path in paths.items()}


def slug(step: int, flags: Sequence[str]) -> str:
    """The name of a folder or file for the results of a step, evaluated with these flags."""
    return re.sub(r"[^\w.+-]+", "_", " ".join([f"step-{step}", *flags])).strip("_")[:120]
