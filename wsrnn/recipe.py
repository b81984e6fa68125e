"""How an experiment is made from a file: a variant, a member of its sweep, flags.

The text of the file is kept with the run; it is executed at most once in a process.
"""

import dataclasses
import functools
import importlib.machinery
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
from flax import nnx

from wsrnn.checks import nearest
from wsrnn.errors import UserError, place
from wsrnn.experiment import Experiment
from wsrnn.flags import apply_flags
from wsrnn.sharding import check_backend
from wsrnn.tree import flatten

MODULE = "wsrnn_experiment_"  # and the file's name: the module that its classes belong to


@dataclass(frozen=True)
class Recipe:
    """How an experiment is made: its file's text, a variant, a member of its sweep, flags.

    However often it is asked, a text is executed once in a process.
    """

    source: str
    name: str
    variant: str | None = None
    member: str | None = None
    flags: tuple[str, ...] = ()

    @classmethod
    def read(
        cls, path: Path | str, variant: str | None = None, flags: Sequence[str] = ()
    ) -> "Recipe":
        """The recipe of an experiment file; UserError if it cannot be read."""
        path = Path(path)
        try:
            return cls(path.read_text(), path.stem, variant, None, tuple(flags))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text file"
            raise UserError(f"cannot read the experiment file {path}: {reason}") from None

    def experiment(self) -> Experiment:
        """Apply variant, member and flags to what the file defines; UserError for mistakes."""
        return _experiment(self)

    def members(self) -> list["Recipe"]:
        """The recipes of a file's sweep: what its function ``sweep(experiment)`` returns, by name.

        Only this recipe if the file has no sweep, or if the flags leave nothing of what it varies.
        """
        recipes = self.siblings()
        distinct = {str(flatten(recipe.experiment())) for recipe in recipes}
        return recipes if len(distinct) > 1 else [self]

    def siblings(self) -> list["Recipe"]:
        """As members, whatever flags leave of what varies: no sibling's experiment is made."""
        module = self.module()
        if self.member or not hasattr(module, "sweep"):
            return [self]
        variant = self.variant_of(module)
        try:
            siblings = module.sweep(variant)
        except Exception as error:
            where = place(error, f"{self.name}.py") or f"{self.name}.py, sweep(experiment)"
            raise UserError(f"{where}: {type(error).__name__}: {error}") from error
        if not _are_experiments(siblings) or any(Path(name).name != name for name in siblings):
            raise UserError(
                f"{self.name}.py: sweep(experiment) must return a dict of experiments, by names "
                "that folders can have"
            )
        return [replace(self, member=name) for name in siblings]

    def variants(self) -> list[str]:
        """The names that --variant takes."""
        return list(getattr(self.module(), "variants", {}))

    def classes(self) -> list[type]:
        """The dataclasses that the file defines or imports, for flags to name."""
        return [
            value
            for value in vars(self.module()).values()
            if isinstance(value, type) and dataclasses.is_dataclass(value)
        ]

    def variant_of(self, module: ModuleType) -> Experiment:
        """The experiment of the recipe's variant, before its member and flags."""
        variants = getattr(module, "variants", {})
        if self.variant is None:
            return module.experiment
        if self.variant not in variants:
            raise UserError(
                f"{self.name} has no variant {self.variant!r}{nearest(self.variant, variants)}"
            )
        return variants[self.variant]

    def module(self) -> ModuleType:
        """The executed file; UserError if it fails or defines no experiment."""
        module = execute(self.source, self.name)
        if not isinstance(getattr(module, "experiment", None), Experiment):
            raise UserError(f"{self.name}.py defines no `experiment = Experiment(...)`")
        if not _are_experiments(getattr(module, "variants", {})):
            raise UserError(f"{self.name}.py: variants must be a dict of experiments, by name")
        return module


def _are_experiments(found: Any) -> bool:
    """Whether these are experiments by name."""
    return isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(one, Experiment) for name, one in found.items()
    )


@functools.lru_cache(64)
def _experiment(recipe: Recipe) -> Experiment:
    check_backend()  # before the file is executed, which may use jax, and blamed
    module = recipe.module()
    sibling = f"sibling {recipe.member}: " if recipe.member else ""  # flags go to all of them
    try:
        base = recipe.variant_of(module)
        if recipe.member:
            base = module.sweep(base)[recipe.member]
        experiment = apply_flags(base, recipe.flags, recipe.classes()).sized()
        model = nnx.eval_shape(experiment.build_model)  # whether it fits the task
        experiment.optim.check(nnx.as_pure(nnx.state(model)))
    except UserError as error:
        raise UserError(f"{sibling}{error}") from None
    except ValueError as error:  # what configs raise says value and cure
        raise UserError(f"{recipe.name}: {sibling}{error}") from error
    except Exception as error:
        if not (at := place(error, f"{recipe.name}.py")):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(f"{sibling}{at}: {reason}") from error
    return experiment


_modules: dict[tuple[str, str], ModuleType] = {}


def is_executed(source: str, name: str) -> bool:
    """Whether this process has executed a file's text."""
    return (source, name) in _modules


def execute(source: str, name: str) -> ModuleType:
    """The module of a file's text, executed if this process has not; UserError if it fails."""
    known = _modules.get((source, name))
    module = known or importlib.util.module_from_spec(
        importlib.machinery.ModuleSpec(f"{MODULE}{name}", None)
    )
    sys.modules[module.__name__] = module  # where another text of the same name may have been
    _show_source(source, name)
    if not known:
        _run(source, f"{name}.py", module)
        _modules[source, name] = module
    return module


def _run(source: str, file: str, module: ModuleType) -> None:
    """Execute a text in a module of its own, so that its classes know where they live."""
    cloudpickle.register_pickle_by_value(module)  # workers cannot import it
    module.__file__ = file
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        line = lines[-1] if lines else getattr(error, "lineno", None) or "?"
        raise UserError(f"{file} line {line}: {type(error).__name__}: {error}") from error


def _show_source(source: str, name: str) -> None:
    """Let tyro find the docstrings of a text's classes."""
    linecache.cache[f"{name}.py"] = len(source), None, source.splitlines(True), f"{name}.py"


def default_file() -> Path:
    """The experiment of the main job, from the installed package or from the working tree."""
    package = Path(__file__).parent
    for folder in (package / "experiments", package.parent / "experiments"):
        if (path := folder / "in_context.py").is_file():
            return path
    raise UserError("the default experiment is not installed: name an experiment file")
