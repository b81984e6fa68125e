"""Layers one above the other, whose parameters a mesh may gather one layer at a time.

As in fully sharded data parallelism (Zhao et al. 2023, arXiv 2304.11277) a layer is whole while it
is computed and while it is differentiated, and not in between.
"""

from collections.abc import Callable
from functools import partial
from itertools import groupby

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from wsrnn.models import Model


def through(model: Model, x: Array, call: Callable[..., Array], *lists: str) -> Array:
    """Return x after all layers in turn, x = call(x, *layer): one of each of the model's `lists`.

    Where the mesh splits their parameters, equal neighbours are one scan over their parts, which
    gathers one of them in each round and, for the gradient, gathers it again: XLA would merge the
    gathers of layers outside of a loop, and hold all of them at once. Products with matrices are
    kept for the gradient, all else of a layer is computed twice.
    """
    layers = list(zip(*(getattr(model, name) for name in lists), strict=True))
    if model.gather is None:
        for layer in layers:
            x = call(x, *layer)
        return x
    split = [nnx.split(layer) for layer in layers]
    graphs, parts = [graph for graph, _ in split], [nnx.as_pure(state) for _, state in split]
    shapes = [jax.tree.map(jnp.shape, part) for part in parts]

    def gathered(i, x, parts):
        return call(x, *nnx.merge(graphs[i], model.gather(lists, i, parts))), None

    for _, equal in groupby(range(len(layers)), lambda i: (graphs[i], shapes[i])):
        first, *more = equal
        function = partial(gathered, first)
        if not more:  # its outputs may have other channels than its inputs
            x, _ = function(x, parts[first])
            continue
        stacked = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *(parts[i] for i in (first, *more))
        )
        x, _ = jax.lax.scan(
            jax.checkpoint(function, policy=_products, prevent_cse=False), x, stacked
        )
    return x


def _products(primitive, *inputs, **settings) -> bool:
    """Whether a layer keeps a result for its gradient; jax cannot keep complex ones."""
    complex_ones = any(jnp.issubdtype(x.dtype, jnp.complexfloating) for x in inputs)
    return jax.checkpoint_policies.dots_saveable(primitive) and not complex_ones
