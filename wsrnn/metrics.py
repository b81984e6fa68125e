"""Losses and metrics as masked sums: added over batches and devices, divided once.

A loss is a function (outputs [*N, O], targets, mask [*N]) -> `Measures`, all of them such sums: one
in ``LOSSES``, or a task's own.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from wsrnn.errors import UserError, naming


class Mean(NamedTuple):
    """A sum and how much it counts: means of unequal batches add up exactly."""

    total: Float[ArrayLike, ""]
    count: Float[ArrayLike, ""]  # type: ignore[assignment]  # a field in place of tuple.count

    @property
    def value(self) -> Float[ArrayLike, ""]:
        """total / count, and not a number where nothing counts."""
        return self.total / self.count


Measures = dict[str, Mean]


def mse(
    outputs: Float[Array, "*N O"], targets: Float[Array, "*N _"], mask: Float[Array, "*N"]
) -> Measures:
    """Mean squared (not half of it) and absolute error over masked steps and all channels.

    Targets may be followed by the unit of each: [*N, 2 O]. An error of one unit then counts as that
    many.
    """
    targets, unit = _with_units(outputs, targets, mask)
    error = jnp.where(mask[..., None] > 0, outputs - targets, 0) * unit
    return {"loss": _mean(error**2, mask[..., None]), "mae": _mean(jnp.abs(error), mask[..., None])}


def nll(
    outputs: Float[Array, "*N two_O"], targets: Float[Array, "*N _"], mask: Float[Array, "*N"]
) -> Measures:
    """Gaussian negative log-likelihood log s + ((y - m) / s)^2 / 2 of outputs (m, s), and mse.

    The constant log(2 pi) / 2 is left out, as in the paper's code. Units of targets as in `mse`.
    """
    mean, scale = jnp.split(outputs, 2, -1)
    values, unit = _with_units(mean, targets, mask)
    error = jnp.where(mask[..., None] > 0, values - mean, 0)
    each = jnp.log(scale * unit) + 0.5 * (error / scale) ** 2
    return {"loss": _mean(each, mask[..., None]), "mse": mse(mean, targets, mask)["loss"]}


def cross_entropy(
    outputs: Float[Array, "*N O"], targets: Int[Array, "*N"], mask: Float[Array, "*N"]
) -> Measures:
    """Cross-entropy in nats of logits, and accuracy, over masked steps or sequences.

    Not a number where the mask counts a class outside of 0..O-1.
    """
    at = jnp.where(targets < 0, outputs.shape[-1], targets)  # for a negative one is no other class
    log_p = jnp.take_along_axis(jax.nn.log_softmax(outputs), at[..., None], -1, mode="fill")[..., 0]
    right = (outputs.argmax(-1).astype(targets.dtype) == targets).astype(mask.dtype)
    return {"loss": _mean(-log_p, mask), "accuracy": _mean(right, mask)}


def last_valid(mask: Float[Array, "N T"]) -> Int[Array, " N"]:
    """The last step that counts in each sequence; the last of all where none does."""
    return mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1] > 0, 1)


def visible(mask: Float[Array, "N T"]) -> Bool[Array, "N T"]:
    """The steps of each sequence up to the last that counts; none where none does."""
    return jax.lax.cummax(mask, 1, reverse=True) > 0


LOSSES = {"mse": mse, "nll": nll, "cross_entropy": cross_entropy}


def measures_of(loss: str | Callable[..., Measures], outputs, targets, mask) -> Measures:
    """The masked sums of a loss, by its name in ``LOSSES`` or as a function.

    Raises UserError where a function fails or returns no `Measures`.
    """
    if isinstance(loss, str):
        return LOSSES[loss](outputs, targets, mask)
    name = getattr(loss, "__qualname__", repr(loss))
    try:
        with naming(f"loss {name} fails for outputs {list(outputs.shape)}"):
            sums = loss(outputs, targets, mask)
            if (
                not isinstance(sums, dict)
                or "loss" not in sums
                or not all(map(_is_sum, sums.values()))
            ):
                raise ValueError('return {"loss": Mean(total, count), ...} of float scalars')
    except ValueError as error:  # in the middle of a compilation, of which no one wants to read
        raise UserError(str(error)) from error
    return sums


def _with_units(means: Array, targets: Array, mask: Array) -> tuple[Array, ArrayLike]:
    """The targets and their units, 1 where they have none or nothing counts."""
    if targets.shape == means.shape:
        return targets, 1.0
    targets, unit = jnp.split(targets, 2, -1)
    return targets, jnp.where(mask[..., None] > 0, unit, 1)


def _is_sum(mean: object) -> bool:
    if not isinstance(mean, Mean) or not jnp.shape(mean.total) == jnp.shape(mean.count) == ():
        return False
    return jnp.issubdtype(jnp.result_type(mean.total), jnp.inexact)


def _mean(values: Array, mask: Array) -> Mean:
    mask = jnp.broadcast_to(mask, values.shape)
    # where, not a product: what is masked out may be infinite (its gradient is the caller's care)
    return Mean(jnp.where(mask > 0, values * mask, 0).sum(), mask.sum())
