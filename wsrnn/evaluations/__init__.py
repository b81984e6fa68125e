"""Evaluations: what a finished run is judged by, one a file. This file is their contract.

An experiment names its evaluation as it names its task and its model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from wsrnn.models import Model, ModelConfig
from wsrnn.tasks import Task


@dataclass
class Result:
    """A table, and what belongs to it."""

    title: str
    columns: list[str]
    rows: dict[str, list[float]]  # the first row is the model's
    figures: dict[str, Any] = field(default_factory=dict)  # matplotlib figures by file name

    def scalars(self) -> dict[str, float]:
        """The model's own row, one number a column."""
        return dict(zip(self.columns, next(iter(self.rows.values())), strict=True))

    def text(self) -> str:
        """The table for a terminal."""
        names = max(map(len, self.rows))
        width = max(10, *(len(column) + 2 for column in self.columns))
        lines = [self.title, " " * names + "".join(f"{column:>{width}}" for column in self.columns)]
        for name, values in self.rows.items():
            lines.append(
                f"{name:<{names}}" + "".join(f"{_short(value):>{width}}" for value in values)
            )
        return "\n".join(lines)


class Evaluation(ABC):
    """The base of the frozen dataclasses that judge a model on a task."""

    @abstractmethod
    def __call__(self, model: Model, task: Task, seed: int) -> Result | None:
        """Judge the model on test examples, beside what it must beat."""

    def prepare(self, task: Task) -> None:
        """Raise UserError if what it needs is not on this machine; asked when a run begins."""
        return None

    def check(self, task: Task, model: ModelConfig) -> None:
        """Raise ValueError if it cannot judge such a run; asked before anything is trained."""
        return None


@dataclass(frozen=True)
class LossOnly(Evaluation):
    """No judgement beyond the test loss and metrics, with which every report begins."""

    def __call__(self, model, task, seed):
        """Nothing to add."""
        return None


def _short(value: float) -> str:
    """Four decimals, or three figures of what is too large for a column."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.2e}"


def in_batches(
    model: Model,
    method: str,
    size: int,
    *arrays: np.ndarray,
    keep: Callable = np.asarray,
    **named: np.ndarray,
) -> np.ndarray:
    """Return model.method(*arrays, **named) over the whole leading axis, `size` at a time.

    Compiled once for a model and shapes, however often it is called. `keep` is what is kept of the
    outputs of each part, where all of them would be too many.
    """
    graphdef, params = nnx.split(model)
    count = len(arrays[0])
    size = min(size, count)
    outputs = []
    for i in range(0, count, size):
        rows = np.minimum(np.arange(i, i + size), count - 1)
        part = _call(
            graphdef, method, params, *(array[rows] for array in arrays),
            **{name: array[rows] for name, array in named.items()},
        )  # fmt: skip
        outputs.append(keep(part))
    return np.concatenate(outputs)[:count]


@partial(jax.jit, static_argnums=(0, 1))
def _call(graphdef, method, params, *arrays, **named):
    return getattr(nnx.merge(graphdef, params), method)(*arrays, **named)
