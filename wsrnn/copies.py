"""Copies of a model, every learning rate from every seed, trained as one program on one device.

They see the same batches, of the experiment's own seed, so that a step is one `vmap` over them.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from wsrnn import data
from wsrnn.checkpoint import Checkpoints
from wsrnn.clock import Clock
from wsrnn.damaged import set_aside_damaged
from wsrnn.errors import RunError, UserError
from wsrnn.experiment import Experiment
from wsrnn.loop import compose
from wsrnn.metrics_log import MetricsLog
from wsrnn.progress import Progress, StopFlag, Stopped
from wsrnn.run import CHECKPOINTS, kept
from wsrnn.sharding import MeshConfig
from wsrnn.step import TrainState, to_devices
from wsrnn.tasks import Batch
from wsrnn.tasks.drawn import Drawn
from wsrnn.tensorboard import TensorBoard
from wsrnn.validation import refuse_bad_data, summed

log = logging.getLogger("wsrnn")


class Training(NamedTuple):
    """What a checkpoint of trials holds. Every array has the copies as its leading axis."""

    state: TrainState
    skipped: Int[Array, ""]  # steps that left no trace, for their loss was not finite


class Copies(NamedTuple):
    """Which copies of a model are trained at once: every rate from every seed."""

    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    def names(self) -> list[str]:
        """One for each copy, the seeds of a rate following each other."""
        return [f"rate {rate!r} seed {seed}" for rate in self.rates for seed in self.seeds]

    def as_rows(
        self, values: Sequence[float] | Float[np.ndarray, " copies"]
    ) -> Float[np.ndarray, "rates seeds"]:
        """What was measured of every copy."""
        return np.reshape(np.asarray(values, float), (len(self.rates), len(self.seeds)))


def train(experiment: Experiment, copies: Copies, folder: Path, stopping: StopFlag) -> Any | None:
    """The parameters of all copies after the last step, from the last checkpoint on."""
    init, train_step, eval_step = program(experiment, copies)
    task, seed, size = experiment.task, experiment.seed, experiment.batch_size
    with ExitStack() as stack:
        mesh = MeshConfig(data=1).build(size)
        set_aside_damaged(folder / CHECKPOINTS)
        checkpoints = stack.enter_context(Checkpoints(folder / CHECKPOINTS, kept(experiment)))
        start = checkpoints.find("last") or 0
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=here), jax.eval_shape(init)
        )
        checkpoints.check_room(abstract)
        training = checkpoints.restore(start, abstract) if start else init()
        if start:
            log.info("continuing %s from step %d", folder, start)
        record = stack.enter_context(MetricsLog(folder, start, True))
        unvalidated = start not in record.validations
        monitor = TensorBoard(folder, step=start + 1 if start else 0, unvalidated=unvalidated)
        stack.callback(monitor.close)
        show = stack.enter_context(Progress(experiment.steps, start))
        batches: Iterator[Batch | None] = repeat(None)
        if experiment.draw == "host":
            stream = data.train_stream(
                task, size, seed, start=start, workers=experiment.workers, on_loss=stopping.lose
            )
            batches = (to_devices(batch, mesh) for batch in stream)
        tokens = size * task.length * len(copies.names())
        clock = stack.enter_context(Clock(tokens, experiment.log_every))
        saved = start

        def save(number: int) -> None:
            """Begin to write what is learned until a step, unless it is written."""
            nonlocal saved
            if number != saved:
                with clock.phase("checkpoint"):
                    checkpoints.save(number, training)
                saved = number

        clock.enter("step")
        loss: Any = None
        for number in range(start, experiment.steps + 1):
            final = number == experiment.steps
            due = number > 0 and (final or number % experiment.eval_every == 0)
            due = due and number not in record.validations  # as of the step a run continues from
            stop = bool(stopping)
            if due or stop or number % experiment.save_every == 0:
                save(number)
            if due and not stop:
                with clock.phase("evaluation"):
                    stream = data.eval_stream(
                        task, "valid", size, seed, batches=experiment.eval_batches
                    )
                    stream = stopping.heeded(stream, mesh)
                    try:
                        sums = summed(eval_step, mesh, training.state.evaluated, stream)
                    except Stopped:  # the run that continues validates this step
                        break
                    losses = np.asarray(jax.vmap(lambda mean: mean.value)(sums["loss"]), float)
                    if not np.isfinite(losses).any():
                        refuse_bad_data(experiment, "valid", experiment.eval_batches)
                    named = dict(zip(copies.names(), losses.tolist(), strict=True))
                    counts = np.asarray(training.skipped).tolist()
                    left_out = {
                        f"skipped, {name}": count
                        for name, count in zip(copies.names(), counts, strict=True)
                    }
                    monitor.scalars(number, {f"valid/{k}": v for k, v in named.items()})
                    record.valid(number, {"loss": float(np.mean(losses)), **named, **left_out})
                rows = copies.as_rows(losses)
                show.note(f"step {number}  validation " + "  ".join(
                    f"rate {rate:g}: {row.mean():.4g} [{row.min():.4g}, {row.max():.4g}]"
                    for rate, row in zip(copies.rates, rows, strict=True)
                ))  # fmt: skip
            if final and number in record.validations:
                return training.state.evaluated
            if stop:
                break
            try:
                batch = next(batches)
            except (UserError, OSError) as error:  # of a file that was cut while it is read
                save(number)
                raise RunError(f"{error}; the same command continues from step {number}") from error
            training, now = train_step(training, batch)
            if number > start:  # the step before, which the device has finished by now
                show(number, f"loss {float(np.mean(loss)):.4g}", clock.at(number))
            loss = now
    return None  # stopped


def program(experiment: Experiment, copies: Copies):
    """The compiled functions that begin, train and judge all copies at once.

    They are those of a single run on one device, under `vmap`.
    """
    optim, seeds = experiment.optim, len(copies.seeds)
    one = compose(experiment, MeshConfig(data=1).build(experiment.batch_size))
    schedules = [optim.rate(rate) for rate in copies.rates]
    drawn = None
    if experiment.draw == "step":
        assert isinstance(experiment.task, Drawn)  # as Experiment has checked
        drawn = data.batches_in_step(experiment.task, experiment.batch_size, experiment.seed)

    def init():
        keys = jnp.stack([jax.random.key(seed) for seed in copies.seeds] * len(copies.rates))
        state = jax.vmap(one.fresh)(keys)
        return Training(state, jnp.zeros_like(state.step))

    def train_step(training, batch):
        state, step = training.state, training.state.step[0]  # they are all at the same
        rates = jnp.stack([jnp.asarray(rate(step), jnp.float32) for rate in schedules])
        state, values = jax.vmap(one.update, (0, None, 0))(
            state, drawn(step) if drawn else batch, jnp.repeat(rates, seeds)
        )
        return Training(state, training.skipped + values["skipped"]), values["loss"]

    return (
        jax.jit(init),
        jax.jit(train_step, donate_argnums=0),
        jax.jit(jax.vmap(one.eval_step, (0, None))),
    )
