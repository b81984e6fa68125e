"""Runs compute in float32, whatever $JAX_ENABLE_X64 and $JAX_NUMPY_DTYPE_PROMOTION say.

What is called from a program that works in float64 enters this context. Models themselves compute
in the type of their parameters and inputs, under any of these settings.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """The function, called with jax's own defaults for types."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return call
