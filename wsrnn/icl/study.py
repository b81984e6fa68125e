"""One study of a run: what is measured, where it is written."""

from pathlib import Path
from typing import Any

from wsrnn import data
from wsrnn.artifacts import save_figures, slug, write_json
from wsrnn.errors import UserError
from wsrnn.evaluations.prefix_errors import draw_curves
from wsrnn.icl.emergence import draw_emergence, emergence
from wsrnn.icl.errors import aggregates, error_curves
from wsrnn.icl.probes import draw_states, implied_weights, states
from wsrnn.icl.robustness import draw_intervals, interventions, shifted
from wsrnn.icl.text import summary
from wsrnn.metrics_log import read_metrics
from wsrnn.run import load_step
from wsrnn.tasks.prompts import Regression
from wsrnn.tensorboard import TensorBoard


def study(
    run: Path | str, step: str | int = "best", flags: tuple[str, ...] = (), prompts: int = 1280
) -> dict[str, Any]:
    """Study a run; write and return icl/icl.json and figures, also for TensorBoard.

    `text` of the returned document is the summary for a terminal. In the layout JointMasked a
    prompt is read at its end only, else after every prefix in one pass. Raises UserError for a run
    that is not on prompts.
    """
    run = Path(run)
    model, experiment, number = load_step(run, step, flags)
    task, seed = experiment.task, experiment.seed
    if not isinstance(task, Regression):
        raise UserError(
            f"{run}: a study needs prompts with shifts (wsrnn.tasks.prompts.Regression), and the "
            f"task is {type(task).__name__}: use wsrnn eval"
        )
    if task.layout.asks_sum:
        raise UserError(
            f"{run}: in layout {type(task.layout).__name__} the target is y_q with Y_(N-1) added "
            "to it: use wsrnn eval"
        )
    if not task.layout.one_query and task.steps("test") == "last":
        raise UserError(
            f"{run}: a study reads prompts after every prefix, and {type(task).__name__} has one "
            "to read in each: use wsrnn eval"
        )
    if prompts < 100:
        raise UserError(f"--prompts must be at least 100 for intervals to mean anything: {prompts}")
    batch = data.examples(task, "test", seed, prompts)
    curves = error_curves(model, task, batch)
    document: dict[str, Any] = {
        "run": str(run),
        "step": number,
        "prompts": prompts,
        "task": type(task).__name__,
        "errors": curves,
        "aggregates": aggregates(task, curves),
        "shifts": shifted(model, task, seed, prompts),
        "interventions": interventions(model, task, batch),
        "implied weights": implied_weights(model, task, batch),
    }
    title = f"{run.name}, step {number}: error after n examples, {prompts:,} prompts"
    pictures = {
        "errors": draw_curves(
            task.prefixes, {k: v["error"] for k, v in curves.items()}, title, task.d,
            (curves["this model"]["low"], curves["this model"]["high"]),
        ),
        "shifts": draw_intervals(
            {name: [row["error"], row["low"], row["high"]] for name, row in
             (document["shifts"] | document["interventions"]).items()},
            {name: row["ridge"] for name, row in document["shifts"].items() if "ridge" in row},
            f"{run.name}: error after {task.examples} examples",
        ),
    }  # fmt: skip
    if (found := states(model, task, batch)) is not None:
        document["states"] = found.document()
        pictures["states"] = draw_states(found, run.name)
    if (emerged := emergence(run, task, batch)) is not None:
        document["emergence"] = emerged.document()
        pictures["emergence"] = draw_emergence(emerged, run.name)
    folder = run / "icl" / slug(number, flags)
    paths = save_figures(pictures, folder)
    write_json(folder / "icl.json", document)
    last = max((row["step"] for row in read_metrics(run)), default=0) + 1
    tensorboard = TensorBoard(run, "icl")
    for name, path in paths.items():
        tensorboard.image(last, f"icl/{name}", path)
    tensorboard.close()
    return document | {"text": summary(document, task) + f"\nwrote {folder}"}
