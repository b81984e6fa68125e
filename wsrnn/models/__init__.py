"""Models: one model, one file. This file is their contract."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Complex, Float, Int

from wsrnn.recurrence import Plan


class Model(nnx.Module):
    """A sequence model whose only state is `nnx.Param`."""

    in_rows: tuple[str, ...] = ()
    """Parameters, by name, that reach the model as this device's rows where the mesh splits them;
    all others reach it whole."""
    contracts: bool = False
    """Whether `contract` does anything."""

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

    def total(
        self,
        score: Callable[..., tuple[Float[Array, ""], Any]],
        inputs: Float[ArrayLike, "N T D"],
        times: Float[ArrayLike, "N T"],
        labels: tuple[Any, ...],
    ) -> tuple[Float[Array, ""], Any]:
        """Return score(outputs, *labels): a scalar, and a tree of more numbers.

        Both must add up over sequences, so that a model may take a few sequences at a time, and
        only the scalar is differentiated.
        """
        return score(self(inputs, times), *labels)

    def contract(self) -> None:
        """Bring parameters back to where they should stay; called after every update."""

    def sizes(self, length: int) -> dict[str, int]:
        """What `wsrnn show` prints beside the parameters, for T = `length`; no arrays.

        `bench` and `trials` look for "operations per token", `trials` for "state floats" too.
        """
        return {}

    def states(
        self, inputs: Float[ArrayLike, "N T D"], times: Float[ArrayLike, "N T"]
    ) -> Float[Array, "N T S"] | None:
        """The recurrent state from which each step is read, for probes; None if it has none."""
        return None

    def eigenvalues(self) -> Complex[np.ndarray, " S"] | None:
        """Of the map from one state to the next; None if there is none or it is too large."""
        return None

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

    def plans(self, d_in: int, d_out: int, *, batch: int, length: int, last: bool) -> list[Plan]:
        """Return the executions of its mode, of every mode where that is auto, with their costs."""
        return []

    @abstractmethod
    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> Model:
        """Return a fresh model from d_in input channels to d_out predicted ones.

        Raises ValueError, naming the value and the cure, for sizes the config cannot serve.
        """


def check_options(config: Any, choice: str, **users: tuple[str, ...]) -> None:
    """Raise ValueError for options that are set and that the chosen form makes no use of.

    `choice` is the field that names the form, `users` gives for each option the forms that use it.
    For when a model is built: a file may hold variants that are not.
    """
    form = getattr(config, choice)
    unused = [f for f in fields(config) if form not in users.get(f.name, (form,))]
    if unused := [f for f in unused if getattr(config, f.name) != f.default]:
        raise ValueError(
            f"{type(config).__name__} with {choice} {form} makes no use of "
            f"{', '.join(f.name for f in unused)}: set "
            f"{', '.join(f'{f.name} {f.default}' for f in unused)}"
        )
