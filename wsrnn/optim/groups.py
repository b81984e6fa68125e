"""Groups of parameters, by patterns of their dotted paths: "A.*", "*.bias", "lift.out.kernel".

A pattern (of `fnmatch`, where * also matches dots) selects a parameter by its own path or by that
of a module which holds it: "lift" is short for "lift.*".
"""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax


def paths(params: Any) -> Any:
    """The dotted path of each parameter, as a tree of the same structure."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="."), params
    )


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern selects the parameter at `path`."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")


def selected(params: Any, patterns: Sequence[str], field: str) -> Any:
    """Whether any of the patterns selects each parameter.

    Raises ValueError, naming `field` and the nearest path, for a pattern that selects none.
    """
    named = paths(params)
    for pattern in patterns:
        if not any(matches(path, pattern) for path in jax.tree.leaves(named)):
            raise ValueError(
                f"{field} {pattern!r} matches no parameter: the nearest is "
                f"{_nearest(pattern, jax.tree.leaves(named))!r}"
            )
    return jax.tree.map(lambda path: any(matches(path, p) for p in patterns), named)


def parsed(rate: str) -> tuple[str, float, bool]:
    """Pattern, factor and whether to divide by P, from "PATTERN=FACTOR" or "PATTERN=FACTOR/P"."""
    pattern, separator, right = rate.partition("=")
    number, slash, divisor = right.partition("/")
    try:
        factor = float(number)
    except ValueError:
        factor = 0.0
    if not (pattern and separator and 0 < factor < float("inf") and slash + divisor in ("", "/P")):
        raise ValueError(
            f"optim.rates: {rate!r} is not PATTERN=FACTOR or PATTERN=FACTOR/P with a factor above "
            'zero, such as "A=1/P" or "lift.*=0.1"; 0 is optim.freeze'
        )
    return pattern, factor, bool(slash)


def factors(params: Any, rates: Sequence[str]) -> Any:
    """What the learning rate of each parameter is multiplied by: the first rate that matches.

    "/P" divides by sqrt(rows columns) of a matrix: P for a dense A, the size of its block for a
    block-diagonal one. Where each entry moves by at most the rate, as with Adam, the spectral norm
    moves by up to that many times the rate; divided by it, by up to the rate, at every size.
    Vectors, such as a diagonal A, are not divided.
    """
    rules = [parsed(rate) for rate in rates]
    for pattern, _, _ in rules:
        selected(params, [pattern], "optim.rates")

    def factor(path, leaf):
        for pattern, number, per_norm in rules:
            if matches(path, pattern):
                matrix = per_norm and len(leaf.shape) >= 2
                return number / (leaf.shape[-2] * leaf.shape[-1]) ** 0.5 if matrix else number
        return 1.0

    return jax.tree.map(factor, paths(params), params)


def _nearest(pattern: str, names: Sequence[str]) -> str:
    modules = {name.rsplit(".", k)[0] for name in names for k in range(1, 1 + name.count("."))}
    known = [*names, *sorted(modules), *(f"{module}.*" for module in sorted(modules))]
    return difflib.get_close_matches(pattern, known, 1, 0.0)[0]
