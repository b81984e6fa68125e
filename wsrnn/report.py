"""Reports on finished runs: test results with figures, and the comparison of sibling runs.

What is measured belongs to the experiment's evaluation; here it is run, written and compared.
"""

import logging
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from wsrnn import data
from wsrnn.artifacts import save_figures, slug, write_json
from wsrnn.errors import RunError
from wsrnn.evaluations import Result
from wsrnn.experiment import Experiment
from wsrnn.figures import Figure, finish, new_figure
from wsrnn.metrics_log import METRICS, read_metrics, read_timing, training_seconds
from wsrnn.models import Model
from wsrnn.run import load_step, read_record
from wsrnn.sharding import MeshConfig, layouts, replicated
from wsrnn.step import eval_step
from wsrnn.tensorboard import FINAL, TensorBoard
from wsrnn.tree import flatten
from wsrnn.validation import evaluate, refuse_bad_data

log = logging.getLogger("wsrnn")


def report(
    run: Path | str, step: str | int = "best", flags: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Evaluate a checkpoint on the test split; write and return results and figures.

    The best checkpoint as it was trained is the run's own result: results.json, figures/ and
    TensorBoard. Any other step or flags get a folder of their own under evaluations/. `text` of the
    returned document is the table for a terminal. Raises what `run.load` raises.
    """
    run = Path(run)
    model, experiment, number = load_step(run, step, flags)
    before = read_record(run)["config"]
    changed = [name for name, value in flatten(experiment).items() if before.get(name) != value]
    if others := [name for name in changed if name.startswith("model.") and name != "model.mode"]:
        log.warning("evaluating another model than was trained: %s differ", ", ".join(others))
    test = test_loss(model, experiment)
    document = {
        "run": str(run),
        "step": number,
        "mode": getattr(experiment.model, "mode", None),
        "flags": list(flags),
        "parameters": experiment.parameter_count(),
        "test": test,
    }
    text = f"{run}, step {number}: test " + "  ".join(f"{k} {v:.4f}" for k, v in test.items())
    scalars = {f"test/{name}": value for name, value in test.items()}
    own = step == "best" and not flags
    folder = run if own else run / "evaluations" / slug(number, flags)
    paths = {}
    result = experiment.evaluation(model, experiment.task, experiment.seed)
    if result is not None:
        document |= {"title": result.title, "columns": result.columns, "rows": result.rows}
        text += "\n" + result.text()
        scalars |= {f"result/{name}": value for name, value in result.scalars().items()}
        document["figures"] = paths = save_figures(result.figures, folder / "figures")
    if own:
        _show(run, experiment, scalars | _training(run, number), paths)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", document)
    return document | {"text": text}


def test_loss(model: Model, experiment: Experiment) -> dict[str, float]:
    """The loss and its metrics on the test split (eval_batches batches of an endless one).

    On as many of this machine's devices as divide the batch, whatever mesh the run was trained on.
    """
    devices = math.gcd(experiment.batch_size, jax.device_count())
    mesh = MeshConfig(data=devices).build(experiment.batch_size)
    task = experiment.task
    graphdef, params = nnx.split(model)
    params = jax.device_put(nnx.as_pure(params), replicated(mesh))
    batches = experiment.eval_batches if task.endless else None
    stream = data.eval_stream(task, "test", experiment.batch_size, experiment.seed, batches=batches)
    step = eval_step(graphdef, mesh, layouts(params, mesh), task.loss, task.steps("test"))
    values = evaluate(step, mesh, params, stream)
    if not math.isfinite(values["loss"]):
        refuse_bad_data(experiment, "test", batches)
    return values


def _show(
    run: Path, experiment: Experiment, scalars: dict[str, float], paths: dict[str, str]
) -> None:
    """Write the result beside the run's curves, as of the step after their last: a row of
    TensorBoard's table of hyper-parameters."""
    last = max((row["step"] for row in read_metrics(run)), default=0)
    tensorboard = TensorBoard(run / FINAL, "results")
    tensorboard.scalars(last + 1, scalars)
    for name, path in paths.items():
        tensorboard.image(last + 1, f"result/{name}", path)
    tensorboard.hparams(last + 1, flatten(experiment))
    tensorboard.close()


def _training(run: Path, number: int) -> dict[str, float]:
    """The validation loss of a step, and the median time of a step, as far as logged."""
    rows = [row for row in read_metrics(run) if row["step"] == number]
    losses = [row["valid/loss"] for row in rows if row.get("valid/loss") is not None]
    times = [row["step ms"] for row in read_timing(run) if "step ms" in row]
    known = {"valid/loss, best step": losses[-1:], "speed/step ms, median": times}
    return {name: float(np.median(values)) for name, values in known.items() if values}


def compare(out: Path, reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compare sibling runs with the first of them step by step, and all second by second.

    `reports` are theirs, by name; `text` of the returned document is the table of their results.
    """
    members = list(reports)
    logged = {
        name: {row["step"]: row["loss"] for row in read_metrics(out / name) if "loss" in row}
        for name in members
    }
    steps = sorted(set.intersection(*(set(losses) for losses in logged.values())))
    if not steps:
        raise RunError(f"{out}: no step is in the {METRICS} of all of {', '.join(members)}")
    losses = {name: np.array([found[k] for k in steps], float) for name, found in logged.items()}
    shared = len(steps)
    first = losses[members[0]]
    rows = {
        name: {
            "final loss": float(values[-1]),
            "largest difference of loss": float(np.max(np.abs(values - first))),
            "relative": float(np.max(np.abs(values - first) / np.abs(first))),
        }
        for name, values in losses.items()
    }
    times = {name: _validations(out / name) for name in members}
    for name, (seconds, validation) in times.items():
        rows[name]["seconds"] = float(seconds[-1])
        rows[name]["validation loss"] = float(validation[-1])
    pictures = {
        "loss": draw_losses(
            losses, f"{shared:,} steps of {', '.join(members)} from the same start"
        ),
        "time": draw_races(times, f"{', '.join(members)}: validation loss against time"),
    }
    paths = save_figures(pictures, out / "figures")
    tensorboard = TensorBoard(out / "comparison")
    for name, path in paths.items():
        tensorboard.image(shared, f"comparison/{name}", path)
    tensorboard.close()
    return {
        "steps": shared,
        "rows": rows,
        "figures": paths,
        "text": _joint_table(reports),
    }


def _joint_table(reports: dict[str, dict[str, Any]]) -> str:
    """Each sibling's result in a row, then the baselines."""
    first, *others = reports.values()
    if any("rows" not in r or r["columns"] != first.get("columns") for r in (first, *others)):
        return ""
    own = {name: next(iter(r["rows"].values())) for name, r in reports.items()}
    baselines = dict(list(first["rows"].items())[1:])
    return "\n" + Result(first["title"], first["columns"], own | baselines).text()


def _validations(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of training before each validation, and its loss."""
    rows = [row for row in read_metrics(run) if row.get("valid/loss") is not None]
    loss = np.array([row["valid/loss"] for row in rows])
    return training_seconds(run, np.array([row["step"] for row in rows], float)), loss


def draw_losses(losses: dict[str, Float[np.ndarray, " steps"]], title: str) -> Figure:
    """The losses of sibling runs, and how far each is from the first."""
    figure = new_figure(8, 5)
    upper, lower = figure.subplots(2, 1, sharex=True)
    reference, first = next(iter(losses.items()))
    for (name, values), style in zip(losses.items(), ["-", "--", ":", "-."] * 4, strict=False):
        upper.plot(values, style, label=name, lw=1)
        if name != reference:
            relative = np.maximum(np.abs(values - first) / np.abs(first), 1e-9)
            lower.plot(relative, lw=1, label=f"|{name} - {reference}| / {reference}")
    upper.set(ylabel="training loss", yscale="log", title=title)
    lower.set(ylabel="relative difference (floor 1e-9)", xlabel="step", yscale="log")
    finish(upper, lower)
    return figure


def draw_races(curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Loss against seconds of training, a curve for each run that has any; both logarithmic."""
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    for name, (seconds, loss) in curves.items():
        known = seconds > 0
        if known.any():
            axes.loglog(seconds[known], loss[known], "o-", ms=3, lw=1.2, label=name)
    axes.set(xlabel="seconds of training", ylabel="validation loss", title=title)
    finish(axes, legend=bool(axes.lines))
    return figure
