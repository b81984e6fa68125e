"""What the fields of a config may hold: a wrong word or kind is an error, not another model."""

import contextlib
import dataclasses
import difflib
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Union


def check_fields(config: Any) -> None:
    """Raise ValueError for a field of a dataclass that is not what its annotation promises.

    That is one of the words of a `Literal`, a number, or a part that is a frozen dataclass. For its
    `__post_init__`: type checkers and the command line know it, a plain Python file is unguarded.
    """
    kind: type = type(config)
    for name, hint in hints(kind).items():
        value = getattr(config, name)
        if wrong := _no_number(hint, value) or _no_part(hint, value):
            raise ValueError(f"{kind.__name__}.{name} {wrong}")
        if mismatch := _mismatch(hint, value):
            found, allowed = mismatch
            words = [str(word) for word in allowed]
            raise ValueError(
                f"{kind.__name__}.{name} {found!r} is unknown{nearest(str(found), words)}"
                f" (one of {', '.join(words)})"
            )


def check_positive(config: object, *names: str, least: int = 1) -> None:
    """Raise ValueError for fields, named with their values, that are below `least`."""
    if low := [
        f"{name} {getattr(config, name)}" for name in names if getattr(config, name) < least
    ]:
        raise ValueError(
            f"{type(config).__name__} needs sizes of at least {least}, got {', '.join(low)}"
        )


def check_distinct(name: str, values: Sequence[object]) -> None:
    """Raise ValueError for a field, by its name, that holds a value twice."""
    if twice := [str(value) for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{name} has {twice[0]} twice: leave one out")


def _no_number(hint: Any, value: Any) -> str | None:
    """What is wrong with the value of a field that is an int, a float or one of them or None."""
    union = typing.get_origin(hint) in (Union, types.UnionType)
    kinds = set(typing.get_args(hint) if union else (hint,))
    if (value is None and types.NoneType in kinds) or not kinds & {int, float}:
        return None
    if not kinds <= {int, float, types.NoneType}:
        return None
    if isinstance(value, numbers.Real if float in kinds else numbers.Integral):
        return None
    return f"must be {'a number' if float in kinds else 'an integer'}, got {value!r}"


def _no_part(hint: Any, value: Any) -> str | None:
    """What is wrong with the value of a field that holds a part, such as a root network."""
    parts = (hint, *typing.get_args(hint))
    if not any(typing.get_origin(part) is Annotated for part in parts):
        return None
    if isinstance(value, type):
        return f"is the class {value.__name__}: write {value.__name__}()"
    kinds = _kinds(hint)
    if all(isinstance(kind, type) for kind in kinds) and not isinstance(value, tuple(kinds)):
        names = ["None" if kind is types.NoneType else kind.__name__ for kind in kinds]
        return f"must be {' or '.join(names)}, got {value!r}"
    if value is None or isinstance(value, str | numbers.Number | tuple):
        return None
    if dataclasses.is_dataclass(value) and type(value).__hash__ is not None:
        return None
    name = type(value).__name__
    return f"must be a frozen dataclass: write @dataclass(frozen=True) above {name}"


def _kinds(hint: Any) -> list[Any]:
    """The classes that a part may be of."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _kinds(parts[0])
    if origin in (Union, types.UnionType):
        return [kind for part in parts for kind in _kinds(part)]
    return [hint]


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
        literals = [part for part in parts if _holds_literal(part)]
        others = [part for part in parts if not _holds_literal(part)]
        found = [wrong for part in literals if (wrong := _mismatch(part, value))]
        if not found or len(found) < len(literals) or any(_is_a(value, part) for part in others):
            return None
        return found[0][0], tuple(word for _, words in found for word in words)
    if kind is tuple and _holds_literal(hint) and not isinstance(value, tuple):
        return value, next(typing.get_args(part) for part in parts if _holds_literal(part))
    if kind is tuple and isinstance(value, tuple):
        each = parts[:1] * len(value) if parts[1:] == (...,) else parts
        results = (_mismatch(*pair) for pair in zip(each, value, strict=False))
        return next((wrong for wrong in results if wrong), None)
    return None


def _holds_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal or any(map(_holds_literal, typing.get_args(hint)))


def _is_a(value: Any, hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    return isinstance(value, kind) if isinstance(kind, type) else kind is Any


def nearest(word: str, valid: Iterable[str], show: Callable[[str], str] = str) -> str:
    """The end of an error's line: the likeliest of the valid words, or where they are listed.

    `show` writes a word; repr is for names that may hold commas.
    """
    valid = list(valid)
    close = difflib.get_close_matches(word, valid, 1, 0.5)
    if close:
        return f": did you mean {show(close[0])}?"
    few = 0 < len(valid) < 12
    return f": choose from {', '.join(map(show, valid))}" if few else " (see --help)"
