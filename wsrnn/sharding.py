"""Devices as a mesh, and where each array lies on it."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from wsrnn.errors import UserError

AXES = ("data", "model")
WORTH_SPLITTING = 2**14  # entries: smaller arrays are replicated


@dataclass(frozen=True)
class MeshConfig:
    """How the devices are laid out. Batches are split over all of them."""

    data: int = -1
    """Devices along the axis of whole copies of the parameters; -1 takes all that are left."""
    model: int = 1
    """Devices along the axis that splits each large parameter and its optimiser state."""

    def __post_init__(self):
        if self.model < 1 or (self.data < 1 and self.data != -1):
            raise ValueError(
                f"mesh.data must be at least 1 or -1 and mesh.model at least 1, "
                f"got {self.data} and {self.model}"
            )

    def build(self, batch_size: int) -> Mesh:
        """Return the mesh over the visible devices.

        Raises UserError where the devices do not suffice or the batch does not divide over them.
        """
        devices = jax.devices()
        data = len(devices) // self.model if self.data == -1 else self.data
        if data < 1 or data * self.model > len(devices):
            raise UserError(
                f"mesh.data {self.data} x mesh.model {self.model} needs more than the "
                f"{len(devices)} visible device(s): lower one of them"
            )
        if jax.process_count() > 1 and data * self.model < len(devices):
            raise UserError(
                f"mesh.data {data} x mesh.model {self.model} leaves some of the {len(devices)} "
                "devices of several processes unused: use them all"
            )
        if batch_size % (data * self.model):
            raise UserError(
                f"batch_size {batch_size} is not divisible by the mesh's {data * self.model} "
                f"device(s) (data {data} x model {self.model}): change batch_size or the mesh"
            )
        grid = np.array(devices[: data * self.model]).reshape(data, self.model)
        return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def state_sharding(abstract: Any, mesh: Mesh) -> Any:
    """Return a sharding for each leaf of abstract arrays, by its shape alone.

    Large arrays are split over `model` along their longest axis that divides; small ones are
    replicated. Raises UserError if a large one cannot be split: a mesh that left it whole would
    keep no promise.
    """
    parts = mesh.shape["model"]

    def spec(leaf) -> PartitionSpec:
        if parts == 1 or leaf.size < WORTH_SPLITTING:
            return PartitionSpec()
        axes = [i for i, n in enumerate(leaf.shape) if n % parts == 0]
        if not axes:
            return PartitionSpec()
        axis = max(axes, key=lambda i: leaf.shape[i])
        return PartitionSpec(*[None] * axis, "model")

    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract):
        if parts > 1 and leaf.size >= WORTH_SPLITTING and spec(leaf) == PartitionSpec():
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise UserError(
                f"mesh.model {parts} divides no axis of {name} {list(leaf.shape)}: choose root "
                f"sizes for which P is divisible by {parts}, or another mesh.model"
            )
    return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf)), abstract)


def to_global(batch: Any, mesh: Mesh) -> Any:
    """Return the global arrays of which each process holds its part of the batch."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
