"""Checkpoints, through orbax: atomic, written in the background, checked when they are read.

A checkpoint holds a `step.TrainState`, the shapes of its arrays without padding, so that it
restores on any mesh, and the checksums of its files (`manifest`), which become visible with it, in
one rename. Keep the names in that tree: earlier runs are read by them.

What is damaged is never used. A run that continues moves a damaged step to damaged-STEP and takes
the one before (`damaged.set_aside_damaged`); who only reads takes the one before. Steps of runs
from before there were checksums are read unchecked.
"""

import errno
import logging
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from wsrnn import manifest
from wsrnn.damaged import LATE, TRUE_SHAPES, damage
from wsrnn.errors import RunError, UserError

log = logging.getLogger("wsrnn")


@dataclass(frozen=True)
class Retention:
    """Which checkpoints are kept beside the best."""

    latest: int = 2
    """How many, from the last one back."""
    every: int | None = None
    """Those whose step is a multiple of this."""
    per_doubling: int | None = None
    """Those at log-spaced steps, so many to each doubling."""

    def log_spaced(self, step: int) -> bool:
        """Whether a step is 2^(k / per_doubling), rounded, of some whole number k."""
        if self.per_doubling is None or step < 1:
            return False
        k = round(self.per_doubling * math.log2(step))
        return step == round(2 ** (k / self.per_doubling))


@dataclass
class _Chosen(policies.PreservationPolicy):
    """Keeps the best and the log-spaced; orbax's own wants the loss before a step is saved."""

    saved: "Checkpoints"

    def should_preserve(self, checkpoints, *, context):
        steps = [info.step for info in checkpoints]
        best = self.saved.ranked(steps)[:1]
        return [step in best or self.saved.retention.log_spaced(step) for step in steps]


