"""DLinear (Zeng et al. 2023): two linear maps from a window's past to its future.

The past is split into its moving average, the trend, and the rest; each has one map, shared by all
channels: 2 L H multiply-adds for each channel of a window.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.checks import check_fields, check_positive
from wsrnn.models import Model, ModelConfig, check_sequences, check_steps, pick


@dataclass(frozen=True)
class DLinearConfig(ModelConfig):
    """Linear maps from the L samples of a fixed context to the H samples after it.

    For tasks of a fixed context and the strategy `Direct`. y_t is the sample t + 1, for t from
    L - 1 on; before, where nothing is scored, it is 0.
    """

    context: int | None = None
    """L; None takes the task's."""
    horizon: int | None = None
    """H; None takes the task's."""
    patch: int | None = None
    """Rows of a step, where channels are the rows of a patch; None takes the task's, or 1."""
    average: int = 25
    """Rows of the moving average, an odd number; the ends of a context are repeated for it."""

    def __post_init__(self):
        check_fields(self)
        for name in ("context", "horizon", "patch"):
            if getattr(self, name) is not None:
                check_positive(self, name)
        if self.average < 1 or self.average % 2 == 0:
            raise ValueError(f"DLinear.average must be odd and at least 1, got {self.average}")

    def sized(self, task):
        """With context, horizon and patch of the task."""
        context = self.context or getattr(task, "fixed_context", None)
        if context is None:
            return self
        horizon = self.horizon or task.length - context + 1
        patch = self.patch or getattr(task, "patch", 1)
        return replace(self, context=context, horizon=horizon, patch=patch)

    def build(self, d_in, d_out, *, rngs):
        """A fresh model; raises ValueError without a context and a horizon."""
        if self.context is None or self.horizon is None:
            raise ValueError(
                "DLinear reads a context of one length and forecasts what comes after it: choose a "
                "task that has one, or set model.context and model.horizon"
            )
        return DLinear(self, d_in, d_out, rngs=rngs)


class DLinear(Model):
    """Both maps; inputs beyond the first d_out channels, such as flags, are not read."""

    def __init__(self, config: DLinearConfig, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        if d_in < d_out:
            raise ValueError(f"DLinear forecasts its own inputs: d_in {d_in} is below {d_out}")
        self.config, self.d_in, self.d_out = config, d_in, d_out
        self.patch = config.patch or 1
        if d_out % self.patch:
            raise ValueError(f"model.patch {self.patch} does not divide the {d_out} channels")
        assert config.context and config.horizon  # as `DLinearConfig.build` has checked
        L, H = config.context * self.patch, config.horizon * self.patch
        self.trend, self.rest = nnx.Linear(L, H, rngs=rngs), nnx.Linear(L, H, rngs=rngs)

    def __call__(self, inputs, times, *, steps="all", mode=None):
        """The forecasts at their steps; ValueError for other lengths than L + H - 1."""
        inputs, times = check_sequences(self, inputs, times)
        if mode is not None:
            raise ValueError(f"mode {mode!r} is unknown: use None, the only execution")
        L, H = self.config.context, self.config.horizon
        if inputs.shape[1] != L + H - 1:
            raise ValueError(f"inputs must have T = {L + H - 1} steps, got {inputs.shape[1]}")
        steps = check_steps(steps, *times.shape)
        N, width = len(inputs), self.d_out // self.patch
        past = inputs[:, :L, : self.d_out].reshape(N, L * self.patch, width).swapaxes(1, 2)
        trend = moving_average(past, self.config.average)
        future = self.trend(trend) + self.rest(past - trend)
        future = future.swapaxes(1, 2).reshape(N, H, self.d_out)
        return pick(jnp.pad(future, ((0, 0), (L - 1, 0), (0, 0))), steps)

    def sizes(self, length):
        """Operations per token, and floats of a context."""
        L, H = self.config.context, self.config.horizon
        return {
            "operations per token": 4 * L * H * self.patch * self.d_out // length,
            "state floats": L * self.d_out,
        }


def moving_average(x: Float[Array, "N D L"], width: int) -> Float[Array, "N D L"]:
    """The mean of `width` samples around each, the first and the last one repeated beyond."""
    sums = jnp.cumsum(jnp.pad(x, ((0, 0), (0, 0), (width // 2, width // 2)), mode="edge"), -1)
    sums = jnp.pad(sums, ((0, 0), (0, 0), (1, 0)))
    return (sums[..., width:] - sums[..., :-width]) / width
