"""The contract of a root network, and the batched contraction with its adjoint that layers use."""

from abc import ABC, abstractmethod
from dataclasses import Field, dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from wsrnn.errors import naming


@runtime_checkable
class Readout(Protocol):
    """What reads a state: all that `wsrnn.decode` asks for."""

    def apply(
        self, theta: Float[Array, "*M L #N"], z: Float[Array, "*M d_in N"]
    ) -> Float[Array, "*M d_out N"]:
        """Return the outputs of networks with weights theta at inputs z.

        Axis -2 holds weights, inputs and outputs; there is one network and one evaluation for each
        index of the other axes; an N of 1 of theta is one network, evaluated at each of z. N,
        such as time, is last and so contiguous: all operations are long
        and elementwise in it, where batches of tiny matrix-vector products would be slow.
        """
        ...


class Root(ABC):
    """An architecture of root network, whose P weights are the hidden state theta.

    A new root is one frozen dataclass with `blocks`, `init` and `apply`, in this package (then
    named in ``ROOTS``, which enrols it in the tests) or in an experiment file; `Formula` makes one
    of a function alone. Its fields are options of the architecture; the numbers of inputs and
    outputs, d_in and d_out, belong to the task and are passed to every method.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # subclasses are dataclasses

    @property
    def reads_query_alone(self) -> bool:
        """Whether z_t must be the input alone, without time or encoding (linear solvers)."""
        return False

    @property
    def reads_sums_of(self) -> str | None:
        """The lift that theta must be the sums of, by its class: Moments or StepMoments."""
        return None

    @property
    def predicts_scale(self) -> bool:
        """Whether the outputs may include a scale for each mean."""
        return True

    def sized(self, query: int, targets: int, noise: float) -> "Root":
        """The root with every size that is None filled in by its rule.

        From the channels of the query x and the targets y of a token, and the variance of the noise
        on y, where the task has one.
        """
        return self

    @abstractmethod
    def blocks(self, d_in: int, d_out: int) -> tuple[int, ...]:
        """The number of weights in each layer, in their order within theta; P is their sum."""

    @abstractmethod
    def init(self, key: Array, d_in: int, d_out: int) -> Float[Array, " Q"]:
        """Draw the learned parameters of theta_0; they are theta_0, unless `initial` says else."""

    @abstractmethod
    def apply(
        self, theta: Float[Array, "*M L #N"], z: Float[Array, "*M d_in N"], d_out: int
    ) -> Float[Array, "*M d_out N"]:
        """Evaluate networks of weights theta at z, each for every index of the last axis N.

        See `Readout.apply` for the layout. Rows of theta beyond the first P must be ignored: they
        are padding.
        """

    def initial(self, parameters: Float[Array, " Q"], d_in: int, d_out: int) -> Float[Array, " P"]:
        """theta_0 [P] as a function of its learned parameters; by default the identity."""
        return parameters

    def written(self, d_in: int, d_out: int) -> int:
        """The number of leading weights that B writes to; its other rows are zero."""
        return sum(self.blocks(d_in, d_out))

    def operations(self, d_in: int, d_out: int) -> int:
        """Floating-point operations of one evaluation; by default 2 P."""
        return 2 * sum(self.blocks(d_in, d_out))

    def check(self, d_in: int, d_out: int) -> None:
        """Raise ValueError, with the cure, for sizes that the root does not support."""
        return None


@dataclass(frozen=True)
class Network:
    """A root of given sizes. Hashable, hence a static attribute of a module."""

    root: Root
    d_in: int
    d_out: int

    def __post_init__(self):
        if min(self.d_in, self.d_out) < 1:
            raise ValueError(
                f"a root network needs at least 1 input and 1 output, got {self.d_in} and "
                f"{self.d_out}"
            )
        self.root.check(self.d_in, self.d_out)
        _check_shapes(self.root, self.d_in, self.d_out)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The number of weights in each layer."""
        return self.root.blocks(self.d_in, self.d_out)

    @property
    def size(self) -> int:
        """P, the number of weights."""
        return sum(self.blocks)

    @property
    def written(self) -> int:
        """How many weights, from the first on, tokens are added to."""
        return self.root.written(self.d_in, self.d_out)

    @property
    def operations(self) -> int:
        """Floating-point operations of one read."""
        return self.root.operations(self.d_in, self.d_out)

    def init(self, key: Array) -> Float[Array, " Q"]:
        """Draw the parameters of theta_0."""
        return self.root.init(key, self.d_in, self.d_out)

    def initial(self, parameters: Float[Array, " Q"]) -> Float[Array, " P"]:
        """theta_0 from its parameters."""
        return self.root.initial(parameters, self.d_in, self.d_out)

    def apply(
        self, theta: Float[Array, "*M L #N"], z: Float[Array, "*M d_in N"]
    ) -> Float[Array, "*M d_out N"]:
        """See `Readout.apply`."""
        return self.root.apply(theta, z, self.d_out)


@lru_cache(maxsize=256)
def _check_shapes(root: Root, d_in: int, d_out: int) -> None:
    """Raise ValueError for a root whose parameters or outputs do not have the promised shapes."""
    name, reads = type(root).__name__, 3
    with naming(f"root {name}: blocks must return the sizes of the layers, a tuple of integers"):
        size = sum(root.blocks(d_in, d_out))

    def read(key, z):
        theta = root.initial(root.init(key, d_in, d_out), d_in, d_out)
        if not jnp.issubdtype(theta.dtype, jnp.inexact):
            raise ValueError(f"init must return floats, got {theta.dtype}")
        y = root.apply(jnp.zeros((2, size, reads), jnp.result_type(theta)), z, d_out)
        if not hasattr(y, "shape"):
            raise ValueError(f"apply must return an array, got {y!r}")
        return theta, y

    given = jax.random.key(0), jax.ShapeDtypeStruct((2, d_in, reads), jnp.float32)
    asked = f"theta [2, {size}, {reads}] and z [2, {d_in}, {reads}]"
    try:
        theta, y = jax.eval_shape(read, *given)
    except Exception as error:
        raise ValueError(
            f"root {name} fails for {asked}, whose last axis is that of the reads: {error}"
        ) from error
    if (theta.shape, y.shape) != ((size,), (2, d_out, reads)):
        raise ValueError(
            f"root {name} must start at a theta [{size}] and return y [2, {d_out}, {reads}] for "
            f"{asked}, got {list(theta.shape)} and {list(y.shape)}: see wsrnn.root.Root"
        )


class Weights:
    """A readout that returns theta itself."""

    def apply(
        self, theta: Float[Array, "*M P N"], z: Float[Array, "*M d_in N"]
    ) -> Float[Array, "*M P N"]:
        """Theta."""
        return theta


def contraction(
    W: Float[Array, "*M out in #N"], a: Float[Array, "*M _ N"], axis: int
) -> Float[Array, "*M _ N"]:
    """Return sum_i W[:, i] a[i] (axis -2) or sum_o W[o] a[o] (axis -3), elementwise in the rest.

    Where one W serves all of axis N it is a matrix product.

    On CPUs one term after another: each is a long vector operation, where XLA's reduction over a
    middle axis runs five to ten times slower and is computed again by everything that uses it. An
    operation of its own, because differentiating the loop would pass over W once more for each of
    its terms: the gradient is an outer product, and the sum over the other axis.
    """
    if W.shape[-1] == 1:
        summed = "...oi,...in->...on" if axis == -2 else "...oi,...on->...in"
        return jnp.einsum(summed, W[..., 0], a, precision=jax.lax.Precision.HIGHEST)
    return contraction_p.bind(W, a, axis=axis)


def _contracted(W, a, *, axis):
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


def _gradient_of_W(g, W, a, *, axis):
    out, into = (g, a) if axis == -2 else (a, g)
    return out[..., :, None, :] * into[..., None, :, :]


def _gradient_of_a(g, W, a, *, axis):
    return contraction(W, g, -5 - axis)


def _batched(operands, axes, *, axis):
    return jax.vmap(partial(_contracted, axis=axis), axes)(*operands), 0


contraction_p = Primitive("contraction")
contraction_p.def_impl(jax.jit(_contracted, static_argnames="axis"))
contraction_p.def_abstract_eval(
    lambda W, a, *, axis: jax.core.ShapedArray(
        W.shape[:axis] + W.shape[W.ndim + axis + 1 :], W.dtype
    )
)
mlir.register_lowering(contraction_p, mlir.lower_fun(_contracted, multiple_results=False))
ad.defbilinear(contraction_p, _gradient_of_W, _gradient_of_a)
batching.primitive_batchers[contraction_p] = _batched
