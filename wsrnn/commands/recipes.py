"""What commands share: the recipe that their words name, and where a run is to be seen."""

import dataclasses
from pathlib import Path

from wsrnn.errors import UserError
from wsrnn.experiment import Recipe, default_file


def read_recipe(args, flags: list[str]) -> Recipe:
    """The recipe of a command's file, variant, flags and data folder."""
    recipe = Recipe.read(args.file or default_file(), args.variant, flags)
    if not args.data_dir:
        return recipe
    return dataclasses.replace(recipe, flags=(*flags, *data_flags(args, recipe.experiment())))


def data_flags(args, experiment) -> list[str]:
    """--data-dir is short for the field of the tasks and evaluations that read files."""
    parts = [p for p in ("task", "evaluation") if hasattr(getattr(experiment, p), "data_dir")]
    if not parts:
        raise UserError(f"--data-dir: the task {type(experiment.task).__name__} reads no files")
    folder = str(Path(args.data_dir).expanduser().resolve())
    return [flag for part in parts for flag in (f"--{part}.data-dir", folder)]


def where(out: Path) -> str:
    """The last line of a command that leaves something to look at."""
    return f"run folder {out}   watch: tensorboard --logdir {out}"
