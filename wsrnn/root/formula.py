"""A root that is a formula: physics, or any other function, of an inner network's outputs."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wsrnn.checks import check_positive
from wsrnn.errors import place
from wsrnn.root.base import Root
from wsrnn.root.mlp import Mlp

Function = Callable[[Float[Array, " K"], Float[Array, " d_in"]], Float[Array, " d_out"]]


@dataclass(frozen=True)
class Formula(Root):
    """y = formula(o, z), where o [K] are the outputs of an inner network at z (paper, section 3.3).

    The hidden state is the weights of the inner network, so the formula's coefficients follow the
    sequence. For instance a damped oscillation of the time z, K = 4:

        def oscillation(o, z):
            return o[:1] * jnp.exp(-jax.nn.softplus(o[1:2]) * z) * jnp.cos(o[2:3] * z + o[3:])

        Formula(oscillation, inner=Mlp(width=48, depth=3), outputs=4)

    When a model is built, ValueError is raised for a function that fails, returns another shape, or
    has a value or gradient that is not finite at 32 points z within -1 and 1 with initial weights.
    A function defined at the top of a file is recorded with a run by its name. One that follows a
    trajectory may also have a method ``at_all(o [K], z [d_in, N]) -> y [d_out, N]``, which is asked
    for all reads of one network at once.
    """

    formula: Function
    """A jax function of one evaluation, from o [K] and z [d_in] to y [d_out] ([2 d_out] where the
    head predicts a scale)."""
    inner: Root = field(default_factory=Mlp)
    """The network whose weights are theta; it is evaluated at z."""
    outputs: int = 1
    """K, the number of outputs of the inner network."""

    def __post_init__(self):
        check_positive(self, "outputs")

    @property
    def name(self) -> str:
        """Of the function, for messages."""
        return getattr(self.formula, "__name__", type(self.formula).__name__)

    @property
    def reads_query_alone(self):
        """That of the inner network."""
        return self.inner.reads_query_alone

    @property
    def reads_sums_of(self):
        """That of the inner network."""
        return self.inner.reads_sums_of

    def sized(self, query, targets, noise):
        """With the sizes of the inner network filled in."""
        return replace(self, inner=self.inner.sized(query, targets, noise))

    def blocks(self, d_in, d_out):
        """Those of the inner network."""
        return self.inner.blocks(d_in, self.outputs)

    def init(self, key, d_in, d_out):
        """Those of the inner network."""
        return self.inner.init(key, d_in, self.outputs)

    def initial(self, parameters, d_in, d_out):
        """That of the inner network."""
        return self.inner.initial(parameters, d_in, self.outputs)

    def written(self, d_in, d_out):
        """Those of the inner network."""
        return self.inner.written(d_in, self.outputs)

    def operations(self, d_in, d_out):
        """Those of the inner network; the formula is not counted."""
        return self.inner.operations(d_in, self.outputs)

    def apply(self, theta, z, d_out):
        """The formula at every read."""
        return self.evaluate(self.inner.apply(theta, z, self.outputs), z)

    def evaluate(
        self, o: Float[Array, "*M K #N"], z: Float[Array, "*M d_in N"]
    ) -> Float[Array, "*M d_out N"]:
        """formula(o, z), for one index of all other axes after another."""
        at_all = getattr(self.formula, "at_all", None)
        if at_all is not None and o.shape[-1] == 1:
            return jnp.vectorize(at_all, signature="(k),(d,n)->(c,n)")(o[..., 0], z)
        o = jnp.broadcast_to(o, (*o.shape[:-1], z.shape[-1]))
        one = jax.vmap(self.formula, in_axes=-1, out_axes=-1)
        for _ in range(o.ndim - 2):
            one = jax.vmap(one)
        return one(o, z)

    def check(self, d_in, d_out):
        """The formula's shape, and that it is finite where training starts."""
        self.inner.check(d_in, self.outputs)
        _check_formula(self, d_in, d_out)


@lru_cache(maxsize=64)
def _check_formula(root: Formula, d_in: int, d_out: int) -> None:
    inner = [jax.ShapeDtypeStruct((n,), jnp.float32) for n in (root.outputs, d_in)]
    try:
        shape = jax.eval_shape(root.formula, *inner)
        _check_indices(root.formula, root.outputs, d_in)
    except (TypeError, ValueError, IndexError) as error:
        why = str(error).partition("\n")[0]
        if isinstance(error, jax.errors.JAXTypeError):
            why = "use jnp functions and jnp.where in place of np, math, if and float()"
        asked = f"formula {root.name} fails for {root.outputs} outputs and z of {d_in}"
        at = place(error, _file(root.formula))
        raise ValueError(f"{asked}: {at + ': ' if at else ''}{why}") from error
    if getattr(shape, "shape", None) != (d_out,):
        raise ValueError(
            f"formula {root.name} must return an array [{d_out}], got "
            f"{getattr(shape, 'shape', type(shape).__name__)}: it maps outputs [{root.outputs}] "
            f"and z [{d_in}] to y [{d_out}]"
        )

    if not jnp.issubdtype(shape.dtype, jnp.floating):
        raise ValueError(
            f"formula {root.name} must return real floating-point numbers, got {shape.dtype}: "
            "take .real of complex numbers, multiply others by an output"
        )

    @jax.jit
    def value_and_gradient(key):
        points = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (d_in, 32)), jnp.float32)
        points = points.at[:, 0].set(0).at[:, 1].set(1)
        theta = root.initial(root.init(key, d_in, d_out), d_in, d_out)
        theta = jnp.broadcast_to(theta[:, None], (len(theta), 32))
        o = root.inner.apply(theta, points, root.outputs)
        y, pull = jax.vjp(lambda o: root.evaluate(o, points), o)
        return {"value": y, "gradient": pull(jnp.ones_like(y))[0]}

    with jax.ensure_compile_time_eval():  # also while a model is traced for its shapes
        found = value_and_gradient(jax.random.key(0))
    for what, values in found.items():
        if not np.isfinite(values).all():
            raise ValueError(
                f"formula {root.name} has a {what} that is not finite for fresh weights and z "
                "within -1 and 1: keep divisors, roots and logarithms away from 0"
            )


def _check_indices(formula: Function, *sizes: int) -> None:
    """Raise IndexError, as numpy does, for an index in whose place jax takes the last one."""
    arrays: Any = [np.zeros(n, np.float32) for n in sizes]
    try:
        with np.errstate(all="ignore"):
            jax.eval_shape(lambda: formula(*arrays))
    except Exception as error:  # of which others mean that it works with arrays of jax alone
        if isinstance(error, IndexError) and "out of bounds" in str(error):
            raise


def _file(formula: Any) -> str:
    """The file that a function, or the class of a callable, is from; "" if that is unknown."""
    called = formula if hasattr(formula, "__code__") else type(formula).__call__
    return getattr(getattr(called, "__code__", None), "co_filename", "")
