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
    graphs, whole = [], []
    for layer in layers:
        graph, state = nnx.split(layer)
        graphs.append(graph)
        whole.append(nnx.as_pure(state))
    shapes = [jax.tree.map(jnp.shape, state) for state in whole]
    for _, equal in groupby(range(len(layers)), lambda i: (graphs[i], shapes[i])):
        group = list(equal)
        layouts, parts = _parts(model, lists, group, whole[group[0]])
        if parts is None:
            for i in group:
                x = call(x, *layers[i])
        else:

            def gathered(x, parts, graph=graphs[group[0]], layouts=layouts):
                whole = jax.tree.map(lambda layout, part: layout.gather(part), layouts, parts)
                return call(x, *nnx.merge(graph, whole)), None

            gathered = jax.checkpoint(gathered, policy=_products, prevent_cse=False)
            x, _ = jax.lax.scan(gathered, x, parts)
    return x


def _parts(model: Model, lists: tuple[str, ...], group: list[int], whole: Any) -> tuple[Any, Any]:
    """How the parameters of equal layers lie on the mesh, and this device's parts, stacked.

    None for the parts where layers need not be gathered one by one: they are no group, not split,
    or one layer several times.
    """
    if model.in_parts is None or len(group) == 1:
        return None, None
    held = [model.in_parts(name) for name in lists]

    def of(i, which):
        return {j: trees[which][i] for j, trees in enumerate(held) if i in trees[which]}

    layouts, parts = of(group[0], 0), [of(i, 1) for i in group]
    known = all(len(jax.tree.leaves(part)) == len(jax.tree.leaves(whole)) for part in parts)
    if not known or all(layout.axis is None for layout in jax.tree.leaves(layouts)):
        return None, None
    return layouts, jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


def _products(primitive, *inputs, **settings) -> bool:
    """Whether a layer keeps a result for its gradient; jax cannot keep complex ones."""
    complex_ones = any(jnp.issubdtype(x.dtype, jnp.complexfloating) for x in inputs)
    return jax.checkpoint_policies.dots_saveable(primitive) and not complex_ones
