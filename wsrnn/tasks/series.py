"""Time series to be forecast: a csv of one's own, and public ones that forecasting is judged on."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

from wsrnn.checks import check_distinct
from wsrnn.errors import UserError
from wsrnn.files import find, read_csv, unfit
from wsrnn.tasks.windows import Bounds, Table, Windows

CHANNELS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
ETT_SOURCE = "github.com/zhouhaoyi/ETDataset (folder ETT-small)"
WITHOUT_TIMES = (
    "; or take the rows to be evenly spaced: --task.time None, and --task.columns to name those to "
    "forecast"
)


@dataclass(frozen=True)
class Series(Windows):
    """A csv file of one's own: a column of times that rises by one step, and columns of numbers.

    Times are ISO dates or numbers. A row that is missing, out of order or not a number is refused
    with its line.
    """

    DROP = "leave it out of --task.columns"

    path: Path = Path("series.csv")
    """The csv, plain or .gz."""
    time: str | None = ""
    """The column of times. Empty takes the first one; None is for a file without times, whose rows
    are taken to be one step apart."""
    columns: tuple[str, ...] = ()
    """The columns to forecast; none named takes all but the times."""
    fractions: tuple[float, float] = (0.7, 0.1)
    """Shares of the rows for training and validation; the rest are for the test."""
    dates: tuple[str, ...] = ()
    """In place of fractions: the times at which validation and test begin, as the file has them."""
    period: int = 1
    """Rows of a season, which a baseline repeats: 24 for hours. 1 repeats the last row."""

    def __post_init__(self):
        _check_fractions(self.fractions)
        check_distinct("task.columns", self.columns)
        if len(self.dates) not in (0, 2):
            raise ValueError(f"Series.dates must be two times, got {' '.join(self.dates)}")
        if self.period < 1:
            raise ValueError(f"Series.period must be at least 1, got {self.period}")
        super().__post_init__()

    @property
    def season(self):
        """As its period says."""
        return self.period

    def table(self):
        """The columns of the file."""
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise UserError(f"{path} does not exist: name a csv file with --task.path")
        return _read(path, self.time, self.columns, WITHOUT_TIMES)

    def bounds(self, table):
        """By date or by fraction."""
        R = len(table.values)
        if not self.dates:
            return _by_fractions(R, self.fractions)
        times = _times(table.path, self.time)
        train, valid = (int(np.searchsorted(times, _time(d, times))) for d in self.dates)
        if not 0 < train < valid < R:
            raise UserError(
                f"{table.path}: dates {' and '.join(self.dates)} must rise within its times, "
                f"{times[0]} to {times[-1]}"
            )
        return Bounds(train, valid, R)


@dataclass(frozen=True)
class Ett(Windows):
    """Electricity transformer temperatures (Zhou et al. 2021): seven channels.

    The rows are split into 12, 4 and 4 months of 30 days, as is customary.
    """

    name: Literal["ETTh1", "ETTh2", "ETTm1", "ETTm2"] = "ETTh1"
    """Which transformer, by the hour (h) or by 15 minutes (m)."""
    data_dir: Path | None = None
    """Where ett/NAME.csv or ett/NAME.csv.gz lies; else $WSRNN_DATA, else ~/.cache/wsrnn."""

    @property
    def season(self):
        """A day."""
        return 96 if "m" in self.name else 24

    @property
    def total(self):
        """Seven, known without the file."""
        return len(CHANNELS)

    def table(self):
        """The channels; UserError if the rows are not as far apart as the name says."""
        path = find(f"ett/{self.name}.csv", self.data_dir, ETT_SOURCE)
        step = np.timedelta64(24 * 60 // self.season, "m")
        times = _times(path, "date")
        found = times[1] - times[0] if len(times) > 1 else step
        if isinstance(found, np.timedelta64) and found != step:
            raise UserError(
                f"{path} has its rows {found.astype(object)} apart, not {step.astype(object)} as "
                f"its name says; get it from {ETT_SOURCE}"
            )
        return _read(path, "date", tuple(CHANNELS))

    def bounds(self, table):
        """12, 4 and 4 months."""
        month = 30 * self.season
        return Bounds(12 * month, 16 * month, 20 * month)


@dataclass(frozen=True)
class Traffic(Windows):
    """PEMS08 (Song et al. 2020): the flow at 170 sensors every 5 minutes, its last 40 % of rows.

    60, 20 and 20 % of these rows train, validate and test. Published tables train on the rows that
    are missing here, so their figures are not comparable.
    """

    context: tuple[int, ...] = (12,)
    """Known steps of a window; 12 are an hour."""
    horizon: int = 12
    """Steps to forecast."""
    data_dir: Path | None = None
    """Where traffic/PEMS08_tail/ lies; else $WSRNN_DATA, else ~/.cache/wsrnn."""

    @property
    def season(self):
        """A day of 5 minutes."""
        return 288

    @property
    def total(self):
        """170, known without the file."""
        return 170

    def table(self):
        """The flow."""
        name = "traffic/PEMS08_tail/PEMS08_flow_rows10700_17855.npz"
        path = find(name, self.data_dir, "the array flow [R, 170] of PEMS08")
        return _read_flow(path)

    def bounds(self, table):
        """60, 20 and 20 %."""
        return _by_fractions(len(table.values), (0.6, 0.2))


class Source(NamedTuple):
    """A public csv: its folder, columns, and rows of a season.

    Their times are as published, some out of order or not ISO, and are not read.
    """

    folder: str
    columns: tuple[str, ...]
    season: int
    time: str | None = None
    newest_first: bool = False


ILLNESS = (
    "% WEIGHTED ILI", "%UNWEIGHTED ILI", "AGE 0-4", "AGE 5-24", "ILITOTAL", "NUM. OF PROVIDERS",
    "OT",
)  # fmt: skip
PUBLIC = {
    "exchange": Source("exchange_rate", (*"0123456", "OT"), 1),
    "illness": Source("national_illness", ILLNESS, 52, "date"),
    "taxi": Source("darts_taxi_new_york_passengers", ("#Passengers",), 48),
    "gasoline": Source("darts_us_gasoline", ("Gasoline",), 52, newest_first=True),
    "temperatures": Source("darts_temps", ("Daily minimum temperatures",), 365),
    "sunspots": Source("darts_monthly-sunspots", ("Sunspots",), 132),
    "demand": Source("darts_taylor", ("Y",), 336),
    "heart_rate": Source("darts_heart_rate", ("Heart rate",), 1),
    "gas_rate": Source("darts_gasrate_co2", ("GasRate(ft3/min)", "CO2%"), 1),
    "flu": Source("darts_ILINet", ("% WEIGHTED ILI", "%UNWEIGHTED ILI"), 52),
}


@dataclass(frozen=True)
class Public(Windows):
    """Exchange rates, influenza-like illness, and eight short series of one or two channels.

    70, 10 and 20 % of the rows train, validate and test.
    """

    name: Literal[
        "exchange", "illness", "taxi", "gasoline", "temperatures", "sunspots", "demand",
        "heart_rate", "gas_rate", "flu",
    ] = "exchange"  # fmt: skip
    """exchange and illness are those of the benchmarks (Lai et al. 2018, Zhou et al. 2021); the
    others are among the examples of the library darts."""
    data_dir: Path | None = None
    """Where forecasting/ lies; else $WSRNN_DATA, else ~/.cache/wsrnn."""

    @property
    def season(self):
        """A year, a week, a day or a solar cycle, where there is one."""
        return PUBLIC[self.name].season

    @property
    def total(self):
        """Known without the file."""
        return len(PUBLIC[self.name].columns)

    def table(self):
        """The columns of the file, oldest row first."""
        source = PUBLIC[self.name]
        name = f"forecasting/{source.folder}/{source.folder}.csv"
        path = find(name, self.data_dir, "github.com/unit8co/darts (datasets) or the benchmarks")
        table = _read(path, source.time, source.columns)
        return table._replace(values=table.values[::-1]) if source.newest_first else table

    def bounds(self, table):
        """70, 10 and 20 %."""
        return _by_fractions(len(table.values), (0.7, 0.1))


def _check_fractions(fractions: tuple[float, float]) -> None:
    if min(fractions) <= 0 or sum(fractions) >= 1:
        raise ValueError(
            "Series.fractions must be two shares above 0 that leave rows for the test, got "
            f"{' '.join(map(str, fractions))}"
        )


def _by_fractions(R: int, fractions: tuple[float, float]) -> Bounds:
    """As the benchmarks round: training and test down, validation has the rest."""
    test = int(R * round(1 - sum(fractions), 9))
    return Bounds(int(R * fractions[0]), R - test, R)


@cache
def _read(path: Path, time: str | None, columns: tuple[str, ...], otherwise: str = "") -> Table:
    """Columns of a csv, whose times are checked if it has them; `otherwise` is another cure."""
    csv = read_csv(path)
    if not columns and all(map(_is_value, csv.names)):
        raise UserError(f"{path} line 1 holds values and no names: begin with a line of names")
    if time is not None:
        time = time or csv.names[0]
        try:
            csv.step(time)
        except UserError as error:
            raise UserError(f"{error}{otherwise}") from None
    names = list(columns) or [name for name in csv.names if name != time]
    if not names:
        raise UserError(f"{path} has no column beside {time}: name the times with --task.time")
    try:
        return Table(path, names, csv.numbers(names))
    except UserError as error:
        if columns:
            raise
        raise UserError(f"{error}; --task.columns names those to forecast") from None


@cache
def _times(path: Path, time: str | None) -> Shaped[np.ndarray, " R"]:
    """The times of a csv, which must rise by one step; the numbers of its rows if it has none."""
    csv = read_csv(path)
    if time is None:
        return np.arange(len(csv.rows), dtype=float)
    csv.step(time or csv.names[0])
    return csv.times(time or csv.names[0])


def _is_value(cell: str) -> bool:
    """Whether a cell of a csv is a number or an ISO date."""
    for parse in (float, datetime.fromisoformat):
        with suppress(ValueError):
            parse(cell.strip())
            return True
    return False


def _time(text: str, times: Shaped[np.ndarray, " R"]) -> np.datetime64 | float:
    """A time, given as the file's are; UserError if it is none."""
    try:
        if times.dtype.kind == "M":
            return np.datetime64(datetime.fromisoformat(text))
        return float(text)
    except ValueError:
        raise UserError(
            f"--task.dates: {text!r} is not a time like those of the file, such as {times[0]}"
        ) from None


@cache
def _read_flow(path: Path) -> Table:
    try:
        with np.load(path) as archive:
            flow = archive["flow"].astype(float)
    except Exception as error:  # numpy raises what the zip and the pickle modules raise
        raise UserError(f"{path} cannot be read as an npz with `flow`: {error}") from None
    if len(bad := unfit(flow)):
        raise UserError(f"{path}: row {bad[0][0]}, sensor {bad[0][1]} is not a finite number")
    return Table(path, [f"sensor {i}" for i in range(flow.shape[1])], flow)
