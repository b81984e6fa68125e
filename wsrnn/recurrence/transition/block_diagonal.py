"""A dense block for each layer of the root network."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from wsrnn.checks import check_fields
from wsrnn.recurrence.transition.base import (
    PRECISION,
    Learned,
    LinearMap,
    check_radius,
    gelfand_radius,
    time_scales,
)
from wsrnn.recurrence.transition.dense import contracted, dense_start, square


@dataclass(frozen=True)
class BlockDiagonal(Learned):
    """Dense blocks on the diagonal: weights of one layer mix, those of different layers do not.

    sum p^2 parameters for blocks of p weights, twice as many operations a step.
    """

    start: Literal["identity", "orthogonal", "decay"] = "identity"
    """Of every block, as in `Dense`; decays are spread over all of them."""
    radius: float = 1.0
    """Spectral radius at the start."""
    block: int | None = None
    """Weights in each block; None makes one block of each layer of the root network."""

    squaring = "cheap"

    def __post_init__(self):
        check_fields(self)
        check_radius(self)
        if self.block is not None and self.block < 1:
            raise ValueError(f"BlockDiagonal.block must be at least 1 or None, got {self.block}")

    def init(self, key, blocks):
        """{blocks: a tuple of [p, p]}."""
        size = sum(blocks)
        if self.block is not None:
            if size % self.block:
                raise ValueError(
                    f"block {self.block} does not divide the root network's P = {size} "
                    "weights: choose a divisor, or None for one block a layer"
                )
            blocks = (self.block,) * (size // self.block)
        if self.start == "decay":
            decays = time_scales(size, self.radius)
            bounds = np.cumsum([0, *blocks])
            return {"blocks": tuple(jnp.diag(decays[a:b]) for a, b in pairwise(bounds))}
        keys = jax.random.split(key, len(blocks))
        return {
            "blocks": tuple(
                dense_start(k, p, self.start, self.radius)
                for k, p in zip(keys, blocks, strict=True)
            )
        }

    def apply(self, A, theta):
        """Block by block."""
        bounds = np.cumsum([0, *map(len, A["blocks"])])
        parts = [theta[..., a:b] for a, b in pairwise(bounds)]
        return jnp.concatenate(
            [
                jnp.matmul(x, block.T, precision=PRECISION)
                for x, block in zip(parts, A["blocks"], strict=True)
            ],
            -1,
        )

    def transpose(self, A):
        """Every block transposed."""
        return LinearMap(self, {"blocks": tuple(block.T for block in A["blocks"])})

    def square(self, A):
        """Every block squared."""
        return LinearMap(self, {"blocks": tuple(map(square, A["blocks"]))})

    def dense(self, A, size):
        """The blocks on the diagonal."""
        return jax.scipy.linalg.block_diag(*A["blocks"])

    def spectral_radius(self, A, size):
        """The largest of the blocks'."""
        return jnp.stack([gelfand_radius(block) for block in A["blocks"]]).max()

    def distance_to_identity(self, A, size):
        """Of all blocks together."""
        parts = [jnp.linalg.norm(block - jnp.eye(len(block))) for block in A["blocks"]]
        return jnp.linalg.norm(jnp.stack(parts))

    def contracted(self, A, size):
        """Every block by itself."""
        return {"blocks": tuple(map(contracted, A["blocks"]))}
