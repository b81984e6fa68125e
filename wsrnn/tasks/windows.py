"""Windows of a table whose rows are evenly spaced in time: the base of all forecasting tasks."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import grain
import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from wsrnn.checks import check_positive
from wsrnn.errors import UserError
from wsrnn.tasks import Split
from wsrnn.tasks.continuation import Continuation, Sequence

LEAST = 1e-5
"""Is added to the variance of a context, as in RevIN: constant ones have a scale too."""


class Table(NamedTuple):
    """Rows of a file, oldest first."""

    path: Path
    names: list[str]  # of the columns
    values: Float[np.ndarray, "R C"]


class Bounds(NamedTuple):
    """Where the parts of a table end: rows 0 to `train`, from there to `valid`, and to `test`."""

    train: int
    valid: int
    test: int

    def part(self, split: Split) -> tuple[int, int]:
        """The rows that are forecast in a split: the first, and the one after the last."""
        first = {"train": 0, "valid": self.train, "test": self.valid}[split]
        return first, getattr(self, split)


@dataclass(frozen=True)
class Windows(Continuation):
    """Windows of known rows and `horizon` rows to forecast.

    A table is split in time into training, validation and test rows, and scaled to the mean and
    standard deviation of the training rows alone. The first context of a later part reaches back
    into the part before, so that every row of the part is forecast; no forecast sees a row after
    its context. Subclasses define `table` and `bounds`.
    """

    DROP: ClassVar[str] = "drop it"  # the cure for a column that cannot be forecast

    context: tuple[int, ...] = (96,)
    """Known steps of a window. Two numbers are the range from which they are drawn for each
    training window; forecasts are judged with the most."""
    horizon: int = 96
    """Steps to forecast."""
    patch: int = 1
    """Rows of a step: with patches of 24, 4 steps are 96 rows, and a model reads and predicts 24
    numbers of each channel at a time."""
    normalise: bool = True
    """Give each window and channel the mean 0 and the deviation 1 within its context (reversible
    instance normalisation, Kim et al. 2022). Forecasts are scaled back, and errors are counted as
    without it, in training too."""
    independent: bool = True
    """One channel is one sequence, and all channels share the model (Nie et al. 2023); otherwise a
    sequence has all channels."""
    describe: bool = False
    """Feed at each step what this hides, too: mean and deviation of the context, and, one-hot,
    which column it is (strategy direct only)."""
    stride: int = 1
    """Rows between one validation window and the next, to validate sooner. Training and test have a
    window at every row."""

    def __post_init__(self):
        check_positive(self, "horizon", "patch", "stride")
        super().__post_init__()
        if self.describe and self.feeds_back:
            raise ValueError(
                f"{type(self).__name__}.describe adds inputs that no model can predict: set it "
                "False, or task.strategy:direct"
            )

    @abstractmethod
    def table(self) -> Table:
        """The rows; UserError, with the place, for a file that cannot be read as such."""

    @abstractmethod
    def bounds(self, table: Table) -> Bounds:
        """Where its parts end."""

    @property
    def season(self) -> int:
        """Rows after which the values are expected to repeat."""
        return 1

    @property
    def total(self) -> int:
        """Columns of the table."""
        return len(self.table().names)

    @property
    def width(self) -> int:
        """Columns of a sequence: one, or all."""
        return 1 if self.independent else self.total

    @property
    def channels(self):
        """The rows of a patch in every column."""
        return self.width * self.patch

    @property
    def d_in(self):
        """The channels, the flag of what is seen, and what describes the window."""
        if not self.describe:
            return super().d_in
        return super().d_in + 2 * self.width + (self.total if self.independent else 0)

    @property
    def samples(self):
        """The longest context and the horizon."""
        return (self.context[-1] if self.context else 0) + self.horizon

    @property
    def known(self) -> int:
        """Rows of the longest context."""
        return self.context[-1] * self.patch

    @property
    def has_units(self):
        """Where windows are normalised."""
        return self.normalise

    def scaled(self, table: Table) -> Float[np.ndarray, "R C"]:
        """The table in units of the training rows; UserError for a column that is constant there.

        In float32.
        """
        known = table.values[: self.bounds(table).train]
        constant = np.flatnonzero(np.ptp(known, 0) == 0)
        if len(constant):
            at = constant[0]
            raise UserError(
                f"{table.path}, column {table.names[at]}: it is {known[0, at]:g} in all "
                f"{len(known)} rows of the training part, so it has no scale; {self.DROP} or "
                "train on more rows"
            )
        return ((table.values - known.mean(0)) / known.std(0)).astype(np.float32)

    def rows(self, split: Split) -> tuple[Float[np.ndarray, "R C"], int]:
        """The scaled rows up to the end of a split, and the first that begins a window.

        Raises UserError for a split that is too short.
        """
        table = self.table()
        first, last = self.bounds(table).part(split)
        if last > len(table.values):
            raise UserError(
                f"{table.path} has {len(table.values)} rows, the {split} part ends at row {last}"
            )
        start = max(0, first - self.known)
        if last - start < self.samples * self.patch:
            raise UserError(
                f"{table.path}: a context of {self.known} rows and a horizon of "
                f"{self.horizon * self.patch} are longer than the {split} part, which has "
                f"{last - first}; lower them or split otherwise"
            )
        return self.scaled(table)[:last], start

    def windows(self, split: Split) -> Float[np.ndarray, "N R C"]:
        """All windows of a split, known rows and those to forecast: a view of the table.

        In order of time, with all columns.
        """
        rows, start = self.rows(split)
        size = self.samples * self.patch
        windows = np.swapaxes(sliding_window_view(rows[start:], size, axis=0), 1, 2)
        return windows[:: self.stride] if split == "valid" else windows

    def sequences(self, split, seed):
        """Return the windows in order of time, one by one column; the seed plays no part."""
        return self.cut(self.windows(split))

    def cut(self, windows: Float[np.ndarray, "N R C"]) -> grain.MapDataset:
        """Windows as sequences of patches, one by one column."""
        parts = windows.shape[2] // self.width

        def sequence(i: int) -> Sequence:
            at, part = divmod(i, parts)
            columns = slice(part * self.width, (part + 1) * self.width)
            values = windows[at, :, columns].reshape(self.samples, -1)
            return Sequence(values, {"column": np.int32(part)})

        return grain.MapDataset.range(len(windows) * parts).map(sequence)

    def statistics(
        self, seen: Float[np.ndarray, "*N L D"]
    ) -> tuple[Float[np.ndarray, "*N 1 D"], Float[np.ndarray, "*N 1 D"]]:
        """Mean and deviation of each column over a context; 0 and 1 where nothing is normalised."""
        *N, L, D = seen.shape
        if not self.normalise:
            return np.zeros((*N, 1, D), np.float32), np.ones((*N, 1, D), np.float32)
        rows = seen.reshape(*N, L * self.patch, D // self.patch)
        mean, scale = rows.mean(-2), np.sqrt(rows.var(-2) + LEAST)
        return np.tile(mean, self.patch)[..., None, :], np.tile(scale, self.patch)[..., None, :]

    def example(self, sequence, context, rng=None):
        """One window as an example, its targets followed by their unit where it is normalised."""
        mean, scale = self.statistics(sequence.values[:context])
        batch = super().example(
            sequence._replace(values=(sequence.values - mean) / scale), context, rng
        )
        if self.describe:
            about = [mean[0, : self.width], scale[0, : self.width]]
            if self.independent:
                about.append(np.arange(self.total) == sequence.latents["column"])
            about = np.tile(np.concatenate(about), (self.length, 1))
            inputs = np.concatenate([batch.inputs, about], 1, dtype=np.float32)
            batch = batch._replace(inputs=inputs, last=None)  # which are not 0 after the context
        if self.normalise:
            unit = np.broadcast_to(scale, batch.targets.shape)
            targets = np.concatenate([batch.targets, unit], 1, dtype=np.float32)
            batch = batch._replace(targets=targets)
        return batch