class Checkpoints:
    """The checkpoints of one run, by step. Leaving the context waits for what is being written.

    Of a folder that is `read_only` steps are checked as they are found; of another one that is
    done beforehand, by `damaged.set_aside_damaged`.
    """

    losses: Mapping[int, float]
    """Validation losses by step, which rank the checkpoints; they may grow while it is open."""

    def __init__(
        self,
        folder: Path,
        retention: Retention | None = None,
        *,
        losses: Mapping[int, float] | None = None,
        read_only: bool = False,
    ):
        self.folder = Path(folder).absolute()
        self.retention = retention or Retention()
        self.losses = losses or {}
        self._read_only = read_only
        self._saving: int | None = None
        if not read_only:
            _refuse_unwritable(self.folder)
        every = [policies.EveryNSteps(n)] if (n := self.retention.every) else []
        with _without_warnings():  # that what is only read will not be written
            self._manager = ocp.CheckpointManager(
                self.folder,
                item_handlers=ocp.StandardCheckpointHandler(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policies.AnyPreservationPolicy(
                        [policies.LatestN(self.retention.latest), *every, _Chosen(self)]
                    ),
                    enable_background_delete=False,
                    lightweight_initialize=True,  # no file is read that may be damaged
                    cleanup_tmp_directories=not read_only,  # of saves that were killed
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
                    create=not read_only,
                    read_only=read_only,
                ),
            )
        self._place = None if read_only else _place(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.finish()
            self._manager.close()
        except RunError:
            if kind is None:  # or else what is raised already says why
                raise

    def check_room(self, abstract: Any) -> None:
        """UserError where the disk has no room for the checkpoints of such a state."""
        size = sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract)
        )
        # At least the last, the best, and one that is written before another is deleted.
        needed = size * max(1, 3 - len(self.steps()))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise UserError(
                f"{self.folder}: its disk has {free / 2**20:,.1f} MiB free, and checkpoints need "
                f"{needed / 2**20:,.1f}: make room, or name another --out"
            )

    def save(self, step: int, state: Any, layouts: Any = None) -> None:
        """Begin to write `state` as `step`; `layouts` say how much of each array is padding."""
        self.finish()
        with self._writing(step):
            self._saving = step
            begun = self._manager.save(
                step, args=ocp.args.StandardSave(
                    state, custom_metadata={TRUE_SHAPES: _shapes(layouts)}
                ),
            )  # fmt: skip
            if not begun:
                raise RunError(
                    f"checkpoint {self.folder}/{step} was not written: it exists already"
                )

    def _seal(self) -> None:
        """List the checksums of what is written, in the background, just before it is committed."""
        manifest.add(next(self.folder.glob(f"{self._saving}.*")), leave_out=LATE)

    def finish(self) -> None:
        """Wait for the save before, and list what its commit has written."""
        if self._saving is not None:
            with self._writing(self._saving):
                self._manager.wait_until_finished()
                if jax.process_index() == 0:
                    manifest.add(self.folder / str(self._saving))
            self._saving = None

    def _refuse_moved(self) -> None:
        if self._place and _place(self.folder) != self._place:
            raise RunError(
                f"{self.folder} was moved or removed while the run wrote there: the same command "
                "with its new place as --out continues from the last checkpoint"
            )

    @contextmanager
    def _writing(self, step: int):
        """Turn what orbax and the disk raise into one line."""
        try:
            self._refuse_moved()
            yield
        except RunError:
            raise
        except Exception as error:
            self._refuse_moved()
            reason = str(error).strip().partition("\n")[0][:200]
            raise RunError(
                f"checkpoint {self.folder}/{step} could not be written: {reason}; earlier ones are "
                "kept"
            ) from error

    def steps(self) -> list[int]:
        """The steps that are kept, from the first on."""
        return sorted(self._manager.all_steps())

    def ranked(self, steps: Iterable[int]) -> list[int]:
        """Steps from the best on: by validation loss, and without one the later first."""
        return sorted(steps, key=lambda step: (self.losses.get(step, math.inf), -step))

    def find(self, which: str | int) -> int | None:
        """Return a step by name or number, None if there are no checkpoints yet.

        `best` is the last one where no checkpoint has a validation loss. A damaged one is passed
        over for the next in order, and a line says so. Raises UserError for a number that is not
        kept or is damaged, and where all are damaged.
        """
        steps = self.steps()
        if not steps:
            return None
        if which in ("last", "best"):
            order = self.ranked(steps) if which == "best" else steps[::-1]
            step = self.first_sound(order) if self._read_only else order[0]
            if step is None:
                raise UserError(f"{self.folder} holds no checkpoint that is not damaged")
            return step
        which = int(which) if str(which).isdecimal() else which
        if which not in steps:
            kept = ", ".join(map(str, steps))
            raise UserError(f"{self.folder} holds no step {which}: it has {kept}, best or last")
        if self._read_only and (wrong := damage(self.folder / str(which))):
            others = ", ".join(str(step) for step in steps if step != which) or "none"
            raise UserError(
                f"checkpoint {self.folder}/{which} is damaged ({wrong}): name another step (there "
                f"are also {others})"
            )
        return which

    def first_sound(self, steps: Iterable[int]) -> int | None:
        """Return the first of some steps that is not damaged; a line names those that are."""
        for step in steps:
            if (wrong := damage(self.folder / str(step))) is None:
                return step
            log.warning("checkpoint %s/%d is damaged and left out: %s", self.folder, step, wrong)
        return None

    def restore(self, step: int, abstract: Any, layouts: Any = None) -> Any:
        """Return the state of `step` on the shardings of `abstract`, whatever mesh wrote it.

        `layouts` say how much of each array of `abstract` is padding. Raises UserError
        for a damaged file, and for a leaf that does not fit, with both shapes.
        """
        with self._reading(step):
            self._check_fit(step, layouts or abstract)
            # Not strict: with the padding of one mesh cut off, or that of another added.
            return self._manager.restore(
                step, args=ocp.args.StandardRestore(abstract, strict=False)
            )

    def restore_params(self, step: int, abstract: Any, layouts: Any = None) -> Any:
        """Return the parameters of the state of `step` alone, as `restore` does.

        That is their average, where the state keeps one: what was validated.
        """
        with self._reading(step), ocp.PyTreeCheckpointer() as reader:
            saved = self._saved_shapes(step)
            averaged = any(name.startswith("average.params.") for name in saved)

            def inside(tree):
                return {"average": {"params": tree}} if averaged else {"params": tree}

            self._check_fit(step, inside(layouts or abstract))
            wanted = inside(abstract)
            restored = reader.restore(
                self.folder / str(step) / "default",
                args=ocp.args.PyTreeRestore(
                    wanted,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(wanted, strict=False),
                    partial_restore=True,
                ),
            )
            return restored["average"]["params"] if averaged else restored["params"]

    @contextmanager
    def _reading(self, step: int):
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            raise UserError(
                f"checkpoint {self.folder}/{step} is damaged ({type(error).__name__}): remove that "
                "folder to go on from the step before"
            ) from error

    def _saved_shapes(self, step: int) -> dict[str, list[int]]:
        """The shapes of a step's arrays by name, without padding."""
        item = self._manager.item_metadata(step)
        true = (item.custom_metadata or {}).get(TRUE_SHAPES)
        if true is None:  # a run from before there were checksums has them elsewhere
            true = (self._manager.metadata(step).custom_metadata or {}).get(TRUE_SHAPES, {})
        return _shapes(item.tree) | true

    def _check_fit(self, step: int, abstract: Any) -> None:
        wanted, saved = _shapes(abstract), self._saved_shapes(step)
        parts = {_module(name) for name in wanted}
        for name in sorted(saved):
            if name not in wanted and _module(name) in parts:
                raise UserError(
                    f"checkpoint {self.folder}/{step} has {name} {saved[name]}, this "
                    "experiment has not: it is of another model"
                )
        for name, shape in wanted.items():
            if name not in saved:
                raise UserError(
                    f"checkpoint {self.folder}/{step} has no {name}: it is of another model"
                )
            if saved[name] != shape:
                raise UserError(
                    f"checkpoint {self.folder}/{step} does not fit: {name} is "
                    f"{saved[name]} there and {shape} in this experiment"
                )


@contextmanager
def _without_warnings():
    """Let absl, the logger of orbax, tell errors alone."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _refuse_unwritable(folder: Path) -> None:
    """Make a folder; UserError where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from None


def _place(folder: Path) -> tuple[int, int] | None:
    """What a folder is, by whatever name; None where there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _module(name: str) -> str:
    """The field of the state that a leaf belongs to."""
    return ".".join(name.split(".")[: 2 if name.startswith("average.") else 1])


def _shapes(tree: Any) -> dict[str, list[int]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): list(leaf.shape)
        for path, leaf in leaves
    }
