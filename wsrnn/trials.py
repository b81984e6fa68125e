"""Trials: every sibling at several learning rates from several seeds, all of one as one program.

The copies of a model differ in where their parameters start and in their learning rate; they see
the same batches, of the experiment's own seed, so that a step is one `vmap` over them on one
device. What is reported is the last step of the rate whose validation loss is lowest on average,
from every seed.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from wsrnn.artifacts import write_json
from wsrnn.checks import nearest
from wsrnn.copies import Copies, train
from wsrnn.errors import RunError, UserError
from wsrnn.evaluations import Result
from wsrnn.metrics_log import read_metrics
from wsrnn.progress import StopFlag
from wsrnn.recipe import Recipe
from wsrnn.run import CONFIG, TRIALS, Run, prepare_run
from wsrnn.tasks import SPLITS
from wsrnn.tasks.check import check_examples
from wsrnn.tree import flatten
from wsrnn.trials_table import compare, enter_copies

log = logging.getLogger("wsrnn")

RESULTS = "results.json"  # of a sibling: its row of the table


def trials(
    recipes: Sequence[Recipe],
    out: Path,
    seeds: int,
    rates: Sequence[float] = (),
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train, judge and compare all siblings; write results.json, figures and TensorBoard to `out`.

    Each sibling has a folder in `out` from which it continues; one that is finished is judged again
    and not trained. `seeds` are counted from the experiment's own; without `rates` it is each
    experiment's own rate; `only` are the siblings to train, beside those that are finished. A copy
    whose loss is not finite stands still and the others go on: its steps leave no trace, are
    counted, and the table says so. Of the returned document `text` is the table, `missing` says why
    siblings are not in it, `stopped` whether by a signal, with the `exit code` for it. Raises
    UserError before anything is written for what the user can mend, and RunError if all copies of
    every sibling are lost.
    """
    if jax.process_count() > 1:
        raise UserError("trials are trained by one process: start wsrnn trials on one machine")
    check_copies(seeds, rates)
    siblings = {recipe.member or recipe.name: recipe for recipe in recipes}
    for name in only or ():
        if name not in siblings:
            raise UserError(f"--only: there is no sibling {name!r}{nearest(name, siblings, repr)}")
    chosen = [name for name in siblings if only is None or name in only]
    plans = {}
    for name, recipe in siblings.items():
        if name in chosen or (out / name / RESULTS).is_file():
            run = prepare_run(out / name, recipe)
            if len(rates) > 1 and run.experiment.task.trains_on_validation:
                raise UserError(
                    f"{name}: its validation examples are trained on, so no rate can be chosen: "
                    "give one of --rates, or set task.final False"
                )
            plans[name] = run, _copies(run, seeds, rates)
    rows, missing, lost = {}, {}, []
    with StopFlag() as stopping:
        for name, recipe in siblings.items():
            row, why = None, "stopped" if name in chosen else "--only leaves it out"
            if name in chosen and not stopping:
                log.info("%s: %s", recipe.name, name)
                try:
                    row = _trial(*plans[name], stopping)
                except RunError as error:  # those after it can be trained all the same
                    lost.append(error)
                    why = str(error)
            elif name in plans:
                row = _finished(plans[name][0])
            if row is None:
                missing[name] = why
            else:
                rows[name] = row
    if lost and not rows:
        raise lost[0]
    document = {"rows": rows, "missing": missing, "text": ""}
    if rows:
        document = compare(out, rows, missing)
    stopped = "stopped" in missing.values()
    return document | {
        "stopped": stopped,
        "exit code": stopping.exit_code if stopped else 0,
        "lost": bool(lost),
    }


def check_copies(seeds: int, rates: Sequence[float]) -> None:
    """UserError for numbers of which no copies can be made."""
    given = " ".join(f"{rate:g}" for rate in rates)
    if seeds < 1:
        raise UserError(f"--seeds: trials need at least 1 seed, got {seeds}")
    least, most = (float(getattr(np.finfo(np.float32), name)) for name in ("tiny", "max"))
    if any(not least <= rate <= most for rate in rates):
        raise UserError(f"--rates must be above 0 and finite, got {given}")
    if len(set(rates)) < len(rates):
        raise UserError(f"--rates has a value twice: {given}")


