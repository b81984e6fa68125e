"""An experiment as one value, the file it is written in, and the run folder that rebuilds it."""

import contextlib
import dataclasses
import difflib
import fcntl
import importlib.util
import io
import json
import linecache
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cloudpickle
import jax
import tyro
from flax import nnx

from wsrnn.checkpoint import Checkpoints
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

    def build_model(self) -> Model:
        """A fresh model for the task, drawn from the seed."""
        return self.model.build(self.task.d_in, self.task.d_out, rngs=nnx.Rngs(self.seed))

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
        batch = max(1, self.batch_size // (devices or self.mesh.devices()))
        return self.model.plans(task.d_in, task.d_out, batch=batch, length=task.length, last=last)


# Fields that cannot change what a run computes: free to differ when it is continued.
FREE = re.compile(r"mesh\.|workers$|(eval|save|log)_every$|keep$|task\.data_dir$|evaluation(\.|$)")


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return {dotted field: plain value}, with the class of each nested dataclass by its name."""
    if not dataclasses.is_dataclass(value):
        plain = value if isinstance(value, bool | int | float | str | None) else str(value)
        return {name: list(value) if isinstance(value, tuple) else plain}
    flat = {name: type(value).__qualname__} if name else {}
    for f in dataclasses.fields(value):
        flat |= flatten(getattr(value, f.name), f"{name}.{f.name}" if name else f.name)
    return flat


def check_same(now: dict[str, Any], before: dict[str, Any], folder: Path) -> list[str]:
    """Return the differences of two configs that cannot change the result, as log lines.

    Raises UserError that names the others.
    """
    lines, refused = [], []
    for name in sorted(now.keys() | before.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        more = name == "steps" and isinstance(old, int) and new > old
        (lines if FREE.match(name) or more else refused).append(f"{name} {old} -> {new}")
    if refused:
        raise UserError(
            f"{folder} holds a run of another config ({'; '.join(refused)}): choose another --out, "
            "or give the settings it was started with"
        )
    return lines


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
        try:
            base = self._variant(module)
            if self.member:
                base = module.sweep(base)[self.member]
            experiment = apply_flags(base, self.flags)
            nnx.eval_shape(experiment.build_model)  # whether the model fits the task
        except UserError:
            raise
        except ValueError as error:  # what configs raise says value and cure
            raise UserError(f"{self.name}: {error}") from error
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


CONFIG = "config.json"
UNFINISHED = CONFIG + ".tmp"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
TRIALS = "trials.json"  # which copies a folder of `wsrnn.trials` holds


@dataclass(frozen=True)
class Run:
    """A run folder, new or begun, and what is to happen in it."""

    folder: Path
    recipe: Recipe
    experiment: Experiment
    init_from: str | None
    """The run and step it starts from, as RUN@STEP."""
    changes: list[str]
    """What differs from its beginning without changing the result."""

    @contextlib.contextmanager
    def locked(self):
        """Hold the folder against another process; the lock dies with its holder in any case.

        Raises UserError where another holds it, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / LOCK).open("w")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--out {self.folder}: another process is training there") from None
        except OSError as error:
            raise UserError(f"--out {self.folder} cannot be written: {error.strerror}") from None
        with file:
            yield

    def write(self) -> None:
        """Keep in the folder, which is `locked`, what rebuilds the experiment."""
        config = flatten(self.experiment) | {"init_from": self.init_from}
        earlier = []
        if (self.folder / CONFIG).is_file():
            before = read_record(self.folder)
            changed = before["source"] != self.recipe.source
            earlier = [*before["earlier sources"], *[before["source"]] * changed]
        content = {**dataclasses.asdict(self.recipe), "config": config, "earlier sources": earlier}
        unfinished = self.folder / UNFINISHED
        unfinished.write_text(json.dumps(content, indent=1))
        unfinished.replace(self.folder / CONFIG)


