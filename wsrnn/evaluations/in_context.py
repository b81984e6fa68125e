"""Error against the number of in-context examples, next to classical estimators."""

from dataclasses import dataclass, replace

import numpy as np

from wsrnn import data, estimators
from wsrnn.evaluations import Evaluation, Result
from wsrnn.evaluations.built_in import least_squares_root
from wsrnn.evaluations.prefix_errors import (
    draw_curves,
    estimates,
    inliers,
    predictions,
    prompt_arrays,
    relative_error,
)
from wsrnn.tasks.layouts import ReadBeforeWrite
from wsrnn.tasks.prompts import Prompts


@dataclass(frozen=True)
class PrefixError(Evaluation):
    """Mean squared error on y_q over Var(y_q) after n examples, one pass for all n.

    For prompts (`wsrnn.tasks.prompts`); in the layout JointMasked at their one n.
    """

    prompts: int = 4096
    """Fresh prompts; every row of the table sees the same ones."""
    prefixes: tuple[int, ...] | None = None
    """Columns of the table; the figure shows every prefix. None is five, from the task's least to
    all of its examples."""
    built_in: bool = False
    """Add a WARP with nothing to learn: its root solves least squares by conjugate gradients."""

    def __post_init__(self):
        if self.prompts < 1 or self.prefixes == ():
            raise ValueError("evaluation.prompts must be at least 1 and prefixes not empty")

    def sized(self, task):
        """With prefixes at the quarters of the examples where they are open."""
        if self.prefixes is not None or not isinstance(task, Prompts):
            return self
        first, last = task.prefixes[0], task.prefixes[-1]
        quarters = {first + i * (last - first) // 4 for i in range(5)}
        return replace(self, prefixes=tuple(sorted(quarters)))

    def check(self, task, model):
        """Prompts must be read after as many examples."""
        if not isinstance(task, Prompts):
            raise ValueError("evaluation by prefixes is for prompts of tokens (x, y) with one y")
        if task.layout.asks_sum:
            raise ValueError(
                f"in layout {type(task.layout).__name__} the target is y_q with Y_{{N-1}} added to "
                "it: set evaluation QueryError"
            )
        if not task.layout.one_query and task.steps("test") == "last":
            raise ValueError(
                f"evaluation by prefixes reads prompts after each of them, and "
                f"{type(task).__name__} has one to read in each: set another evaluation"
            )
        read = task.prefixes
        if not all(n in read for n in self.prefixes or ()):
            raise ValueError(
                f"evaluation.prefixes {list(self.prefixes)} must lie within {read[0]} and the "
                f"task's {read[-1]} examples"
            )
        if self.built_in and not task.layout.answers_in_tokens:
            raise ValueError("evaluation.built_in reads prompts in the layout ReadBeforeWrite")

    def __call__(self, model, task, seed):
        """Measure the model and the estimators at every prefix of test prompts."""
        batch = data.examples(task, "test", seed, self.prompts)
        x, y, truth, scored = prompt_arrays(task, batch)
        every, prefixes = task.prefixes, self.sized(task).prefixes

        def errors(predicted):
            return relative_error(predicted, truth, scored).tolist()

        rows = {"this model": errors(predictions(model, task, batch))}
        if self.built_in:
            solver = least_squares_root(task.d_in, task.d_out, task.noise or 1e-3)
            rows["conjugate gradients, built in"] = errors(predictions(solver, task, batch))
        for name, estimate in estimators.baselines(task.noise).items():
            rows[name] = errors(estimates(estimate, x, y, every))
        if "outlier" in batch.latents:
            kept = estimates(estimators.least_squares, inliers(task, batch), y, every)
            rows["least squares on the inliers"] = errors(kept)
        title = f"error = MSE on y_q / Var(y_q) after n examples, {len(x):,} fresh prompts"
        return Result(
            title,
            [f"n={n}" for n in prefixes],
            {name: [row[every.index(n)] for n in prefixes] for name, row in rows.items()},
            {"error": draw_curves(every, rows, title, x.shape[-1])},
        )


@dataclass(frozen=True)
class QueryError(Evaluation):
    """Mean squared error on y_q alone over Var(y_q) after the whole prompt, in layout JointMasked.

    In LegacySums also R^2 on the target Y_N = Y_{N-1} + y_q: copying Y_{N-1}, which is error
    1 on y_q, already has R^2 = 1 - 1 / N.
    """

    prompts: int = 4096
    """Fresh prompts; every row of the table sees the same ones."""

    def __post_init__(self):
        if self.prompts < 1:
            raise ValueError(f"evaluation.prompts must be at least 1, got {self.prompts}")

    def check(self, task, model):
        """One query at the end of each prompt."""
        if not isinstance(task, Prompts) or not task.layout.one_query:
            raise ValueError("evaluation at the query is for prompts in the layout JointMasked")

    def __call__(self, model, task, seed):
        """Measure the model on test prompts; the estimators see them without cumulative sums."""
        batch = data.examples(task, "test", seed, self.prompts)
        plain = replace(task, layout=ReadBeforeWrite(train_on="longest"))
        shown = data.examples(plain, "test", seed, self.prompts)  # from the same random numbers
        x, y, truth, _ = prompt_arrays(plain, shown)
        x, y, query, truth = x[:, :-1], y[:, :-1], x[:, -1], truth[:, -1:]
        carried = y.sum(1, keepdims=True) if task.layout.asks_sum else 0
        predicted = {"this model": predictions(model, task, batch) - carried}
        for name, estimate in estimators.baselines(task.noise).items():
            carries = name == "zero" and task.layout.asks_sum
            predicted["carry" if carries else name] = estimate(x, y, query)[:, None]
        if "outlier" in batch.latents:
            kept = estimators.least_squares(inliers(plain, shown)[:, :-1], y, query)
            predicted["least squares on the inliers"] = kept[:, None]
        rows = {name: relative_error(each, truth).tolist() for name, each in predicted.items()}
        if task.layout.asks_sum:
            target = np.mean((carried + truth) ** 2)
            for name, each in predicted.items():
                rows[name].append(float(1 - np.mean((each - truth) ** 2) / target))
        title = f"error = MSE on y_q / Var(y_q) after {task.examples} examples, {len(x):,} prompts"
        return Result(title, ["error", "R^2 on Y_N"][: len(rows["this model"])], rows)
