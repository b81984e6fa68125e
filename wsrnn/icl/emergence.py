"""Plateaus of a run: where its training loss stayed, and the error of a checkpoint from there."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from wsrnn.evaluations.prefix_errors import predictions, prompt_arrays
from wsrnn.figures import GREYS, LINES, OURS, Figure, finish, new_figure
from wsrnn.icl import plateaus
from wsrnn.icl.errors import final_error
from wsrnn.metrics_log import read_metrics
from wsrnn.run import load_step, open_checkpoints
from wsrnn.tasks import Batch
from wsrnn.tasks.inputs import Normal
from wsrnn.tasks.prompts import Prompts
from wsrnn.tasks.regression import LinearRegression


class Emergence(NamedTuple):
    """What `emergence` finds."""

    steps: Int[np.ndarray, " T"]
    losses: Float[np.ndarray, " T"]  # over Var(y)
    plateaus: list[dict[str, Any]]  # level, first and last step; of a checkpoint its step and error
    predicted: list[float]  # levels that theory predicts, if it does

    def document(self) -> dict[str, Any]:
        """The part that is written to icl.json."""
        return {"plateaus": self.plateaus, "predicted": self.predicted}


def emergence(run: Path, task: Prompts, batch: Batch) -> Emergence | None:
    """The plateaus of the training loss, and the error of a checkpoint from the middle of each.

    The loss is divided by Var(y), so that a level is a relative error. For linear attention on
    prompts of one length theory predicts the levels. None for a run without logged steps.
    """
    rows = [row for row in read_metrics(run) if row.get("loss") is not None]
    if len(rows) < 2:
        return None
    steps = np.array([row["step"] for row in rows])
    losses = np.array([row["loss"] for row in rows]) / task.power
    found = plateaus.find(steps, losses)
    predicted = []
    if (
        type(task) is LinearRegression
        and task.layout.one_query
        and isinstance(task.inputs, Normal)
        and not task.sparse
    ):
        predicted = plateaus.saddles(task.eigenvalues, task.context_length, task.noise).tolist()
    truth, stays = prompt_arrays(task, batch).truth, []
    with open_checkpoints(run) as saved:
        for plateau in found:
            row = plateau._asdict()
            inside = [step for step in saved.steps() if plateau.first <= step <= plateau.last]
            middle = inside[len(inside) // 2] if inside else 0
            step = saved.first_sound(sorted(inside, key=lambda step: abs(step - middle)))
            if step is not None:
                row["step"] = step
                model, *_ = load_step(run, step)
                row |= final_error(predictions(model, task, batch), truth)
            stays.append(row)
    return Emergence(steps, losses, stays, predicted)


def draw_emergence(study: Emergence, title: str) -> Figure:
    """The training loss, its plateaus and the levels predicted."""
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    for row, level in enumerate(study.predicted):
        axes.axhline(level, color=GREYS[2], lw=1, ls="--", label="predicted" if not row else None)
        axes.text(1.01, level, f"{level:.3f}", color=GREYS[1], fontsize=8, va="center",
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.plot(study.steps, study.losses, color=LINES[1], lw=1, label="training loss")
    for row, plateau in enumerate(study.plateaus):
        axes.plot(
            [plateau["first"], plateau["last"]], [plateau["level"]] * 2, color=OURS, lw=4,
            alpha=0.6, solid_capstyle="butt", label=None if row else "plateaus found",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel="loss / Var(y)", title=title)
    finish(axes, frameon=True, loc="lower left", edgecolor="white", framealpha=1)
    return figure
