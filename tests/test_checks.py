"""No string of any config is unchecked: every Literal of every dataclass of the package."""

import dataclasses
import importlib
import inspect
import pkgutil
import typing

import pytest

import wsrnn
from wsrnn.checks import hints
from wsrnn.evaluations.in_context import PrefixError
from wsrnn.optim import Adam
from wsrnn.recurrence import Plan, Transition
from wsrnn.root import Mlp, Root

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


class Loose(Root):
    """A root that is no dataclass."""

    blocks = init = apply = None


@dataclasses.dataclass
class Thawed(Transition):
    """A form that could change."""

    init = apply = None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5.0}, "Experiment.steps must be an integer, got 5.0"),
        ({"batch_size": "8"}, "Experiment.batch_size must be an integer, got '8'"),
        ({"seed": None}, "Experiment.seed must be an integer, got None"),
        ({"evaluation": PrefixError}, "evaluation is the class PrefixError: write PrefixError()"),
        ({"optim.learning_rate": "1e-3"}, "OptimConfig.learning_rate must be a number, got '1e-3'"),
        ({"optim.rule": Adam}, "OptimConfig.rule is the class Adam: write Adam()"),
        ({"optim.average": [0.9]}, "OptimConfig.average must be a number"),
        ({"model.root": Mlp}, "WarpConfig.root is the class Mlp: write Mlp()"),
        ({"model.root": Loose()}, "WarpConfig.root must be a frozen dataclass.* above Loose"),
        ({"model.transition": Thawed()}, "WarpConfig.transition must be a frozen dataclass"),
    ],
)
def test_a_value_of_another_kind_is_named(change, message, unchecked):
    ((path, value),) = change.items()
    whole = importlib.import_module("tiny").experiment
    *within, name = path.split(".")
    part = getattr(whole, within[0]) if within else whole
    with pytest.raises((ValueError, TypeError), match=message):
        dataclasses.replace(part, **{name: value})
