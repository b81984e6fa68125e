"""Eight simulated devices and strict numerics, decided before jax is imported."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

from jaxtyping import install_import_hook

install_import_hook("wsrnn", "beartype.beartype")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
