"""A pointwise lift of the tokens before B: the convolution mode is untouched.

A state that is linear in raw tokens cannot hold products such as x y; one linear in lifted tokens
can.
"""

from dataclasses import dataclass
from typing import Literal

import jax
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.recurrence.transition import PRECISION


@dataclass(frozen=True)
class LiftConfig:
    """Which lift stands before B, and its sizes."""

    form: Literal["none", "mlp"] = "none"
    """none feeds the tokens to B as they are; mlp lifts each by one hidden layer."""
    width: int = 64
    """Units of the hidden layer (mlp)."""
    size: int = 48
    """Channels after the lift (mlp)."""

    def __post_init__(self):
        if min(self.width, self.size) < 1:
            raise ValueError(
                f"lift.width and lift.size must be at least 1, got {self.width} and {self.size}"
            )

    def channels(self, d_in: int) -> int:
        """How many channels B then sees."""
        return d_in if self.form == "none" else self.size

    def build(self, d_in: int, *, rngs: nnx.Rngs) -> "MlpLift | None":
        """The lift as a module, None where there is none."""
        return None if self.form == "none" else MlpLift(self, d_in, rngs=rngs)


class MlpLift(nnx.Module):
    """v = W_2 relu(W_1 x + b_1) + b_2, for each token by itself."""

    def __init__(self, config: LiftConfig, d_in: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(d_in, config.width, precision=PRECISION, rngs=rngs)
        self.out = nnx.Linear(config.width, config.size, precision=PRECISION, rngs=rngs)

    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        """Lift every token."""
        return self.out(jax.nn.relu(self.hidden(x)))
