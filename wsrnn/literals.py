"""Choices that are strings: a misspelt one is an error, not another model."""

import dataclasses
import difflib
import types
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_literals(config: Any) -> None:
    """Raise ValueError for a field of a dataclass that holds none of its Literal's values.

    For ``__post_init__``: type checkers and the command line know the values, a plain Python file
    is unguarded.
    """
    for name, known in _literals(type(config)).items():
        value = getattr(config, name)
        if not any(value == k and type(value) is type(k) for k in known):
            close = difflib.get_close_matches(
                str(value), [k for k in known if isinstance(k, str)], 1
            )
            cure = f"did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"{type(config).__name__}.{name} {value!r} is unknown: "
                + (cure or f"use {', '.join(map(str, known))}")
            )


@cache
def _literals(config: type) -> dict[str, tuple[Any, ...]]:
    """The values of each field that is a Literal, or a Literal or None."""
    hints = get_type_hints(config)
    return {
        f.name: known
        for f in dataclasses.fields(config)
        if f.init and (known := _values(hints[f.name]))
    }


def _values(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        parts = [(None,) if part is types.NoneType else _values(part) for part in get_args(hint)]
        return sum(parts, ()) if all(parts) else ()
    return ()
