"""One optimiser step and one evaluation step, compiled. No time, no disk."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from wsrnn.metrics import LOSSES, Measures, last_valid
from wsrnn.models import Model
from wsrnn.sharding import AXES, replicated, state_sharding
from wsrnn.tasks import Batch


class TrainState(NamedTuple):
    """All that a checkpoint must hold: a plain pytree."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any


class Program(NamedTuple):
    """What is compiled for one experiment on one mesh."""

    graphdef: Any
    abstract: TrainState  # shapes, dtypes and shardings of the state
    init: Callable[[], TrainState]
    gradients: Callable[[Any, Batch], tuple[Any, Measures]]
    train_step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]
    eval_step: Callable[[Any, Batch], Measures]


def program(
    build: Callable[[], Model],
    optimiser: optax.GradientTransformation,
    rate: optax.Schedule,
    mesh: Mesh,
    loss: str,
    reads: dict[str, str],
) -> Program:
    """Compose the steps of an experiment.

    `build` makes the model; updates are `optimiser`'s times minus `rate` of the step; `reads` says
    for "train" and for "eval" whether the mask selects one step of each sequence. The batch is
    split over all devices and every device works on its own part under `shard_map`, with whole
    parameters: XLA would gather the whole batch for each Fourier transform otherwise. Raises what
    `state_sharding` raises.
    """

    def fresh() -> TrainState:
        params = nnx.as_pure(nnx.state(build()))
        return TrainState(jnp.zeros((), jnp.int32), params, optimiser.init(params))

    graphdef = nnx.graphdef(nnx.eval_shape(build))
    shapes = jax.eval_shape(fresh)
    shardings = state_sharding(shapes, mesh)
    abstract = jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s), shapes, shardings
    )

    def gradients(params, batch):
        def total(params):
            return measure(nnx.merge(graphdef, params), batch, loss, reads["train"])

        return jax.grad(total, has_aux=True)(params)

    def contracted(params):
        model = nnx.merge(graphdef, params)
        model.contracted()
        return nnx.as_pure(nnx.state(model))

    gradients = over_devices(gradients, mesh)

    def train_step(state: TrainState, batch: Batch):
        grads, sums = gradients(state.params, batch)
        grads = jax.tree.map(lambda g: g / sums["loss"].count, grads)
        norm = optax.tree.norm(grads)
        sound = jnp.isfinite(sums["loss"].total) & jnp.isfinite(norm)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        learning_rate = rate(state.step)
        updates = jax.tree.map(lambda update: -learning_rate * update, updates)
        proposed = (contracted(optax.apply_updates(state.params, updates)), opt_state)
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

    return Program(
        graphdef,
        abstract,
        jax.jit(fresh, out_shardings=shardings),
        jax.jit(gradients),
        jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, replicated(mesh))),
        eval_step(graphdef, mesh, loss, reads["eval"]),
    )


def eval_step(graphdef: Any, mesh: Mesh, loss: str, reads: str) -> Callable[[Any, Batch], Measures]:
    """Return the compiled step from (parameters, global batch) to the sums of its metrics."""

    def sums(params, batch):
        return measure(nnx.merge(graphdef, params), batch, loss, reads)[1]

    return jax.jit(over_devices(sums, mesh))


def over_devices(function: Callable, mesh: Mesh) -> Callable:
    """Run function(params, batch) on each device's part of the batch, and sum what it returns."""

    def part(params, batch):
        return jax.lax.psum(function(params, batch), AXES)

    specs = (PartitionSpec(), PartitionSpec(AXES))
    return jax.shard_map(
        part, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False
    )


def measure(model: Model, batch: Batch, loss: str, reads: str) -> tuple[Float[Array, ""], Measures]:
    """Return the sum of a loss over a batch, and it and its companions as masked sums."""

    def scores(outputs, targets, mask):
        sums = LOSSES[loss](outputs, targets, mask)
        return sums["loss"].total, sums

    if reads == "all":
        return model.total(scores, batch.inputs, batch.times, (batch.targets, batch.mask))
    at = last_valid(batch.mask)
    outputs = model(batch.inputs, batch.times, at=at)
    mask = jnp.take_along_axis(batch.mask, at[:, None], 1)[:, 0]
    targets = batch.targets
    if targets.ndim > 1:
        targets = jnp.take_along_axis(targets, at[:, None, None], 1)[:, 0]
    return scores(outputs, targets, mask)
