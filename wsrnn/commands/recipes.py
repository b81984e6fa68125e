"""Shared by the commands: experiment files with flags, checkpoints, output folders."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsrnn.errors import UserError
from wsrnn.recipe import Recipe, default_file


def read_recipe(file: str | None, options: Any, flags: list[str]) -> Recipe:
    """The recipe of a command's file, variant, flags and data folder."""
    recipe = Recipe.read(file or default_file(), options.variant, flags)
    if not options.data_dir:
        return recipe
    # Sizes of a task may stand in its files, which are looked for before the flag is known.
    with _environment("WSRNN_DATA", options.data_dir):
        more = data_flags(options.data_dir, recipe.experiment())
    return dataclasses.replace(recipe, flags=(*flags, *more))


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable of the environment, set for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def data_flags(folder: str, experiment) -> list[str]:
    """--data-dir is short for the field of the tasks and evaluations that read files."""
    parts = [p for p in ("task", "evaluation") if hasattr(getattr(experiment, p), "data_dir")]
    if not parts:
        raise UserError(f"--data-dir: the task {type(experiment.task).__name__} reads no files")
    folder = str(Path(folder).expanduser().resolve())
    return [flag for part in parts for flag in (f"--{part}.data-dir", folder)]


def checkpoint(text: str) -> str | int:
    """The checkpoint that --step names."""
    if text in ("best", "last"):
        return text
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"--step takes best, last or a number, not {text!r}")
    return int(text)


def run_folder(recipe: Recipe, options: Any, prefix: str = "") -> Path:
    """Where a command writes: --out, or a folder named after the file and its variant."""
    variant = f"-{options.variant}" if options.variant else ""
    return Path(options.out or f"runs/{prefix}{recipe.name}{variant}")


def check_siblings(out: Path, siblings: list[str]) -> None:
    """UserError where `out` holds something else than these siblings and their comparison."""
    expected = {*siblings, "comparison", "figures", "results.json"}
    found = {p.name for p in out.iterdir() if p.suffix != ".tmp"} if out.is_dir() else set()
    if out.is_file() or found - expected:
        raise UserError(
            f"--out {out} is a file, a single run or something else: name another folder for the "
            "siblings"
        )


def where(out: Path) -> str:
    """The last line of a command that leaves something to look at."""
    return f"run folder {out}   watch: tensorboard --logdir {out}"
