"""Training from start to finish: time, disk and logs; no arithmetic.

Keep the order: save, evaluate, fetch the next batch, dispatch, and only then log the previous step.
So the device never waits for the host, and a validation that is long or fails costs no step; where
it was not finished, the run that continues makes up for it.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils

from wsrnn import data, step
from wsrnn.checkpoint import Checkpoints
from wsrnn.clock import Clock
from wsrnn.costs import operations, peak
from wsrnn.damaged import set_aside_damaged
from wsrnn.errors import RunError, UserError
from wsrnn.experiment import Experiment
from wsrnn.metrics_log import METRICS, MetricsLog, missing_steps, read_metrics
from wsrnn.precision import in_float32
from wsrnn.profiler import Profiler
from wsrnn.progress import Progress, StopFlag, Stopped
from wsrnn.recipe import Recipe
from wsrnn.run import (
    CHECKPOINTS,
    has_checkpoint,
    kept,
    open_checkpoints,
    prepare_run,
    refuse_trials,
)
from wsrnn.sharding import AnyMesh, Layout
from wsrnn.tasks import SPLITS, Batch
from wsrnn.tasks.check import check_examples, fault
from wsrnn.tasks.drawn import Drawn
from wsrnn.tensorboard import UTILISATION, VALIDATION, TensorBoard
from wsrnn.tree import flatten
from wsrnn.validation import evaluate, refuse_bad_data

log = logging.getLogger("wsrnn")


def compose(experiment: Experiment, mesh: AnyMesh) -> step.Program:
    """The compiled steps of a resolved experiment."""
    task = experiment.task
    steps = {split: task.steps(split) for split in ("train", "valid")}
    optim, size = experiment.optim, experiment.batch_size
    if size % (mesh.size * optim.accumulate):
        raise UserError(
            f"batch_size {size} is not divisible by {mesh.size} device(s) x optim.accumulate "
            f"{optim.accumulate}: change one of them"
        )
    drawn = None
    if experiment.draw == "step":
        assert isinstance(task, Drawn)  # as Experiment has checked
        drawn = data.batches_in_step(task, size, experiment.seed)
    return step.program(experiment.build_model, optim, mesh, task.loss, steps, drawn)


@in_float32
def fit(
    experiment: Experiment | Recipe,
    out: Path | str,
    init_from: Path | str | None = None,
    profile: str | None = None,
    strict: bool = False,
) -> dict[str, Any]:
    """Train an experiment in the folder `out`, continuing what is already there.

    The experiment is made in Python, or is the recipe of an experiment file; `init_from` is a run
    whose best parameters are those to start from. `profile`, as START:STEPS, leaves a trace of some
    steps in the folder. Where the last checkpoint is damaged it is set aside, with a line, and the
    one before is used; if `strict`, that is a UserError.

    Returns the last step, whether it was stopped early, and the last validation. A run that was
    interrupted at any moment and continued on the same mesh writes the same metrics.jsonl, bit for
    bit. Raises UserError for what the user can mend (before anything is written), RunError if the
    loss stops being finite, the disk is full or the folder is moved.
    """
    out = Path(out)
    refuse_trials(out)
    profiler = Profiler(profile, out)
    run = prepare_run(out, experiment, Path(init_from) if init_from else None)
    experiment = run.experiment
    profiler.check(0, experiment.steps)
    mesh = experiment.mesh.build(experiment.batch_size)
    for split in SPLITS:  # a missing file must not wait for the end
        check_examples(experiment.task, split, experiment.seed)
    experiment.evaluation.prepare(experiment.task)
    program = compose(experiment, mesh)
    initial = None
    if run.init_from and not has_checkpoint(out):
        initial = _initial_params(run.init_from, program)
    lead = jax.process_index() == 0
    _meet("every process has looked at the folder")
    for change in run.changes:
        log.info("continuing with %s", change)
    optim = experiment.optim
    if (end := optim.schedule.steps) is not None and experiment.steps > end:
        log.info(
            "the schedule ends at step %d: from there the rate stays at %g (a new schedule is a "
            "new run, with --init-from)",
            end,
            optim.rate()(end),
        )

    with ExitStack() as stack:
        clock = stack.enter_context(_clock(experiment, mesh))
        if lead:
            stack.enter_context(run.locked())
            set_aside_damaged(out / CHECKPOINTS, strict)
            run.write()
        _meet("the folder is there")
        checkpoints = stack.enter_context(Checkpoints(out / CHECKPOINTS, kept(experiment)))
        checkpoints.check_room(program.abstract)
        start = checkpoints.find("last") or 0
        if start:
            state = checkpoints.restore(start, program.abstract, program.layouts)
            log.info("continuing %s from step %d", out, start)
        else:
            state = program.init()
            if initial is not None:
                state = state.starting_at(initial)
        profiler.check(start, experiment.steps)
        stack.callback(profiler.close)
        if lead and (missing := missing_steps(read_metrics(out), start)):
            log.warning("%s/%s was cut, removed or damaged: it lacks the steps %s, and the run "
                        "goes on without them", out, METRICS, missing)  # fmt: skip
        record = stack.enter_context(MetricsLog(out, start, lead))
        clock.carry(record.spent)
        checkpoints.losses, monitor = record.validations, None
        if lead:
            unvalidated = start not in record.validations
            monitor = TensorBoard(out, step=start + 1 if start else 0, unvalidated=unvalidated)
            stack.callback(monitor.close)
            if not start:
                monitor.text(0, "config", _markdown(flatten(experiment), run.recipe))
                monitor.layout(without=() if clock.knows_peak else (UTILISATION,))
        return _train(
            experiment, program, mesh, state, start, checkpoints, record, monitor, clock, profiler
        )


def _meet(where: str) -> None:
    """Wait for the other processes, if there are any."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def _clock(experiment: Experiment, mesh: jax.sharding.Mesh) -> Clock:
    """The clock of a run, which knows what a step costs and what the devices could do."""
    rate = peak(mesh.devices.flat[0].device_kind)
    return Clock(
        experiment.batch_size * experiment.task.length,
        experiment.log_every,
        operations(experiment),
        rate and rate * mesh.size,
    )


