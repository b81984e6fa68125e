"""Activation functions, by the names that configs and flags use."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

Activation = Literal["relu", "tanh", "softplus", "swish", "sin", "identity"]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "swish": jax.nn.swish,
    "sin": jnp.sin,
    "identity": lambda x: x,
}
