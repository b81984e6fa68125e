"""What XLA made of a step: its collectives and its memory, read from the compiled program."""

import math
import re
from typing import Any, NamedTuple

import jax

BYTES = {"pred": 1, "bf16": 2, "c64": 8, "c128": 16}  # of others the bits stand in the name
COLLECTIVE = re.compile(
    r"= (?P<shapes>.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all)(?:-start)?\("
)
LOOP = re.compile(
    r"while\(.*body=%?(?P<body>[\w.\-]+).*?\"known_trip_count\":\{\"n\":\"(?P<n>\d+)\""
)
CALL = re.compile(r"(?:to_apply|calls|body|branch_computations)=\{?%?(?P<name>[\w.\-]+)")


class Memory(NamedTuple):
    """Bytes on each device."""

    arguments: int
    temporary: int
    """Beside the arguments and the results that do not take their place."""
    peak: int


def memory(compiled: jax.stages.Compiled) -> Memory:
    """XLA's own analysis of a compiled step, whose state is donated."""
    found: Any = compiled.memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(found.argument_size_in_bytes, found.temp_size_in_bytes,
                  held + found.temp_size_in_bytes)  # fmt: skip


def volume(compiled: jax.stages.Compiled) -> dict[tuple[str, int], int]:
    """Bytes of the arrays exchanged in a step, by kind of collective and number of devices.

    As `traced.Tally.volume` counts them: the whole array for a gather, a reduction or a scattered
    sum, and what one device holds for an exchange. Loops count as often as XLA knows that they run.
    """
    bodies, entry = _computations(str(compiled.as_text()))
    total: dict[tuple[str, int], int] = {}
    _add(bodies, entry, 1, total)
    return total


def _add(bodies: dict[str, list[str]], name: str, times: int, total: dict) -> None:
    for line in bodies.get(name, []):
        if found := COLLECTIVE.search(line):
            devices = _group(line)
            size = sum(_bytes(kind, shape) for kind, shape in
                       re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", found["shapes"]))  # fmt: skip
            size *= devices if found["kind"] == "reduce-scatter" else 1
            if devices > 1:
                key = found["kind"], devices
                total[key] = total.get(key, 0) + size * times
        elif loop := LOOP.search(line):
            _add(bodies, loop["body"], times * int(loop["n"]), total)
        else:
            for called in CALL.finditer(line):
                _add(bodies, called["name"], times, total)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, and the name of the first."""
    bodies: dict[str, list[str]] = {}
    name = entry = ""
    for line in text.splitlines():
        if opened := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = opened[2]
            entry = name if opened[1] else entry
            bodies[name] = []
        elif name:
            bodies[name].append(line)
    return bodies, entry


def _group(line: str) -> int:
    """How many devices take part in a collective together."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return listed[1].count(",") + 1
    counted = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    return int(counted[1]) if counted else 1


def _bytes(kind: str, shape: str) -> int:
    size = BYTES.get(kind) or int(re.sub(r"\D", "", kind) or 8) // 8
    return size * math.prod(int(n) for n in shape.split(",") if n)
