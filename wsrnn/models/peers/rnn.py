"""GRU (Cho et al. 2014) and LSTM (Hochreiter & Schmidhuber 1997): gated recurrent networks.

One step costs one product of the hidden state with the matrices of all gates side by side, 2 g H^2
operations for g gates of width H (3 for a GRU, 4 for an LSTM). The input projections of all steps
are one product before the scan, the readout is one after it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wsrnn.checks import check_positive
from wsrnn.models.layered import through
from wsrnn.models.peers.base import Peer, PeerConfig

Gates = Float[Array, "N gates"]
Hidden = Float[Array, "N H"]


def gru(state: tuple[Hidden], inputs: Gates, recurrent: Gates) -> tuple[Hidden]:
    """Return h' = (1 - z) n + z h, with n = tanh(x_n + r u_n), r and z sigmoids of x + u.

    x is what the inputs and u what the state h gives to each gate. r gates u_n, the product, not
    the state before it: else a second product would have to wait for r (the variant of cuDNN).
    """
    (h,) = state
    x_r, x_z, x_n = jnp.split(inputs, 3, -1)
    u_r, u_z, u_n = jnp.split(recurrent, 3, -1)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + u_r) * u_n)
    return (n + jax.nn.sigmoid(x_z + u_z) * (h - n),)


def lstm(state: tuple[Hidden, Hidden], inputs: Gates, recurrent: Gates) -> tuple[Hidden, Hidden]:
    """Return c' = f c + i tanh(g) and h' = o tanh(c'), with sigmoids i, f and o of x + u.

    One is added to f before its sigmoid, so that a fresh model remembers (Jozefowicz et al. 2015).
    """
    _, c = state
    i, f, g, o = jnp.split(inputs + recurrent, 4, -1)
    c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


# The equations of a step, how many gates it has, and how many vectors it carries; the first is h.
CELLS = {"gru": (gru, 3, 1), "lstm": (lstm, 4, 2)}


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def unroll(
    equations: Callable, U: Float[Array, "H gates"], start: tuple, inputs: Float[Array, "T N gates"]
) -> Float[Array, "T N H"]:
    """Return h_t of every step of state_t = equations(state_{t-1}, x_t, h_{t-1} U).

    The adjoint leaves the gradient of U to one product over all steps, as cuDNN does: adding it up
    within the loop, as differentiating a scan would, takes a fifth more time.
    """
    return _forward(equations, U, start, inputs)[0]


def _forward(equations, U, start, inputs):
    def step(state, x):
        recurrent = jnp.matmul(state[0], U)
        after = equations(state, x, recurrent)
        return after, (after[0], state, recurrent)

    _, (h, states, recurrent) = jax.lax.scan(step, start, inputs)
    return h, (U, states, inputs, recurrent)


def _backward(equations, residuals, dh):
    U, *seen = residuals

    def step(dstate, over_time):
        dh, seen = over_time
        _, adjoint = jax.vjp(equations, *seen)
        dstate, dx, du = adjoint((dstate[0] + dh, *dstate[1:]))
        return (dstate[0] + jnp.matmul(du, U.T), *dstate[1:]), (dx, du)

    states, _, _ = seen
    end = tuple(jnp.zeros_like(state[0]) for state in states)
    dstart, (dx, du) = jax.lax.scan(step, end, (dh, seen), reverse=True)
    return jnp.einsum("tnh,tng->hg", states[0], du), dstart, dx


unroll.defvjp(_forward, _backward)


@dataclass(frozen=True)
class RnnConfig(PeerConfig):
    """A gated recurrent network."""

    cell: Literal["gru", "lstm"] = "gru"
    """A gated recurrent unit, or long short-term memory."""
    width: int = 128
    """Units of each layer."""
    layers: int = 1
    """Recurrent layers, one above the other."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "width", "layers")

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "Rnn":
        """A fresh model; raises ValueError if the layout does not fit d_in and d_out."""
        return Rnn(self, d_in, d_out, rngs=rngs)


class Layer(nnx.Module):
    """One recurrent layer; Glorot's start for the inputs, one rotation of the state per gate."""

    def __init__(self, cell: str, d_in: int, width: int, *, rngs: nnx.Rngs):
        self.cell = cell
        _, gates, _ = CELLS[cell]
        self.inputs = nnx.Linear(
            d_in, gates * width, kernel_init=nnx.initializers.glorot_uniform(), rngs=rngs
        )
        rotations = jax.random.orthogonal(rngs.params(), width, (gates,))
        self.U = nnx.Param(jnp.concatenate([*rotations], 1))

    def __call__(self, x: Float[Array, "T N F"]) -> Float[Array, "T N H"]:
        """The hidden state after every step, from zero."""
        equations, _, carried = CELLS[self.cell]
        inputs = self.inputs(x)
        dtype = jnp.result_type(inputs, self.U[...])
        start = jnp.zeros((x.shape[1], len(self.U[...])), dtype)
        return unroll(equations, self.U[...], (start,) * carried, inputs.astype(dtype))


class Rnn(Peer):
    """Recurrent layers and a linear readout of the last one; `RnnConfig` says the rest."""

    def __init__(self, config: RnnConfig, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        super().__init__(config, d_in, d_out, width=config.width, rngs=rngs)
        widths = [config.features(d_in, d_out)] + [config.width] * (config.layers - 1)
        self.layers = nnx.List(
            [Layer(config.cell, width, config.width, rngs=rngs) for width in widths]
        )

    def hidden(self, x, mode=None):
        """The states of the last layer, T steps one after another."""
        x = jnp.swapaxes(x, 0, 1)
        x = through(self, x, lambda x, layer: layer(x), "layers")
        return jnp.swapaxes(x, 0, 1)

    def mixing(self, length):
        """None: the recurrence is products with parameters."""
        return 0

    def carried(self, length):
        """h, and c of an LSTM, of every layer."""
        return self.config.width * self.config.layers * CELLS[self.config.cell][2]
