"""The plainest execution of WARP, the reference for the fast ones in benchmarks and tests.

One `lax.scan` over time, the batch as one matrix product with a dense A at each step, the root
network as matrix-vector products under `vmap`, everything differentiated automatically, all
products in full precision as the other executions take them.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.models import Model
from wsrnn.models.warp.config import WarpConfig
from wsrnn.models.warp.model import Warp
from wsrnn.root import ACTIVATIONS, Linear, Mlp, Network, Readout


@dataclass(frozen=True)
class TextbookConfig(WarpConfig):
    """A WARP of the same parameters and outputs, executed plainly."""

    checkpoint: bool = False
    """Keep only the states for the backward pass and compute each step again (`jax.checkpoint`)."""

    modes = ()

    def plans(self, d_in, d_out, *, batch, length, steps):
        """There is one execution only."""
        return []

    def build(self, d_in, d_out, *, rngs: nnx.Rngs):
        """A fresh model."""
        return Textbook(self, d_in, d_out, rngs=rngs)


class Textbook(Warp):
    """theta_t = A theta_{t-1} + B u_t by `lax.scan`; 6 N P^2 operations a step with gradients."""

    total = Model.total  # no gradients in passing

    def read(self, root, inputs, times, steps, mode, tokens=None, every=1):
        """As `Warp.read`, step by step."""
        if every > 1:
            raise ValueError("the textbook execution reads every step: set every 1")
        (A, B, u, start), z = self.recurrence(inputs, times, tokens)
        size, bound = self.network.size, self.config.weight_clip
        A, B = A.dense(size), B.matrix(u.shape[2], u)
        whole = isinstance(steps, str) and steps == "all"
        at = jnp.full(len(u), u.shape[1] - 1) if isinstance(steps, str) else steps
        outputs = jax.vmap(partial(network, root))

        def step(theta, xs):
            t, u_t, z_t = xs
            before, kept = theta
            after = jnp.where(t == 0, before, before @ A.T) + u_t @ B.T
            after = after if bound is None else jnp.clip(after, -bound, bound)
            if whole:
                return (after, kept), outputs(after, z_t)
            return (after, jnp.where((t == at)[:, None], after, kept)), None

        theta = start.theta
        kept = None if whole else jnp.zeros_like(theta)
        step = jax.checkpoint(step) if self.config.checkpoint else step
        over_time = (jnp.arange(u.shape[1]), jnp.swapaxes(u, 0, 1), jnp.swapaxes(z, 0, 1))
        with jax.default_matmul_precision("highest"):
            (_, kept), y = jax.lax.scan(step, (theta, kept), over_time)
            if whole:
                return jnp.swapaxes(y, 0, 1)
            return outputs(kept, jnp.take_along_axis(z, at[:, None, None], 1)[:, 0])


def network(root: Readout, theta: Float[Array, " P"], z: Float[Array, " d_in"]) -> Array:
    """The root network of one vector of weights at one input."""
    if not isinstance(root, Network) or type(root.root) not in (Linear, Mlp):
        return root.apply(theta[:, None], z[:, None])[:, 0]  # it has no plainer form
    layered, dtype = root.root, theta.dtype
    assert isinstance(layered, Linear | Mlp)
    if layered.bfloat16:
        theta, z = theta.astype(jnp.bfloat16), z.astype(jnp.bfloat16)
    row = 0
    for layer, (i, o) in enumerate(layered.layers(root.d_in, root.d_out)):
        z = ACTIVATIONS[layered.nonlinearity](z) if layer else z
        kernel, bias = theta[row : row + o * i].reshape(o, i), theta[row + o * i :][:o]
        z = kernel @ z + bias
        row += o * i + o
    return z.astype(dtype)
