"""Checkpoints, through orbax: atomic, written in the background, the last two and the best kept."""

import logging
import math
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from wsrnn.errors import UserError

NO_METRIC = math.inf  # a checkpoint without a validation loss is never the best


class Checkpoints:
    """The checkpoints of one run, by step. Leaving the context waits for what is being written."""

    def __init__(self, folder: Path, *, keep: int = 2):
        self.folder = Path(folder).absolute()
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax narrates every save
        keep_best = policies.BestN(get_metric_fn=_loss, reverse=True, n=1)
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
            ),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.close()

    def save(self, step: int, state: Any, loss: float | None = None) -> None:
        """Begin to write `state` as `step`, ranked by its validation `loss`."""
        ranked = loss is not None and math.isfinite(loss)
        metrics = {"loss": loss if ranked else NO_METRIC}
        self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

    def find(self, which: Literal["best", "last"] | int) -> int | None:
        """Return a step by name or number, None if there are no checkpoints yet.

        `best` is the last one where no checkpoint has a validation loss. Raises UserError for a
        number that is not kept.
        """
        steps = sorted(self._manager.all_steps())
        if not steps:
            return None
        if which == "last":
            return steps[-1]
        if which == "best":
            losses = {step: _loss(self._manager.metrics(step) or {}) for step in reversed(steps)}
            return min(losses, key=losses.get)
        if which not in steps:
            kept = ", ".join(map(str, steps))
            raise UserError(f"{self.folder} holds no step {which}: it has {kept}, best or last")
        return which

    def restore(self, step: int, abstract: Any) -> Any:
        """Return the state of `step` on the shardings of `abstract`, whatever mesh wrote it.

        `abstract` may be a part of the saved tree. Raises UserError naming the first leaf that does
        not fit, with both shapes.
        """
        wanted = _leaves(abstract)
        try:
            saved = _leaves(self._manager.item_metadata(step))
            self._check_fit(step, saved, wanted)
            return self._read(step, abstract, whole=len(wanted) == len(saved))
        except UserError:
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            raise UserError(
                f"checkpoint {self.folder}/{step} is damaged ({type(error).__name__}): remove that "
                "folder to go on from the step before"
            ) from error

    def _check_fit(self, step: int, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
        for name, leaf in wanted.items():
            if name not in saved:
                raise UserError(
                    f"checkpoint {self.folder}/{step} has no {name}: it is of another model"
                )
            if tuple(saved[name].shape) != tuple(leaf.shape):
                raise UserError(
                    f"checkpoint {self.folder}/{step} does not fit: {name} is "
                    f"{list(saved[name].shape)} there and {list(leaf.shape)} in this experiment"
                )

    def _read(self, step: int, abstract: Any, whole: bool) -> Any:
        if whole:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        with ocp.PyTreeCheckpointer() as reader:
            arguments = ocp.checkpoint_utils.construct_restore_args(abstract)
            return reader.restore(
                self.folder / str(step) / "default",
                args=ocp.args.PyTreeRestore(abstract, restore_args=arguments, partial_restore=True),
            )


def _loss(metrics: dict) -> float:
    return metrics.get("loss", NO_METRIC)


def _leaves(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
