"""In-context regression on real tables, beside what scikit-learn fits to the same rows."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from wsrnn import figures
from wsrnn.errors import UserError
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.models import Model
from wsrnn.tasks import clock
from wsrnn.tasks.tables import UCI, Tables

log = logging.getLogger("wsrnn")

RESAMPLES = 1000
OURS, RIDGE, TREES, ALL = "this model", "ridge", "boosted trees", "median of all"
PENALTIES = np.logspace(-3, 3, 13)
"""Among which ridge chooses by leaving one row out."""
Interval = tuple[float, float, float]
"""A median, the least and the most of its interval."""


@dataclass(frozen=True)
class TableErrors(Evaluation):
    """The model's squared error over that of others that read the same rows, table by table.

    Of every table `draws` contexts of n rows are drawn, each with `queries` other rows, all scaled
    by the context. A number is the median over draws of the ratio of two mean squared errors, a
    summary the median of these over tables, with 90 % bootstrap intervals. The targets are real
    rows: they have noise, which nothing can predict and every ratio holds. Draws where both errors
    are 0 do not count, nor do tables too small for a context.
    """

    tables: tuple[str, ...] = UCI
    """Names of UCI tables and paths of csv files, whose last column is the target."""
    contexts: tuple[int, ...] = (10, 20, 50, 100)
    """n, one column each."""
    boosted: tuple[int, ...] = (50,)
    """Those at which boosted trees are fitted too, which takes 0.1 s a draw."""
    draws: int = 200
    """Contexts of each table."""
    queries: int = 5
    """Rows to predict from one context; fewer where a table has fewer."""
    data_dir: Path | None = None
    """As in `Tables`."""

    def __post_init__(self):
        if min(self.draws, self.queries) < 1 or not self.tables or not self.contexts:
            raise ValueError(
                "evaluation.draws and queries must be at least 1, tables and contexts not empty"
            )
        if min(self.contexts) < 5:
            raise ValueError(f"evaluation.contexts must be at least 5, got {self.contexts}")
        if not set(self.boosted) <= set(self.contexts):
            raise ValueError(
                f"evaluation.boosted {list(self.boosted)} must be among contexts "
                f"{list(self.contexts)}"
            )

    def check(self, task, model):
        """Tokens must end in the one value that is predicted."""
        if not task.answers_in_tokens or task.d_out != 1:
            raise ValueError("evaluation by tables is for tasks of tokens (x, y) with one y")

    def __call__(self, model, task, seed):
        """Judge the model on every table at every n; a bar shows how far it is."""
        ratios = {}  # by other, n and table: one number a draw
        todo = [(name, n) for name in self.tables for n in self.contexts]
        for done, (name, n) in enumerate(tqdm(todo, "tables", unit="context", disable=None)):
            if not sys.stderr.isatty():  # where there is no bar
                log.info("tables: %d of %d, %s with %d rows", done + 1, len(todo), name, n)
            table = Tables(name, columns=task.d_in - 1, examples=n, data_dir=self.data_dir)
            if len(table.rows()) <= n:
                continue
            errors = self._errors(model, table, seed, n in self.boosted)
            ours = errors.pop(OURS)
            for other, values in errors.items():
                with np.errstate(invalid="ignore", divide="ignore"):
                    ratios.setdefault((other, n), {})[Path(name).stem] = ours / values
        return self._result({key: summary(values) for key, values in ratios.items()})

    def prepare(self, task):
        """Look for scikit-learn and read the tables."""
        _estimators()
        for name in self.tables:
            Tables(name, columns=task.d_in - 1, data_dir=self.data_dir).rows()

    def _result(self, found: dict[tuple[str, int], dict[str, Interval]]) -> Result:
        """`found`: by other, n and table."""
        nothing = (np.nan,) * 3
        rows = {}
        for other in dict.fromkeys(other for other, _ in found):
            at_all = [found.get((other, n), {}).get(ALL, nothing) for n in self.contexts]
            for i, part in enumerate(("", ", least", ", most")):
                rows[f"{OURS} / {other}{part}"] = [interval[i] for interval in at_all]
        names = list(dict.fromkeys(name for tables in found.values() for name in tables))
        for name in names:
            if name != ALL:
                rows[f"  {name}, / {RIDGE}"] = [
                    found.get((RIDGE, n), {}).get(name, nothing)[0] for n in self.contexts
                ]
        title = (
            f"MSE over that of others: median over {self.draws} draws of each table, then over "
            "tables, with 90 % intervals"
        )
        at = max(self.boosted or self.contexts)
        panels = {
            f"MSE / MSE of {RIDGE}": {
                f"n = {n}": tables for (other, n), tables in found.items() if other == RIDGE
            },
            f"MSE / MSE of others, n = {at}": {
                other: tables for (other, n), tables in found.items() if n == at
            },
        }
        columns = [f"n={n}" for n in self.contexts]
        return Result(title, columns, rows, {"tables": figures.ratios(names, panels, title)})

    def _errors(
        self, model: Model, table: Tables, seed: int, boosted: bool
    ) -> dict[str, Float[np.ndarray, " draws"]]:
        """Mean squared errors on the queries of each draw."""
        rng = np.random.default_rng([seed, table.examples])
        drawn = [table.draw(rng, self.queries) for _ in range(self.draws)]
        context, query = (np.stack(part) for part in zip(*drawn, strict=True))
        predicted = {OURS: answers(model, context, query[..., :-1])}
        for name, fit in _estimators().items():
            if name != TREES or boosted:
                predicted[name] = np.stack(
                    [
                        fit(rows[:, :-1], rows[:, -1]).predict(some[:, :-1])
                        for rows, some in zip(context, query, strict=True)
                    ]
                )
        return {
            name: ((values - query[..., -1]) ** 2).mean(1) for name, values in predicted.items()
        }


def answers(
    model: Model, context: Float[np.ndarray, "R n D"], query: Float[np.ndarray, "R q d"]
) -> Float[np.ndarray, "R q"]:
    """The model's predictions for every query of every context; it never sees their targets."""
    R, n, D = context.shape
    count = query.shape[1]
    tokens = np.concatenate([query, np.zeros((R, count, 1))], -1)[:, :, None]
    tokens = np.concatenate([np.repeat(context[:, None], count, 1), tokens], 2)
    tokens = tokens.reshape(-1, n + 1, D).astype(np.float32)
    times = np.broadcast_to(clock(n + 1), tokens.shape[:2])
    at = np.full(len(tokens), n)
    return in_batches(model, "__call__", 250, tokens, times, steps=at).reshape(R, count)


