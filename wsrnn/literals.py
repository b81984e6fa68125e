"""Choices that are strings: a misspelt one is an error, not another model."""

import contextlib
import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Literal, Union


def check_literals(config: Any) -> None:
    """Raise ValueError for a field of a dataclass that is none of the words of its `Literal`.

    For its `__post_init__`: type checkers and the command line know the words, a plain Python file
    is unguarded.
    """
    for name, hint in hints(type(config)).items():
        if wrong := _mismatch(hint, getattr(config, name)):
            value, allowed = wrong
            words = [str(word) for word in allowed]
            raise ValueError(
                f"{type(config).__name__}.{name} {value!r} is unknown{nearest(str(value), words)}"
                f" (one of {', '.join(words)})"
            )


@cache
def hints(kind: type) -> dict[str, Any]:
    """The annotations of a dataclass's fields, those that cannot be resolved left out."""
    names = [field.name for field in dataclasses.fields(kind)]
    try:
        found = typing.get_type_hints(kind, include_extras=True)
    except NameError:  # a name that only its function knows, or a type checker
        found = {}
        for base in reversed(kind.__mro__):
            space = vars(inspect.getmodule(base) or types) | vars(base)
            for name, hint in vars(base).get("__annotations__", {}).items():
                with contextlib.suppress(Exception):
                    found[name] = eval(hint, space) if isinstance(hint, str) else hint
    return {name: found[name] for name in names if name in found}


def _mismatch(hint: Any, value: Any) -> tuple[Any, tuple] | None:
    """The value that is none of the words of a Literal in `hint`, and these words."""
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind is Annotated:
        return _mismatch(parts[0], value)
    if kind is Literal:
        known = any(value == word and type(value) is type(word) for word in parts)
        return None if known else (value, parts)
    if kind in (Union, types.UnionType):
        found = [_mismatch(part, value) for part in parts if _holds_literal(part)]
        others = [part for part in parts if not _holds_literal(part)]
        if not found or None in found or any(_is_a(value, part) for part in others):
            return None
        return found[0][0], tuple(word for _, words in found for word in words)
    if kind is tuple and isinstance(value, tuple):
        each = parts[:1] * len(value) if parts[1:] == (...,) else parts
        found = (_mismatch(*pair) for pair in zip(each, value, strict=False))
        return next((wrong for wrong in found if wrong), None)
    return None


def _holds_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal or any(map(_holds_literal, typing.get_args(hint)))


def _is_a(value: Any, hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    return isinstance(value, kind) if isinstance(kind, type) else kind is Any


def nearest(word: str, valid: Iterable[str]) -> str:
    """The end of an error's line: the likeliest of the valid words, or where they are listed."""
    valid = list(valid)
    close = difflib.get_close_matches(word, valid, 1, 0.5)
    if close:
        return f": did you mean {close[0]}?"
    return f": choose from {', '.join(valid)}" if 0 < len(valid) < 12 else " (see --help)"
