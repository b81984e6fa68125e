"""A run folder: the record that rebuilds its experiment, and its checkpoints.

`config.json` records the experiment as a tree of classes and fields (`tree`), the versions that
wrote it, where the parameters came from, and for the record how it was made: the file's text, its
variant and flags. A run is rebuilt from the tree. The kept text is executed only where the tree
names a class or function of that file, and a line in the log says so: a stranger's run folder is a
program.
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import logging
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from flax import nnx

from wsrnn import __version__, script, tree
from wsrnn.artifacts import write_text
from wsrnn.checkpoint import Checkpoints, Retention
from wsrnn.errors import UserError
from wsrnn.experiment import Experiment
from wsrnn.flags import apply_flags
from wsrnn.metrics_log import read_metrics, validation_losses
from wsrnn.models import Model
from wsrnn.precision import in_float32
from wsrnn.recipe import MODULE, Recipe, execute, is_executed
from wsrnn.sharding import check_backend

log = logging.getLogger("wsrnn")

CONFIG = "config.json"
UNFINISHED = CONFIG + ".tmp"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
TRIALS = "trials.json"  # which copies a folder of `wsrnn.trials` holds
BEFORE_TREES = "1ea37aa"  # the last commit whose runs hold no tree
BEFORE_PARTS = "393cd70"  # the last commit whose tasks have no parts, but fields of one level
# Fields that cannot change what a run computes: free to differ when it is continued.
FREE = re.compile(
    r"mesh\.|optim\.accumulate$|workers$|(eval|save|log)_every$|keep(_every|_per_doubling)?$|task\.data_dir$|evaluation(\.|$)"
)
# Flags that change nothing of a run that is only evaluated.
TRAINING = re.compile(
    r"--(steps|((eval|save|log)-every)|keep(-every|-per-doubling)?|draw|workers|max-skipped|(optim|mesh)\..*)(=|$)|optim\..*:"
)


@dataclass(frozen=True)
class Run:
    """A run folder, new or begun, and what is to happen in it."""

    folder: Path
    recipe: Recipe | None
    """How the experiment was made; None of one made in Python that needs no kept code."""
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
        writer, recipe = versions(), self.recipe and dataclasses.asdict(self.recipe)
        writers, earlier = [], []
        if (self.folder / CONFIG).is_file():
            before = read_record(self.folder)
            writers = [w for w in before["written by"] if w != writer]
            earlier = before["earlier recipes"]
            if before["recipe"] not in (None, self.recipe):
                earlier = [*earlier, dataclasses.asdict(before["recipe"])]
        content = {
            "written by": [*writers, writer],  # the latest last
            "experiment": tree.to_tree(self.experiment),
            "init_from": self.init_from,
            "recipe": recipe,
            "earlier recipes": earlier,
        }
        write_text(self.folder / CONFIG, json.dumps(content, indent=1))


def versions() -> dict[str, str]:
    """The versions that a run records."""
    return {
        "wsrnn": __version__,
        "jax": importlib.metadata.version("jax"),
        "python": platform.python_version(),
    }


def prepare_run(folder: Path, source: Experiment | Recipe, init_from: Path | None = None) -> Run:
    """Return the run of a folder, with the experiment resolved as it was when the run began.

    source: an experiment file's recipe, or an experiment made in Python.

    Writes nothing. Raises UserError for a path that is a file or holds something else, for a config
    that would not continue the same run, and for an `init_from` that cannot be started from.
    """
    recipe: Recipe | None
    if isinstance(source, Recipe):
        recipe, experiment = source, source.experiment()
        tree.to_tree(experiment)  # what cannot be recorded must not be trained
    else:
        recipe, experiment = script.recipe(tree.to_tree(source)), source
    if file := next((place for place in (folder, *folder.parents) if place.is_file()), None):
        raise UserError(f"--out {folder} cannot be written: {file} is a file; name a folder")
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
    began = Path(start.rpartition("@")[0]).resolve() if start else None
    if init_from and init_from.resolve() != began:
        start = str(init_from.absolute())
    changes = check_same(tree.flatten(experiment) | {"init_from": start}, before, folder)
    if recipe and record["recipe"] and record["recipe"].source != recipe.source:
        changes.append(f"another text of {recipe.name}.py (the config is the same)")
    return Run(folder, recipe, experiment, start, changes)


def check_same(now: dict[str, Any], before: dict[str, Any], folder: Path) -> list[str]:
    """Return the differences of two configs that cannot change the result, as log lines.

    Raises UserError that names the others.
    """
    lines: list[str] = []
    refused: list[str] = []
    for name in sorted(now.keys() | before.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        more = name == "steps" and isinstance(old, int) and isinstance(new, int) and new > old
        (lines if FREE.match(name) or more else refused).append(f"{name} {old} -> {new}")
    if refused:
        raise UserError(
            f"{folder} holds a run of another config ({'; '.join(refused)}): choose another --out, "
            "or give the settings it was started with"
        )
    return lines


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `Run.write` wrote, and the experiment's fields as ``config``; executes nothing.

    UserError if the folder holds no run, or one of before trees were recorded.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / CONFIG).read_text())
    except OSError:
        raise UserError(f"{folder} is not a run: it has no {CONFIG}") from None
    except ValueError:
        raise UserError(f"{folder}/{CONFIG} is damaged: it is not JSON") from None
    if isinstance(record, dict) and {"source", "flags", "config"} <= record.keys():
        raise UserError(
            f"{folder} was written before runs recorded their classes: open it with wsrnn of "
            f"commit {BEFORE_TREES}"
        )
    try:
        if record["recipe"] is not None:
            given = record["recipe"] | {"flags": tuple(record["recipe"]["flags"])}
            record["recipe"] = Recipe(**given)
            if not all(isinstance(given[name], str) for name in ("source", "name")):
                raise ValueError("a recipe without a text")
        if not isinstance(record["init_from"], str | None):
            raise ValueError("init_from is no RUN@STEP")
        if not {"written by", "earlier recipes"} <= record.keys():
            raise ValueError("entries are missing")
        start = {"init_from": record["init_from"]}
        record["config"] = tree.flatten_tree(record["experiment"]) | start
        record["written by"][-1]["wsrnn"]
        list(record["earlier recipes"])
    except (LookupError, TypeError, ValueError, AttributeError):
        raise UserError(f"{folder}/{CONFIG} is damaged: it is not what a run writes") from None
    return record


def rebuild(folder: Path, record: dict[str, Any]) -> Experiment:
    """Return the experiment of a record; UserError where its tree is not sound.

    The text that the run keeps is executed, and the log says so, where the tree names one of the
    file's own classes or functions, or those of a package that is not installed, which the file
    may know where to find.
    """
    recipe, code = record["recipe"], None

    def kept(module: str) -> bool:
        if recipe is None:
            return False
        beside = module == recipe.name and not tree.is_installed(module)
        return beside or module in ("__main__", f"{MODULE}{recipe.name}")

    if recipe:
        named = list(tree.modules(record["experiment"]))
        needed = next((m for m in named if kept(m) or not tree.is_installed(m)), None)
        if needed and "__main__" in named:
            code = script.running(recipe.source)
        if needed and code is None:
            if not is_executed(recipe.source, recipe.name):
                what = f"its classes are in {recipe.name}.py" if kept(needed) else f"for {needed}"
                log.warning("executing the code kept in %s/%s: %s", folder, CONFIG, what)
            code = execute(recipe.source, recipe.name)

    def module_of(name: str) -> ModuleType:
        if kept(name):
            assert code is not None  # executed above, as the tree names it
            return code
        if not tree.is_installed(name):
            raise UserError(
                f"it names {name}, which is not installed: install it, or import it before the run "
                "is loaded"
            )
        return tree.import_module(name)

    try:
        experiment = tree.from_tree(record["experiment"], module_of)
        if not isinstance(experiment, Experiment):
            raise UserError("experiment is not an Experiment")
    except UserError as error:
        writer = ", ".join(
            f"{name} {version}" for name, version in record["written by"][-1].items()
        )
        if isinstance(error, tree.UnknownField):
            writer += f"; an older run opens with wsrnn of commit {BEFORE_PARTS}"
        raise UserError(
            f"{folder}/{CONFIG} cannot be rebuilt: {error} (written by {writer})"
        ) from None
    return experiment


def reopen(folder: Path | str, flags: Sequence[str] = ()) -> Experiment:
    """Return the experiment of a run, with flags on top; UserError for either's mistakes."""
    check_backend()
    folder = Path(folder)
    for word in flags:
        if TRAINING.match(word.replace("_", "-")):
            raise UserError(f"{word.partition('=')[0]} is of training, which is over: leave it out")
    record = read_record(folder)
    experiment = rebuild(folder, record)
    try:
        experiment = apply_flags(experiment, flags).resolve(record["config"])
        nnx.eval_shape(experiment.build_model)  # whether the model fits the task
    except UserError:
        raise
    except ValueError as error:  # what configs raise says value and cure
        raise UserError(f"{folder}: {error}") from error
    except Exception as error:  # a value that no class has checked, edited by hand
        raise UserError(
            f"{folder}/{CONFIG} is damaged: its model cannot be built ({error})"
        ) from error
    return experiment


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


@in_float32
def load_step(
    run: Path | str, step: str | int = "best", flags: Sequence[str] = ()
) -> tuple[Model, Experiment, int]:
    """As `load`, and the number of the step."""
    experiment = reopen(run, flags)
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
    losses = validation_losses(read_metrics(Path(run)))
    return Checkpoints(Path(run) / CHECKPOINTS, losses=losses, read_only=True)


def kept(experiment: Experiment) -> Retention:
    """Which checkpoints an experiment keeps."""
    return Retention(experiment.keep, experiment.keep_every, experiment.keep_per_doubling)


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
        return bool(saved.steps())
