"""Layers one above the other, whose parameters a mesh may gather one layer at a time.

As in fully sharded data parallelism (Zhao et al. 2023, arXiv 2304.11277) a layer is whole while it
is computed and while it is differentiated, and not in between.
"""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from wsrnn.models import Model


def through(model: Model, x: Array, call: Callable[..., Array], *lists: str) -> Array:
    """Return x after all layers in turn, x = call(x, *layer): one of each of the model's `lists`.

    Where the mesh splits their parameters, equal neighbours are one scan over their parts, which
    gathers one layer in each round and, for the gradient, gathers it again: XLA would merge the
    gathers of layers outside of a loop, and hold all of them at once. Products with matrices are
    kept for the gradient, all else of a layer is computed twice.
    """
    layers = list(zip(*(getattr(model, name) for name in lists), strict=True))
    if model.in_parts is None:
        for layer in layers:
            x = call(x, *layer)
        return x
    held = [model.in_parts(name) for name in lists]
    for (graph, shapes), group in groupby(range(len(layers)), lambda i: _structure(layers[i])):
        first, *more = equal = list(group)
        layouts = {j: placed[first] for j, (placed, _) in enumerate(held) if first in placed}
        parts = [{j: p[i] for j, (_, p) in enumerate(held) if i in p} for i in equal]
        split = any(layout.axis is not None for layout in jax.tree.leaves(layouts))
        # A layer that stands there several times has its parameters in the first place alone.
        own = all(len(jax.tree.leaves(part)) == len(shapes) for part in parts)
        if not (more and split and own):
            for i in equal:
                x = call(x, *layers[i])
            continue

        def gathered(x, parts, graph=graph, layouts=layouts):
            return call(x, *nnx.merge(graph, _whole(layouts, parts))), None

        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
        kept = jax.checkpoint(gathered, policy=_products, prevent_cse=False)
        x, _ = jax.lax.scan(kept, x, stacked)
    return x


def _structure(layer: tuple[nnx.Module, ...]) -> tuple[Any, list[tuple[int, ...]]]:
    """What equal layers have in common: all but the numbers in their parameters."""
    graph, state = nnx.split(layer)
    return graph, [leaf.shape for leaf in jax.tree.leaves(state)]


def _whole(layouts: Any, parts: Any) -> Any:
    return jax.tree.map(lambda layout, part: layout.gather(part), layouts, parts)


def _products(primitive, *inputs, **settings) -> bool:
    """Whether a layer keeps a result for its gradient; jax cannot keep complex ones."""
    complex_ones = any(jnp.issubdtype(x.dtype, jnp.complexfloating) for x in inputs)
    return jax.checkpoint_policies.dots_saveable(primitive) and not complex_ones
