"""Models: one model, one file. This file is their contract.

`warp` holds WARP and the models built of it, `peers` the models that it is compared with, `head`
the output layer of both. A new model, here or in an experiment file, is a `ModelConfig` with
`build` and a `Model` with `__call__`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Complex, Float, Num

from wsrnn.decode import Steps
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
        steps: Steps = "all",
        mode: str | None = None,
    ) -> Float[Array, "N T O"] | Float[Array, "N O"]:
        """Return a prediction at "all" steps, or at each sequence's "last" or its own of `steps`.

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
        """Return score(model(inputs, times), *labels): a scalar and a pytree of more numbers.

        score: maps outputs [n, T, O] and labels of any n of the sequences to a scalar, which is
            differentiated, and to a pytree, which is not (metrics; () for none). Both must be sums
            over sequences, because a model may call it with a few sequences at a time.
        labels: a tuple of arrays or pytrees with a leading axis N.

        For a mean loss divide the result. Its gradient can be much cheaper than that of a loss on
        `model(inputs, times)`: see `experiments/from_python.py`.
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

    def plans(
        self, d_in: int, d_out: int, *, batch: int, length: int, steps: Literal["all", "last"]
    ) -> list[Plan]:
        """Return the executions of its mode, of every mode where that is auto, with their costs."""
        return []

    def sized(self, task: Any) -> "ModelConfig":
        """The config with every size that is None filled in from the task's."""
        return self

    @abstractmethod
    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> Model:
        """Return a fresh model from d_in input channels to d_out predicted ones.

        Raises ValueError, naming the value and the cure, for sizes the config cannot serve.
        """


def as_floats(x: ArrayLike) -> Array:
    """The array; integers become floats, so that what is computed beside them is not rounded."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def check_sequences(
    model: Any, inputs: Num[ArrayLike, "..."], times: Num[ArrayLike, "..."]
) -> tuple[Float[Array, "N T D"], Float[Array, "N T"]]:
    """The arrays as floats; ValueError for shapes that the model cannot take."""
    inputs, times = as_floats(inputs), as_floats(times)
    sound = inputs.ndim == 3 and inputs.shape[1] and inputs.shape[2] == model.d_in
    if not sound or times.shape != inputs.shape[:2]:
        raise ValueError(
            f"inputs must be [N, T, {model.d_in}] and times [N, T], T at least 1, "
            f"got {list(inputs.shape)} and {list(times.shape)}"
        )
    return inputs, times


def pick(x: Float[Array, "N T d"], steps: Steps) -> Float[Array, "N T d"] | Float[Array, "N d"]:
    """Of an array over time: all steps, or those of `steps`."""
    if isinstance(steps, str):
        return x if steps == "all" else x[:, -1]
    return jnp.take_along_axis(x, jnp.asarray(steps)[:, None, None], 1)[:, 0]
