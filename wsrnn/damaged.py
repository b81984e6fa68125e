"""Checkpoints that are damaged: found by their checksums, named, and set aside."""

import logging
from pathlib import Path

from wsrnn import manifest
from wsrnn.errors import UserError

log = logging.getLogger("wsrnn")

# Under this name a checkpoint holds them: one without is of before there were checksums.
TRUE_SHAPES = "shapes without padding"
# What orbax writes at the top of a step as it commits it: nothing that is restored.
LATE = ("_CHECKPOINT_METADATA", "commit_success.txt")


def damage(folder: Path) -> str | None:
    """What is wrong with the files of a step, in words; None if nothing is, or none can tell."""
    if (folder / manifest.NAME).exists():
        return manifest.damage(folder, may_be_new=LATE)
    try:
        text = (folder / "default" / "_METADATA").read_text("utf-8", "replace")
    except OSError:
        return "it has no default/_METADATA"
    return f"{manifest.NAME} is missing" if TRUE_SHAPES in text else None


def set_aside_damaged(folder: Path, strict: bool = False) -> None:
    """Rename the damaged steps after the last sound one, so that a run goes on from there.

    Raises UserError instead where `strict`, and where no step is sound.
    """
    if not folder.is_dir():
        return
    steps = sorted((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), reverse=True)
    found: dict[int, str] = {}
    for step in steps:
        wrong = damage(folder / str(step))
        if wrong is None:
            break
        found[step] = wrong
    if not found:
        return
    last, wrong = next(iter(found.items()))
    if len(found) == len(steps):
        raise UserError(
            f"checkpoint {folder}/{last} is damaged ({wrong}), and there is none before that is "
            f"not: put back a copy of one, or remove {folder} to begin again"
        )
    if strict:
        raise UserError(
            f"checkpoint {folder}/{last} is damaged ({wrong}): without --strict it is set aside "
            f"and the run goes on from step {step}"
        )
    for damaged, wrong in found.items():
        place = folder / f"damaged-{damaged}"
        while place.exists():  # the same step, trained again
            place = place.with_name(f"{place.name}-again")
        (folder / str(damaged)).rename(place)
        log.warning("checkpoint %s/%d is damaged (%s): moved to %s there, and the run goes on from "
                    "step %d", folder, damaged, wrong, place.name, step)  # fmt: skip
