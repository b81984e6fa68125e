"""The configuration of a WARP: its parts, and which combinations are valid.

A part checks its own fields; what only a combination can violate stands in `_check_parts`, and
nowhere else.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import jax
from flax import nnx

from wsrnn.checks import check_fields
from wsrnn.choices import choice
from wsrnn.models import TokenModelConfig
from wsrnn.models.head import Head
from wsrnn.models.warp.features import Features
from wsrnn.models.warp.lift import LIFTS, Lift
from wsrnn.models.warp.positions import Positions
from wsrnn.models.warp.query import Query
from wsrnn.models.warp.start import STARTS, Impulse, Learned, Start
from wsrnn.models.warp.write import WRITES, Direct, Matrix, WriteForm
from wsrnn.recurrence import (
    FORMS,
    MODES,
    Dense,
    Identity,
    LinearMap,
    Mode,
    Plan,
    Sizes,
    Transition,
    plans,
)
from wsrnn.root import ROOTS, Mlp, Network, Root


@dataclass(frozen=True)
class WarpConfig(TokenModelConfig):
    """A weight-space linear RNN, theta_t = A theta_{t-1} + B u_t, y_t = root(theta_t, z_t).

    The defaults initialise A and B as the paper does (arXiv 2506.01153): A = I, B = 0. A part is a
    frozen dataclass with its own options; another kind of part is another class, of the package or
    of an experiment file. ``config.build(d_in, d_out, rngs=rngs)`` makes the model. Raises
    ValueError, naming the field and the cure, for parts that do not go together.
    """

    root: Annotated[Root, choice(lambda: ROOTS)] = field(default_factory=Mlp)
    """The network whose weights are the hidden state."""
    transition: Annotated[Transition, choice(lambda: FORMS)] = field(default_factory=Dense)
    """The form of A."""
    lift: Annotated[Lift, choice(lambda: LIFTS)] | None = None
    """A map applied to each token before B; None, as in the paper, applies none."""
    start: Annotated[Start, choice(lambda: STARTS)] = field(default_factory=Learned)
    """The initial hidden state theta_0: learned, or a function of the first input."""
    write: Annotated[WriteForm, choice(lambda: WRITES)] = field(default_factory=Matrix)
    """The form of B."""
    positions: Annotated[Positions, choice(lambda: (Positions,))] | None = None
    """A learned map of the drive for each step, B_t = B E_t; None writes all steps alike."""
    query: Query = field(default_factory=Query)
    """What the root network is evaluated at."""
    features: Annotated[Features, choice(lambda: (Features,))] | None = None
    """Learned features in place of x, in tokens and queries (layout read_before_write only)."""
    drive: Literal["difference", "value"] = "difference"
    """difference: u_t = x_t - x_{t-1} (the paper's; u_0 = 0, since theta_0 may depend on x_0).
    value: u_t = x_t."""
    layout: Literal["standard", "read_before_write"] = "standard"
    """standard: step t writes token t, then reads. read_before_write: step t writes token t - 1 and
    reads at token t's leading channels (its query, without the d_out targets at the end), so that
    y_t is the prediction from t examples."""
    head: Head = field(default_factory=Head)
    """A final activation of the root's outputs, and a predicted scale beside each mean."""
    residual: bool = False
    """Add x_t to the mean, so that the root predicts the change (d_in = d_out only)."""
    weight_clip: float | None = None
    """Clip the weights to this modulus after every step: nonlinear, so mode scan only."""
    mode: Mode = "auto"
    """How the recurrence is executed; results agree up to rounding. scan: step by step. conv: as a
    convolution. parallel: in logarithmic depth (not for a dense A). auto: the one with the lowest
    estimated cost. Where A = I and a task feeds nothing after a context, training computes one
    state a sequence, whatever the mode (`Warp.held`)."""

    modes = MODES
    generates = True

    def __post_init__(self):
        check_fields(self)
        if self.weight_clip is not None and not self.weight_clip > 0:
            raise ValueError(f"weight_clip must be above 0, got {self.weight_clip}")
        self._check_parts()

    def _check_parts(self) -> None:
        """Which parts go together: all that a part cannot know by itself stands here."""
        root = type(self.root).__name__
        if self.mode == "parallel" and self.transition.squaring != "cheap":
            raise ValueError(
                "mode parallel needs powers of A, which cost P steps each for transition "
                f"{type(self.transition).__name__}: set mode auto, scan or conv, or another form"
            )
        if self.weight_clip is not None and self.mode not in ("scan", "auto"):
            raise ValueError(
                f"weight_clip is not linear in the state, so mode {self.mode} cannot run it: "
                "set mode scan or auto, or weight_clip None"
            )
        if self.features and not self.reads_before_writing:
            raise ValueError(
                "features need to tell x from y: set layout read_before_write, or features None"
            )
        if self.reads_before_writing and self.start.sees_first:
            raise ValueError(
                "layout read_before_write predicts before the first token is written, so theta_0 "
                f"cannot depend on it: set start Learned (it is {type(self.start).__name__})"
            )
        if isinstance(self.start, Impulse) and (
            not isinstance(self.write, Matrix) or not self.write.scale
        ):
            raise ValueError(
                "start Impulse is theta_0 = B W x_0, which is 0 for every input without a B or "
                "while B = 0: set write Matrix with a scale above 0, or another start"
            )
        if self.root.reads_query_alone and not (
            self.query.inputs_alone and self.reads_before_writing
        ):
            raise ValueError(
                f"root {root} reads the query and nothing else: set layout read_before_write, "
                "query.inputs True, query.time False and query.waves None"
            )
        own_b = isinstance(self.write, Direct) or isinstance(self.start, Impulse)
        if self.positions and (own_b or self.reads_before_writing):
            raise ValueError(
                "positions map what B multiplies at its own step: set write Matrix, start Learned "
                "and layout standard, or positions None"
            )
        if self.uncertain and not self.root.predicts_scale:
            raise ValueError(f"root {root} predicts no scale: set head.scale None")
        sums = isinstance(self.write, Direct) and isinstance(self.transition, Identity)
        lift = self.root.reads_sums_of
        lifted = type(self.lift).__name__ == lift and self.drive == "value"
        if lift and not (sums and lifted):
            raise ValueError(
                f"root {root} needs sums of products: set lift {lift}, write Direct and "
                "transition Identity, and drive value"
            )

    def sized(self, task):
        """See `sized_for`; as many positions as the task has steps."""
        config = self
        if self.positions and self.positions.length is None:
            config = replace(self, positions=replace(self.positions, length=task.length))
        return config.sized_for(task.d_in, task.d_out, task.noise)

    def sized_for(self, d_in: int, d_out: int, noise: float) -> "WarpConfig":
        """Sizes of the root by the task's, then those of the lift by the root's."""
        config = replace(self, root=self.root.sized(self.x_size(d_in, d_out), d_out, noise))
        if self.lift is None:
            return config
        return replace(config, lift=self.lift.sized(config.network(d_in, d_out).written))

    def token(self, d_in: int) -> int:
        """Channels of a token whose x has given way to its features."""
        return d_in + (self.features.added if self.features else 0)

    def network(self, d_in: int, d_out: int) -> Network:
        """The root network for a task of these sizes.

        Raises ValueError, with the cure, for sizes that the layout or the root cannot have.
        """
        x = self.x_size(d_in, d_out)
        if self.residual and d_in != d_out:
            raise ValueError(
                f"residual adds the input to the output, so they must be of one size: d_in is "
                f"{d_in}, d_out {d_out}; set residual False"
            )
        return Network(self.root, self.query.size(self.token(x)), self.head.outputs(d_out))

    def channels(self, network: Network, d_in: int, d_out: int) -> int:
        """Channels of the drive; ValueError for a direct write of too few, or too many learned."""
        token = self.token(d_in)
        channels = self.lift.channels(token, d_out) if self.lift else token
        if not isinstance(self.write, Direct):
            return channels
        spare = self.lift.spare(token, d_out) if self.lift else channels
        if not 0 <= channels - network.written <= spare:
            raise ValueError(
                f"write Direct adds channels to the first {network.written} weights, and the lift "
                f"has {channels}: set write Matrix, or a lift of {network.written} channels, such "
                "as Outer with size None"
            )
        return network.written

    def plans(self, d_in, d_out, *, batch, length, steps) -> list[Plan]:
        """See `recurrence.plans`: scan alone where weights are clipped."""
        network = self.network(d_in, d_out)
        channels = self.channels(network, d_in, d_out)
        written = self.positions.size if self.positions else channels
        mode = self.mode if self.weight_clip is None else "scan"
        sizes = Sizes(
            batch, length, network.size, written, self.start.columns(d_in, network.size),
            0 if isinstance(self.write, Direct) else written,
        )  # fmt: skip
        return plans(self.transition_shapes(network), sizes, mode, one=steps != "all")

    def transition_shapes(self, network: Network) -> LinearMap:
        """A with shapes in place of arrays."""
        return jax.eval_shape(
            lambda: LinearMap.init(self.transition, jax.random.key(0), network.blocks)
        )

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        """A fresh `Warp`; raises ValueError if the parts do not fit d_in and d_out."""
        from wsrnn.models.warp.model import Warp  # which is described by this class

        return Warp(self, d_in, d_out, rngs=rngs)


def summing(root: Root, lift: Lift | None, **more: Any) -> WarpConfig:
    """A WARP whose theta is theta_0 plus the sum of the lifted tokens: in-context learners.

    Step t is read at its query before its token is written; `more` are other fields of WarpConfig.
    """
    parts = dict(
        root=root,
        lift=lift,
        transition=Identity(),
        write=Direct(),
        query=Query(time=False, inputs=True),
        drive="value",
        layout="read_before_write",
        mode="conv",
    )
    return WarpConfig(**parts | more)
