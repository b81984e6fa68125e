"""Fields that take one of several classes, and fields that take one of several words.

Apart from `flags`, which parses the command line, the one place that imports tyro.
"""

import contextlib
import dataclasses
import difflib
import inspect
import re
import types
import typing
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Annotated, Any, Generic, Literal, Protocol, Union

import tyro

_own: tuple[type, ...] = ()  # classes of an experiment file, offered beside the package's


Repeated = tyro.conf.UseAppendAction  # a tuple that every mention of the flag adds an item to


class Choice:
    """The classes that a field may be given as, by name; see `choice`."""

    def __init__(self, classes: Callable[[], Iterable[type]]):
        self._classes = classes

    def named(self) -> dict[str, type]:
        """The package's classes by name, and those of the experiment file with the same base."""
        classes = tuple(self._classes())
        shared = [
            base
            for base in classes[0].__mro__
            if base not in (object, ABC, Generic, Protocol)
            and all(issubclass(other, base) for other in classes)
        ]
        own = [c for c in _own if issubclass(c, shared[-1]) and not inspect.isabstract(c)]
        return {name_of(c): c for c in (*classes, *own)}

    def __call__(self) -> Any:
        """The union that tyro parses."""
        parts = []
        for name, kind in self.named().items():
            summary = (inspect.getdoc(kind) or "").partition("\n\n")[0]
            parts.append(Annotated[kind, tyro.conf.subcommand(name, description=summary)])
        return Union[tuple(parts)]  # noqa: UP007


def choice(classes: Callable[[], Iterable[type]]) -> Any:
    """Annotate a field whose value may be any of `classes()`, dataclasses with one base.

    `root: Annotated[Root, choice(lambda: ROOTS)] = Mlp()` takes `model.root:gated` on the command
    line, and then the fields of `Gated`; `lift: Annotated[Lift, choice(lambda: LIFTS)] | None`
    takes `model.lift:none` too. A function, because the classes may be defined later than the
    field.
    """
    return tyro.conf.arg(constructor_factory=Choice(classes))


def name_of(kind: type) -> str:
    """The name of a class on the command line: LowRank is low-rank, WarpConfig is warp."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", kind.__name__).lower()
    return words.removesuffix("-config").strip("_")


def choice_of(hint: Any) -> Choice | None:
    """What `choice` has put into an annotation, if it has."""
    for part in (*getattr(hint, "__metadata__", ()), *typing.get_args(hint)):
        found = getattr(part, "constructor_factory", None)
        if isinstance(found, Choice):
            return found
        if typing.get_args(part) and (inner := choice_of(part)):
            return inner
    return None


@contextlib.contextmanager
def own_classes(classes: Iterable[type]) -> Iterator[None]:
    """Offer these classes too, wherever they fit, while a command line is parsed."""
    global _own
    before, _own = _own, tuple(classes)
    try:
        yield
    finally:
        _own = before


def check_literals(config: Any) -> None:
    """Raise ValueError for a field that is none of the words of its `Literal`.

    For the `__post_init__` of a dataclass: Python itself does not look at annotations.
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
