"""Fields that take one of several classes.

Apart from `flags`, which parses the command line, the one place that imports tyro.
"""

import contextlib
import inspect
import re
import typing
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Generic, Protocol, Union

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
