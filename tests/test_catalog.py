"""What holds for every class that the command line offers."""

import dataclasses
import typing

import pytest
from flax import nnx

from wsrnn import catalog
from wsrnn.checks import hints
from wsrnn.choices import choice_of, name_of
from wsrnn.experiment import Experiment
from wsrnn.flags import apply_flags, class_words
from wsrnn.models.peers.dlinear import DLinearConfig
from wsrnn.root import Formula, Residual
from wsrnn.tasks.layouts import JointMasked
from wsrnn.tasks.regression import LinearRegression


def dataclasses_in(hint):
    """The dataclasses that an annotation names, without those of a `choice`."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return {hint}
    return {kind for part in typing.get_args(hint) for kind in dataclasses_in(part)}


def reachable():
    """Every class of a config that a flag or a class word can reach, from `Experiment` on."""
    found, new = set(), {Experiment, Formula}
    while new:
        found |= new
        every = [hint for kind in new for hint in hints(kind).values()]
        chosen = {kind for hint in every if (c := choice_of(hint)) for kind in c.named().values()}
        new = {kind for hint in every for kind in dataclasses_in(hint)} | chosen
        new -= found
    return found


def test_every_class_of_the_catalog_is_reached():
    assert reachable() > {*catalog.models(), *catalog.tasks(), *catalog.evaluations(), Residual}


def test_every_field_is_one_that_a_flag_sets():
    ignored = [
        f"{kind.__name__}.{field.name}"
        for kind in reachable()
        for field in dataclasses.fields(kind)
        if not field.init
    ]
    assert not ignored


def test_every_optional_part_is_named_among_the_classes():
    unnamed = [
        f"{kind.__name__}.{name}"
        for kind in reachable()
        for name, hint in hints(kind).items()
        if type(None) in typing.get_args(hint) and dataclasses_in(hint) and not choice_of(hint)
    ]
    assert not unnamed


@pytest.mark.parametrize("kind", catalog.models(), ids=name_of)
def test_sizes_by_rule_reach_every_model(kind):
    task = LinearRegression(d=3, examples=4, layout=JointMasked())
    experiment = Experiment(task=task, model=kind())
    refused = {}
    for word in class_words(experiment):
        at, _, name = word.partition(":")
        if name not in ("residual", "outer"):  # those with open sizes
            continue
        opened = ["repeats", "spread"] if name == "residual" else []
        flags = [word, *(w for size in opened for w in (f"--{at}.{size}", "None"))]
        try:
            nnx.eval_shape(apply_flags(experiment, flags).build_model)
        except ValueError as error:
            refused[word] = str(error)
    assert refused.keys() <= {"model.last.lift:outer"}  # a stack's last layer is given its tokens
    assert all("\n" not in line and "set last.lift None" in line for line in refused.values())


def test_sizes_by_rule_reach_the_inner_network_of_a_formula():
    task = LinearRegression(d=3, examples=4, layout=JointMasked())
    root = Formula(half, Residual(repeats=None, spread=None))
    model = catalog.models()[0](root=root)
    sized = Experiment(task=task, model=model).sized().model.root.inner
    assert sized == Residual(repeats=None, spread=None).sized(4, 1, 0.0)


def half(o, z):
    return o / 2


@pytest.mark.parametrize("kind", catalog.models(), ids=name_of)
def test_every_model_is_built_and_counted_without_arrays(kind):
    task = LinearRegression(d=2, examples=4)
    config = kind()
    if not config.reads_before_writing and hasattr(config, "layout"):
        config = dataclasses.replace(config, layout="read_before_write")
    config = DLinearConfig(context=3, horizon=2) if kind is DLinearConfig else config.sized(task)
    built = nnx.eval_shape(lambda: config.build(task.d_in, task.d_out, rngs=nnx.Rngs(0)))
    assert all(isinstance(count, int) for count in built.sizes(task.length).values())
