"""WARP, the weight-space linear RNN (arXiv 2506.01153): its state is a network's weights."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Int, Num

from wsrnn import decode
from wsrnn.models import Model, ModelConfig, check_options
from wsrnn.models.head import Head, HeadConfig
from wsrnn.models.lift import SIZED, Features, LiftConfig
from wsrnn.models.phi import PhiConfig
from wsrnn.recurrence import FORMS, MODES, Dense, Mode, Rows, Transition, driven, plans
from wsrnn.recurrence.transition import TransitionStart
from wsrnn.root import Activation, Descent, Evidence, Gated, Network, Residual, Root, RootNet


@dataclass(frozen=True)
class TransitionConfig:
    """The form of A and where it starts."""

    form: Literal[tuple(FORMS)] = "dense"
    """dense: a P x P matrix (the paper's). identity: A = I for good. scalar: one decay. diagonal:
    a decay for each weight. rotation: a decay and an angle for each pair. shift: a delay line.
    block_diagonal: a matrix for each layer of the root. low_rank: I + U V^T."""
    start: TransitionStart | None = None
    """identity is the paper's; orthogonal is a random rotation; decay spreads the time scales;
    delay is a delay line. None is the form's own: identity, orthogonal for rotation."""
    radius: float = 1.0
    """Spectral radius at the start."""
    rank: int | None = None
    """Columns of U and V (low_rank; None is 16)."""
    block: int | None = None
    """Weights in each block (block_diagonal); None makes one block of each layer of the root."""
    contract: bool = False
    """After every update shrink A to a spectral radius of 1 where it is above. For a dense A this
    takes 32 P^3 operations on every device, longer than the rest of a small batch."""

    def __post_init__(self):
        if self.form not in FORMS:
            raise ValueError(f"transition.form {self.form!r} is unknown: use {' or '.join(FORMS)}")
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"transition.radius must be above 0 and finite, got {self.radius}")
        for name, form in (("rank", "low_rank"), ("block", "block_diagonal")):
            value = getattr(self, name)
            if value is not None and (self.form != form or value < 1):
                raise ValueError(
                    f"transition.{name} must be at least 1 and is for form {form} only: got "
                    f"{value} with form {self.form}"
                )
        # A start that the form does not have should fail here, not when a model is built.
        sizes = {"rank": 1} if self.form == "low_rank" else {}
        form, key = FORMS[self.form], jax.random.key(0)
        jax.eval_shape(lambda: form.init(key, 2, self.start, self.radius, **sizes))

    def init(self, root: Network, key: Array) -> Transition:
        """A fresh transition of the weights of a root network."""
        sizes = {}
        if self.form == "low_rank":
            sizes["rank"] = self.rank or 16
        if self.form == "block_diagonal":
            sizes["blocks"] = self._blocks(root)
        return FORMS[self.form].init(key, root.size, self.start, self.radius, **sizes)

    def _blocks(self, root: Network) -> tuple[int, ...]:
        if self.block is None:
            return root.blocks
        if root.size % self.block:
            raise ValueError(
                f"transition.block {self.block} does not divide the root network's P = {root.size} "
                "weights: choose a divisor, or None for one block a layer"
            )
        return (self.block,) * (root.size // self.block)


@dataclass(frozen=True)
class WarpConfig(ModelConfig):
    """A weight-space linear RNN. The defaults start A, B and theta_0 as the paper does."""

    root_form: Literal["mlp", "gated", "residual", "tied", "cg", "evidence"] = "mlp"
    """mlp: a network of `depth` hidden layers. gated: one whose weights are v sigmoid(g), theta =
    (v, g). residual: `depth` residual layers of `width` units, each divided by the norm of its
    weights, between two linear maps. tied: `root_steps` steps of gradient descent on the least
    squares that theta holds; cg: of conjugate gradients; evidence: `root_priors` ridge regressions
    weighed by their evidence. The last three are algorithms built in: see `root.Descent` and
    `root.Evidence`."""
    root_steps: int = 8
    """Of tied and cg."""
    root_prior: float = 0.25
    """Penalty of the least squares at the start (tied, cg)."""
    root_priors: int = 8
    """Of evidence."""
    root_repeats: int = 1
    """How many times the layers of residual are gone through, each time with other gains."""
    width: int = 24
    """Units of each hidden layer of the root network (mlp, gated, residual)."""
    depth: int = 3
    """Hidden layers of the root network (mlp, gated, residual); 0 is a linear map, where it may
    be."""
    activation: Activation = "relu"
    """Of the root network (mlp, gated, residual)."""
    drive: Literal["difference", "value"] = "difference"
    """u_t = x_t - x_{t-1} (the paper's; u_0 = 0, for phi has seen x_0), or u_t = x_t."""
    layout: Literal["standard", "read_before_write"] = "standard"
    """standard: step t writes token t, then reads. read_before_write: step t writes token t - 1 and
    reads at token t's leading channels (its query, without the d_out values at the end), so that
    y_t is the prediction from t examples."""
    features: int = 0
    """Learned features psi(x) = (1, x, so many units) in place of x, in tokens and query alike
    (read_before_write only, which tells x from y); 0 leaves x as it is."""
    lift: LiftConfig = field(default_factory=LiftConfig)
    phi: PhiConfig = field(default_factory=PhiConfig)
    transition: TransitionConfig = field(default_factory=TransitionConfig)
    write: Literal["learned", "identity"] = "learned"
    """B: a matrix that is learned, or the identity: a lifted token's channels are added to the
    first weights, one to one."""
    input_scale: float = 0.0
    """Standard deviation of B at the start, times 1 / sqrt(its columns). The paper's 0 gives a lift
    no gradient at first."""
    read_time: bool = True
    """Feed the root the time tau."""
    encoding: int = 0
    """Sines and cosines of the step's number that the root is fed beside tau (an even number)."""
    encoding_base: float = 100.0
    """Wavelengths run from 2 pi steps to almost 2 pi times this."""
    read_input: bool = False
    """Feed the root the current input too (its query part under read_before_write)."""
    residual: bool = False
    """Add the current input to the mean, so that the root predicts a change (d_in = d_out only)."""
    head: HeadConfig = field(default_factory=HeadConfig)
    weight_clip: float | None = None
    """Clip the weights to +-this after every step: not linear in the state, so scan only."""
    bfloat16: bool = False
    """Compute the root network in bfloat16; the states stay in full precision."""
    mode: Mode = "auto"
    """How the recurrence is executed, to the same result: step by step (scan), as a convolution
    (conv), in logarithmic depth (parallel; not for a dense A), or as counted costs say (auto)."""

    modes = MODES
    generates = True

    def __post_init__(self):
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode {self.mode!r} is unknown: use {' or '.join(get_args(Mode))}")
        if self.mode == "parallel" and not FORMS[self.transition.form].structured:
            raise ValueError(
                f"mode parallel needs powers of A, which cost P steps each for transition.form "
                f"{self.transition.form}: set mode auto, scan or conv, or another form"
            )
        RootNet(1, self.width, self.depth, 1, self.activation)
        if self.root_form == "residual":
            Residual(1, self.width, self.depth, 1, self.activation, self.root_repeats)
        Descent(1, 1, "cg", self.root_steps, self.root_prior)
        if self.features < 0 or (self.features and not self.reads_before_writing):
            raise ValueError(
                f"features must be at least 0 and go with layout read_before_write, got "
                f"{self.features} with layout {self.layout}"
            )
        if self.root_form == "evidence":
            Evidence(1, 1, self.root_priors)
            sums = (self.lift.form, self.write, self.transition.form)
            if sums != ("moments", "identity", "identity"):
                raise ValueError(
                    "root_form evidence needs sums of products: set lift.form moments, write "
                    f"identity and transition.form identity (they are {', '.join(sums)})"
                )
        if self.root_form in ("tied", "cg", "evidence"):
            alone = self.read_input and not self.read_time and not self.encoding
            if not alone or self.layout != "read_before_write" or self.uncertain:
                raise ValueError(
                    f"root_form {self.root_form} multiplies its solution with the query and "
                    "nothing else: set layout read_before_write, read_input True, read_time False, "
                    "encoding 0 and head.uncertain False"
                )
        if self.root_form not in ("mlp", "gated") and self.phi.start != PhiConfig.start:
            raise ValueError(
                f"phi.start is for root_form mlp and gated, not {self.root_form}: set phi.start "
                f"{PhiConfig.start}"
            )
        if self.encoding < 0 or self.encoding % 2 or self.encoding_base <= 0:
            raise ValueError(
                f"encoding must be an even number and encoding_base above 0, "
                f"got {self.encoding} and {self.encoding_base}"
            )
        if not self.input_scale >= 0 or (self.input_scale and self.write == "identity"):
            raise ValueError(
                "input_scale must be at least 0, and 0 with write identity, which draws nothing: "
                f"got {self.input_scale}"
            )
        if self.phi.form == "impulse" and self.root_form == "residual":
            raise ValueError(
                "phi.form impulse starts at theta_0 = B W x_0, and B writes the layers alone of a "
                "residual root, which would begin without a read-out: set another phi.form"
            )
        if self.phi.form == "impulse" and self.write == "identity":
            raise ValueError(
                "phi.form impulse starts at theta_0 = B W x_0, and write identity has no B: set "
                "write learned, or another phi.form"
            )
        if self.phi.form == "impulse" and self.input_scale == 0:
            raise ValueError(
                "phi.form impulse starts at theta_0 = B W x_0, which is 0 for every input while "
                "B = 0: set input_scale above 0"
            )
        if self.reads_before_writing and self.phi.form != "none":
            raise ValueError(
                f"layout read_before_write predicts before the first token is written, so phi "
                f"cannot see it: set phi.form none (it is {self.phi.form})"
            )
        if not (self.read_time or self.encoding or self.read_input):
            raise ValueError("the root network has no input: set read_time, encoding or read_input")
        if self.weight_clip is not None and self.weight_clip <= 0:
            raise ValueError(f"weight_clip must be above 0, got {self.weight_clip}")
        if self.weight_clip is not None and self.mode not in ("scan", "auto"):
            raise ValueError(
                f"weight_clip is not linear in the state, so mode {self.mode} cannot run it: "
                "set mode scan or auto, or weight_clip None"
            )

    @property
    def uncertain(self) -> bool:
        """Whether the model predicts a scale beside each mean."""
        return self.head.uncertain

    @property
    def reads_before_writing(self) -> bool:
        """Whether step t is read before its token is written, from the query part alone."""
        return self.layout == "read_before_write"

    def channels(self, d_in: int) -> int:
        """Of a token whose x has given way to its features."""
        return d_in + (1 + self.features if self.features else 0)

    def root(self, d_in: int, d_out: int) -> Network:
        """The root network for a task of these sizes."""
        query = d_in - d_out if self.reads_before_writing else d_in
        if query < 1:
            raise ValueError(
                f"layout read_before_write needs tokens of a query and its d_out values: "
                f"d_in {d_in} leaves no query beside d_out {d_out}"
            )
        if self.residual and d_in != d_out:
            raise ValueError(
                f"residual adds the input to the output, so they must be of one size: d_in is "
                f"{d_in}, d_out {d_out}; set residual False"
            )
        query = self.channels(query)
        inputs = self.read_time + self.encoding + query * self.read_input
        outputs = d_out * (1 + self.uncertain)
        if self.root_form in ("tied", "cg"):
            return Descent(inputs, outputs, self.root_form, self.root_steps, self.root_prior)
        if self.root_form == "evidence":
            return Evidence(inputs, outputs, self.root_priors)
        if self.root_form == "residual":
            return Residual(
                inputs, self.width, self.depth, outputs, self.activation, self.root_repeats
            )
        mlp = RootNet(inputs, self.width, self.depth, outputs, self.activation, self.bfloat16)
        return Gated(mlp) if self.root_form == "gated" else mlp

    def plans(self, d_in, d_out, *, batch, length, last):
        """See `recurrence.plans`: scan alone where weights are clipped."""
        root = self.root(d_in, d_out)
        direct = self.write == "identity"
        lifted = self.lift.channels(self.channels(d_in), d_out)
        channels = root.written if direct else lifted
        rank = 1 + self.phi.rank(d_in, root.size)
        transition = jax.eval_shape(lambda: self.transition.init(root, jax.random.key(0)))
        mode = self.mode if self.weight_clip is None else "scan"
        sizes = batch, length, root.size, channels, rank, direct
        return plans(transition, sizes, mode, last=last)

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "Warp":
        """A fresh model; raises ValueError if the layout does not fit d_in and d_out."""
        return Warp(self, d_in, d_out, rngs=rngs)


class State(NamedTuple):
    """What streaming carries from step to step, of constant size."""

    theta: Float[Array, "N P"]
    token: Float[Array, "N C"]  # the lifted token of the step before
    drive: Float[Array, "N C"]  # its drive, not yet written in the layout read_before_write
    step: Int[Array, ""]


class Weights(Root):
    """A root network that returns its own weights, to look at theta by `decode.read`."""

    def apply(
        self, theta: Float[Array, "*M P N"], z: Float[Array, "*M d_in N"]
    ) -> Float[Array, "*M P N"]:
        """Theta."""
        return theta


class Warp(Model):
    """theta_t = A theta_{t-1} + B u_t, y_t = root(theta_t, z_t); `WarpConfig` says the rest.

    With `channels` it writes what it is told of each token, so many numbers (`models.stack`),
    instead of lifting the token.
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
        networks, descents, mlps = ("mlp", "gated", "residual"), ("tied", "cg"), ("mlp", "gated")
        check_options(
            config, "root_form", width=networks, depth=networks, activation=networks,
            bfloat16=mlps, root_repeats=("residual",), root_steps=descents, root_prior=descents,
            root_priors=("evidence",),
        )  # fmt: skip
        self.config, self.d_in, self.d_out = config, d_in, d_out
        self.root = config.root(d_in, d_out)
        token = config.channels(d_in)
        channels = channels or config.lift.channels(token, d_out)
        features = config.features
        self.features = Features(features, d_in - d_out, d_out, rngs=rngs) if features else None
        self.lift = config.lift.build(token, d_out, rngs=rngs)
        self.phi = config.phi.build(self.root, d_in, channels, rngs=rngs)
        if config.write == "learned":
            scale = config.input_scale * channels**-0.5
            drawn = jax.random.normal(rngs.params(), (self.root.written, channels))
            self.B = nnx.Param(scale * drawn)
        else:
            # what is learned has no part that could be left out
            exact = config.lift.form in SIZED and channels != self.root.written
            if exact or channels < self.root.written:
                raise ValueError(
                    f"write identity adds channels to the first {self.root.written} weights, and "
                    f"the lift has {channels}: set write learned, or a lift of {self.root.written} "
                    "channels (outer has lift.size squared)"
                )
            channels = self.root.written
        self.channels = channels
        transition = config.transition.init(self.root, rngs.params())
        leaves = jax.tree_util.tree_leaves_with_path(transition)
        self.A = nnx.Dict({_name(path): nnx.Param(leaf) for path, leaf in leaves})
        self.head = Head(config.head)

    in_rows = ("A.A",)  # a dense A

    @property
    def contracts(self) -> bool:
        """Where the config asks for it."""
        return self.config.transition.contract

    @property
    def transition(self) -> Transition:
        """A, as the recurrence takes it."""
        leaves, tree = jax.tree_util.tree_flatten_with_path(self._transition_shapes())
        transition = jax.tree.unflatten(tree, [self.A[_name(path)][...] for path, _ in leaves])
        split = isinstance(transition, Dense) and len(transition.A) < self.root.size
        return Rows(transition.A) if split else transition

    def _transition_shapes(self) -> Transition:
        return jax.eval_shape(lambda: self.config.transition.init(self.root, jax.random.key(0)))

    def _write(self) -> Float[Array, "P C"] | None:
        """B, 0 where tokens write nothing; None where it is the identity."""
        if self.config.write == "identity":
            return None
        return jnp.pad(self.B[...], ((0, self.root.size - self.root.written), (0, 0)))

    def contract(self):
        """Keep the spectral radius of A at most 1."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.transition.contracted()):
            self.A[_name(path)][...] = leaf

    def __call__(
        self,
        inputs: Num[ArrayLike, "N T D"],
        times: Num[ArrayLike, "N T"],
        *,
        at: Int[ArrayLike, " N"] | None = None,
        mode: str | None = None,
        tokens: Float[Array, "N T C"] | None = None,
    ) -> Float[Array, "N T O"] | Float[Array, "N O"]:
        """Return the prediction at every step, or at step `at`. Cost: see `decode.read`.

        `tokens` are written in place of lifted inputs, in a model of so many channels.
        """
        inputs, times = _floats(inputs), _floats(times)
        sound = inputs.ndim == 3 and inputs.shape[1] and inputs.shape[2] == self.d_in
        if not sound or times.shape != inputs.shape[:2]:
            raise ValueError(
                f"inputs must be [N, T, {self.d_in}] and times [N, T], T at least 1, "
                f"got {list(inputs.shape)} and {list(times.shape)}"
            )
        at = None if at is None else jnp.asarray(at)
        y = self._read(self.root, inputs, times, "all" if at is None else at, mode, tokens)
        x = inputs if at is None else jnp.take_along_axis(inputs, at[:, None, None], 1)[:, 0]
        return self._outputs(y, x)

    def total(self, score, inputs, times, labels):
        """The score, with its gradients taken while the states are at hand: see `decode.fold`."""
        inputs, times = _floats(inputs), _floats(times)

        def scored(y, x, *labels):
            return score(self._outputs(y, x), *labels)

        return decode.fold(
            *self._recurrence(inputs, times), scored, (inputs, *labels),
            mode=self.config.mode, bound=self.config.weight_clip,
        )  # fmt: skip

    def _read(self, root, inputs, times, read, mode, tokens=None):
        transition, B, u, start, _, z = self._recurrence(inputs, times, tokens)
        return decode.read(
            transition, B, u, start, root, z,
            mode=mode or self.config.mode, read=read, bound=self.config.weight_clip,
        )  # fmt: skip

    def _recurrence(self, inputs, times, tokens=None):
        """What `decode` takes: transition, B, drive, start, root, root inputs."""
        B, inputs = self._write(), self._featured(inputs)
        z = self._root_inputs(inputs, times, jnp.arange(inputs.shape[1]))
        start = self.phi(inputs[:, 0], B)
        tokens = self._lifted(inputs) if tokens is None else tokens
        return self.transition, B, self._drive(tokens), start, self.root, z

    def _outputs(
        self, y: Float[Array, "*N raw"], x: Float[Array, "*N D"]
    ) -> Float[Array, "*N raw"]:
        if self.config.residual:
            y = y.at[..., : self.d_out].add(x)
        return self.head(y)

    def _featured(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        return x if self.features is None else self.features(x)

    def _lifted(self, x: Float[Array, "*N D"]) -> Float[Array, "*N C"]:
        return (x if self.lift is None else self.lift(x))[..., : self.channels]

    def _drive(self, tokens: Float[Array, "N T C"]) -> Float[Array, "N T C"]:
        before = self._before(tokens[:, 0])
        if self.config.drive == "difference":
            tokens = jnp.diff(tokens, axis=1, prepend=before[:, None])
        if self.config.reads_before_writing:
            tokens = jnp.roll(tokens, 1, axis=1).at[:, 0].set(0)
        return tokens

    def _before(self, first: Float[Array, "N C"]) -> Float[Array, "N C"]:
        """What the first token differs from: itself, so that u_0 = 0, as phi has seen it already.

        Before the first write nothing has been seen, so there it differs from zero.
        """
        return jnp.zeros_like(first) if self.config.reads_before_writing else first

    def _root_inputs(
        self, x: Float[Array, "*N D"], time: Float[Array, "*N"], step: Int[Array, "..."]
    ) -> Float[Array, "*N d_in"]:
        config = self.config
        parts = [time[..., None]] if config.read_time else []
        if config.encoding:
            wavelengths = config.encoding_base ** (
                jnp.arange(0, config.encoding, 2) / config.encoding
            )
            angles = jnp.multiply.outer(step, 1 / wavelengths)
            waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1)
            waves = waves.reshape(*angles.shape[:-1], -1).astype(x.dtype)
            parts.append(jnp.broadcast_to(waves, (*x.shape[:-1], config.encoding)))
        if config.read_input:
            parts.append(x[..., : -self.d_out] if config.reads_before_writing else x)
        return jnp.concatenate(parts, -1)

    def start(self, x0: Num[ArrayLike, "N D"]) -> State:
        """Return the state before the first step of sequences that begin with x0.

        Then ``state, y_t = model.advance(state, x_t, time_t)`` for t = 0, 1, ..., x0 being the
        first x_t, gives the outputs of the full call one by one, with memory that does not grow:
        the weights adapt to the sequence with no gradient and no optimiser.
        """
        x0, B = self._featured(_floats(x0)), self._write()
        theta = jnp.broadcast_to(decode.initial(self.phi(x0, B)), (len(x0), self.root.size))
        tokens = self._lifted(x0)
        return State(theta, self._before(tokens), jnp.zeros_like(tokens), jnp.zeros((), jnp.int32))

    def advance(
        self, state: State, x: Num[ArrayLike, "N D"], time: Num[ArrayLike, " #N"] | float
    ) -> tuple[State, Float[Array, "N O"]]:
        """Take one step of the recurrence and read it: the next state and y_t. Always a scan."""
        config, x = self.config, self._featured(_floats(x))
        token = self._lifted(x)
        u = token - state.token if config.drive == "difference" else token
        written = state.drive if config.reads_before_writing else u
        # theta_0 = start + B u_0: A is not applied before the first step.
        carried = jnp.where(state.step == 0, state.theta, self.transition.apply(state.theta))
        theta = carried + driven(self._write(), written, self.root.size)
        if config.weight_clip is not None:
            theta = jnp.clip(theta, -config.weight_clip, config.weight_clip)
        z = self._root_inputs(x, jnp.broadcast_to(jnp.asarray(time, x.dtype), len(x)), state.step)
        y = self._outputs(self.root.apply(theta.T, z.T).T, x)
        return State(theta, token, u, state.step + 1), y

    def generate(
        self,
        context: Num[ArrayLike, "N L D"],
        times: Num[ArrayLike, "N T"],
        *,
        mode: Mode = "auto",
    ) -> Float[Array, "N T O"]:
        """Return y_0 .. y_{T-1}, the inputs being `context` for L steps, then the model's means.

        y_t predicts x_{t+1}, so the model continues the sequence by itself from step L on. Raises
        ValueError for another mode than scan (predictions fed back are not linear in the state) and
        for a model whose outputs are not its inputs.
        """
        if mode not in ("scan", "auto"):
            raise ValueError(
                f"feeding predictions back is not linear in the state: mode {mode} cannot, use scan"
            )
        if self.d_in != self.d_out:
            raise ValueError(f"only a model that predicts its inputs can feed them back: "
                             f"d_in is {self.d_in}, d_out {self.d_out}")  # fmt: skip
        context, times = _floats(context), _floats(times)
        length = context.shape[1]
        padded = jnp.pad(context, ((0, 0), (0, times.shape[1] - length), (0, 0)))

        def step(carry, inputs):
            state, previous = carry
            t, x, time = inputs
            state, y = self.advance(state, jnp.where(t < length, x, previous), time)
            return (state, y[:, : self.d_out]), y

        over_time = (jnp.arange(times.shape[1]), jnp.swapaxes(padded, 0, 1), times.T)
        _, y = jax.lax.scan(step, (self.start(context[:, 0]), context[:, 0]), over_time)
        return jnp.swapaxes(y, 0, 1)

    def sizes(self, length: int) -> dict[str, int]:
        """P, what streaming carries and takes, the bytes of the kernel (float32).

        Operations: those of lift and features in their matrices, of B, of A and of the root.
        """
        config, size, channels = self.config, self.root.size, self.channels
        start = 1 + config.phi.rank(self.d_in, size)
        built = config.transition.form not in ("identity", "scalar", "low_rank")
        lifted = jax.tree.leaves(
            [nnx.state(part) for part in (self.lift, self.features) if part is not None]
        )
        operations = 2 * sum(leaf.size for leaf in lifted if leaf.ndim == 2)
        products = 2 * self.root.written if config.write == "learned" else 1
        operations += products * channels
        operations += self._transition_shapes().operations(size) + self.root.operations
        return {
            "P": size,
            "state floats": size + 2 * channels,
            "operations per token": operations,
            "kernel bytes": 4 * length * size * (channels + start) * built,
        }

    def states(self, inputs, times, *, tokens=None):
        """Theta at every step: N T P floats."""
        return self._read(Weights(), _floats(inputs), _floats(times), "all", None, tokens)

    def eigenvalues(self):
        """Of A as a matrix, where P is at most 1,500."""
        if self.root.size > 1500:
            return None
        A = np.asarray(self.transition.dense(self.root.size), np.float64)
        return np.linalg.eigvals(A).astype(complex)

    def diagnostics(self, inputs, times):
        """Spectral radius of A, norm of A - I, and the weights after the last step."""
        transition = self.transition
        return {
            "A/spectral radius": float(transition.spectral_radius()),
            "A/norm of A - I": float(transition.distance_to_identity(self.root.size)),
            "theta": _last_weights(*nnx.split(self), _floats(inputs), _floats(times)),
        }


@partial(jax.jit, static_argnums=0)
def _last_weights(graphdef, params, inputs, times) -> Float[Array, "N P"]:
    return nnx.merge(graphdef, params)._read(Weights(), inputs, times, "last", None)


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="_")


def _floats(x: ArrayLike) -> Array:
    """Integers become floats, so that what is computed beside them is not rounded to integers."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
