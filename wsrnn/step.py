"""One optimiser step and one evaluation step, compiled. No time, no disk."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, ArrayLike, Float, Int

from wsrnn.metrics import LOSSES, Measures, last_valid
from wsrnn.models import Model
from wsrnn.sharding import AXES, Layout, layouts, replicated, specs
from wsrnn.tasks import Batch


class TrainState(NamedTuple):
    """All that a checkpoint must hold: a plain pytree."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any


class Program(NamedTuple):
    """What is compiled for one experiment on one mesh."""

    graphdef: Any
    layouts: TrainState  # how each array of the state lies on the mesh, and its true shape
    abstract: TrainState  # shapes (padded where a layout is), dtypes and shardings of the state
    init: Callable[[], TrainState]
    gradients: Callable[[Any, Batch], tuple[Any, Measures]]
    train_step: Callable[[TrainState, Batch | None], tuple[TrainState, dict[str, Array]]]
    eval_step: Callable[[Any, Batch], Measures]


def program(
    build: Callable[[], Model],
    optimiser: optax.GradientTransformation,
    rate: optax.Schedule,
    mesh: Mesh,
    loss: str,
    reads: dict[str, str],
    drawn: Callable[[Array], Batch] | None = None,
) -> Program:
    """Compose the steps of an experiment.

    `build` makes the model; updates are `optimiser`'s times minus `rate` of the step; `reads` says
    for "train" and for "eval" whether the mask selects one step of each sequence; `drawn`, if
    given, makes the training batch of a step inside `train_step`, which then takes None for it. The
    batch is split over all devices and every device works on its own part under `shard_map`: XLA
    would gather the whole batch for each Fourier transform otherwise. Large parameters are gathered
    for it, but those of `Model.in_rows`.
    """

    def fresh() -> TrainState:
        params = nnx.as_pure(nnx.state(build()))
        return TrainState(jnp.zeros((), jnp.int32), params, optimiser.init(params))

    def fresh_padded() -> TrainState:
        return jax.tree.map(Layout.pad, placed, fresh())

    blank = nnx.eval_shape(build)
    graphdef = nnx.graphdef(blank)
    placed = layouts(jax.eval_shape(fresh), mesh)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(placed))
    abstract = jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s),
        jax.eval_shape(fresh_padded), shardings,
    )  # fmt: skip

    def gradients(params, batch):
        def total(params):
            model = from_parts(graphdef, placed.params, params)
            return measure(model, batch, loss, reads["train"])

        grads, sums = jax.grad(total, has_aux=True)(params)
        return jax.tree.map(Layout.total, placed.params, grads), jax.lax.psum(sums, AXES)

    def contracted(params):
        if not blank.contracts:
            return params
        model = nnx.merge(graphdef, jax.tree.map(Layout.trim, placed.params, params))
        model.contract()
        return jax.tree.map(Layout.pad, placed.params, nnx.as_pure(nnx.state(model)))

    gradients = over_devices(gradients, mesh, placed.params, (specs(placed.params), P()))

    def train_step(state: TrainState, batch: Batch | None):
        if drawn:
            batch = jax.lax.with_sharding_constraint(
                drawn(state.step), NamedSharding(mesh, P(AXES))
            )
        grads, sums = gradients(state.params, batch)
        return updated(state, grads, sums, optimiser, rate(state.step), contracted)

    return Program(
        graphdef,
        placed,
        abstract,
        jax.jit(fresh_padded, out_shardings=shardings),
        jax.jit(gradients),
        jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, replicated(mesh))),
        eval_step(graphdef, mesh, placed.params, loss, reads["eval"]),
    )


def updated(
    state: TrainState,
    grads: Any,
    sums: Measures,
    optimiser: optax.GradientTransformation,
    learning_rate: ArrayLike,
    constrained: Callable[[Any], Any],
) -> tuple[TrainState, dict[str, Array]]:
    """Return the state after a step, and what is written down of it.

    `grads` are those of the sum of the loss over a batch, which `sums` counts; `constrained` brings
    parameters back to where they should stay.
    """
    grads = jax.tree.map(lambda g: g / sums["loss"].count, grads)
    norm = optax.tree.norm(grads)
    sound = jnp.isfinite(sums["loss"].total) & jnp.isfinite(norm)
    updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda update: -learning_rate * update, updates)
    proposed = (constrained(optax.apply_updates(state.params, updates)), opt_state)
    # A bad batch must leave no trace: keep parameters and moments as they were.
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(sound, new, old), proposed, (state.params, state.opt_state)
    )
    log = {name: mean.value for name, mean in sums.items()}
    log |= {
        "grad_norm": norm,
        "learning_rate": jnp.asarray(learning_rate),
        "skipped": 1 - sound.astype(jnp.int32),
    }
    return TrainState(state.step + 1, params, opt_state), log


def eval_step(
    graphdef: Any, mesh: Mesh, placed: Any, loss: str, reads: str
) -> Callable[[Any, Batch], Measures]:
    """Return the compiled step from (parameters, global batch) to the sums of its metrics.

    The parameters lie as their layouts `placed` say.
    """

    def sums(params, batch):
        model = from_parts(graphdef, placed, params)
        return jax.lax.psum(measure(model, batch, loss, reads)[1], AXES)

    return jax.jit(over_devices(sums, mesh, placed, P()))


def over_devices(function: Callable, mesh: Mesh, placed: Any, out_specs: Any) -> Callable:
    """Run function(parts of the parameters, part of the batch) on every device."""
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(specs(placed), P(AXES)),
        out_specs=out_specs,
        check_vma=False,
    )


def from_parts(graphdef: Any, placed: Any, params: Any) -> Model:
    """The model on one device: all parameters gathered but those of `Model.in_rows`."""
    in_rows = nnx.merge(graphdef, params).in_rows

    def gathered(path, layout, part):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return part if name in in_rows else layout.gather(part)

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(gathered, placed, params))


def measure(model: Model, batch: Batch, loss: str, reads: str) -> tuple[Float[Array, ""], Measures]:
    """Return the sum of a loss over a batch, and it and its companions as masked sums."""

    def scores(outputs, targets, mask):
        sums = LOSSES[loss](outputs, targets, mask)
        return sums["loss"].total, sums

    if reads == "all":
        return model.total(scores, batch.inputs, batch.times, (batch.targets, batch.mask))
    at = last_valid(batch.mask)
    outputs = model(batch.inputs, batch.times, steps=at)
    mask = jnp.take_along_axis(batch.mask, at[:, None], 1)[:, 0]
    targets = batch.targets
    if targets.ndim > 1:
        targets = targets[jnp.arange(len(at)), at]
    return scores(outputs, targets, mask)
