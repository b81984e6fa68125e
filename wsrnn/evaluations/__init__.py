"""Evaluations: test results of a trained model next to baselines. This file is their contract.

An experiment names its evaluation as it names its task and its model. A new evaluation is a frozen
dataclass in a file of its own, here or in an experiment file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np
from flax import nnx

from wsrnn.figures import Figure
from wsrnn.models import Model, ModelConfig
from wsrnn.tasks import Task
from wsrnn.text_table import text_table


@dataclass
class Result:
    """A table of results and its figures."""

    title: str
    columns: list[str]
    rows: dict[str, list[float]]  # the first row is the model's
    figures: dict[str, Figure] = field(default_factory=dict)  # by file name

    def scalars(self) -> dict[str, float]:
        """The model's own row, one number a column."""
        return dict(zip(self.columns, next(iter(self.rows.values())), strict=True))

    def text(self) -> str:
        """The table for a terminal."""
        cells = {name: [_short(value) for value in row] for name, row in self.rows.items()}
        return f"{self.title}\n{text_table(self.columns, cells)}"


class Evaluation(ABC):
    """The base of the frozen dataclasses that evaluate a model on a task."""

    @abstractmethod
    def __call__(self, model: Model, task: Task, seed: int) -> Result | None:
        """Results on the test split, next to baselines."""

    def prepare(self, task: Task) -> None:
        """Raise UserError if data or packages are missing; called when a run begins."""
        return None

    def sized(self, task: Task) -> "Evaluation":
        """The evaluation with every size that is None filled in from the task's sizes."""
        return self

    def check(self, task: Task, model: ModelConfig) -> None:
        """Raise ValueError if it does not fit the task or model; called before training."""
        return None


@dataclass(frozen=True)
class LossOnly(Evaluation):
    """The test loss and metrics alone, which every report has."""

    def __call__(self, model, task, seed):
        """Nothing to add."""
        return None


def _short(value: float) -> str:
    """Four decimals, or three significant digits of what is too large for a column."""
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
    outputs of each part, where all of them would be too large.
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
