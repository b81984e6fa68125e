"""One optimiser step and one evaluation step, compiled. No time, no disk."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, ArrayLike, Float, Int

from wsrnn.metrics import Measures, last_valid, measures_of, visible
from wsrnn.models import Model
from wsrnn.optim import OptimConfig
from wsrnn.sharding import AXES, AnyMesh, Layout, layouts, replicated, specs, to_global
from wsrnn.tasks import Batch

Loss = str | Callable[..., Measures]
"""A name in `metrics.LOSSES`, or a function of the same form."""


class Average(NamedTuple):
    """An exponential moving average of the parameters."""

    updates: Int[Array, ""]  # how many it is of: skipped steps are not among them
    params: Any


class TrainState(NamedTuple):
    """All that a checkpoint must hold: a plain pytree."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    average: Average | None = None

    @property
    def evaluated(self) -> Any:
        """The parameters to evaluate: their average, where one is kept."""
        return self.params if self.average is None else self.average.params

    def starting_at(self, params: Any) -> "TrainState":
        """The state of a run that has not begun, with other parameters."""
        average = self.average and self.average._replace(params=jax.tree.map(jnp.copy, params))
        return self._replace(params=params, average=average)


class Program(NamedTuple):
    """What is compiled for one experiment on one mesh."""

    graphdef: Any
    layouts: TrainState  # how each array of the state lies on the mesh, and its true shape
    abstract: TrainState  # shapes (padded where a layout is), dtypes and shardings of the state
    init: Callable[[], TrainState]
    gradients: jax.stages.Wrapped  # (params, batch) -> gradients, measures
    train_step: jax.stages.Wrapped  # (state, batch or None) -> state, what is logged
    eval_step: Callable[[Any, Batch], Measures]
    # Not compiled, to be transformed: what `init` and `train_step` consist of.
    fresh: Callable[..., TrainState]
    update: "Update"


Update = Callable[[TrainState, Batch, ArrayLike], tuple[TrainState, dict[str, Array]]]
"""From state, batch and learning rate to the state after the step, and what is logged of it:
numbers, and under "grad_norms" that of each leaf (`leaf_names`), of which `grad_norm` is all."""


def program(
    build: Callable[..., Model],
    optim: OptimConfig,
    mesh: AnyMesh,
    loss: Loss,
    steps: dict[str, Literal["all", "last"]],
    drawn: Callable[[Array], Batch] | None = None,
) -> Program:
    """Compose the steps of an experiment.

    `build` makes the model, from a random key if given one; `steps` are those that the mask selects
    in the splits "train" and "valid" (`Task.steps`); `drawn`, if given, makes the training batch of
    a step inside `train_step`, which then takes None for it. The batch is split over all devices
    and every device works on its own part under `shard_map`: XLA would gather the whole batch for
    each Fourier transform otherwise. Large parameters are gathered for it, but those of
    `Model.in_rows`.
    """
    blank = nnx.eval_shape(build)
    graphdef, shapes = nnx.graphdef(blank), nnx.as_pure(nnx.state(blank))
    optimiser, trained = optim.build(shapes), optim.trained(shapes)

    def fresh(*key: Array) -> TrainState:
        """The state before the first step."""
        params = nnx.as_pure(nnx.state(build(*key)))
        none = jnp.zeros((), jnp.int32)
        average = Average(none, jax.tree.map(jnp.copy, params)) if optim.average else None
        return TrainState(none, params, optimiser.init(params), average)

    def fresh_padded() -> TrainState:
        return jax.tree.map(Layout.pad, placed, fresh())

    placed = layouts(jax.eval_shape(fresh), mesh)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(placed))
    abstract = jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s),
        jax.eval_shape(fresh_padded), shardings,
    )  # fmt: skip

    def gradients(params, batch):
        def total(params, batch):
            params = jax.tree.map(
                lambda leaf, free: leaf if free else jax.lax.stop_gradient(leaf), params, trained
            )
            model = from_parts(graphdef, placed.params, params)
            return measure(model, batch, loss, steps["train"])

        function = accumulated(jax.grad(total, has_aux=True), optim.accumulate)
        grads, sums = function(params, batch)
        return jax.tree.map(Layout.total, placed.params, grads), jax.lax.psum(sums, AXES)

    def constrained(params):
        params = jax.tree.map(Layout.clear, placed.params, params)
        if not blank.contracts:
            return params
        model = nnx.merge(graphdef, jax.tree.map(Layout.trim, placed.params, params))
        model.contract()
        contracted = jax.tree.map(Layout.pad, placed.params, nnx.as_pure(nnx.state(model)))
        return jax.tree.map(
            lambda new, old, free: new if free else old, contracted, params, trained
        )

    gradients = over_devices(gradients, mesh, placed.params, (specs(placed.params), P()))
    update = update_of(gradients, optimiser, constrained, optim.average)
    rate = optim.rate()

    def train_step(state: TrainState, batch: Batch | None):
        if drawn:
            batch = jax.lax.with_sharding_constraint(
                drawn(state.step), NamedSharding(mesh, P(AXES))
            )
        assert batch is not None  # given where none is drawn
        return update(state, batch, rate(state.step))

    return Program(
        graphdef,
        placed,
        abstract,
        jax.jit(fresh_padded, out_shardings=shardings),
        jax.jit(gradients),
        jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, replicated(mesh))),
        eval_step(graphdef, mesh, placed.params, loss, steps["valid"]),
        fresh,
        update,
    )


