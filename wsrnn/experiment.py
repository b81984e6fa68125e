"""An experiment as one value, and the file that it is written in."""

import contextlib
import dataclasses
import difflib
import importlib.util
import io
import linecache
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cloudpickle
import tyro
from flax import nnx
from jaxtyping import Array

from wsrnn.errors import UserError
from wsrnn.evaluations import Evaluation, LossOnly
from wsrnn.models import Model, ModelConfig
from wsrnn.optim import OptimConfig
from wsrnn.recurrence import Plan
from wsrnn.sharding import MeshConfig
from wsrnn.tasks import Task
from wsrnn.tasks.drawn import Drawn


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run: written in a file, changed by flags, kept with the run."""

    task: Task
    model: ModelConfig
    evaluation: Evaluation = field(default_factory=LossOnly)
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    steps: int = 1000
    """Optimiser steps."""
    batch_size: int = 64
    """Global, in examples; it must divide over the devices of the mesh."""
    seed: int = 0
    """Of the parameters and the data."""
    eval_every: int = 500
    """Steps between validations, each of which is also a checkpoint."""
    eval_batches: int | None = 8
    """Batches of a validation; None takes the whole split."""
    save_every: int = 500
    """Steps between checkpoints."""
    keep: int = 2
    """How many checkpoints are kept, from the last one back, beside the best."""
    log_every: int = 100
    """Steps between points in TensorBoard and lines in the log (metrics.jsonl has every step)."""
    draw: Literal["host", "step"] = "host"
    """Where drawn tasks draw their training batches: on the host by grain, or inside the compiled
    step (the same law, other numbers), for accelerators that would wait for the host."""
    workers: int = 0
    """Processes that prepare data; 0 uses a thread."""
    max_skipped: int = 20
    """Steps in a row without a finite loss and gradient that stop the run."""

    def __post_init__(self):
        counts = ("steps", "batch_size", "eval_every", "save_every", "keep", "log_every")
        for name in (*counts, "max_skipped"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size % self.optim.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not divisible by optim.accumulate "
                f"{self.optim.accumulate}: change one of them"
            )
        if self.eval_batches is not None and self.eval_batches < 1:
            raise ValueError(f"eval_batches must be at least 1 or None, got {self.eval_batches}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie within 0 and 2^32 - 1, got {self.seed}")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if self.draw == "step" and not isinstance(self.task, Drawn):
            raise ValueError(
                f"draw step needs a task that is built from raw numbers, and "
                f"{type(self.task).__name__} is not: set draw host"
            )
        if self.draw == "step" and self.workers:
            raise ValueError(f"draw step needs no workers, got {self.workers}: set workers 0")
        if self.task.endless and self.eval_batches is None:
            raise ValueError(
                f"eval_batches None would take the whole split, and {type(self.task).__name__} has "
                "no end: set a number"
            )
        if self.task.answers_in_tokens and not self.model.reads_before_writing:
            raise ValueError(
                f"the tokens of {type(self.task).__name__} hold the answers, which the model would "
                "read: set model.layout read_before_write"
            )
        self.evaluation.check(self.task, self.model)
        if (self.task.loss == "nll") != self.model.uncertain:
            raise ValueError(
                f"task.loss {self.task.loss} does not go with model.head.uncertain "
                f"{self.model.uncertain}: nll needs an uncertain model and only it can use one"
            )

    def build_model(self, key: Array | None = None) -> Model:
        """A fresh model for the task, drawn from the seed, or from a random key."""
        rngs = nnx.Rngs(self.seed if key is None else key)
        return self.model.build(self.task.d_in, self.task.d_out, rngs=rngs)

    def resolve(self, recorded: dict[str, Any] | None = None) -> "Experiment":
        """Fill in what is left open, as `recorded` when the run began.

        That is the end of the schedule and, where it is auto, the execution of the model.
        """
        recorded, filled = recorded or {}, self
        if self.optim.decay_steps is None:
            end = recorded.get("optim.decay_steps", self.steps)
            filled = replace(filled, optim=replace(self.optim, decay_steps=end))
        if getattr(self.model, "mode", None) == "auto":
            mode = recorded.get("model.mode")
            # What is recorded must not depend on the devices that happen to be here now.
            if mode not in {plan.mode for plan in self.plans(devices=1)}:  # none, or now changed
                mode = min(self.plans(), key=lambda plan: plan.seconds).mode
            filled = replace(filled, model=replace(self.model, mode=mode))
        return filled

    def plans(self, devices: int | None = None) -> list[Plan]:
        """The executions of the model's mode, with what they are counted to take.

        Those of every mode where it is auto; none of a model that has no such counts. The batch is
        split over `devices`, those of the mesh if None.
        """
        task, last = self.task, self.task.reads("train") != "all"
        parts = (devices or self.mesh.devices()) * self.optim.accumulate
        batch = max(1, self.batch_size // parts)
        return self.model.plans(task.d_in, task.d_out, batch=batch, length=task.length, last=last)


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return {dotted field: plain value}, with the class of each nested dataclass by its name."""
    if not dataclasses.is_dataclass(value):
        plain = value if isinstance(value, bool | int | float | str | None) else str(value)
        return {name: list(value) if isinstance(value, tuple) else plain}
    flat = {name: type(value).__qualname__} if name else {}
    for f in dataclasses.fields(value):
        flat |= flatten(getattr(value, f.name), f"{name}.{f.name}" if name else f.name)
    return flat


