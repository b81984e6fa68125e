"""In-context regression on real tables, next to scikit-learn fitted to the same rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from wsrnn.bootstrap import ALL, Interval, nested_medians
from wsrnn.checks import check_distinct
from wsrnn.errors import UserError
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.figures import LINES, Figure, finish, log_ticks, new_figure
from wsrnn.models import Model
from wsrnn.progress import Progress
from wsrnn.tasks import clock
from wsrnn.tasks.tables import UCI, Tables

THIS, RIDGE, TREES = "this model", "ridge", "boosted trees"
PENALTIES = np.logspace(-3, 3, 13)
"""Among which ridge chooses by leave-one-out cross-validation."""


@dataclass(frozen=True)
class TableErrors(Evaluation):
    """The model's squared error over that of baselines fitted to the same rows, table by table.

    Of every table `draws` contexts of n rows are drawn, each with `queries` other rows, all scaled
    by the context. A number is the median over draws of the ratio of two mean squared errors, a
    summary the median of these over tables, with 90 % bootstrap intervals. The targets are real
    rows, with their noise in every error. Draws where both errors are 0 do not count, nor do tables
    too small for a context.
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
        check_distinct("evaluation.contexts", self.contexts)
        check_distinct("evaluation.tables", self.tables)
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
        """Evaluate the model on every table at every n."""
        ratios = {}  # by other, n and table: one number a draw
        todo = [(name, n) for name in self.tables for n in self.contexts]
        with Progress(len(todo), unit="context") as show:
            for done, (name, n) in enumerate(todo):
                show(done + 1, f"table {name} with {n} rows")
                table = Tables(name, columns=task.d_in - 1, examples=n, data_dir=self.data_dir)
                if len(table.rows()) <= n:
                    continue
                errors = self._errors(model, table, seed, n in self.boosted)
                ours = errors.pop(THIS)
                for other, values in errors.items():
                    with np.errstate(invalid="ignore", divide="ignore"):
                        ratios.setdefault((other, n), {})[Path(name).stem] = ours / values
        return self._result({key: nested_medians(values) for key, values in ratios.items()})

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
                rows[f"{THIS} / {other}{part}"] = [interval[i] for interval in at_all]
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
        return Result(title, columns, rows, {"tables": draw_ratios(names, panels, title)})

    def _errors(
        self, model: Model, table: Tables, seed: int, boosted: bool
    ) -> dict[str, Float[np.ndarray, " draws"]]:
        """Mean squared errors on the queries of each draw."""
        rng = np.random.default_rng([seed, table.examples])
        drawn = [table.draw(rng, self.queries) for _ in range(self.draws)]
        context, query = (np.stack(part) for part in zip(*drawn, strict=True))
        predicted = {THIS: predictions(model, context, query[..., :-1])}
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


def predictions(
    model: Model, context: Float[np.ndarray, "R n D"], query: Float[np.ndarray, "R q d"]
) -> Float[np.ndarray, "R q"]:
    """The model's prediction for every query of every context, one query a prompt."""
    R, n, D = context.shape
    count = query.shape[1]
    tokens = np.concatenate([query, np.zeros((R, count, 1))], -1)[:, :, None]
    tokens = np.concatenate([np.repeat(context[:, None], count, 1), tokens], 2)
    tokens = tokens.reshape(-1, n + 1, D).astype(np.float32)
    times = np.broadcast_to(clock(n + 1), tokens.shape[:2])
    at = np.full(len(tokens), n)
    return in_batches(model, "__call__", 250, tokens, times, steps=at).reshape(R, count)


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


def draw_ratios(
    tables: Sequence[str],
    panels: dict[str, dict[str, dict[str, tuple[float, float, float]]]],
    title: str,
) -> Figure:
    """Ratios (median and interval) by panel, line and table; left of 1 the model is better.

    Drawn within 0.02 and 50.
    """
    figure = new_figure(11, 1.8 + 0.38 * len(tables))
    height = {table: -row for row, table in enumerate(tables)}
    for axes, (name, lines) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        for k, (line, found) in enumerate(lines.items()):
            colour = LINES[k % len(LINES)]
            at = np.array([height[table] for table in found]) + 0.3 - 0.6 * (k + 0.5) / len(lines)
            median, least, most = np.clip(np.array(list(found.values())).T, 0.02, 50)
            axes.hlines(at, least, most, color=colour, lw=2, alpha=0.4)
            axes.plot(median, at, "o", color=colour, ms=4, label=line)
        axes.axvline(1, color="#999999", lw=1, zorder=0)
        axes.set(xscale="log", xlabel=f"{name}   (90 % interval)")
        axes.xaxis.set_major_formatter("{x:g}")
        log_ticks(axes.xaxis)
        axes.grid(axis="x", color="#eeeeee")
        finish(axes, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    figure.axes[0].set_yticks(list(height.values()), list(height), fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure
