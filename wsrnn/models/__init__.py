"""Models: one model, one file. This file is their contract.

`warp` holds WARP and the models built of it, `peers` the models that it is compared with, `head`
the output layer of both. A new model, here or in an experiment file, is a `ModelConfig` with
`build` and a `Model` with `__call__`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import Field
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int, Num

from wsrnn.decode import Steps
from wsrnn.recurrence import Plan


class Model(nnx.Module):
    """A sequence model whose only state is `nnx.Param`."""

    in_parts: Callable[[str], tuple[Any, Any]] | None = None
    """For `layered.through`, where a mesh splits parameters: of those below a name, how they lie on
    the mesh (trees of `sharding.Layout`) and this device's parts."""

    @property
    def in_rows(self) -> tuple[str, ...]:
        """Parameters, by name, that reach the model as this device's rows where the mesh splits
        them; all others reach it whole."""
        return ()

    @property
    def contracts(self) -> bool:
        """Whether `contract` does anything."""
        return False

    @abstractmethod
    def __call__(
        self,
        inputs: Float[ArrayLike, "N T D"],
        times: Float[ArrayLike, "N T"],
        *,
        steps: Steps = "all",
        mode: str | None = None,
    ) -> Float[Array, "N T O"] | Float[Array, "N O"]:
        """Return a prediction at "all" steps, or at one of each sequence: "last", or an index.

        An index is one for all sequences or one for each [N]; negative ones count from the end, and
        one that is out of range is a ValueError where it is known before compilation.

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

        It has a gradient, which is reverse mode once; for others differentiate a loss on the call
        in mode scan. For a mean loss divide the result. Its gradient can be much cheaper than that
        of a loss on `model(inputs, times)`: see `experiments/from_python.py`.
        """
        return score(self(inputs, times), *labels)

    @property
    def holds(self) -> bool:
        """Whether its state stays as it is while inputs are 0, and what it predicts varies with
        the time alone."""
        return False

    def held(
        self,
        inputs: Float[ArrayLike, "N T D"],
        times: Float[ArrayLike, "N T"],
        last: Int[ArrayLike, " N"],
    ) -> Float[Array, "N T O"]:
        """The call, right from step `last` [N] on, after which inputs are 0, if it `holds`."""
        return self(inputs, times)

    def rollout(
        self,
        inputs: Float[ArrayLike, "N T D"],
        times: Float[ArrayLike, "N T"],
        given: Bool[ArrayLike, "N T"],
        noise: Float[ArrayLike, "N T D"] | None = None,
    ) -> Float[Array, "N T O"]:
        """As the call, with predictions for inputs that are not given, if `generates`."""
        raise ValueError(f"{type(self).__name__} cannot feed its predictions back")

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

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # subclasses are dataclasses

    modes: tuple[str, ...] = ()  # the executions that the model offers; `wsrnn bench` times each
    mode: str | None = None  # which of them is taken; None without such a choice
    generates: bool = False  # whether it has `generate` and `rollout`: feeds predictions back

    @property
    def uncertain(self) -> bool:
        """Whether it predicts a scale beside each mean."""
        return False

    @property
    def reads_before_writing(self) -> bool:
        """Whether y_t is independent of what inputs[t] answers."""
        return False

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


class TokenModelConfig(ModelConfig):
    """The base of configs that have a `layout` of tokens and a `head`."""

    layout: Literal["standard", "read_before_write"]
    """standard: step t sees token t. read_before_write: step t sees token t - 1 and the query of
    token t, which is what leads before its d_out targets."""
    head: Any  # a `models.head.Head`

    @property
    def uncertain(self) -> bool:
        """Whether the head predicts a scale beside each mean."""
        return self.head.scale is not None

    @property
    def reads_before_writing(self) -> bool:
        """Whether step t sees of its own token the query alone."""
        return self.layout == "read_before_write"

    def x_size(self, d_in: int, d_out: int) -> int:
        """Channels of x_t, a token or its query; ValueError if the layout has no query."""
        x = d_in - d_out * self.reads_before_writing
        if x < 1:
            raise ValueError(
                f"layout read_before_write needs tokens of a query and its d_out targets: "
                f"d_in {d_in} leaves no query beside d_out {d_out}"
            )
        return x


def as_floats(x: Num[ArrayLike, "..."]) -> Array:
    """The array, of any byte order; integers become floats, so that nothing beside is rounded."""
    if isinstance(x, np.ndarray | np.generic) and not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    x = jnp.asarray(x)
    if x.dtype.kind == "c":
        raise ValueError(f"models read real numbers, got {x.dtype}: give real and imaginary part")
    wide = x.dtype in (jnp.float32, jnp.float64)
    return x if wide else x.astype(jnp.float32)


def check_sequences(
    model: Any, inputs: Num[ArrayLike, "..."], times: Num[ArrayLike, "..."]
) -> tuple[Float[Array, "N T D"], Float[Array, "N T"]]:
    """The arrays as floats; ValueError for shapes that the model cannot take."""
    inputs, times = as_floats(inputs), as_floats(times)
    sound = inputs.ndim == 3 and inputs.shape[2] == model.d_in and inputs.size
    if not sound or times.shape != inputs.shape[:2]:
        raise ValueError(
            f"inputs must be [N, T, {model.d_in}] and times [N, T], N and T at least 1, "
            f"got {list(inputs.shape)} and {list(times.shape)}"
        )
    return inputs, times


def check_steps(steps: Steps, N: int, T: int) -> Literal["all", "last"] | Int[Array, " N"]:
    """The words as they are, indices as one of 0..T-1 for each sequence.

    Raises ValueError for another word, type or shape, and for an index out of range, unless it is
    traced.
    """
    if isinstance(steps, str):
        if steps not in ("all", "last"):
            raise ValueError(f"steps {steps!r} is unknown: use all, last or the index of a step")
        return steps
    at = steps if isinstance(steps, jax.core.Tracer) else np.asarray(steps)
    if at.dtype.kind not in "iu" or at.shape not in ((), (N,)):
        raise ValueError(
            f"steps must be all, last, an integer or {N} of them, one for each sequence; got "
            f"{at.dtype} {list(at.shape)}"
        )
    if isinstance(at, np.ndarray) and (at.min() < -T or at.max() >= T):
        raise ValueError(f"steps must lie within {-T} and {T - 1} for T = {T}, got {at}")
    return jnp.broadcast_to(jnp.where(at < 0, at + T, at), (N,))


def pick(x: Float[Array, "N T d"], steps: Steps) -> Float[Array, "N T d"] | Float[Array, "N d"]:
    """Of an array over time: all steps, or those of `steps`, as `check_steps` returns them."""
    if isinstance(steps, str):
        return x if steps == "all" else x[:, -1]
    return jnp.take_along_axis(x, jnp.asarray(steps)[:, None, None], 1)[:, 0]
