"""No string of any config is unchecked: every Literal of every dataclass of the package."""

import dataclasses
import importlib
import inspect
import pkgutil
import typing

import pytest

import wsrnn
from wsrnn.literals import hints
from wsrnn.recurrence import Plan

RESULTS = (Plan,)  # what is computed, not chosen


def configs():
    """Every concrete dataclass of the package, with each of its fields that holds a Literal."""
    for module in pkgutil.walk_packages(wsrnn.__path__, "wsrnn."):
        if module.name.endswith("__main__"):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if not dataclasses.is_dataclass(kind) or not isinstance(kind, type):
                continue
            if kind.__module__ != module.name or inspect.isabstract(kind) or kind in RESULTS:
                continue
            for field in dataclasses.fields(kind):
                if field.init and typing.Literal in origins(hints(kind).get(field.name)):
                    yield pytest.param(kind, field.name, id=f"{kind.__qualname__}.{field.name}")


def origins(hint):
    """All that an annotation is made of."""
    yield typing.get_origin(hint)
    for part in typing.get_args(hint):
        yield from origins(part)


NEEDED = {"Experiment": lambda: importlib.import_module("tiny").experiment}


@pytest.mark.parametrize(("kind", "field"), [*configs()])
def test_a_misspelt_choice_is_an_error_and_not_another_model(kind, field, unchecked):
    try:
        config = NEEDED.get(kind.__name__, kind)()
    except TypeError:
        pytest.fail(f"{kind.__name__} cannot be made of its defaults: name one in NEEDED")
    with pytest.raises(ValueError, match=f"{field} .*'misspelt'.* is unknown"):
        dataclasses.replace(config, **{field: "misspelt"})
