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

    match: tuple[str, ...]
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
        """Whether the file's name holds one of the words, or a field of a task is one."""
        fields = {
            str(value).lower()
            for group in section.groups
            for name, value in group.runs[0].config.items()
            if name.startswith("task")
        }
        name = section.name.lower()
        parts = set(name.split("_"))
        return any(
            word in fields or word in parts or (len(word) > 4 and word in name)
            for word in self.match
        )


def published(section: Section) -> list[Published]:
    """The tables that go with a section."""
    return [table for table in _read()[0] if table.goes_with(section)]


def trust() -> dict[str, str]:
    """What the words of provenance mean."""
    return _read()[1]


@cache
def _read() -> tuple[list[Published], dict[str, str]]:
    document = tomllib.loads(files("wsrnn.page").joinpath("published.toml").read_text("utf-8"))
    tables = [
        Published(
            **table | {
                "match": tuple(table["match"]),
                "numbers": tuple(Number(*number) for number in table["numbers"]),
            }
        )
        for table in document["table"]
    ]  # fmt: skip
    return tables, document["trust"]
