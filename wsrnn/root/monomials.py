"""Monomials of a sample's coordinates: the features that a polynomial map is linear in."""

from itertools import combinations_with_replacement
from math import comb

import jax.numpy as jnp
from jaxtyping import Array, Float


def count(d: int, degree: int, intercept: bool) -> int:
    """K, the number of `monomials`."""
    return comb(d + degree, degree) - 1 + intercept


def monomials(s: Float[Array, "d *N"], degree: int, one: Array | None) -> Float[Array, "K *N"]:
    """Every product of up to `degree` coordinates once, after the constant `one`, if there is any.

    For d = 2 and degree 2: (one, s_0, s_1, s_0^2, s_0 s_1, s_1^2).
    """
    products: dict[tuple[int, ...], Array] = {(i,): s[i] for i in range(len(s))}
    for size in range(2, degree + 1):
        for which in combinations_with_replacement(range(len(s)), size):
            products[which] = products[which[:-1]] * s[which[-1]]
    return jnp.stack([*([] if one is None else [one]), *products.values()])
