"""The paper's Figure 5, in-context regression, drawn so that it can tell learning from copying.

Claim: the published scatter of true against predicted values says little. The paper's code sums the
labels along the tokens and draws the sum Y_N = Y_{N-1} + y_q, and a predictor that repeats Y_{N-1}
and ignores the query explains 1 - 1 / N = 0.969 of its variance (N = 32). Here y_q itself is drawn,
beside that baseline (carry) and ridge; lines for scalar keys have noisy labels, because without
noise a single example determines w.

Panels, under RUN/figures: a-sums, both readings of the cumulative sum on one prompt; b-lines, what
is predicted for every query of six prompts, beside ridge (d = 1); c-scatter (d = 8).

The published WARP here: u_t = x_t - x_{t-1}, A dense from the identity on, B from 0, no lift, root
12 x 2 (not 32 x 5, whose A has 21 million entries), trained on y_q alone. While A is the identity,
theta knows the first and the last token only, of error (d - 1) / d at best. The other one adds up
tokens that an MLP has lifted.

Reached, 31 examples, 10,000 fresh prompts, error on y_q and R^2 on y_q and on Y_N:

                                          error   R^2 y_q   R^2 Y_N
    d = 8, lifted, 3,000 steps           0.1983    0.8016    0.9937
    d = 8, published, 1,500 steps        0.9709    0.0290    0.9692
    d = 8, carry                         1.0000   -0.0001    0.9682
    d = 1, noise 0.1, lifted             0.0128    0.9872    0.9997      (1,000 steps; ridge 0.0098)
    d = 1, noise 0.1, published          0.2908    0.7092    0.9930      (1,000 steps)

Budget: 140 to 220 seconds each, on two CPU cores that others used too.

Command: wsrnn train experiments/figure5.py [--variant published | lines | published_lines]
"""

from dataclasses import dataclass, replace

import numpy as np

from wsrnn import data, estimators, figures
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.experiment import Experiment
from wsrnn.models.warp import Matrix, MlpLift, Query, WarpConfig, summing
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.root import Mlp
from wsrnn.tasks.inputs import Uniform
from wsrnn.tasks.layouts import JointMasked
from wsrnn.tasks.prompts import Prompts
from wsrnn.tasks.regression import LinearRegression


@dataclass(frozen=True)
class Figure5(Evaluation):
    """Three pictures, and a table of what each predictor scores on y_q and on the sum Y_N.

    For prompts in the layout JointMasked. Y_N = y_1 + .. + y_{N-1} + y_q is what the paper's code
    scores and draws; `carry` predicts Y_{N-1}, which takes no knowledge of x or w.
    """

    prompts: int = 10_000
    """Fresh prompts of the table."""
    drawn: int = 1000
    """Of them in the scatter plots."""
    lines: int = 6
    """Prompts whose fitted lines are drawn (d = 1)."""

    def check(self, task, model):
        """One query at the end of every prompt."""
        if not isinstance(task, Prompts) or not task.layout.one_query:
            raise ValueError("evaluation by figure 5 is for prompts in the layout JointMasked")

    def __call__(self, model, task, seed):
        """Judge the model at the query of test prompts."""
        batch = data.examples(task, "test", seed, self.prompts)
        x, labels = task.shown(batch.inputs.astype(np.float64))
        truth = batch.targets[:, -1, 0].astype(np.float64)
        before = labels.sum(1)  # the query's label is masked
        penalty = task.noise or 1e-4
        answers = {
            "this model": ask(model, batch.inputs),
            "carry": np.zeros(len(truth)),
            "ridge": estimators.ridge(x[:, :-1], labels[:, :-1], x[:, -1], penalty),
        }
        rows = {
            name: [
                np.mean((y - truth) ** 2) / np.mean(truth**2),
                explained(y, truth),
                explained(before + y, before + truth),
            ]
            for name, y in answers.items()
        }
        title = f"d = {task.d}, {task.examples} examples, {len(truth):,} fresh prompts"
        pictures = {"a-sums": sums(x[0], np.append(labels[0, :-1], truth[0]))}
        if task.d == 1:
            some = slice(self.lines)
            slopes = batch.latents["w"][some, 0]
            pictures["b-lines"] = lines(model, batch.inputs[some], slopes, penalty)
        else:
            pictures["c-scatter"] = scatter(answers, rows, truth, before, self.drawn, title)
        columns = ["error on y_q", "R^2 on y_q", "R^2 on Y_N"]
        return Result(title, columns, rows, pictures)


def ask(model, tokens):
    """The predictions of y_q [N]."""
    times = np.broadcast_to(np.linspace(0, 1, tokens.shape[1], dtype=np.float32), tokens.shape[:2])
    return in_batches(model, "__call__", 256, tokens, times)[:, -1, 0].astype(np.float64)


