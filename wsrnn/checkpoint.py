"""Checkpoints, through orbax: atomic, written in the background, the last few and the best kept.

A checkpoint holds a `step.TrainState` and the shapes of its arrays without padding, so that it
restores on any mesh. Keep the names in that tree: earlier runs are read by them.
"""

import logging
import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from wsrnn.errors import RunError, UserError

TRUE_SHAPES = "shapes without padding"
NO_METRIC = math.inf  # a checkpoint without a validation loss is never the best


class Checkpoints:
    """The checkpoints of one run, by step. Leaving the context waits for what is being written."""

    def __init__(self, folder: Path, *, keep: int = 2, read_only: bool = False):
        self.folder = Path(folder).absolute()
        keep_best = policies.BestN(get_metric_fn=_loss, reverse=True, n=1)
        with _without_warnings():  # that what is only read will not be written
            self._manager = ocp.CheckpointManager(
                self.folder,
                item_handlers=ocp.StandardCheckpointHandler(),
                options=ocp.CheckpointManagerOptions(
                    best_fn=_loss,
                    best_mode="min",
                    preservation_policy=policies.AnyPreservationPolicy(
                        [policies.LatestN(keep), keep_best]
                    ),
                    enable_background_delete=False,
                    create=not read_only,
                    read_only=read_only,
                ),
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._writing("the last one"):
            self._manager.close()

    def save(self, step: int, state: Any, loss: float | None = None, layouts: Any = None) -> None:
        """Begin to write `state` as `step`, ranked by its validation `loss`.

        `layouts` say how much of each array is padding.
        """
        ranked = loss is not None and math.isfinite(loss)
        metrics = {"loss": loss if ranked else NO_METRIC}
        with self._writing(step):
            begun = self._manager.save(
                step, args=ocp.args.StandardSave(state), metrics=metrics,
                custom_metadata={TRUE_SHAPES: _shapes(layouts)},
            )  # fmt: skip
            if not begun:
                raise RunError(
                    f"checkpoint {self.folder}/{step} was not written: it exists already"
                )

    @contextmanager
    def _writing(self, step):
        """Turn what orbax raises, also of the save before, into one line."""
        try:
            yield
        except RunError:
            raise
        except Exception as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise RunError(
                f"checkpoint {step} (or the one before) could not be written to {self.folder}: "
                f"{reason}; earlier ones are kept"
            ) from error

    def steps(self) -> list[int]:
        """The steps that are kept, from the first on."""
        return sorted(self._manager.all_steps())

    def find(self, which: str | int) -> int | None:
        """Return a step by name or number, None if there are no checkpoints yet.

        `best` is the last one where no checkpoint has a validation loss. Raises UserError for a
        number that is not kept.
        """
        steps = self.steps()
        if not steps:
            return None
        if which == "last":
            return steps[-1]
        if which == "best":
            losses = {step: _loss(self._manager.metrics(step) or {}) for step in reversed(steps)}
            return min(losses, key=losses.__getitem__)
        which = int(which) if str(which).isdecimal() else which
        if which not in steps:
            kept = ", ".join(map(str, steps))
            raise UserError(f"{self.folder} holds no step {which}: it has {kept}, best or last")
        return which

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
            saved = _shapes(self._manager.item_metadata(step))
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

    def _check_fit(self, step: int, abstract: Any) -> None:
        wanted, saved = _shapes(abstract), _shapes(self._manager.item_metadata(step))
        saved |= (self._manager.metadata(step).custom_metadata or {}).get(TRUE_SHAPES, {})
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


def _loss(metrics: dict) -> float:
    return metrics.get("loss", NO_METRIC)


def _module(name: str) -> str:
    """The field of the state that a leaf belongs to."""
    return ".".join(name.split(".")[: 2 if name.startswith("average.") else 1])


def _shapes(tree: Any) -> dict[str, list[int]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): list(leaf.shape)
        for path, leaf in leaves
    }
