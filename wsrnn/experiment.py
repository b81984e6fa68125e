"""The configuration of a run: one frozen value.

A field is read in one place. The default of a new one must leave earlier runs as they were.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import jax
from flax import nnx
from jaxtyping import Array

from wsrnn import catalog
from wsrnn.checks import check_fields
from wsrnn.choices import choice
from wsrnn.evaluations import Evaluation, LossOnly
from wsrnn.models import Model, ModelConfig
from wsrnn.optim import OptimConfig
from wsrnn.precision import in_float32
from wsrnn.recurrence import Plan
from wsrnn.sharding import MeshConfig
from wsrnn.tasks import Task
from wsrnn.tasks.drawn import Drawn


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run: written in a file, changed by flags, kept with the run."""

    task: Annotated[Task, choice(catalog.tasks)]
    model: Annotated[ModelConfig, choice(catalog.models)]
    evaluation: Annotated[Evaluation, choice(catalog.evaluations)] = field(default_factory=LossOnly)
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    steps: int = 1000
    """Optimiser steps."""
    batch_size: int = 64
    """Global, in examples; it must divide over the devices of the mesh."""
    seed: int = 0
    """Of the parameters and the data."""
    eval_every: int = 500
    """Steps between validations, each of a checkpoint."""
    eval_batches: int | None = 8
    """Batches of a validation; None takes the whole split."""
    save_every: int = 500
    """Steps between checkpoints."""
    keep: int = 2
    """How many checkpoints are kept, from the last one back, beside the best."""
    keep_every: int | None = None
    """Checkpoints at multiples of this step are kept too."""
    keep_per_doubling: int | None = None
    """So many checkpoints are made and kept of each doubling of the step, to study emergence."""
    log_every: int = 100
    """Steps between points in TensorBoard and lines in the log (metrics.jsonl has every step)."""
    draw: Literal["host", "step"] = "host"
    """Where drawn tasks draw their training batches: on the host by grain, or inside the compiled
    step (the same distribution, other numbers), for accelerators that would wait for the host."""
    workers: int = 0
    """Processes that prepare data; 0 uses a thread."""
    max_skipped: int = 20
    """Steps in a row without a finite loss and gradient that stop the run."""

    def __post_init__(self):
        check_fields(self)
        counts = ("steps", "batch_size", "eval_every", "save_every", "keep", "log_every")
        for name in (*counts, "max_skipped"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size % self.optim.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not divisible by optim.accumulate "
                f"{self.optim.accumulate}: change one of them"
            )
        for name in ("eval_batches", "keep_every", "keep_per_doubling"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1 or None, got {value}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie within 0 and 2^32 - 1, got {self.seed}")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if self.draw == "step" and not isinstance(self.task, Drawn):
            raise ValueError(
                f"draw step needs a task that is built from raw numbers, and "
                f"{type(self.task).__name__} is not: set draw host"
            )
        if self.draw == "step" and self.workers:
            raise ValueError(f"draw step needs no workers, got {self.workers}: set workers 0")
        if self.task.endless and self.eval_batches is None:
            raise ValueError(
                f"eval_batches None would take the whole split, and {type(self.task).__name__} has "
                "no end: set a number"
            )
        if self.task.answers_in_tokens and not self.model.reads_before_writing:
            raise ValueError(
                f"the tokens of {type(self.task).__name__} hold the answers, which the model would "
                "read: set model.layout read_before_write"
            )
        if self.task.feeds_back and not self.model.generates:
            raise ValueError(
                f"{type(self.model).__name__} cannot feed its predictions back: set "
                "task.strategy:direct"
            )
        task = self.task.sized()
        self.evaluation.check(task, self.model)
        if isinstance(self.task.loss, str) and (self.task.loss == "nll") != self.model.uncertain:
            cure = "none" if self.model.uncertain else "scale"
            raise ValueError(
                f"task.loss {self.task.loss} does not go with a model that predicts "
                f"{'a scale' if self.model.uncertain else 'no scale'}: set model.head.scale:{cure}"
            )

    @in_float32
    def build_model(self, key: Array | None = None) -> Model:
        """A fresh model for the task, drawn from the seed, or from a random key."""
        rngs = nnx.Rngs(self.seed if key is None else key)
        sized = self.sized()
        return sized.model.build(sized.task.d_in, sized.task.d_out, rngs=rngs)

    def sized(self) -> "Experiment":
        """The experiment with every size that is None filled in by the rule of its class."""
        task = self.task.sized()
        return replace(
            self, task=task, model=self.model.sized(task), evaluation=self.evaluation.sized(task)
        )

    def parameter_count(self) -> int:
        """The number of trainable parameters; makes no arrays."""
        state = nnx.state(nnx.eval_shape(self.build_model))
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))

    def resolve(self, recorded: dict[str, Any] | None = None) -> "Experiment":
        """Fill in what is left open, as `recorded` when the run began.

        That are sizes, the end of the schedule and, where it is auto, the model's execution.
        """
        recorded, filled = recorded or {}, self.sized()
        end = recorded.get("optim.schedule.steps") or filled.steps
        optim = replace(filled.optim, schedule=filled.optim.schedule.sized(end))
        filled = replace(filled, optim=optim)
        if getattr(filled.model, "mode", None) == "auto":
            mode = recorded.get("model.mode")
            # What is recorded must not depend on the devices that happen to be here now.
            if mode not in {plan.mode for plan in filled.plans(devices=1)}:  # none, or now changed
                mode = min(filled.plans(), key=lambda plan: plan.seconds).mode
            filled = replace(filled, model=replace(filled.model, mode=mode))
        return filled

    def plans(self, devices: int | None = None) -> list[Plan]:
        """The executions of the model's mode, with what they are counted to take.

        Those of every mode where it is auto; none of a model that has no such counts. The batch is
        split over `devices`, those of the mesh if None.
        """
        task, steps = self.task, self.task.steps("train")
        parts = (devices or self.mesh.devices()) * self.optim.accumulate
        batch = max(1, self.batch_size // parts)
        return self.model.plans(task.d_in, task.d_out, batch=batch, length=task.length, steps=steps)
