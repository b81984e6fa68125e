"""Root, transition, lift and optimiser of one's own: sinusoids in context, by a Fourier series.

Flags: wsrnn train experiments/own_parts.py --model.transition.count 4 --model.root.inner.width 16
"""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from flax import nnx

from wsrnn import Experiment, Formula, Lift, Matrix, Mlp, OptimConfig, Rule, Transition, summing
from wsrnn.evaluations.in_context import PrefixError
from wsrnn.tasks.layouts import ReadBeforeWrite
from wsrnn.tasks.regression import Sinusoid


def fourier(o, z):
    """y = o_0 + sum_k o_k sin(k z) + o_{K+k} cos(k z), o being outputs of the inner network."""
    waves = z * jnp.arange(1.0, len(o) // 2 + 1, dtype=z.dtype)
    return o[:1] + o[1:] @ jnp.concatenate([jnp.sin(waves), jnp.cos(waves)])


@dataclass(frozen=True)
class Householder(Transition):  # reflections I - 2 v v^T / |v|^2: orthogonal, no state fades
    count: int = 2

    def init(self, key, blocks):
        return {"v": nnx.initializers.orthogonal()(key, (self.count, sum(blocks)))}

    def apply(self, A, theta):
        for v in A["v"] / jnp.linalg.norm(A["v"], axis=1, keepdims=True):
            theta -= 2 * jnp.tensordot(theta @ v, v, 0)
        return theta


@dataclass(frozen=True)
class Sines(Lift):  # sin(W (x, y) + b): Fourier features of the tokens, learned
    size: int = 64

    def channels(self, d_in, d_out):
        return self.size

    def build(self, d_in, d_out, *, rngs):
        return nnx.Sequential(nnx.Linear(d_in, self.size, rngs=rngs), jnp.sin)


@dataclass(frozen=True)
class Lion(Rule):  # Chen et al. 2023
    b1: float = 0.9

    def build(self):
        return optax.scale_by_lion(self.b1)


root = Formula(fourier, inner=Mlp(width=24, depth=1), outputs=3)
model = summing(root, Sines(), transition=Householder(), write=Matrix(scale=0.05))
score, optim = PrefixError(prefixes=(0, 2, 5, 10)), OptimConfig(Lion(), learning_rate=1e-3)
experiment = Experiment(Sinusoid(layout=ReadBeforeWrite("all")), model, score, optim, steps=1000)
