"""WARP one step at a time, in constant memory: streaming and free-running generation."""

from abc import abstractmethod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Num

from wsrnn.models import Model, as_floats, check_sequences
from wsrnn.models.head import HeadLayer
from wsrnn.models.warp.config import WarpConfig
from wsrnn.models.warp.features import FeatureMap
from wsrnn.models.warp.positions import PositionMaps
from wsrnn.models.warp.query import Points
from wsrnn.recurrence import LinearMap, Mode, Write
from wsrnn.root import Network, Readout


class State(NamedTuple):
    """What streaming carries from step to step: a pytree of constant size."""

    theta: Float[Array, "N P"]
    token: Float[Array, "N C"]  # the lifted token of the step before
    drive: Float[Array, "N C"]  # its drive, not yet written in the layout read_before_write
    step: Int[Array, ""]


class Streaming(Model):
    """The steps of a `Warp`: the same equations as its full call, always as a recurrence."""

    config: WarpConfig
    d_in: int
    d_out: int
    channels: int
    network: Network
    features: FeatureMap | None
    lift: Any
    positions: PositionMaps | None
    phi: Any
    head: HeadLayer
    points: Points | None

    @property
    @abstractmethod
    def root(self) -> Readout:
        """What reads theta."""

    @property
    @abstractmethod
    def transition(self) -> LinearMap:
        """A."""

    @property
    @abstractmethod
    def write(self) -> Write:
        """B."""

    def start(self, x0: Num[ArrayLike, "N D"]) -> State:
        """Return the state before step 0 of N sequences whose first inputs are x0.

            state = model.start(x[:, 0])
            for t in range(T):
                state, y_t = model.advance(state, x[:, t], times[:, t])

        gives the outputs of the full call one by one, in memory that does not grow with T. The
        first step is given x0 again: theta_0 may depend on it.
        """
        x0 = self._featured(self._check_step(x0)[0])
        theta = self.phi(x0, self.write).theta
        tokens = self._lifted(x0)
        return State(theta, self._before(tokens), jnp.zeros_like(tokens), jnp.zeros((), jnp.int32))

    def advance(
        self, state: State, x: Num[ArrayLike, "N D"], time: Num[ArrayLike, " #N"] | float
    ) -> tuple[State, Float[Array, "N O"]]:
        """Take one step: return the next state and y_t [N, O].

        x: x_t. time: tau_t, one number for all sequences or one for each. Always executed as a
        recurrence, whatever the mode: one product with A, one with B and one evaluation of the root
        (`sizes` counts the operations). Pure, so it can be jitted and scanned over.
        """
        config = self.config
        x, time = self._check_step(x, time, len(state.theta))
        featured = self._featured(x)
        token = self._lifted(featured)
        u = token - state.token if config.drive == "difference" else token
        written = state.drive if config.reads_before_writing else u
        # theta_0 = start + B u_0: A is not applied before the first step.
        carried = jnp.where(state.step == 0, state.theta, self.transition.apply(state.theta))
        if self.positions is not None:
            written = self.positions(written, state.step)
        theta = carried + self.write.apply(written)
        if config.weight_clip is not None:
            theta = jnp.clip(theta, -config.weight_clip, config.weight_clip)
        z = self._queries(featured, time, state.step)
        y = self._outputs(self.root.apply(theta.T, z.T).T, x)
        return State(theta, token, u, state.step + 1), y

    def generate(
        self,
        context: Num[ArrayLike, "N L D"],
        times: Num[ArrayLike, "N T"],
        *,
        mode: Mode = "auto",
    ) -> Float[Array, "N T O"]:
        """Continue sequences autoregressively: return y_0, ..., y_{T-1} [N, T, O].

        context: the first L inputs; from step L on, the input is the mean predicted at the step
            before, so the model must have been trained to predict x_{t+1} at step t.
        times: tau_t of all T steps, T at least L.
        mode: scan or auto, which are the same here.

        Takes T calls of `advance`. Raises ValueError for wrong shapes, for another mode, because
        predictions that are fed back make the recurrence nonlinear, and for a model with d_in other
        than d_out.
        """
        if mode not in ("scan", "auto"):
            raise ValueError(
                f"feeding predictions back is not linear in the state: mode {mode} cannot, use scan"
            )
        if self.d_in != self.d_out:
            raise ValueError(f"only a model that predicts its inputs can feed them back: "
                             f"d_in is {self.d_in}, d_out {self.d_out}")  # fmt: skip
        context, times = as_floats(context), as_floats(times)
        known = context.ndim == times.ndim + 1 == 3 and context.shape[2] == self.d_in
        if not (known and len(context) == len(times) and context.size) or (
            context.shape[1] > times.shape[1]
        ):
            raise ValueError(
                f"context must be [N, L, {self.d_in}] and times [N, T], N and L at least 1, T at "
                f"least L, got {list(context.shape)} and {list(times.shape)}"
            )
        length, T = context.shape[1], times.shape[1]
        padded = jnp.pad(context, ((0, 0), (0, T - length), (0, 0)))
        given = jnp.broadcast_to(jnp.arange(T) < length, times.shape)
        return self.rollout(padded, times, given)

    def rollout(
        self,
        inputs: Num[ArrayLike, "N T D"],
        times: Num[ArrayLike, "N T"],
        given: Bool[ArrayLike, "N T"],
        noise: Float[ArrayLike, "N T D"] | None = None,
    ) -> Float[Array, "N T O"]:
        """Return y [N, T, O] where step t reads x_t if it is `given`, else the last prediction.

        That is the mean m_{t-1}, or with `noise` e of an uncertain model m_{t-1} + s_{t-1} e_t,
        differentiable in both. Step 0 must be given. T calls of `advance`, and differentiated
        through all of them: memory N T P.
        """
        inputs, times = check_sequences(self, inputs, times)
        given = jnp.asarray(given)
        draws = jnp.zeros_like(inputs) if noise is None else jnp.asarray(noise)
        first = jax.eval_shape(lambda x: self.advance(self.start(x), x, 0.0)[1], inputs[:, 0])
        inputs = inputs.astype(first.dtype)  # outputs take the place of inputs

        def step(carry, now):
            state, last = carry
            known, x, time, e = now
            mean, scale = last[:, : self.d_out], last[:, self.d_out :]
            fed = mean if noise is None else mean + scale * e
            state, y = self.advance(state, jnp.where(known[:, None], x, fed), time)
            return (state, y), y

        over_time = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (given, inputs, times, draws))
        before = jnp.zeros(first.shape, first.dtype)
        _, y = jax.lax.scan(step, (self.start(inputs[:, 0]), before), over_time)
        return jnp.swapaxes(y, 0, 1)

    # What a step and the full call share.

    def _check_step(
        self, x: Num[ArrayLike, "..."], time: Num[ArrayLike, "..."] = 0.0, N: int | None = None
    ) -> tuple[Float[Array, "N D"], Float[Array, " N"]]:
        """One step's inputs and times as floats; ValueError for shapes that do not fit."""
        x, time = as_floats(x), as_floats(time)
        N = len(x) if N is None and x.ndim == 2 else N
        if x.shape != (N, self.d_in) or not N or time.shape not in ((), (1,), (N,)):
            raise ValueError(
                f"a step's input must be [{N or 'N'}, {self.d_in}], N at least 1, and its time, if "
                f"it has one, a number for all or for each sequence, got {list(x.shape)} and "
                f"{list(time.shape)}"
            )
        return x, jnp.broadcast_to(time.astype(x.dtype), (N,))

    def _featured(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        return x if self.features is None else self.features(x)

    def _lifted(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        return (x if self.lift is None else self.lift(x))[..., : self.channels]

    def _before(self, first: Float[Array, "N C"]) -> Float[Array, "N C"]:
        """What the first token differs from: itself, so that u_0 = 0, as phi has seen it already.

        Before the first write nothing has been seen, so there it differs from zero.
        """
        return jnp.zeros_like(first) if self.config.reads_before_writing else first

    def _queries(
        self, x: Float[Array, "*N D"], time: Float[Array, "*N"], step: Int[Array, "..."]
    ) -> Float[Array, "*N d_in"]:
        query = x[..., : -self.d_out] if self.config.reads_before_writing else x
        if self.points is None:
            return self.config.query(query, time, step)
        each = jnp.unstack(self.points.times(time), axis=-1)
        return jnp.concatenate([self.config.query(query, tau, step) for tau in each], -1)

    def _outputs(
        self, y: Float[Array, "*N answers"], x: Float[Array, "*N D"]
    ) -> Float[Array, "*N raw"]:
        if self.points is not None:
            y = self.points(y)
        if self.config.residual:
            y = y.at[..., : self.d_out].add(x)
        return self.head(y)