def _train(
    experiment, program, mesh, state, start, checkpoints, record, monitor, clock, profiler
) -> dict[str, Any]:
    process = (jax.process_index(), jax.process_count())
    if experiment.draw == "step":
        batches: Iterator[Batch | None] = repeat(None)
    else:
        stream = data.train_stream(
            experiment.task, experiment.batch_size, experiment.seed,
            start=start, process=process, workers=experiment.workers,
            on_loss=lambda why: stopping.lose(why),
        )  # fmt: skip
        batches = (step.to_devices(batch, mesh) for batch in stream)
    pending = None  # the step before, whose numbers are still on their way
    saved = start
    leaves = step.leaf_names(program.abstract.params)
    with StopFlag() as stopping, Progress(experiment.steps, start) as show:

        def cause(number: int, skipped: int) -> str:
            """Why the last `skipped` steps were not finite: their data, or else the rate."""
            steps = range(number - skipped, number)
            again = data.batches_again(
                experiment.task, experiment.batch_size, experiment.seed,
                steps, experiment.draw,
            )  # fmt: skip
            for k, batch in zip(steps, again, strict=True):
                if wrong := fault(experiment.task, "train", batch):
                    return f"the batch of step {k + 1} has {wrong}"
            return "the data are finite: lower --optim.learning-rate, or look at an own loss"

        def settle() -> None:
            """Write down the step before; by now the device has finished it or is about to."""
            nonlocal pending
            if pending is None:
                return
            number, measures = pending
            pending = None
            logs = number % experiment.log_every == 0
            norms = measures.pop("grad_norms")  # fetched only where they are shown
            values = {name: float(value) for name, value in jax.device_get(measures).items()}
            skipped = record.train(number, values)
            if values["skipped"] and record.skipped_total == 1:  # the first of the run
                log.warning("step %d changes nothing: %s", number, cause(number, 1))
            if skipped >= experiment.max_skipped:
                raise RunError(
                    f"stopped at step {number}: {skipped} steps in a row had no finite loss or "
                    f"gradient; checkpoints hold the last good parameters; {cause(number, skipped)}"
                )
            speed = clock.at(number)
            show(number, f"loss {values['loss']:.4g}", speed)
            if logs:
                record.timing(number, speed, clock.spent())
            if logs and monitor:
                curves = {_tag(name): value for name, value in values.items()}
                curves["train/skipped steps"] = record.skipped_total
                for name, norm in zip(leaves, np.asarray(norms).tolist(), strict=True):
                    curves[f"gradient norms/{name}"] = norm
                monitor.scalars(number, curves | speed | clock.curves())

        def hidden() -> bool:
            """Whether the device is still busy with the step before."""
            return pending is not None and not pending[1]["loss"].is_ready()

        def save(number: int) -> None:
            """Begin to write what is learned until a step, unless it is written."""
            nonlocal saved
            if number != saved:
                settle()
                with clock.phase("checkpoint"):
                    checkpoints.save(number, state, program.layouts)
                saved = number

        clock.enter("step")
        for number in range(start, experiment.steps + 1):
            profiler.after(number, state)
            final = number == experiment.steps
            due = number > 0 and (final or number % experiment.eval_every == 0)
            due = due and number not in record.validations  # as of the step a run continues from
            stop = stopping.agreed(mesh)
            every = number % experiment.save_every == 0 or checkpoints.retention.log_spaced(number)
            if due or stop or every:
                save(number)
            if due and not stop:
                settle()
                try:
                    with clock.phase("evaluation"):
                        validation = _validate(
                            experiment, program, mesh, state.evaluated, process, stopping
                        )
                        if monitor:
                            _look(experiment, program, state.evaluated, monitor, number, validation)
                        record.valid(number, validation)  # last: it marks the step as validated
                    show.note(f"step {number}  validation " + _numbers(validation))
                except Stopped:  # the run that continues validates this step
                    stop = True
            if stop or final:
                if final and record.skipped_in_a_row == number:
                    raise RunError(
                        f"no step of {number} had a finite loss and gradient: nothing was learned; "
                        + cause(number, min(number, experiment.max_skipped))
                    )
                break
            try:
                with clock.phase("data", hidden):
                    batch = next(batches)
            except (UserError, OSError) as error:  # of a file that was cut while it is read
                if process[1] == 1:  # it takes all of them to save
                    save(number)
                raise RunError(f"{error}; the same command continues from step {saved}") from error
            profiler.before(number)
            state, measures = program.train_step(state, batch)
            settle()
            pending = (number + 1, measures)
        with clock.phase("checkpoint"):  # a signal from here on could cost the last one
            checkpoints.finish()
    record.timing(number, {}, clock.spent())
    if record.skipped_total:
        log.warning(
            "%d of %d steps had no finite loss or gradient and changed nothing",
            record.skipped_total, number,
        )  # fmt: skip
    code, done = stopping.exit_code, number == experiment.steps and number in record.validations
    if code == 1 and not done:
        raise RunError(f"{stopping.loss}: saved step {number}; the same command continues")
    stopped = code > 1
    return {"step": number, "stopped": stopped, "exit code": code if stopped else 0,
            "validation loss": record.validation_loss}  # fmt: skip