def prepare_run(folder: Path, recipe: Recipe, init_from: Path | None = None) -> Run:
    """Return the run of a folder, with the experiment resolved as it was when the run began.

    Writes nothing. Raises UserError for a path that is a file or holds something else, for a config
    that would not continue the same run, and for an `init_from` that cannot be started from.
    """
    experiment = recipe.experiment()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file: name a folder")
    if (folder / CHECKPOINTS).exists() and not (folder / CHECKPOINTS).is_dir():
        raise UserError(f"--out {folder}: {CHECKPOINTS} in it is a file; move it away")
    if not (folder / CONFIG).is_file():
        if folder.is_dir() and any(
            p.name not in (UNFINISHED, LOCK, TRIALS, TRIALS + ".tmp") for p in folder.iterdir()
        ):
            raise UserError(f"--out {folder} is not empty and not a run: name another folder")
        start = None
        if init_from:
            with open_checkpoints(init_from) as saved:
                start = f"{init_from.absolute()}@{saved.find('best')}"
        return Run(folder, recipe, experiment.resolve(), start, [])

    record = read_record(folder)
    before = record["config"]
    experiment = experiment.resolve(before)
    # Without the flag a run continues from where it started; another start is another run.
    start = before["init_from"]
    if init_from and (start or "").rpartition("@")[0] != str(init_from.absolute()):
        start = str(init_from.absolute())
    changes = check_same(flatten(experiment) | {"init_from": start}, before, folder)
    if record["source"] != recipe.source:
        changes.append(f"another text of {recipe.name}.py (the config is the same)")
    return Run(folder, recipe, experiment, start, changes)


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `Run.write` wrote; UserError if the folder holds no run."""
    try:
        record = json.loads((Path(folder) / CONFIG).read_text())
    except OSError:
        raise UserError(f"{folder} is not a run: it has no {CONFIG}") from None
    except ValueError:
        raise UserError(f"{folder}/{CONFIG} is damaged: it is not JSON") from None
    wanted = {f.name for f in dataclasses.fields(Recipe)} | {"config", "earlier sources"}
    if not isinstance(record, dict) or wanted - record.keys():
        raise UserError(f"{folder}/{CONFIG} is damaged: it is not what a run writes")
    return record


def reopen(folder: Path | str, flags: Sequence[str] = ()) -> tuple[Recipe, Experiment]:
    """Return the recipe and the experiment of a run, with flags on top."""
    record = read_record(Path(folder))
    given = {f.name: record[f.name] for f in dataclasses.fields(Recipe)}
    recipe = Recipe(**given | {"flags": (*record["flags"], *flags)})
    return recipe, recipe.experiment().resolve(record["config"])


def load(
    run: Path | str, step: str | int = "best", flags: Sequence[str] = ()
) -> tuple[Model, Experiment]:
    """Return the trained model and the experiment of a run folder.

    step: "best" on validation, "last", or a number. flags: as on the command line, for what does
    not change the parameters (``["--model.mode", "scan"]``). Raises UserError where there is
    nothing to load.
    """
    model, experiment, _ = load_step(run, step, flags)
    return model, experiment


def load_step(
    run: Path | str, step: str | int = "best", flags: Sequence[str] = ()
) -> tuple[Model, Experiment, int]:
    """As `load`, and the number of the step."""
    _, experiment = reopen(run, flags)
    with open_checkpoints(run) as saved:
        number = saved.find(step)
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shapes = nnx.as_pure(nnx.state(nnx.eval_shape(experiment.build_model)))
        params = saved.restore_params(
            number,
            jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=here), shapes),
        )
    graphdef = nnx.graphdef(nnx.eval_shape(experiment.build_model))
    return nnx.merge(graphdef, params), experiment, number


def open_checkpoints(run: Path | str) -> Checkpoints:
    """Return the checkpoints of a run, to read; UserError if there are none."""
    read_record(Path(run))
    refuse_trials(Path(run))
    if not has_checkpoint(run):
        raise UserError(f"{run} has no checkpoint yet: train it first")
    return Checkpoints(Path(run) / CHECKPOINTS, read_only=True)


def refuse_trials(folder: Path) -> None:
    """UserError for a folder of trials, whose checkpoints hold many copies of a model."""
    if (folder / TRIALS).is_file():
        raise UserError(
            f"{folder} holds trials, whose checkpoints are of many copies: name another folder"
        )


def has_checkpoint(run: Path | str) -> bool:
    """Whether a run has a step to continue from."""
    folder = Path(run) / CHECKPOINTS
    if not folder.is_dir():
        return False
    with Checkpoints(folder, read_only=True) as saved:
        return saved.find("last") is not None


def default_file() -> Path:
    """The experiment of the main job, from the installed package or from the working tree."""
    package = Path(__file__).parent
    for folder in (package / "experiments", package.parent / "experiments"):
        if (path := folder / "in_context.py").is_file():
            return path
    raise UserError("the default experiment is not installed: name an experiment file")
