"""What is read from the state, and the sum that reading consists of."""

from abc import ABC, abstractmethod
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Root(ABC):
    """A network whose weights are the state of the recurrence."""

    @abstractmethod
    def apply(
        self, theta: Float[Array, "*M L N"], z: Float[Array, "*M d_in N"]
    ) -> Float[Array, "*M d_out N"]:
        """The network whose weights are theta, at z: one for each index of the other axes.

        N, such as time, is last and so contiguous: all operations are then long and elementwise in
        it, where batched tiny matrix-vector products would be slow on every backend.
        """


class Network(Root):
    """A root that a model can be built of: it says how many weights it has and how they start."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[int, ...]:
        """How many weights follow each other in each layer."""

    @property
    def size(self) -> int:
        """P, the number of weights and biases."""
        return sum(self.blocks)

    @property
    def operations(self) -> int:
        """Floating-point operations of a read: a multiply-add for each weight."""
        return 2 * self.size

    @property
    def written(self) -> int:
        """How many of them, from the first on, tokens are added to: the rows of B."""
        return self.size

    @abstractmethod
    def init(self, key: Array, start: str = "uniform") -> Float[Array, " Q"]:
        """Draw the numbers that theta_0 is made of, which are learned."""

    def start(self, numbers: Float[Array, " Q"]) -> Float[Array, " P"]:
        """theta_0; the numbers themselves if nothing else is said."""
        return numbers


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def contract(
    W: Float[Array, "*M out in N"], a: Float[Array, "*M _ N"], axis: int
) -> Float[Array, "*M _ N"]:
    """Return sum_i W[:, i] a[i] (axis -2) or sum_o W[o] a[o] (axis -3), elementwise in the rest.

    On CPUs one term after another: each is a long vector operation, where XLA's reduction over a
    middle axis runs five to ten times slower and is computed again by everything that uses it.
    Backwards it is an outer product and the sum over the other axis; differentiating the loop would
    pass over W once more for each of its terms. So it has no forward mode.
    """
    if W.shape[axis] == 1:
        return jnp.squeeze(W, axis) * a

    def terms(W, a):
        def add(i, total):
            part = jax.lax.dynamic_index_in_dim(W, i, W.ndim + axis, keepdims=False)
            return total + part * jax.lax.dynamic_index_in_dim(a, i, a.ndim - 2)

        shape = [n for k, n in enumerate(W.shape) if k != W.ndim + axis]
        return jax.lax.fori_loop(0, W.shape[axis], add, jnp.zeros(shape, W.dtype), unroll=4)

    def reduction(W, a):
        return (W * jnp.expand_dims(a, -5 - axis)).sum(axis)

    return jax.lax.platform_dependent(W, a, cpu=terms, default=reduction)


def _contract_backward(axis, inputs, g):
    W, a = inputs
    out, into = (g, a) if axis == -2 else (a, g)
    return out[..., :, None, :] * into[..., None, :, :], contract(W, g, -5 - axis)


contract.defvjp(lambda W, a, axis: (contract(W, a, axis), (W, a)), _contract_backward)