def _validate(experiment, program, mesh, params, process, stopping) -> dict[str, float]:
    stream = data.eval_stream(
        experiment.task, "valid", experiment.batch_size, experiment.seed,
        batches=experiment.eval_batches, process=process,
    )  # fmt: skip
    values = evaluate(program.eval_step, mesh, params, stopping.heeded(stream, mesh))
    if not np.isfinite(values["loss"]):
        refuse_bad_data(experiment, "valid", experiment.eval_batches)
    return values


def _look(experiment, program, params, monitor, number, validation) -> None:
    """Write the validation and the model's own diagnostics to TensorBoard."""
    monitor.scalars(number, {f"{VALIDATION}{name}": value for name, value in validation.items()})
    leaves = jax.tree.leaves(params)
    if not all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in leaves):
        return  # other processes hold parts of the parameters
    trimmed = jax.tree.map(Layout.trim, program.layouts.params, jax.device_get(params))
    here = jax.device_put(trimmed, jax.local_devices()[0])
    model = nnx.merge(program.graphdef, here)
    some = data.examples(experiment.task, "valid", experiment.seed, 8)
    for tag, value in model.diagnostics(some.inputs, some.times).items():
        if np.ndim(value):
            monitor.histogram(number, tag, value)
        else:
            monitor.scalars(number, {tag: float(value)})


def _initial_params(start: str, program: step.Program) -> Any:
    """The parameters of another run, RUN@STEP, where this run's are to lie."""
    run, _, number = start.rpartition("@")
    log.info("parameters from %s, step %s", run, number)
    with open_checkpoints(run) as saved:
        step = saved.find(int(number))
        return saved.restore_params(step, program.abstract.params, program.layouts.params)


def _tag(name: str) -> str:
    return f"train/{name.replace('_', ' ')}"


def _numbers(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def _markdown(config: dict[str, Any], recipe: Recipe | None) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in config.items())
    made = " ".join([recipe.name, recipe.variant or "", *recipe.flags]) if recipe else "in Python"
    return f"{made}\n\n| field | value |\n|---|---|\n{rows}"
