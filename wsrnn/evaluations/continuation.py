"""How a model continues sequences, by the strategy of its task: shared by several evaluations."""

import grain
import numpy as np
from jaxtyping import Float

from wsrnn.evaluations import in_batches
from wsrnn.models import Model
from wsrnn.tasks import Batch, Split
from wsrnn.tasks.continuation import Continuation, Sequence


def continued(
    model: Model,
    task: Continuation,
    sequences: Float[np.ndarray, "N S D"] | list[Sequence],
    context: int,
    *,
    size: int = 128,
) -> Float[np.ndarray, "N rest O"]:
    """Return the model's predictions of the samples after the first `context` ones.

    Sequences may be given with their latents, where the task needs them to make examples. An
    uncertain model's predictions are means and then scales. `size` sequences are in memory at a
    time.
    """
    whole = (s if isinstance(s, Sequence) else Sequence(s, {}) for s in sequences)
    examples = [task.example(sequence, context) for sequence in whole]
    return outputs_of(model, _stacked(examples), size)[:, context - 1 :]


def outputs_of(model: Model, batch: Batch, size: int = 128) -> Float[np.ndarray, "N T O"]:
    """Return the model's outputs for examples of a `Continuation`, right where they are scored."""
    call = (batch.inputs, batch.times)
    if batch.feedback is not None:
        return in_batches(model, "rollout", size, *call, batch.feedback.given)
    if batch.last is not None and model.holds:
        return in_batches(model, "held", size, *call, batch.last)
    return in_batches(model, "__call__", size, *call)


def _stacked(examples: list[Batch]) -> Batch:
    return grain.MapDataset.source(examples).batch(len(examples))[0]


def whole(
    task: Continuation, split: Split, seed: int, count: int | None = None
) -> tuple[Float[np.ndarray, "N S D"], dict]:
    """The first `count` whole sequences of a split, or all there are, and their latents."""
    sequences = task.sequences(split, seed)
    count = len(sequences) if count is None else min(count, len(sequences))
    batch = sequences[:count].batch(count)[0]
    return batch.values, batch.latents
