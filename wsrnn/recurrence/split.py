"""A dense A and the states it makes, split over devices: for use inside `jax.shard_map`.

Each device of the mesh axis ``AXIS`` holds some rows of A, computes these weights of every
sequence, and then, after one exchange, holds all weights of some sequences.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.recurrence.convolution import Trajectories
from wsrnn.recurrence.transition import PRECISION, Dense, LinearMap, Transition

AXIS = "model"


@dataclass(frozen=True)
class Rows(Transition):
    """A dense A of which each of m devices holds p rows, m p >= P: rows beyond P are zero.

    Parameters are {matrix [p, P]}, and a state is p weights. A product gathers the P weights of
    each vector, or, for the transpose, reduces and scatters as many; A itself is never moved.
    """

    transposed: bool = False

    squaring = "product"

    def init(self, key, blocks):
        """Rows are split from a dense A, never drawn."""
        raise TypeError("rows are parts of a Dense transition: there is nothing to draw")

    def apply(self, A, theta):
        """See the class."""
        return self.prepared(A)(theta)

    def prepared(self, A):
        """The rows times gathered states; transposed, a sum over devices of rows times states."""
        matrix = A["matrix"]
        size = matrix.shape[1]
        if self.transposed:

            def apply(theta):
                parts = jnp.matmul(theta, matrix, precision=PRECISION)
                return jax.lax.psum_scatter(
                    _padded(parts, _padding(matrix)), AXIS, scatter_dimension=theta.ndim - 1,
                    tiled=True,
                )  # fmt: skip

            return apply
        columns = matrix.T

        def apply(theta):
            theta = jax.lax.all_gather(theta, AXIS, axis=theta.ndim - 1, tiled=True)
            return jnp.matmul(theta[..., :size], columns, precision=PRECISION)

        return apply

    def transpose(self, A):
        """The same rows, used as columns."""
        return LinearMap(Rows(not self.transposed), A)

    def square(self, A):
        """Each device's rows times the whole A, which is gathered for it."""
        product = jnp.matmul(A["matrix"], _gathered(A["matrix"]), precision=PRECISION)
        return LinearMap(self, {"matrix": product})

    def local_rows(self, A, V):
        """This device's rows of V, zeros after P."""
        rows = len(A["matrix"])
        V = jnp.pad(V, ((0, _padding(A["matrix"])), (0, 0)))
        return jax.lax.dynamic_slice_in_dim(V, rows * jax.lax.axis_index(AXIS), rows)

    def exchanged(self, trajectories):
        """The weights of this device's sequences, for those of the other devices."""
        return Exchanged(trajectories)

    def whole(self, A):
        """Gathered, for what must apply A to whole states."""
        dense = LinearMap(Dense(), {"matrix": _gathered(A["matrix"])})
        return dense.T if self.transposed else dense

    def dense(self, A, size):
        """Gathered."""
        return self.whole(A).dense(size)

    def contracted(self, A, size):
        """By the radius of the whole."""
        return {"matrix": A["matrix"] / jnp.maximum(self.spectral_radius(A, size), 1)}


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


def _padding(matrix: Float[Array, "p P"]) -> int:
    rows, size = matrix.shape
    return rows * jax.lax.axis_size(AXIS) - size


def _gathered(matrix: Float[Array, "p P"]) -> Float[Array, "P P"]:
    return jax.lax.all_gather(matrix, AXIS, tiled=True)[: matrix.shape[1]]


def _padded(x: Float[Array, "*N P"], by: int) -> Float[Array, "*N padded"]:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, by)])
