"""A training step on a mesh of devices that need not be there: bytes, exchanges, time.

The step is traced for an abstract mesh and counted (`traced`); `devices` says what that takes.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
from flax import nnx
from jax.sharding import AbstractMesh, AxisType

from wsrnn import loop, sharding
from wsrnn.experiment import Experiment
from wsrnn.precision import in_float32
from wsrnn.recurrence.plan import planned_for
from wsrnn.scaling.devices import Device
from wsrnn.scaling.traced import Collective, Tally, tally
from wsrnn.sharding import AXES, AnyMesh, Layout, MeshConfig
from wsrnn.step import Program
from wsrnn.tasks.check import check_examples


@dataclass(frozen=True)
class Leaf:
    """An array of the training state, as it lies on the mesh."""

    name: str
    shape: tuple[int, ...]
    axis: int | None
    """Which is split over `model`; None where every device has a whole copy."""
    parts: int
    padding: int
    """Zeros behind that axis."""
    bytes: int
    """On each device."""


@dataclass(frozen=True)
class Forecast:
    """A step of an experiment on data x model devices; bytes are those of each device."""

    data: int
    model: int
    leaves: list[Leaf]
    batch: int
    """Bytes of the batch."""
    counted: Tally

    @property
    def devices(self) -> int:
        """In all."""
        return self.data * self.model

    @property
    def parameters(self) -> int:
        """Bytes."""
        return sum(leaf.bytes for leaf in self.leaves if leaf.name.startswith("params"))

    @property
    def optimiser(self) -> int:
        """Bytes of moments, of an average of the parameters, and of the step."""
        return sum(leaf.bytes for leaf in self.leaves) - self.parameters

    @property
    def peak(self) -> int:
        """Bytes: state, batch, and what the step makes beside them."""
        return self.parameters + self.optimiser + self.batch + self.counted.peak

    def working(self, device: Device) -> float:
        """Seconds of a step without exchanges: each operation waits for arithmetic or memory."""
        return sum(
            work.times
            * max(
                work.operations / device.rate(work.kind) if work.operations else 0.0,
                work.bytes / (device.fraction * device.bandwidth),
                device.launch,
            )
            for work in self.counted.work
        )

    def exchanging(self, device: Device) -> float:
        """Seconds of the collectives, one after another and none hidden behind work."""
        return sum(
            c.times * device.latency + c.sent / (device.fraction * self._speed(c, device))
            for c in self.counted.collectives
        )

    def seconds(self, device: Device) -> float:
        """Of a step."""
        return self.working(device) + self.exchanging(device)

    def _speed(self, collective: Collective, device: Device) -> float:
        """Bytes a second that one device sends: `model` is the axis of neighbours."""
        over_model = collective.axes == AXES[1:]
        if (self.model if over_model else self.devices) <= device.group:
            return device.link
        # Those of a group that take part share its links to other groups.
        stride = self.model if collective.axes == AXES[:1] else 1
        return min(device.link, device.network * max(1, device.group // stride))


@in_float32
def forecast(experiment: Experiment, data: int, model: int, backend: str | None = None) -> Forecast:
    """Trace a step on data x model devices of a backend (None: this machine's) and count it.

    Raises UserError for a batch that does not divide and for a mesh that splits nothing.
    """
    mesh = AbstractMesh((data, model), AXES, axis_types=(AxisType.Auto,) * 2)
    with planned_for(backend):
        experiment = on_mesh(experiment, data, model)
        program, batch = abstract(experiment, mesh)
        arguments = program.abstract, batch
        traced = program.train_step.trace(*arguments)
        counted = tally(traced, arguments, mesh)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(batch)) // mesh.size
    return Forecast(data, model, leaves(program), size, counted)


def on_mesh(experiment: Experiment, data: int, model: int) -> Experiment:
    """The experiment, resolved for data x model devices, however many are visible."""
    experiment = replace(experiment, mesh=MeshConfig(data, model))
    if experiment.model.mode == "auto":
        plans = experiment.sized().plans(devices=data * model)
        mode = min(plans, key=lambda plan: plan.seconds).mode
        experiment = replace(experiment, model=replace(experiment.model, mode=mode))
    return experiment.resolve()


def abstract(experiment: Experiment, mesh: AnyMesh) -> tuple[Program, Any]:
    """The program of a resolved experiment and the shapes of its batch; makes no arrays on devices.

    The batch is None where the step draws it.
    """
    program = loop.compose(experiment, mesh)
    if experiment.draw == "step":
        return program, None
    check_examples(experiment.task, "train", experiment.seed)
    example = experiment.task.dataset("train", experiment.seed)[0]._replace(latents={})
    split = sharding.batch_sharding(mesh)

    def shape(x):
        dtype = jax.dtypes.canonicalize_dtype(x.dtype)
        return jax.ShapeDtypeStruct((experiment.batch_size, *x.shape), dtype, sharding=split)

    return program, jax.tree.map(shape, example)


def leaves(program: Program) -> list[Leaf]:
    """Every array of the training state."""

    def leaf(path, layout: Layout, abstract):
        whole = abstract.size * abstract.dtype.itemsize
        parts = 1 if layout.axis is None else layout.parts
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return Leaf(name, layout.shape, layout.axis, parts, layout.padding, whole // parts)

    found = jax.tree_util.tree_map_with_path(leaf, program.layouts, program.abstract)
    return jax.tree.leaves(found, is_leaf=lambda x: isinstance(x, Leaf))


def shapes(experiment: Experiment, count: int) -> list[tuple[int, int]]:
    """The meshes data x model of so many devices to look at: that of --mesh.model, or a few.

    None where the devices do not divide by --mesh.model. Parameters are split within a server, over
    2 and over 8 devices, if any is large enough.
    """
    given = experiment.mesh.model
    models = (given,) if given > 1 else (1, 2, 8) if splittable(experiment) else (1,)
    return [(count // model, model) for model in models if count % model == 0]


def splittable(experiment: Experiment) -> bool:
    """Whether a mesh can split any parameter of the model."""
    parameters = nnx.state(nnx.eval_shape(experiment.build_model))
    return any(leaf.size >= sharding.WORTH_SPLITTING for leaf in jax.tree.leaves(parameters))
