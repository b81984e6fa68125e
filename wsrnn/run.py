"""A run folder: what rebuilds its experiment, and what was trained."""

import contextlib
import dataclasses
import fcntl
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from wsrnn.checkpoint import Checkpoints
from wsrnn.errors import UserError
from wsrnn.experiment import Experiment, Recipe, flatten
from wsrnn.models import Model

CONFIG = "config.json"
UNFINISHED = CONFIG + ".tmp"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
TRIALS = "trials.json"  # which copies a folder of `wsrnn.trials` holds
# Fields that cannot change what a run computes: free to differ when it is continued.
FREE = re.compile(
    r"mesh\.|optim\.accumulate$|workers$|(eval|save|log)_every$|keep$|task\.data_dir$|evaluation(\.|$)"
)


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
    began = Path(start.rpartition("@")[0]).resolve() if start else None
    if init_from and init_from.resolve() != began:
        start = str(init_from.absolute())
    changes = check_same(flatten(experiment) | {"init_from": start}, before, folder)
    if record["source"] != recipe.source:
        changes.append(f"another text of {recipe.name}.py (the config is the same)")
    return Run(folder, recipe, experiment, start, changes)


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


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `Run.write` wrote; UserError if the folder holds no run."""
    try:
        record = json.loads((Path(folder) / CONFIG).read_text())
    except OSError:
        raise UserError(f"{folder} is not a run: it has no {CONFIG}") from None
    except ValueError:
        raise UserError(f"{folder}/{CONFIG} is damaged: it is not JSON") from None
    lists = ("flags", "earlier sources")
    sound = (
        isinstance(record, dict)
        and not {f.name for f in dataclasses.fields(Recipe)} - record.keys()
        and all(isinstance(record.get(name), list) for name in lists)
        and all(isinstance(record[name], str) for name in ("source", "name"))
        and isinstance(record.get("config"), dict)
        and "init_from" in record["config"]
    )
    if not sound:
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
