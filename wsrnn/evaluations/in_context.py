"""Error against the number of examples in the prompt, beside classical estimators."""

from dataclasses import dataclass, replace

import numpy as np
from flax import nnx
from jaxtyping import Float

from wsrnn import data, estimators, figures
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.models.lift import LiftConfig
from wsrnn.models.warp import TransitionConfig, Warp, WarpConfig
from wsrnn.tasks import Batch
from wsrnn.tasks.prompts import Prompts


@dataclass(frozen=True)
class PrefixError(Evaluation):
    """Mean squared error on y_q over Var(y_q) after n examples, one pass for all n.

    For tasks whose tokens are (x, y) with one y, in the layout read_before_write.
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
        """Prompts must be long enough, and tokens end in the one value that is predicted."""
        if not task.answers_in_tokens or task.d_out != 1:
            raise ValueError("evaluation by prefixes is for tasks of tokens (x, y) with one y")
        if not all(0 <= n < task.length for n in self.prefixes):
            raise ValueError(
                f"evaluation.prefixes {list(self.prefixes)} must lie within 0 and the task's "
                f"{task.length - 1} examples"
            )

    def __call__(self, model, task, seed):
        """Judge the model at every prefix of test prompts."""
        batch = data.examples(task, "test", seed, self.prompts)
        x, y = batch.inputs[..., :-1].astype(np.float64), batch.inputs[..., -1].astype(np.float64)
        target = batch.targets[..., 0].astype(np.float64)
        outputs = in_batches(model, "__call__", 512, batch.inputs, batch.times)[..., 0]

        def error(predicted, n):
            asked = batch.mask[:, n] > 0
            squares, size = (predicted - target[:, n]) ** 2, target[:, n] ** 2
            return float(squares[asked].sum() / size[asked].sum())

        every = range(task.length)
        errors = {"this model": [error(outputs[:, n], n) for n in every]}
        noise = getattr(task, "noise", 0.0)
        if self.built_in:
            solver = least_squares_root(task.d_in, task.d_out, noise or 1e-3)
            solved = in_batches(solver, "__call__", 512, batch.inputs, batch.times)[..., 0]
            errors["conjugate gradients, built in"] = [error(solved[:, n], n) for n in every]
        for name, estimate in estimators.baselines(noise).items():
            errors[name] = [error(estimate(x[:, :n], y[:, :n], x[:, n]), n) for n in every]
        if "outlier" in batch.latents:
            errors["least squares on the inliers"] = [
                error(estimators.least_squares(inliers(batch)[:, :n], y[:, :n], x[:, n]), n)
                for n in every
            ]
        title = f"error = MSE on y_q / Var(y_q) after n examples, {len(x):,} fresh prompts"
        return Result(
            title,
            [f"n={n}" for n in self.prefixes],
            {name: [values[n] for n in self.prefixes] for name, values in errors.items()},
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
            kept = inliers(shown)[:, :-1]
            answers["least squares on the inliers"] = estimators.least_squares(kept, y, query)
        rows = {}
        for name, answer in answers.items():
            squares = np.mean((answer - truth) ** 2)
            rows[name] = [float(squares / np.mean(truth**2))]
            if task.cumsum == "legacy":
                rows[name].append(float(1 - squares / np.mean((carried + truth) ** 2)))
        title = f"error = MSE on y_q / Var(y_q) after {task.examples} examples, {len(x):,} prompts"
        return Result(title, ["error", "R^2 on Y_N"][: len(rows["this model"])], rows)


def inliers(batch: Batch) -> Float[np.ndarray, "N T d"]:
    """x with 0 for the dummies: a row of zeros, of label 0, changes no fit of least norm."""
    return np.where(batch.latents["outlier"][..., None], 0, batch.inputs[..., :-1]).astype(float)


def least_squares_root(d_in: int, d_out: int, prior: float) -> Warp:
    """A WARP that is ridge regression with the penalty `prior`, by exact conjugate gradients."""
    config = WarpConfig(
        root_form="cg",
        root_steps=d_in - d_out,
        root_prior=prior,
        drive="value",
        layout="read_before_write",
        lift=LiftConfig("bilinear"),
        write="identity",
        transition=TransitionConfig("identity"),
        read_time=False,
        read_input=True,
        mode="conv",
    )
    return config.build(d_in, d_out, rngs=nnx.Rngs(0))
