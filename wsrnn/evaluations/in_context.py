"""Error against the number of examples in the prompt, beside classical estimators."""

from dataclasses import dataclass

import numpy as np
from flax import nnx

from wsrnn import data, estimators, figures
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.models.lift import LiftConfig
from wsrnn.models.warp import TransitionConfig, Warp, WarpConfig


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
        target = batch.targets[..., 0]
        outputs = in_batches(model, "__call__", 512, batch.inputs, batch.times)[..., 0]

        def error(predicted, n):
            return float(np.mean((predicted - target[:, n]) ** 2) / np.mean(target[:, n] ** 2))

        every = range(task.length)
        errors = {"this model": [error(outputs[:, n], n) for n in every]}
        noise = getattr(task, "noise", 0.0)
        if self.built_in:
            solver = least_squares_root(task.d_in, task.d_out, noise or 1e-3)
            solved = in_batches(solver, "__call__", 512, batch.inputs, batch.times)[..., 0]
            errors["conjugate gradients, built in"] = [error(solved[:, n], n) for n in every]
        for name, estimate in estimators.baselines(noise).items():
            errors[name] = [error(estimate(x[:, :n], y[:, :n], x[:, n]), n) for n in every]
        title = f"error = MSE on y_q / Var(y_q) after n examples, {len(x):,} fresh prompts"
        return Result(
            title,
            [f"n={n}" for n in self.prefixes],
            {name: [values[n] for n in self.prefixes] for name, values in errors.items()},
            {"error": figures.error_curves(every, errors, title, x.shape[-1])},
        )


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
