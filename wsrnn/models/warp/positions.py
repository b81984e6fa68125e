"""A write that depends on the step: B_t = B E_t, with a learned E_t for each."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from wsrnn.checks import check_positive
from wsrnn.recurrence import PRECISION


@dataclass(frozen=True)
class Positions:
    """theta_t = A theta_{t-1} + B E_t u_t, E_t [size, C] learned for each step t.

    With A = I the state is then a linear map of the whole sequence, of rank `size`, that tells
    positions apart. The recurrence is no longer invariant in time, but still linear: all modes
    execute it.
    """

    size: int = 128
    """Channels of E_t u_t."""
    length: int | None = None
    """How many steps have an E_t; None is the task's length. Later ones are written as the last."""

    def __post_init__(self):
        check_positive(self, "size", *(["length"] if self.length is not None else []))

    def build(self, channels: int, rngs: nnx.Rngs) -> "PositionMaps":
        """The maps of drives of so many channels; ValueError for an open length."""
        if self.length is None:
            raise ValueError(
                "positions have a length of None, which only an experiment fills in from its task: "
                "set model.positions.length"
            )
        return PositionMaps(self.length, channels, self.size, rngs=rngs)


class PositionMaps(nnx.Module):
    """E_t, normal with a variance of 1 / length, which keeps sums over all steps of one size."""

    def __init__(self, length: int, channels: int, size: int, *, rngs: nnx.Rngs):
        draw = jax.random.normal(rngs.params(), (length, channels, size))
        self.table = nnx.Param(draw / length**0.5)

    def __call__(
        self, u: Float[Array, "*N C"], step: Int[Array, ""] | None = None
    ) -> Float[Array, "*N size"]:
        """E_t u_t at one step of u [N, C], or at all of u [N, T, C]."""
        if step is None:
            table = self._until(u.shape[1]).astype(u.dtype)
            return jnp.einsum("ntc,tck->ntk", u, table, precision=PRECISION)
        now = self.table[jnp.minimum(step, len(self.table[...]) - 1)].astype(u.dtype)
        return jnp.einsum("nc,ck->nk", u, now, precision=PRECISION)

    def total(self, u: Float[Array, "N T C"]) -> Float[Array, "N size"]:
        """The sum over t of E_t u_t, as one matrix product."""
        table = self._until(u.shape[1]).astype(u.dtype)
        return jnp.einsum("ntc,tck->nk", u, table, precision=PRECISION)

    def _until(self, T: int) -> Float[Array, "T C size"]:
        table = self.table[...]
        late = max(T - len(table), 0)
        return jnp.pad(table, ((0, late), (0, 0), (0, 0)), mode="edge")[:T]
