"""WARP, the weight-space linear RNN (arXiv 2506.01153): its hidden state is a network's weights.

The way of a batch: inputs -> features -> lift -> drive u, and phi(x_0) -> theta_0; together with A
and B a `Recurrence`, which `wsrnn.decode` runs and reads at the queries z; then the head.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Int, Num

from wsrnn import decode
from wsrnn.decode import Steps
from wsrnn.models import as_floats, check_sequences, check_steps, pick
from wsrnn.models.warp.config import WarpConfig
from wsrnn.models.warp.query import AtPoints, Points
from wsrnn.models.warp.streaming import Streaming
from wsrnn.recurrence import Dense, Identity, LinearMap, Recurrence, Rows, Write
from wsrnn.root import Readout, Weights


class Warp(Streaming):
    """theta_t = A theta_{t-1} + B u_t, y_t = root(theta_t, z_t) (arXiv 2506.01153).

    theta_t [P], the hidden state, is the flat vector of a root network's weights; u_t is the change
    of the input or the input itself, lifted or not; z_t is what the root is evaluated at, such as
    the time. `WarpConfig` describes the parts, and its `build(d_in, d_out, rngs=rngs)` makes the
    model.

    Shapes: N sequences, T steps, d_in input channels, O outputs (d_out, or 2 d_out where the head
    predicts a scale: the means, then the scales).

    With `channels` the model writes tokens of that size, passed to its call, instead of inputs
    (`warp.stack`).
    """

    def __init__(
        self,
        config: WarpConfig,
        d_in: int,
        d_out: int,
        *,
        channels: int | None = None,
        rngs: nnx.Rngs,
    ):
        self.config, self.d_in, self.d_out = config, d_in, d_out
        self.network = network = config.network(d_in, d_out)
        self.channels = channels or config.channels(network, d_in, d_out)
        token, features, lift = config.token(d_in), config.features, config.lift
        # The order decides which random numbers each part draws.
        self.features = features.build(d_in - d_out, d_out, rngs=rngs) if features else None
        self.lift = lift.built(token, d_out, rngs=rngs) if lift else None
        self.phi = config.start.build(network, d_in, self.channels, rngs=rngs)
        positions = config.positions
        self.positions = positions.build(self.channels, rngs) if positions else None
        written = positions.size if positions else self.channels
        B = config.write.init(network, written, rngs)
        self.B = None if B is None else nnx.Param(B)
        A = LinearMap.init(config.transition, rngs.params(), network.blocks)
        self.A = nnx.Dict({name: nnx.Param(leaf) for name, leaf in _named(A).items()})
        self.head = config.head.build()
        count = config.query.points
        self.points = None if count is None else Points(count, self.network.d_out)

    @property
    def root(self) -> Readout:
        """What reads theta: the network, at one point or several."""
        count = self.config.query.points
        return self.network if count is None else AtPoints(self.network, count)

    @property
    def in_rows(self) -> tuple[str, ...]:
        """A dense A."""
        return ("A.matrix",) if isinstance(self.config.transition, Dense) else ()

    @property
    def contracts(self) -> bool:
        """Where the form of A asks for it."""
        return self.config.transition.contract

    @property
    def transition(self) -> LinearMap:
        """A."""
        shapes = self.config.transition_shapes(self.network)
        leaves = [self.A[name][...] for name in _named(shapes)]
        A = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
        split = isinstance(A.form, Dense) and len(A.parameters["matrix"]) < self.network.size
        return LinearMap(Rows(), A.parameters) if split else A

    @property
    def write(self) -> Write:
        """B."""
        return self.config.write.operator(None if self.B is None else self.B[...], self.network)

    def contract(self):
        """Keep the spectral radius of A at most 1."""
        for name, leaf in _named(self.transition.contracted(self.network.size)).items():
            self.A[name][...] = leaf

    def __call__(
        self,
        inputs: Num[ArrayLike, "N T D"],
        times: Num[ArrayLike, "N T"],
        *,
        steps: Steps = "all",
        mode: str | None = None,
        tokens: Float[Array, "N T C"] | None = None,
        every: int = 1,
    ) -> Float[Array, "N reads O"] | Float[Array, "N O"]:
        """Return the outputs [N, T, O], or [N, O] where one step of each sequence is read.

        inputs: x_t; integers become floats.
        times: tau_t, one for each step, which the root reads where `query.time` is True. Training
            data of the package has t / (T - 1), but any unit will do.
        steps: "all", "last", or an index, see `Model.__call__`. A single step costs less than all
            of them, and inputs after it are ignored.
        mode: the execution, in place of the config's; results agree up to rounding.
        tokens: written in place of the lifted inputs.
        every: a power of two c: there are outputs at the steps 0, c, 2 c, ... alone, and the states
            between are never formed (`Recurrence.strided`); `steps` counts them.

        Mode scan has derivatives of any order, forwards and backwards; the other modes have
        gradients (reverse mode, once). y_t depends on x_0, ..., x_t only. Time and memory: see
        `decode.read`; to train on a loss of all steps use `total`, which is faster. Raises
        ValueError for wrong shapes, naming those expected, and for a mode that the form of A does
        not have.
        """
        inputs, times = check_sequences(self, inputs, times)
        read = inputs[:, ::every]
        steps = check_steps(steps, *read.shape[:2])
        y = self.read(self.root, inputs, times, steps, mode, tokens, every)
        return self._outputs(y, pick(read, steps))

    def total(self, score, inputs, times, labels):
        """Return score(outputs, *labels), as `Model.total` does, for a loss of all steps.

        The gradient is taken a few sequences at a time while their states are in memory, in modes
        conv and parallel; differentiating a loss of `model(inputs, times)` would compute all states
        twice, because it cannot keep N T P floats. See `decode.fold`.
        """
        inputs, times = check_sequences(self, inputs, times)

        def scored(y, x, *labels):
            return score(self._outputs(y, x), *labels)

        recurrence, z = self.recurrence(inputs, times)
        return decode.fold(
            recurrence, self.root, z, scored, (inputs, *labels),
            mode=self.config.mode, bound=self.config.weight_clip,
        )  # fmt: skip

    @property
    def holds(self) -> bool:
        """With A = I, where inputs of 0 write nothing."""
        config = self.config
        lifted = config.lift is None or config.lift.keeps_zero
        silent = config.drive == "value" and lifted and config.features is None
        reads_input = config.query.inputs or config.residual or config.reads_before_writing
        other = config.weight_clip is not None or config.query.points is not None
        return isinstance(config.transition, Identity) and silent and not (reads_input or other)

    def held(self, inputs, times, last):
        """One state of each sequence, theta_0 + B sum E_t u_t, and its network at all times."""
        inputs, times = check_sequences(self, inputs, times)
        seen = jnp.arange(times.shape[1])[None] <= check_steps(last, *times.shape)[:, None]
        u, B = self._lifted(jnp.where(seen[..., None], inputs, 0)), self.write
        summed = u.sum(1) if self.positions is None else self.positions.total(u)
        theta = self.phi(inputs[:, 0], B).theta + B.apply(summed)
        z = self._queries(inputs, times, jnp.arange(times.shape[1]))
        y = self.network.apply(theta[..., None], jnp.swapaxes(z, 1, 2))
        return self._outputs(jnp.swapaxes(y, 1, 2), inputs)

    def recurrence(
        self,
        inputs: Float[Array, "N T D"],
        times: Float[Array, "N T"],
        tokens: Float[Array, "N T C"] | None = None,
    ) -> tuple[Recurrence, Float[Array, "N T d_in"]]:
        """Return A, B, the drive u and theta_0 as one value, and the queries z, for `decode`."""
        B, x = self.write, self._featured(inputs)
        z = self._queries(x, times, jnp.arange(x.shape[1]))
        tokens = self._lifted(x) if tokens is None else tokens
        u = self._drive(tokens)
        u = u if self.positions is None else self.positions(u)
        return Recurrence(self.transition, B, u, self.phi(x[:, 0], B)), z

    def query(
        self,
        theta: Float[ArrayLike, "N P"],
        time: Num[ArrayLike, "*N"],
        x: Num[ArrayLike, "N D"] | None = None,
        step: Int[ArrayLike, ""] | int = 0,
    ) -> Float[Array, "N O"]:
        """Evaluate N root networks, of weights theta, at one point each: y [N, O].

        theta: weights, such as ``model.states(inputs, times)[:, t]`` or `State.theta`.
        time: tau, a number for all or one for each network, in the unit of the training times.
        x: the input, for a model whose root reads it (`query.inputs`) or that adds it to its
            output (`residual`); ValueError where it is needed and missing.
        step: the index of the step, for a positional encoding (`query.waves`).

        The head is applied, as in the full call. For several times use `jax.vmap`.
        """
        theta = as_floats(theta)
        needed = self.config.query.inputs or self.config.residual
        if x is None and needed:
            raise ValueError(
                f"this model's root reads the input too: give query x [N, {self.d_in}]"
            )
        if theta.ndim != 2 or theta.shape[1] != self.network.size or not len(theta):
            raise ValueError(
                f"theta must be [N, {self.network.size}], N at least 1, got {list(theta.shape)}"
            )
        x = jnp.zeros((len(theta), self.d_in), theta.dtype) if x is None else x
        x, time = self._check_step(x, time, len(theta))
        z = self._queries(self._featured(x), time, jnp.asarray(step))
        return self._outputs(self.root.apply(theta.T, z.T).T, x)

    def states(self, inputs, times, *, tokens=None):
        """Return the hidden states theta [N, T, P], in one array of N T P floats.

        theta[:, t] are the weights that y_t is read with; see `query` for other points.
        """
        inputs, times = check_sequences(self, inputs, times)
        return self.read(Weights(), inputs, times, "all", None, tokens)

    def sizes(self, length: int) -> dict[str, int]:
        """P, floats and operations of streaming, bytes of the kernel (float32).

        Operations: those of lift and features in their matrices, of B, of A and of the root.
        """
        config, network, channels = self.config, self.network, self.channels
        written = config.positions.size if config.positions else channels
        A = config.transition_shapes(network)
        factored = jax.eval_shape(
            lambda A: A.factored(jnp.zeros((network.size, 1)), jnp.zeros((1, 1, 1))), A
        )
        columns = written + config.start.columns(self.d_in, network.size)
        learned = nnx.state([part for part in (self.lift, self.features) if part is not None])
        operations = 2 * sum(leaf.size for leaf in jax.tree.leaves(learned) if leaf.ndim == 2)
        operations += config.write.operations(network, written)
        operations += 2 * channels * written * (config.positions is not None)
        operations += A.operations(network.size)
        operations += network.operations * (config.query.points or 1)
        return {
            "P": network.size,
            "state floats": network.size + 2 * channels,
            "operations per token": operations,
            "kernel bytes": 4 * length * network.size * columns * (factored is None),
        }

    def eigenvalues(self):
        """Of A as a matrix, where P is at most 1,500."""
        if self.network.size > 1500:
            return None
        A = np.asarray(self.transition.dense(self.network.size), np.float64)
        return np.linalg.eigvals(A).astype(complex)

    def diagnostics(self, inputs, times):
        """Spectral radius of A, norm of A - I, the weights after the last step, and mean norms
        over the sequences of theta_t at the first, middle and last step and of its drift."""
        parts, (N, T) = nnx.split(self), np.shape(times)
        inputs, times = as_floats(inputs), as_floats(times)
        first, middle, last = (
            np.asarray(_weights(*parts, inputs, times, np.full(N, step, np.int32)))
            for step in (0, T // 2, T - 1)
        )

        def norm(theta):
            return float(np.linalg.norm(theta, axis=1).mean())

        return {name: float(value) for name, value in _measures(*parts).items()} | {
            "theta": last,
            "theta/norm, first step": norm(first),
            "theta/norm, middle step": norm(middle),
            "theta/norm, last step": norm(last),
            "theta/drift from first to last": norm(last - first),
        }

    def read(
        self,
        root: Readout,
        inputs: Float[Array, "N T D"],
        times: Float[Array, "N T"],
        steps: Steps,
        mode: Any,
        tokens: Float[Array, "N T C"] | None = None,
        every: int = 1,
    ) -> Float[Array, "N some O"] | Float[Array, "N O"]:
        """Return root(theta_t, z_t) at `steps` for another root, before the head: see `decode`."""
        recurrence, z = self.recurrence(inputs, times, tokens)
        if every > 1 and self.config.weight_clip is not None:
            raise ValueError("weights are clipped at every step: every must be 1")
        if every > 1:
            recurrence, z = recurrence.strided(every.bit_length() - 1), z[:, ::every]
        return decode.read(
            recurrence, root, z,
            steps=steps, mode=mode or self.config.mode, bound=self.config.weight_clip,
        )  # fmt: skip

    def _drive(self, tokens: Float[Array, "N T C"]) -> Float[Array, "N T C"]:
        before = self._before(tokens[:, 0])
        if self.config.drive == "difference":
            tokens = jnp.diff(tokens, axis=1, prepend=before[:, None])
        if self.config.reads_before_writing:
            tokens = jnp.roll(tokens, 1, axis=1).at[:, 0].set(0)
        return tokens


# Compiled as they are: operation by operation, a loop would be compiled anew at each evaluation.


@partial(jax.jit, static_argnums=0)
def _measures(graphdef, params) -> dict[str, Float[Array, ""]]:
    model = nnx.merge(graphdef, params)
    A, size = model.transition, model.network.size
    return {
        "A/spectral radius": A.spectral_radius(size),
        "A/norm of A - I": A.distance_to_identity(size),
    }


@partial(jax.jit, static_argnums=0)
def _weights(graphdef, params, inputs, times, steps) -> Float[Array, "N P"]:
    return nnx.merge(graphdef, params).read(Weights(), inputs, times, steps, None)


def _named(A: LinearMap) -> dict[str, Any]:
    """The parameters of A by name."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="_"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(A.parameters)
    }