def to_devices(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
    """The global batch of which this process holds its part; latents stay on the host."""
    return to_global(batch._replace(latents={}), mesh)


def update_of(
    gradients: Callable[[Any, Batch], tuple[Any, Measures]],
    optimiser: optax.GradientTransformationExtraArgs,
    constrained: Callable[[Any], Any],
    average: float | None,
) -> Update:
    """Compose one step of training: the only place that does.

    `gradients` are of the sum of the loss over a batch, which its measures count; parameters change
    by minus the learning rate times what `optimiser` makes of them; `constrained` brings parameters
    back to where they should stay; `average` is the decay of their average.
    """

    def update(state, batch, learning_rate):
        grads, sums = gradients(state.params, batch)
        grads = jax.tree.map(lambda g: g / sums["loss"].count, grads)
        squares = jnp.stack([optax.tree.norm(g, squared=True) for g in jax.tree.leaves(grads)])
        norm = jnp.sqrt(squares.sum())
        sound = jnp.isfinite(sums["loss"].total) & jnp.isfinite(norm)
        updates, opt_state = optimiser.update(
            grads, state.opt_state, state.params, value=sums["loss"].value
        )
        updates = jax.tree.map(lambda update: -learning_rate * update, updates)
        params = constrained(optax.apply_updates(state.params, updates))
        averaged = moved(state.average, params, average) if average else None
        proposed = TrainState(state.step, params, opt_state, averaged)
        # A bad batch must leave no trace: keep parameters, moments and average as they were.
        state = jax.tree.map(lambda new, old: jnp.where(sound, new, old), proposed, state)
        log = {name: mean.value for name, mean in sums.items()}
        log |= {
            "grad_norm": norm,
            "grad_norms": jnp.sqrt(squares),
            "learning_rate": jnp.asarray(learning_rate),
            "skipped": 1 - sound.astype(jnp.int32),
        }
        return state._replace(step=state.step + 1), log

    return update


def leaf_names(params: Any) -> list[str]:
    """The names of the parameters, in the order of "grad_norms"."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]


def accumulated(function: Callable[[Any, Batch], Any], parts: int) -> Callable[[Any, Batch], Any]:
    """The sum of function(params, micro-batch) over `parts` micro-batches, one after another."""
    if parts == 1:
        return function

    def added_up(params, batch):
        split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
        first, rest = jax.tree.map(lambda x: x[0], split), jax.tree.map(lambda x: x[1:], split)

        def add(sums, part):
            return jax.tree.map(jnp.add, sums, function(params, part)), None

        return jax.lax.scan(add, function(params, first), rest)[0]

    return added_up


def moved(average: Average, params: Any, decay: float) -> Average:
    """The average after an update of the parameters.

    The n-th counts by (1 - d) / (1 - d^n): the average is that of d^(n-k) theta_k over k = 1..n,
    with weights that add up to 1.
    """
    n = average.updates + 1
    weight = (1 - decay) / -jnp.expm1(n * math.log(decay))
    return Average(
        n, jax.tree.map(lambda old, new: old + weight * (new - old), average.params, params)
    )


def eval_step(
    graphdef: Any, mesh: AnyMesh, placed: Any, loss: Loss, steps: Literal["all", "last"]
) -> Callable[[Any, Batch], Measures]:
    """Return the compiled step from (parameters, global batch) to the sums of its metrics.

    The parameters lie as their layouts `placed` say.
    """

    def sums(params, batch):
        model = from_parts(graphdef, placed, params)
        return jax.lax.psum(measure(model, batch, loss, steps)[1], AXES)

    return jax.jit(over_devices(sums, mesh, placed, P()))


def over_devices(function: Callable, mesh: AnyMesh, placed: Any, out_specs: Any) -> Callable:
    """Run function(parts of the parameters, part of the batch) on every device."""
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(specs(placed), P(AXES)),
        out_specs=out_specs,
        check_vma=False,
    )


def from_parts(graphdef: Any, placed: Any, params: Any) -> Model:
    """The model on one device: all parameters gathered but those of `Model.in_rows`.

    It may also gather parts by itself (`Model.in_parts`); what it does not use is not gathered.
    """
    in_rows = nnx.merge(graphdef, params).in_rows

    def gathered(path, layout, part):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return part if name in in_rows else layout.gather(part)

    model = nnx.merge(graphdef, jax.tree_util.tree_map_with_path(gathered, placed, params))
    if any(layout.axis is not None for layout in jax.tree.leaves(placed)):
        model.in_parts = lambda name: (placed.get(name, {}), params.get(name, {}))
    return model


def measure(
    model: Model, batch: Batch, loss: Loss, steps: Literal["all", "last"]
) -> tuple[Float[Array, ""], Measures]:
    """Return the sum of a loss over a batch, and it and other metrics as masked sums.

    Where `steps` is "last" the model is evaluated at each sequence's last valid step alone. What
    comes after that step has no influence, whatever it is.
    """
    # Not only outputs that nobody scores: 0 times what is not a number would be their gradient.
    seen = visible(batch.mask)
    inputs = jnp.where(seen[..., None], batch.inputs, 0)
    times = jnp.where(seen, batch.times, 0)

    def scores(outputs, targets, mask):
        sums = measures_of(loss, outputs, targets, mask)
        return sums["loss"].total, sums

    if batch.feedback is not None:
        outputs = model.rollout(inputs, times, *batch.feedback)
        return scores(outputs, batch.targets, batch.mask)
    if batch.last is not None and model.holds:
        return scores(model.held(inputs, times, batch.last), batch.targets, batch.mask)
    if steps == "all":
        return model.total(scores, inputs, times, (batch.targets, batch.mask))
    at = last_valid(batch.mask)
    outputs = model(inputs, times, steps=at)
    mask = jnp.take_along_axis(batch.mask, at[:, None], 1)[:, 0]
    targets = batch.targets
    if targets.ndim > 1:
        targets = targets[jnp.arange(len(at)), at]
    return scores(outputs, targets, mask)
