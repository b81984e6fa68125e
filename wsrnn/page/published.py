"""Published numbers, with where each was seen: `published.toml`."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from wsrnn.page.groups import Section


class Number(NamedTuple):
    """A published number; `trust` says where it was seen."""

    model: str
    column: str
    value: str
    trust: str


@dataclass(frozen=True)
class Published:
    """A table or figure of the paper."""

    match: dict[str, list[str]]
    """Values by field, of the configs that it goes with."""
    source: str
    title: str
    setting: str
    numbers: tuple[Number, ...]
    where: dict[str, Any] = field(default_factory=dict)
    """Fields that a config must have for numbers to stand in line with its results."""

    def compares_with(self, section: Section) -> bool:
        """Whether its numbers may stand in line with the section's results."""
        configs = [group.runs[0].config for group in section.groups]
        return bool(self.where) and all(
            config.get(name) == value for config in configs for name, value in self.where.items()
        )

    def goes_with(self, section: Section) -> bool:
        """Whether a config has, for every field of `match`, one of the values."""
        return any(
            all(group.runs[0].config.get(name) in values for name, values in self.match.items())
            for group in section.groups
        )


def published(section: Section) -> list[Published]:
    """The tables that go with a section."""
    return [table for table in document()[0] if table.goes_with(section)]


def trust() -> dict[str, str]:
    """What the words of provenance mean."""
    return document()[1]


@cache
def document() -> tuple[list[Published], dict[str, str]]:
    """All tables, and what the words of provenance mean."""
    text = files("wsrnn.page").joinpath("published.toml").read_text("utf-8")
    found = tomllib.loads(text)
    tables = [
        Published(**table | {"numbers": tuple(Number(*number) for number in table["numbers"])})
        for table in found["table"]
    ]
    return tables, found["trust"]