def _copies(run: Run, seeds: int, rates: Sequence[float]) -> Copies:
    """The copies of a run's model; UserError where it cannot have them."""
    experiment = run.experiment
    mesh = experiment.mesh
    if mesh.model > 1 or mesh.data > 1:
        raise UserError(
            f"trials are trained on one device, and mesh.data is {mesh.data}, mesh.model "
            f"{mesh.model}: leave the mesh out"
        )
    task = experiment.task
    for split in SPLITS:
        check_examples(task, split, experiment.seed)
    experiment.evaluation.prepare(task)
    copies = Copies(
        tuple(rates) or (experiment.optim.learning_rate,),
        tuple(range(experiment.seed, experiment.seed + seeds)),
    )
    now = {name: list(values) for name, values in copies._asdict().items()}
    path = run.folder / TRIALS
    if (run.folder / CONFIG).is_file():
        try:
            before = json.loads(path.read_text()) if path.is_file() else "a single run"
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): choose another --out") from None
        if before != now:
            raise UserError(f"{run.folder} holds {before}, not {now}: choose another --out")
    return copies


def _finished(run: Run) -> dict[str, Any] | None:
    """The row of a sibling that has been trained to the end, as it was judged then."""
    path = run.folder / RESULTS
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): choose another --out") from None
    return row if row["steps"] == run.experiment.steps else None


def _trial(run: Run, copies: Copies, stopping: StopFlag) -> dict[str, Any] | None:
    """Train one sibling's copies and judge those of the best rate; None if stopped."""
    experiment = run.experiment
    with run.locked():
        write_json(run.folder / TRIALS, copies._asdict())
        run.write()
        params = train(experiment, copies, run.folder, stopping)
    if params is None:
        return None
    rows = validations(run.folder)
    curves = {
        name: [np.nan if row[name] is None else row[name] for row in rows]
        for name in ("step", *(f"valid/{name}" for name in copies.names()))
    }
    losses = copies.as_rows([curves[f"valid/{name}"][-1] for name in copies.names()])
    skipped = copies.as_rows([rows[-1][f"valid/skipped, {name}"] for name in copies.names()])
    lost = ~np.isfinite(losses)
    if lost.all() or (skipped == experiment.steps).all():
        raise RunError(
            f"{run.folder}: the loss of no copy is finite: lower --rates, or look at the data"
        )
    best = int(np.lexsort((np.where(lost, 0, losses).mean(1), lost.sum(1)))[0])
    model = nnx.eval_shape(experiment.build_model)
    graphdef = nnx.graphdef(model)
    results = []
    for k, loss in enumerate(losses[best]):
        if stopping:  # the run that continues judges them
            return None
        at = best * len(copies.seeds) + k
        one = nnx.merge(graphdef, jax.tree.map(lambda leaf, at=at: leaf[at], params))
        judged = experiment.evaluation(one, experiment.task, experiment.seed)
        results.append(judged or Result("validation loss", ["loss"], {"this model": [loss]}))
    first = results[0]
    sizes = model.sizes(experiment.task.length)
    row = {
        "title": first.title,
        "columns": first.columns,
        "values": [list(result.scalars().values()) for result in results],  # [seeds, columns]
        "baselines": dict(list(first.rows.items())[1:]),
        **copies._asdict(),
        "rate": copies.rates[best],
        "steps": experiment.steps,
        "batch_size": experiment.batch_size,
        "parameters": experiment.parameter_count(),
        "state floats": sizes.get("state floats"),
        "operations per token": sizes.get("operations per token"),
        "validation": losses.tolist(),  # [rates, seeds]
        "skipped": skipped.astype(int).tolist(),  # [rates, seeds]
        "curves": curves,
    }
    write_json(run.folder / RESULTS, row)
    enter_copies(run.folder, flatten(experiment), row)
    return row


def validations(folder: Path) -> list[dict[str, Any]]:
    """The rows of the folder's metrics.jsonl, each a validation of all copies."""
    return [row for row in read_metrics(folder) if "valid/loss" in row]
