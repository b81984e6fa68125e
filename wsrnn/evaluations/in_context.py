"""Error against the number of examples in the prompt, beside classical estimators."""

from dataclasses import dataclass

import numpy as np
from flax import nnx

from wsrnn import data, estimators, figures
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.models.lift import LiftConfig
from wsrnn.models.warp import TransitionConfig, Warp, WarpConfig
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
        target = batch.targets[:, task.queries, 0]

        def errors_of(predicted):
            return (np.mean((predicted - target) ** 2, 0) / np.mean(target**2, 0)).tolist()

        def answers(model):
            outputs = in_batches(model, "__call__", 512, batch.inputs, batch.times)
            return outputs[:, task.queries, 0]

        every = task.prefixes
        errors = {"this model": errors_of(answers(model))}
        if self.built_in:
            solver = least_squares_root(task.d_in, task.d_out, task.noise or 1e-3)
            errors["conjugate gradients, built in"] = errors_of(answers(solver))
        for name, estimate in estimators.baselines(task.noise).items():
            predicted = [estimate(x[:, :n], y[:, :n], x[:, n]) for n in every]
            errors[name] = errors_of(np.stack(predicted, 1))
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