@dataclass(frozen=True)
class Recipe:
    """How an experiment is made: its file's text, a variant, a member of its sweep, flags."""

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
        """Execute the file and apply variant, member and flags; UserError for their mistakes."""
        module = self._execute()
        sibling = f"sibling {self.member}: " if self.member else ""  # flags go to all of them
        try:
            base = self._variant(module)
            if self.member:
                base = module.sweep(base)[self.member]
            experiment = apply_flags(base, self.flags)
            model = nnx.eval_shape(experiment.build_model)  # whether it fits the task
            experiment.optim.check(nnx.as_pure(nnx.state(model)))
        except UserError as error:
            raise UserError(f"{sibling}{error}") from None
        except ValueError as error:  # what configs raise says value and cure
            raise UserError(f"{self.name}: {sibling}{error}") from error
        return experiment

    def members(self) -> list["Recipe"]:
        """The recipes of a file's sweep: what its function ``sweep(experiment)`` returns, by name.

        Only this recipe if the file has no sweep, or if the flags leave nothing of what it varies.
        """
        module = self._execute()
        if self.member or not hasattr(module, "sweep"):
            return [self]
        siblings = module.sweep(self._variant(module))
        if not isinstance(siblings, dict):
            raise UserError(f"{self.name}.py: sweep(experiment) must return a dict of experiments")
        recipes = [replace(self, member=name) for name in siblings]
        distinct = {str(flatten(recipe.experiment())) for recipe in recipes}
        return recipes if len(distinct) > 1 else [self]

    def variants(self) -> list[str]:
        """The names that --variant takes."""
        return list(getattr(self._execute(), "variants", {}))

    def _variant(self, module) -> Experiment:
        variants = getattr(module, "variants", {})
        if self.variant is None:
            return module.experiment
        if self.variant not in variants:
            raise UserError(
                f"{self.name} has no variant {self.variant!r}{_nearest(self.variant, variants)}"
            )
        return variants[self.variant]

    def _execute(self):
        """Execute the file as a module of its own, so that its classes know where they live."""
        name = f"wsrnn_experiment_{self.name}"
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, None))
        sys.modules[name] = module
        cloudpickle.register_pickle_by_value(module)  # workers cannot import it
        # tyro looks for docstrings in the text of the file's own classes.
        module.__file__ = f"{self.name}.py"
        linecache.cache[module.__file__] = (
            len(self.source), None, self.source.splitlines(True), module.__file__,
        )  # fmt: skip
        try:
            exec(compile(self.source, f"{self.name}.py", "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [f.lineno for f in frames if f.filename == f"{self.name}.py"]
            line = lines[-1] if lines else getattr(error, "lineno", "?")
            raise UserError(
                f"{self.name}.py line {line}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(getattr(module, "experiment", None), Experiment):
            raise UserError(f"{self.name}.py defines no `experiment = Experiment(...)`")
        return module


# Booleans take a value like every other field, and a nested config stays of the class it is.
FLAG_STYLE = (tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands)


def apply_flags(experiment: Experiment, flags: Sequence[str]) -> Experiment:
    """Return the experiment with ``--any.field value`` applied; UserError for a bad flag."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            changed, unknown = tyro.cli(
                Experiment,
                default=experiment,
                args=list(flags),
                return_unknown_args=True,
                config=FLAG_STYLE,
            )
    except SystemExit:
        raise UserError(_without_box(errors.getvalue())) from None
    if unknown:
        raise UserError(_unknown(unknown[0], experiment))
    return changed


def _without_box(text: str) -> str:
    """The message in the box that tyro draws around it, in any encoding."""
    lines = text.strip("\n").splitlines()[1:]  # without the title
    parts = re.split("[─-]{9,}", " ".join(line.strip("│| ╭╮╰╯") for line in lines))
    message = next(part.strip() for part in (*parts, text) if part.strip())
    return re.sub(r"^Error parsing (\S+): ", r"\1: ", message)


def _unknown(flag: str, experiment: Experiment) -> str:
    """What is wrong with a word that names no field, and the cure."""
    if not flag.startswith("-"):
        return f"unexpected argument {flag} (see --help)"
    name, names = flag.replace("_", "-").partition("=")[0], list(flatten(experiment))
    valid = ["--" + n.replace("_", "-") for n in names]
    if within := [field for field in valid if field.startswith(name + ".")]:
        return f"{flag} holds several fields: name one of them, such as {within[0]}"
    groups = {field.rpartition(".")[0] for field in valid}
    return f"unknown flag {flag}{_nearest(name, [f for f in valid if f not in groups])}"


def _nearest(word: str, valid) -> str:
    valid = list(valid)
    close = difflib.get_close_matches(word, valid, 1, 0.5)
    if close:
        return f": did you mean {close[0]}?"
    return f": choose from {', '.join(valid)}" if 0 < len(valid) < 12 else " (see --help)"


def default_file() -> Path:
    """The experiment of the main job, from the installed package or from the working tree."""
    package = Path(__file__).parent
    for folder in (package / "experiments", package.parent / "experiments"):
        if (path := folder / "in_context.py").is_file():
            return path
    raise UserError("the default experiment is not installed: name an experiment file")
