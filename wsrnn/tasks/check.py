"""What a task's examples must be: shapes, kinds of numbers, finite values, classes in range."""

import traceback
from typing import get_args

import numpy as np

from wsrnn.errors import UserError
from wsrnn.tasks import Batch, Loss, Split, Task

EXAMPLES = 8
"""Of each split are looked at before a run."""


def check_examples(task: Task, split: Split, seed: int) -> None:
    """Compare a split's first examples with what the task promises.

    Raises UserError that names the example, the field, the place in it and the cure.
    """
    name = type(task).__name__
    if not callable(task.loss) and task.loss not in get_args(Loss):
        known = ", ".join(get_args(Loss))
        raise UserError(f"{name}.loss is {task.loss!r}: use one of {known}, or a function")
    number = 0
    try:
        examples = task.dataset(split, seed)
        count = len(examples)
        for number in range(min(count, EXAMPLES)):
            if wrong := fault(task, split, examples[number]):
                raise UserError(f"example {number} of {name} ({split}) has {wrong}")
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename]
        place = (own or frames)[-1]  # the task's own line, not numpy's
        raise UserError(
            f"{name} cannot make {split} example {number}: {type(error).__name__}: {error} "
            f"({place.filename} line {place.lineno})"
        ) from error
    if count < 1:
        raise UserError(
            f"the {split} split of {name} has no examples: give it more data, or lower its length"
        )


def first_fault(task: Task, split: Split, batch: Batch, first: int = 0) -> str | None:
    """What is wrong with one of a batch's examples, as "example NUMBER has FIELD ...: cure".

    first: the number of the batch's first example in its split. None if all are sound.
    """
    if fault(task, split, batch) is None:
        return None
    for i in range(len(batch.mask)):
        inputs, times, targets, mask = (np.asarray(x)[i] for x in batch[:4])
        last = None if batch.last is None else np.asarray(batch.last)[i]
        if wrong := fault(task, split, Batch(inputs, times, targets, mask, {}, last)):
            return f"example {first + i} has {wrong}"
    return None


def fault(task: Task, split: Split, batch: Batch) -> str | None:
    """What is wrong with a batch, or with a single example, as "FIELD ...: cure"; None if nothing.

    Values are looked at as float32, which is what a model sees of them.
    """
    lead = np.shape(batch.mask)[:-1]
    one = task.steps(split) == "last"
    classes = task.loss == "cross_entropy"
    targets: tuple[int, ...] = (
        (task.length,) if classes else (task.length, task.d_out * (1 + task.has_units))
    )
    if callable(task.loss):  # which knows itself what it compares outputs with
        targets = np.shape(batch.targets)[len(lead) :]
    if classes and one and np.shape(batch.targets) == lead:
        targets = ()
    promised = {
        "mask": (task.length,),
        "inputs": (task.length, task.d_in),
        "times": (task.length,),
        "targets": targets,
    }
    for field, shape in promised.items():
        values = np.asarray(getattr(batch, field))
        if values.shape != (*lead, *shape):
            return (
                f"{field} {list(values.shape)}; its length, d_in, d_out and loss promise "
                f"{[*lead, *shape]}"
            )
        if values.dtype.kind not in "biuf":
            return f"{field} of type {values.dtype}: return real numbers"
    labels = np.asarray(batch.targets)
    if classes and labels.dtype.kind not in "biu":
        return f"targets of type {labels.dtype}: classes are integers, use .astype(np.int32)"

    mask = np.asarray(batch.mask)
    counts = mask > 0
    last = np.cumsum(counts[..., ::-1], -1)[..., ::-1]  # how many steps count from here on
    seen, scored = last > 0, counts & (last == 1) if one else counts
    if len(targets) == 0:
        scored = scored.any(-1)
    with np.errstate(over="ignore"):  # which is then infinite
        inputs, times, labels = (np.asarray(x, np.float32) for x in (*batch[:2], labels))
    seen_inputs = np.broadcast_to(seen[..., None], inputs.shape)
    if batch.last is not None:
        after = np.arange(task.length) - np.asarray(batch.last)[..., None]
        if (counts & (after < 0)).any() or (inputs[after > 0] != 0).any():
            return (
                "a step before `last` that counts, or inputs after it that are not 0: leave it None"
            )
    broken = {
        "mask": ~np.isfinite(mask) | (mask < 0),
        "inputs": ~np.isfinite(inputs) & seen_inputs,
        "times": ~np.isfinite(times) & seen,
    }
    cures = {
        "mask": "weigh each step of the loss with 0 or more",
        "inputs": "every step up to the last that the mask counts must be finite: fill it in",
        "times": "every step up to the last that the mask counts must be finite",
    }
    if classes:
        broken["targets"] = scored & ((labels < 0) | (labels >= task.d_out))
        cures["targets"] = f"classes run from 0 to {task.d_out - 1} (d_out is {task.d_out})"
    else:
        at = scored.reshape(scored.shape + (1,) * (labels.ndim - scored.ndim))
        broken["targets"] = at & ~np.isfinite(labels)
        cures["targets"] = "fill it in, or set the mask to 0 there"
    for field, at in broken.items():
        if at.any():
            place = tuple(map(int, np.argwhere(at)[0]))
            value = np.asarray(getattr(batch, field))[place]
            return f"{field}{list(place) or ''} = {value}: {cures[field]}"
    return None
