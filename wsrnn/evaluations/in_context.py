"""Error against the number of examples in the prompt, beside classical estimators."""

from dataclasses import dataclass, replace

import numpy as np
from flax import nnx
from jaxtyping import Float

from wsrnn import data, estimators, figures
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.models.warp import Bilinear, Warp, summing
from wsrnn.root import ConjugateGradients
from wsrnn.tasks import Batch
from wsrnn.tasks.prompts import Prompts


@dataclass(frozen=True)
class PrefixError(Evaluation):
    """Mean squared error on y_q over Var(y_q) after n examples, one pass for all n.

    For prompts (`wsrnn.tasks.prompts`); in the layout joint_masked at their one n.
    """

    prompts: int = 4096
    """Fresh prompts; every row of the table sees the same ones."""
    prefixes: tuple[int, ...] = (0, 5, 10, 15, 20)
    """Columns of the table; the figure shows every prefix."""
    built_in: bool = False
    """Add a WARP with nothing to learn: its root solves least squares by conjugate gradients."""

    def __post_init__(self):
        if self.prompts < 1 or not self.prefixes:
            raise ValueError("evaluation.prompts must be at least 1 and prefixes not empty")

    def check(self, task, model):
        """Prompts must be read after as many examples."""
        if not isinstance(task, Prompts):
            raise ValueError("evaluation by prefixes is for prompts of tokens (x, y) with one y")
        if task.cumsum == "legacy":
            raise ValueError("under cumsum legacy y_q is asked for with Y_{N-1} added to it: set "
                             "evaluation QueryError")  # fmt: skip
        if task.layout != "joint_masked" and task.reads("test") == "one":
            raise ValueError(
                f"evaluation by prefixes reads prompts after each of them, and "
                f"{type(task).__name__} has one to read in each: set another evaluation"
            )
        read = task.prefixes
        if not all(n in read for n in self.prefixes):
            raise ValueError(
                f"evaluation.prefixes {list(self.prefixes)} must lie within {read[0]} and the "
                f"task's {read[-1]} examples"
            )
        if self.built_in and task.layout != "read_before_write":
            raise ValueError("evaluation.built_in reads prompts in the layout read_before_write")

    def __call__(self, model, task, seed):
        """Judge the model at every prefix of test prompts."""
        batch = data.examples(task, "test", seed, self.prompts)
        x, y = task.shown(batch.inputs.astype(np.float64))
        target = batch.targets[:, task.queries, 0].astype(np.float64)
        asked = batch.mask[:, task.queries] > 0

        def errors_of(predicted):
            squares, size = asked * (predicted - target) ** 2, asked * target**2
            return (squares.sum(0) / size.sum(0)).tolist()

        def estimated(estimate, x):
            return errors_of(np.stack([estimate(x[:, :n], y[:, :n], x[:, n]) for n in every], 1))

        def answers(model):
            outputs = in_batches(model, "__call__", 512, batch.inputs, batch.times)
            return outputs[:, task.queries, 0]

        every = task.prefixes
        errors = {"this model": errors_of(answers(model))}
        if self.built_in:
            solver = least_squares_root(task.d_in, task.d_out, task.noise or 1e-3)
            errors["conjugate gradients, built in"] = errors_of(answers(solver))
        for name, estimate in estimators.baselines(task.noise).items():
            errors[name] = estimated(estimate, x)
        if "outlier" in batch.latents:
            kept = inliers(task, batch)
            errors["least squares on the inliers"] = estimated(estimators.least_squares, kept)
        title = f"error = MSE on y_q / Var(y_q) after n examples, {len(x):,} fresh prompts"
        return Result(
            title,
            [f"n={n}" for n in self.prefixes],
            {
                name: [values[every.index(n)] for n in self.prefixes]
                for name, values in errors.items()
            },
            {"error": figures.error_curves(every, errors, title, x.shape[-1])},
        )


@dataclass(frozen=True)
class QueryError(Evaluation):
    """Mean squared error on y_q alone over Var(y_q) after the whole prompt, in joint_masked.

    Under cumsum legacy also R^2 on what is asked for, Y_N = Y_{N-1} + y_q: to carry Y_{N-1} on,
    which is error 1 on y_q, already has R^2 = 1 - 1 / N.
    """

    prompts: int = 4096
    """Fresh prompts; every row of the table sees the same ones."""

    def __post_init__(self):
        if self.prompts < 1:
            raise ValueError(f"evaluation.prompts must be at least 1, got {self.prompts}")

    def check(self, task, model):
        """One query at the end of each prompt."""
        if not isinstance(task, Prompts) or task.layout != "joint_masked":
            raise ValueError("evaluation at the query is for prompts in the layout joint_masked")

    def __call__(self, model, task, seed):
        """Judge the model on test prompts; the estimators see them not summed up."""
        batch = data.examples(task, "test", seed, self.prompts)
        plain = replace(task, cumsum="none", layout="read_before_write")
        shown = data.examples(plain, "test", seed, self.prompts)  # of the same raw numbers
        x, y = np.split(shown.inputs.astype(np.float64), [task.d], -1)
        x, y, query = x[:, :-1], y[:, :-1, 0], x[:, -1]
        truth = shown.targets[:, -1, 0].astype(np.float64)
        carried = y.sum(1) if task.cumsum == "legacy" else 0
        outputs = in_batches(model, "__call__", 512, batch.inputs, batch.times)
        answers = {"this model": outputs[:, -1, 0] - carried}
        for name, estimate in estimators.baselines(task.noise).items():
            carries = name == "zero" and task.cumsum == "legacy"
            answers["carry" if carries else name] = estimate(x, y, query)
        if "outlier" in batch.latents:
            kept = inliers(plain, shown)[:, :-1]
            answers["least squares on the inliers"] = estimators.least_squares(kept, y, query)
        rows = {}
        for name, answer in answers.items():
            squares = np.mean((answer - truth) ** 2)
            rows[name] = [float(squares / np.mean(truth**2))]
            if task.cumsum == "legacy":
                rows[name].append(float(1 - squares / np.mean((carried + truth) ** 2)))
        title = f"error = MSE on y_q / Var(y_q) after {task.examples} examples, {len(x):,} prompts"
        return Result(title, ["error", "R^2 on Y_N"][: len(rows["this model"])], rows)


def inliers(task: Prompts, batch: Batch) -> Float[np.ndarray, "N T d"]:
    """x with 0 for the dummies: a row of zeros, of label 0, changes no fit of least norm."""
    x, _ = task.shown(batch.inputs.astype(np.float64))
    return np.where(batch.latents["outlier"][..., None], 0, x)


def least_squares_root(d_in: int, d_out: int, prior: float) -> Warp:
    """A WARP that is ridge regression with the penalty `prior`, by exact conjugate gradients."""
    config = summing(ConjugateGradients(steps=d_in - d_out, prior=prior), Bilinear())
    return config.build(d_in, d_out, rngs=nnx.Rngs(0))