def explained(predicted, truth):
    """R^2."""
    return 1 - np.mean((predicted - truth) ** 2) / np.var(truth)


def sums(x, y):
    """One prompt (x [N, d], y [N]) as it is, and under both readings of its cumulative sum."""
    matrix = np.concatenate([x, y[:, None]], 1)
    views = {
        "the prompt": matrix,
        "summed along tokens (the text)": np.cumsum(matrix, 0),
        "keys along features, values along tokens (the code)": np.concatenate(
            [np.cumsum(x, 1), np.cumsum(y)[:, None]], 1
        ),
    }
    figure = figures.new_figure(7, 1.5 + 0.5 * matrix.shape[1])
    names = [f"x {k}" for k in range(1, x.shape[1] + 1)] + ["y"]
    for axes, (title, view) in zip(figure.subplots(3, 1, sharex=True), views.items(), strict=True):
        most = np.abs(view).max()
        image = axes.imshow(view.T, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
        axes.axhline(x.shape[1] - 0.5, color="black", lw=1)
        axes.axvline(len(x) - 1.5, color="black", lw=1, ls=":")
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_yticks(range(len(names)), names, fontsize=7)
        figure.colorbar(image, ax=axes, pad=0.01)
    axes.set_xlabel("token; the query is the last")
    return figure


def lines(model, tokens, slopes, penalty):
    """What is predicted for every query beside the examples of a prompt, one panel a prompt."""
    grid = np.linspace(-1, 1, 41, dtype=np.float32)
    columns = min(3, len(tokens))
    rows = -(-len(tokens) // columns)
    figure = figures.new_figure(3.2 * columns, 2.7 * rows + 0.6)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, prompt, slope in zip(panels, tokens, slopes, strict=False):
        asked = np.repeat(prompt[None], len(grid), 0)
        asked[:, -1, 0] = grid
        x, y = prompt[None, :-1, :1].astype(np.float64), prompt[None, :-1, 1].astype(np.float64)
        ridge = estimators.ridge(x, y, np.ones((1, 1)), penalty)[0]
        axes.plot(x[0, :, 0], y[0], ".", color="#9a9a9a", ms=5, label="examples")
        axes.plot(grid, slope * grid, color="#c4c4c4", lw=4, label="truth w x")
        axes.plot(grid, ridge * grid, "--", color="#222222", lw=1.2, label="ridge")
        axes.plot(grid, ask(model, asked), color=figures.OURS, lw=1.8, label="this model")
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("query x_q", fontsize=9)
    figure.supylabel("y", fontsize=9)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4,
        frameon=False, fontsize=8,
    )  # fmt: skip
    return figure


def scatter(answers, rows, truth, before, drawn, title):
    """Predicted against true: y_q by the model and by ridge, Y_N by copying and by the model."""
    figure = figures.new_figure(8, 8)
    panels = [("this model", "y_q"), ("ridge", "y_q"), ("carry", "Y_N"), ("this model", "Y_N")]
    for axes, (name, what) in zip(figure.subplots(2, 2).ravel(), panels, strict=True):
        error, *r2 = rows[name]
        offset = before if what == "Y_N" else 0
        true, predicted = (offset + truth)[:drawn], (offset + answers[name])[:drawn]
        reach = 1.05 * np.abs(true).max()
        axes.plot([-reach, reach], [-reach, reach], color="#cccccc", lw=1)
        colour = figures.OURS if name == "this model" else figures.GREYS[1]
        axes.plot(true, predicted, ".", color=colour, ms=3, alpha=0.6)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal",
                 xlabel=f"true {what}", ylabel="predicted")  # fmt: skip
        axes.set_title(
            f"{what} by {name}: R² {r2[what == 'Y_N']:.3f}\n(error on y_q {error:.3f})",
            fontsize=10,
        )
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure


published = Experiment(
    task=LinearRegression(d=8, examples=31, inputs=Uniform(1.0), layout=JointMasked()),
    model=WarpConfig(root=Mlp(width=12, depth=2), query=Query(inputs=True), mode="scan"),
    evaluation=Figure5(),
    optim=OptimConfig(learning_rate=2e-3),
    steps=1500,
    batch_size=128,
    eval_every=500,
    save_every=500,
)
experiment = replace(
    published,
    model=summing(
        Mlp(width=32, depth=2, start="he"), MlpLift(width=96, size=64), write=Matrix(scale=0.03)
    ),
    optim=OptimConfig(learning_rate=2e-3, schedule=Cosine(warmup=300)),
    steps=3000,
)


def scalar(of, steps):
    """The same with scalar keys and noisy labels."""
    return replace(of, task=replace(of.task, d=1, noise=0.1), steps=steps)


variants = {
    "published": published,
    "lines": scalar(experiment, 1000),
    "published_lines": scalar(published, 1000),
}
