"""The device mesh, and the sharding and padding of each array on it."""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from wsrnn.errors import UserError
from wsrnn.recurrence.split import AXIS

DATA, MODEL = AXES = ("data", AXIS)
AnyArray = TypeVar("AnyArray", Array, np.ndarray)
AnyMesh = Mesh | AbstractMesh  # of devices, or of their numbers alone
WORTH_SPLITTING = 2**14  # entries: smaller arrays are replicated


@dataclass(frozen=True)
class MeshConfig:
    """How the devices are laid out. Batches are split over all of them."""

    data: int = -1
    """Devices along the axis of whole copies of the parameters; -1 takes all that are left."""
    model: int = 1
    """Devices along the axis that splits each large parameter and its optimiser state, and the
    states of a convolution with a dense A."""

    def __post_init__(self):
        if self.model < 1 or (self.data < 1 and self.data != -1):
            raise ValueError(
                f"mesh.data must be at least 1 or -1 and mesh.model at least 1, "
                f"got {self.data} and {self.model}"
            )

    def sizes(self) -> tuple[int, int]:
        """Devices along both axes, which may be more than are visible."""
        left = max(1, len(jax.devices()) // self.model)
        return left if self.data == -1 else self.data, self.model

    def devices(self) -> int:
        """How many devices the mesh takes; UserError where fewer are visible."""
        visible = len(jax.devices())
        data = visible // self.model if self.data == -1 else self.data
        if data < 1 or data * self.model > visible:
            raise UserError(
                f"mesh.data {self.data} x mesh.model {self.model} needs more than the "
                f"{visible} visible device(s): lower one of them"
            )
        return data * self.model

    def build(self, batch_size: int) -> Mesh:
        """Return the mesh over the visible devices.

        Raises UserError where the devices do not suffice or the batch does not divide over them.
        """
        devices = jax.devices()
        data = self.devices() // self.model
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


def check_backend() -> None:
    """UserError where jax cannot start on the platform that it is told to use."""
    try:
        jax.devices()
    except Exception as error:  # RuntimeError, and AssertionError of a plugin that is missing
        platform = getattr(jax.config, "jax_platforms", None) or "any device"
        reason = str(error).strip().partition("\n")[0] or "no such device or plugin is here"
        raise UserError(
            f"jax cannot start on {platform} ({reason}): set $JAX_PLATFORMS to what this machine "
            "has, such as cpu, or install jax for it, such as with the extra [cuda]"
        ) from None


def replicated(mesh: AnyMesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: AnyMesh) -> NamedSharding:
    """The leading axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


@dataclass(frozen=True)
class Layout:
    """How an array lies on a mesh: whole on every device, or in equal parts along one axis.

    That axis is padded with zeros where the devices do not divide it, and checkpoints may be read
    with another padding.
    """

    shape: tuple[int, ...]
    """Without the padding."""
    axis: int | None
    """The axis that is split over `model`."""
    parts: int
    """Devices along `model`."""

    @classmethod
    def of(cls, shape: tuple[int, ...], mesh: AnyMesh) -> "Layout":
        """Split large arrays along their longest axis, keep small ones whole."""
        parts = mesh.shape[MODEL]
        large = parts > 1 and math.prod(shape) >= WORTH_SPLITTING
        return cls(tuple(shape), shape.index(max(shape)) if large else None, parts)

    @property
    def spec(self) -> PartitionSpec:
        """For jax."""
        return PartitionSpec() if self.axis is None else PartitionSpec(*[None] * self.axis, MODEL)

    @property
    def padding(self) -> int:
        """Zeros behind the array, along the split axis."""
        return 0 if self.axis is None else -self.shape[self.axis] % self.parts

    def pad(self, x: Array) -> Array:
        """Add the padding."""
        widths = [(0, self.padding if i == self.axis else 0) for i in range(x.ndim)]
        return jnp.pad(x, widths) if self.padding else x

    def trim(self, x: AnyArray) -> AnyArray:
        """Take the padding off."""
        return x[tuple(map(slice, self.shape))] if self.padding else x

    def clear(self, x: Array) -> Array:
        """Set the padding to zero."""
        if self.axis is None or not self.padding:
            return x
        along = jax.lax.broadcasted_iota(jnp.int32, x.shape, self.axis)
        return jnp.where(along < self.shape[self.axis], x, 0)

    def gather(self, part: Array) -> Array:
        """The whole from each device's part, within `shard_map`; its adjoint scatters the sum."""
        if self.axis is None:
            return part
        return self.trim(jax.lax.all_gather(part, MODEL, axis=self.axis, tiled=True))

    def total(self, gradient: Array) -> Array:
        """The sum of the devices' gradients of a part, within `shard_map`.

        What concerns a part has been added up over `model` by the adjoint of gathering it.
        """
        return jax.lax.psum(gradient, AXES if self.axis is None else DATA)


def layouts(abstract: Any, mesh: AnyMesh) -> Any:
    """The layout of each leaf of a tree of shapes.

    Raises UserError for a mesh that would leave all of them whole: it keeps no promise.
    """
    placed = jax.tree.map(lambda leaf: Layout.of(leaf.shape, mesh), abstract)
    parts = mesh.shape[MODEL]
    if parts > 1 and all(layout.axis is None for layout in jax.tree.leaves(placed)):
        raise UserError(
            f"mesh.model {parts} would split nothing, as no parameter has {WORTH_SPLITTING:,} "
            "entries: set mesh.model 1, or train a larger model"
        )
    return placed


def specs(placed: Any) -> Any:
    """The partition of each leaf of a tree of layouts, for jax."""
    return jax.tree.map(lambda layout: layout.spec, placed)


def to_global(batch: Any, mesh: Mesh) -> Any:
    """Return the global arrays of which each process holds its part of the batch."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
