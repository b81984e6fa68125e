"""A dense A and the states it makes, split over devices: for use inside `jax.shard_map`.

Each device of the mesh axis ``AXIS`` holds some rows of A, computes these weights of every
sequence, and then, after one exchange, holds all weights of some sequences.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.convolution import Trajectories
from wsrnn.recurrence.transition import PRECISION, Dense

AXIS = "model"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows(Dense):
    """A dense A of which each of m devices holds p rows, m p >= P: rows beyond P are zero.

    A state here is p weights of it. A product gathers the P weights of each vector, or, for the
    transpose, adds up and scatters as many; A itself is never moved.
    """

    A: Any  # [p, P]
    transposed: bool = field(default=False, metadata={"static": True})

    def repeatedly(self):
        """The rows times gathered states; transposed, a sum over devices of rows times states."""
        size = self.A.shape[1]
        if self.transposed:

            def apply(theta):
                parts = jnp.matmul(theta, self.A, precision=PRECISION)
                return jax.lax.psum_scatter(
                    _padded(parts, self._padding), AXIS, scatter_dimension=theta.ndim - 1,
                    tiled=True,
                )  # fmt: skip

            return apply
        columns = self.A.T

        def apply(theta):
            theta = jax.lax.all_gather(theta, AXIS, axis=theta.ndim - 1, tiled=True)
            return jnp.matmul(theta[..., :size], columns, precision=PRECISION)

        return apply

    @property
    def _padding(self) -> int:
        rows, size = self.A.shape
        return rows * jax.lax.axis_size(AXIS) - size

    @property
    def T(self):
        """The same rows, used as columns."""
        return Rows(self.A, not self.transposed)

    @property
    def squared(self):
        """Each device's rows times the whole A, which is gathered for it."""
        product = jnp.matmul(self.A, self._gathered(), precision=PRECISION)
        return Rows(product, self.transposed)

    def operations(self, size):
        """Of one device."""
        return 2 * self.A.size

    def mine(self, V: Float[Array, "P C"]) -> Float[Array, "p C"]:
        """As many, zeros after P."""
        rows = len(self.A)
        V = jnp.pad(V, ((0, self._padding), (0, 0)))
        return jax.lax.dynamic_slice_in_dim(V, rows * jax.lax.axis_index(AXIS), rows)

    def gathered(self, states):
        """Exchanged for the weights of other devices."""
        return Exchanged(states)

    def whole(self):
        """Gathered, for what must apply A to whole states."""
        A = Dense(self._gathered())
        return A.T if self.transposed else A

    def _gathered(self) -> Float[Array, "P P"]:
        return jax.lax.all_gather(self.A, AXIS, tiled=True)[: self.A.shape[1]]

    def dense(self, size):
        """Gathered."""
        return self.whole().A

    def spectral_radius(self):
        """Of the whole."""
        return self.whole().spectral_radius()

    def distance_to_identity(self, size):
        """Of the whole."""
        return self.whole().distance_to_identity(size)

    def contracted(self):
        """By the radius of the whole."""
        return Rows(self.A / jnp.maximum(self.spectral_radius(), 1), self.transposed)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Exchanged(Trajectories):
    """States of a few sequences of each device: computed by weights, returned by sequences.

    The drives of all m devices are gathered, n m T C numbers; each device computes its p weights of
    these n m sequences; one exchange, n m T p numbers for each device, brings all weights of its n.
    """

    part: Any  # the Trajectories of this device's weights

    def states(self, v, h):
        """The rows beyond the first P of the states are zero."""
        v, h = (jax.lax.all_gather(x, AXIS, tiled=True) for x in (v, h))
        theta = self.part.states(v, h)
        sequences = range(theta.ndim)[self.part.sequences]
        return jax.lax.all_to_all(theta, AXIS, sequences, theta.ndim - 2, tiled=True)

    def split(self, x):
        """As within the part."""
        return self.part.split(x)

    def join(self, y, length):
        """As within the part."""
        return self.part.join(y, length)


def _padded(x: Float[Array, "*N P"], by: int) -> Float[Array, "*N padded"]:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, by)])