def summary(ratios: dict[str, Float[np.ndarray, " draws"]]) -> dict[str, Interval]:
    """Median over draws of each table's ratios, and its 90 % interval; then over all of them.

    For the latter the tables are drawn anew too: they stand for others.
    """
    rng = np.random.default_rng(0)
    medians = {}
    for table, values in ratios.items():
        values = values[~np.isnan(values)]
        resampled = np.median(values[rng.integers(len(values), size=(RESAMPLES, len(values)))], 1)
        medians[table] = np.median(values), resampled
    each = np.stack([resampled for _, resampled in medians.values()])
    some = rng.integers(len(each), size=each.shape)
    medians[ALL] = (
        np.median([median for median, _ in medians.values()]),
        np.median(np.take_along_axis(each, some, 0), 0),
    )
    return {
        table: (float(median), *map(float, np.percentile(resampled, [5, 95])))
        for table, (median, resampled) in medians.items()
    }


def _estimators() -> dict[str, Callable]:
    """(rows, targets) to something fitted, by name."""
    try:
        from sklearn.dummy import DummyRegressor
        from sklearn.ensemble import GradientBoostingRegressor
        from sklearn.linear_model import RidgeCV
        from sklearn.neighbors import KNeighborsRegressor
    except ImportError:
        raise UserError(
            "evaluation by tables needs scikit-learn: pip install 'wsrnn[tables]'"
        ) from None
    return {
        RIDGE: RidgeCV(PENALTIES).fit,
        "mean": DummyRegressor().fit,
        "5 nearest": KNeighborsRegressor(5).fit,
        TREES: GradientBoostingRegressor(random_state=0).fit,
    }
