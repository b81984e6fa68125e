"""The residual block around a recurrence: norm, nonlinearity, gate."""

from collections.abc import Callable

from flax import nnx
from jaxtyping import Array, Float

Sequences = Float[Array, "A B H"]


class Gated(nnx.Module):
    """u + glu(W gelu(mix(norm(u))) + b): what S5, LinOSS and a stack of WARPs have in common.

    `mix` is the only part that sees other steps; W mixes channels, and half of its outputs gate the
    other half (Dauphin et al. 2017).
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.gates = nnx.Linear(width, 2 * width, rngs=rngs)

    def around(self, u: Sequences, mix: Callable[[Sequences], Sequences]) -> Sequences:
        """The block's outputs, of time and sequences in either order."""
        return u + nnx.glu(self.gates(nnx.gelu(mix(self.norm(u)))))
