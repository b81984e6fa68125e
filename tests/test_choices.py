"""Words of a Literal are checked by the class itself; classes have names for the command line."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from wsrnn.checks import check_fields
from wsrnn.choices import choice, choice_of, name_of, own_classes


class Base:
    pass


@dataclass(frozen=True)
class First(Base):
    mode: Literal["scan", "conv"] = "scan"
    maybe: Literal["a", "b"] | None = None
    many: tuple[Literal["x", "y"], ...] = ()
    pair: "tuple[int, Literal['left', 'right']]" = (0, "left")
    number: "Literal['auto'] | int" = "auto"
    noted: "Annotated[Literal['on', 'off'], 'a note']" = "on"
    free: str = "anything"
    size: Literal[1, 2] = 1

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class LowRankConfig(Base):
    pass


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("mode", "sacn", ["First.mode 'sacn'", "did you mean scan?", "one of scan, conv"]),
        ("mode", None, ["First.mode None"]),
        ("maybe", "c", ["First.maybe 'c'", "one of a, b"]),
        ("many", ("x", "z"), ["First.many 'z'", "one of x, y"]),
        ("pair", (1, "lift"), ["did you mean left?"]),
        ("number", "atuo", ["did you mean auto?"]),
        ("noted", "of", ["did you mean off?"]),
        ("size", 3, ["First.size 3", "one of 1, 2"]),
        ("size", True, ["First.size True"]),
    ],
)
def test_a_word_that_no_literal_has_is_named_with_the_nearest(unchecked, field, value, words):
    with pytest.raises(ValueError) as raised:
        First(**{field: value})
    assert all(word in str(raised.value) for word in words)


def test_words_that_a_literal_has_pass():
    First("conv", "b", ("x", "y"), (3, "right"), 7, "off", "?", 2)


def test_fields_whose_annotations_cannot_be_resolved_do_not_hide_the_others():
    class Local:
        pass

    @dataclass
    class Late:
        what: "Local"
        mode: "Literal['scan', 'conv']"

    check_fields(Late(Local(), "scan"))
    with pytest.raises(ValueError, match=r"Late\.mode"):
        check_fields(Late(Local(), "scam"))


def test_classes_are_named_after_themselves():
    names = {"Mlp": "mlp", "LowRank": "low-rank", "WarpConfig": "warp", "GRUCell": "gru-cell"}
    assert {name: name_of(type(name, (), {})) for name in names} == names


def test_classes_of_ones_own_are_offered_beside_those_with_the_same_base():
    @dataclass
    class Mine(Base):
        pass

    @dataclass
    class Other:
        pass

    hint = Annotated[Base, choice(lambda: (First, LowRankConfig))]
    for annotation in (hint, hint | None):
        found = choice_of(annotation)
        assert list(found.named()) == ["first", "low-rank"]
        with own_classes([Mine, Other, First]):
            assert found.named() == {"first": First, "low-rank": LowRankConfig, "mine": Mine}
    assert choice_of(int | None) is None
