"""Models: one model, one file. This file is their contract."""

from abc import ABC, abstractmethod
from typing import Any

from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Int


class Model(nnx.Module):
    """A sequence model whose only state is `nnx.Param`."""

    @abstractmethod
    def __call__(
        self,
        inputs: Float[ArrayLike, "N T D"],
        times: Float[ArrayLike, "N T"],
        *,
        at: Int[ArrayLike, " N"] | None = None,
        mode: str | None = None,
    ) -> Float[Array, "N T O"] | Float[Array, "N O"]:
        """Return a prediction at every step, or at each sequence's step `at` alone.

        Step t sees no input later than t. `mode` overrides the execution that the config names.
        An uncertain model returns the means and then the scales: 2 O outputs.
        """

    def sizes(self, length: int) -> dict[str, int]:
        """What `wsrnn show` prints beside the parameters, for T = `length`; no arrays."""
        return {}

    def diagnostics(
        self, inputs: Float[ArrayLike, "N T D"], times: Float[ArrayLike, "N T"]
    ) -> dict[str, Any]:
        """What TensorBoard shows at each evaluation: numbers as curves, arrays as histograms."""
        return {}


class ModelConfig(ABC):
    """The base of the frozen dataclasses that describe and build models."""

    modes: tuple[str, ...] = ()  # the executions that the model offers; `wsrnn bench` times each
    uncertain: bool = False  # whether it predicts a scale beside each mean
    reads_before_writing: bool = False  # whether y_t is independent of what inputs[t] answers
    generates: bool = False  # whether it has `generate`, to feed its predictions back

    @abstractmethod
    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> Model:
        """Return a fresh model from d_in input channels to d_out predicted ones.

        Raises ValueError, naming the value and the cure, for sizes the config cannot serve.
        """
