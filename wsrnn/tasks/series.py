"""Forecasting from files: electricity transformer temperatures (ETT, Zhou et al. 2021)."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import grain
import numpy as np

from wsrnn.checks import check_fields
from wsrnn.errors import UserError
from wsrnn.files import find, read_csv
from wsrnn.tasks import Batch, Task, clock

CHANNELS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
SOURCE = "github.com/zhouhaoyi/ETDataset (folder ETT-small)"
MONTHS = {"train": (0, 12), "valid": (12, 16), "test": (16, 20)}  # of 30 days, as is customary


@dataclass(frozen=True)
class Ett(Task):
    """Windows of `context` known steps and `horizon` unknown ones, seven channels, stride 1.

    The rows are split into 12, 4 and 4 months, each part's first context reaching back into the
    part before; all are scaled to the mean and standard deviation of the training rows alone. y_t
    is scored on x_{t+1}. Beyond the context the inputs hold its last row, so nothing unknown is
    seen, the difference drive is zero there, and T = context + horizon - 1; only forecasts are
    scored. The column date must rise by one step, and every channel vary over the training rows.
    """

    name: Literal["ETTh1", "ETTh2", "ETTm1", "ETTm2"] = "ETTh1"
    """Which transformer, by the hour (h) or by 15 minutes (m)."""
    context: int = 96
    """Known steps."""
    horizon: int = 96
    """Steps to forecast."""
    loss: Literal["mse", "nll"] = "mse"
    data_dir: Path | None = None
    """Where ett/NAME.csv or ett/NAME.csv.gz lies; else $WSRNN_DATA, else ~/.cache/wsrnn."""

    d_in = 7
    d_out = 7

    def __post_init__(self):
        check_fields(self)
        if min(self.context, self.horizon) < 1:
            raise ValueError(
                f"context and horizon must be at least 1, got {self.context} and {self.horizon}"
            )

    @property
    def length(self):
        """The last known row and every unknown one but the last are inputs of a forecast."""
        return self.context + self.horizon - 1

    @property
    def day(self):
        """Steps in a day."""
        return 96 if "m" in self.name else 24

    def dataset(self, split, seed):
        """Return the windows of a split in order of time; the seed plays no part."""
        path = find(f"ett/{self.name}.csv", self.data_dir, SOURCE)
        table = _read(path, np.timedelta64(24 * 60 // self.day, "m"))
        month = 30 * self.day
        first, last = (m * month for m in MONTHS[split])
        if len(table) < last:
            raise UserError(f"{path} has {len(table)} rows, the {split} part ends at row {last}")
        known = table[: MONTHS["train"][1] * month]
        constant = np.flatnonzero(np.ptp(known, 0) == 0)
        if len(constant):
            raise UserError(
                f"{path}, column {CHANNELS[constant[0]]}: it is {known[0, constant[0]]:g} in all "
                f"{len(known)} rows of the training part, so it has no scale; get it from {SOURCE}"
            )
        table = ((table - known.mean(0)) / known.std(0)).astype(np.float32)
        rows = table[max(0, first - self.context) : last]
        count = len(rows) - self.length
        if count < 1:
            raise UserError(
                f"context {self.context} and horizon {self.horizon} are longer than the {split} "
                "part of the data"
            )
        return grain.MapDataset.range(count).map(
            lambda i: self.example(rows[i : i + self.length + 1])
        )

    def example(self, rows: np.ndarray) -> Batch:
        """Make one window of scaled rows [T + 1, 7]."""
        inputs = rows[:-1].copy()
        inputs[self.context :] = rows[self.context - 1]
        mask = (np.arange(self.length) >= self.context - 1).astype(np.float32)
        return Batch(inputs, clock(self.length), rows[1:], mask, {})


@cache
def _read(path: Path, step: np.timedelta64) -> np.ndarray:
    """The channels [R, 7] of a file whose rows are `step` apart, if its times are dates."""
    csv = read_csv(path)
    found = csv.step("date")
    if isinstance(found, np.timedelta64) and found != step:
        raise UserError(
            f"{path} has its rows {found.astype(object)} apart, not {step.astype(object)} as its "
            f"name says; get it from {SOURCE}"
        )
    return csv.numbers(CHANNELS)
