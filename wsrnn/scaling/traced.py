"""What a traced step does on each device: operations, bytes, collectives, the most memory held.

Counted in the program itself, as jax traces it for a mesh of any size, so that it holds for every
model, mode and mesh; no device and no array is needed. The rules for what a compiler makes of it
are those of a roofline: elementwise operations and views are fused into what uses them; an array
exists where a product, a transform, a loop, a collective or the end of the program needs it, and is
written once and read once by each of its users.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.extend.core import Jaxpr, Literal
from jax.sharding import AbstractMesh, NamedSharding

from wsrnn.recurrence.scan import linear_scan_p
from wsrnn.sharding import MODEL

LOOPS = {"scan", "while", "cond"}
COLLECTIVES = {
    "psum": "all-reduce",
    "psum_invariant": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "all_to_all": "all-to-all",
}
PRODUCTS = {"dot_general", "conv_general_dilated", "contraction"}
WHOLE = (  # operations whose operands are arrays in memory, not fused into them
    {"dot_general", "conv_general_dilated", "fft", "sort", "cumsum", "cummax", "cumprod"}
    | {"triangular_solve", "cholesky", "eigh", "svd", "lu", "qr"}
    | LOOPS
    | COLLECTIVES.keys()
)
REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"}
IN_PLACE = {"scatter", "scatter-add", "dynamic_update_slice"}  # touch no more than the update
KERNELS = WHOLE | REDUCTIONS | IN_PLACE | {"contraction", "argmax", "argmin", "random_bits"}
ALIASES = {"view", "reshape", "squeeze", "transpose", "stop_gradient"}  # the operand itself
PARTIAL = {"slice", "dynamic_slice", "gather"}  # read no more than they return


@dataclass(eq=False)
class Value:
    """An array on one device."""

    bytes: int
    parts: int = 1
    """Into how many parts it is split where XLA places it: 1 within `shard_map`."""
    sources: dict["Value", int] | None = None
    """Of a fused value: the arrays it is computed from, and the bytes read of each."""

    def reads(self) -> dict["Value", int]:
        """The arrays in memory that are read for it."""
        return {self: self.bytes} if self.sources is None else self.sources


class Work(NamedTuple):
    """One operation, or a chain of fused ones."""

    kind: str
    """float32, fast (float32 at the default precision), bfloat16, transform, or passing."""
    operations: float
    bytes: float
    times: int


class Collective(NamedTuple):
    """One exchange between devices."""

    kind: str
    devices: int
    """That take part."""
    axes: tuple[str, ...]
    bytes: int
    """Of the whole array: gathered, reduced, or exchanged by one device."""
    times: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends, by a ring or directly."""
        rounds = 2 if self.kind == "all-reduce" else 1
        return rounds * self.bytes * (self.devices - 1) / self.devices * self.times


class Step(NamedTuple):
    """An operation of a program in which calls are written out."""

    name: str
    params: dict[str, Any]
    avals: list[Any]
    """Of the operands."""
    ins: list[Value]
    outs: list[Value]


@dataclass
class Tally:
    """What a program does on one device."""

    work: list[Work] = field(default_factory=list)
    collectives: list[Collective] = field(default_factory=list)
    peak: int = 0
    """Bytes of arrays beside the program's arguments, at most at one time."""

    def operations(self) -> float:
        """In products and transforms."""
        return sum(w.operations * w.times for w in self.work)

    def sent(self) -> float:
        """Bytes that the device sends."""
        return sum(c.sent for c in self.collectives)

    def volume(self) -> dict[tuple[str, int], int]:
        """Bytes of the arrays exchanged, by kind and number of devices."""
        total: dict[tuple[str, int], int] = {}
        for kind, devices, _, size, times in self.collectives:
            total[kind, devices] = total.get((kind, devices), 0) + size * times
        return total

    def add(self, other: "Tally", times: int = 1) -> None:
        """What another program does, so many times, but for its memory."""
        self.work += [w._replace(times=w.times * times) for w in other.work]
        self.collectives += [c._replace(times=c.times * times) for c in other.collectives]


def tally(traced: jax.stages.Traced, arguments: Any, mesh: AbstractMesh) -> Tally:
    """Count a step, traced with these abstract arguments, which have shardings on the mesh."""
    leaves = jax.tree.leaves(arguments)
    args = [_value(leaf, _parts(leaf.sharding, mesh)) for leaf in leaves]
    return _Counter(mesh).program(traced.jaxpr.jaxpr, args)


def _parts(sharding: NamedSharding, mesh: AbstractMesh) -> int:
    """Into how many parts a sharding splits an array."""
    entries = [(e,) if isinstance(e, str) else e for e in sharding.spec if e is not None]
    return math.prod(mesh.shape[axis] for axes in entries for axis in axes)


def _value(aval: Any, parts: int = 1) -> Value:
    return Value(-(-math.prod(aval.shape) * aval.dtype.itemsize // parts), parts)


class _Counter:
    """Counts programs on one mesh."""

    def __init__(self, mesh: AbstractMesh):
        self.mesh = mesh

    def program(self, jaxpr: Jaxpr, args: list[Value]) -> Tally:
        """Count a program, with calls written out and without what nobody needs."""
        steps: list[Step] = []
        results = self._written_out(jaxpr, args, steps)
        steps = _needed(steps, results)
        _fuse(steps, results)
        last: dict[Value, int] = {}  # by which step each array is read for the last time
        for i, step in enumerate([*steps, Step("return", {}, [], results, [])]):
            last |= {source: i for value in step.ins for source in value.reads()}
        total, held = Tally(), set[Value]()
        for i, step in enumerate(steps):
            inside = self._count(step, total)
            made = {out for out in step.outs if out.sources is None}
            read = {source for value in step.ins for source in value.reads()}
            freed = {value for value in held & read if last[value] == i}
            # Elementwise results are written over what is read for the last time.
            reused = 0 if step.name in WHOLE else min(_bytes(made), _bytes(freed))
            total.peak = max(total.peak, _bytes(held) + _bytes(made) - reused + inside)
            held = {value for value in held - freed | made if value in last}
        return total

    def _written_out(self, jaxpr: Jaxpr, args: list[Value], steps: list[Step]) -> list[Value]:
        """Append the program's operations, with calls written out; returns its results."""
        values: dict[Any, Value] = dict(zip(jaxpr.invars, args, strict=True))
        values |= {var: _value(var.aval) for var in jaxpr.constvars}

        def value(atom):
            return Value(0) if isinstance(atom, Literal) else values[atom]

        for eqn in jaxpr.eqns:
            name, ins = eqn.primitive.name, list(map(value, eqn.invars))
            called = None if name in LOOPS else self._called(eqn)
            if (
                called is not None and name == "shard_map"
            ):  # within it a part is an array of its own
                parts = [_value(var.aval) for var in called.invars]
                steps += map(_view, ins, parts)
                results = self._written_out(called, parts, steps)
                wholes = [_value(var.aval).bytes for var in eqn.outvars]
                outs = [
                    Value(part.bytes, whole // (part.bytes or whole))
                    for whole, part in zip(wholes, results, strict=True)
                ]
                steps += map(_view, results, outs)
            elif called is not None:
                outs = self._written_out(called, ins, steps)
            else:
                split = 1 if name in REDUCTIONS else max((v.parts for v in ins), default=1)
                if name == "sharding_constraint":
                    split = _parts(eqn.params["sharding"], self.mesh)
                outs = [_value(var.aval, split) for var in eqn.outvars]
                avals = [atom.aval for atom in eqn.invars]
                steps.append(Step(name, eqn.params, avals, ins, outs))
            values |= dict(zip(eqn.outvars, outs, strict=True))
        return list(map(value, jaxpr.outvars))

    def _called(self, eqn: Any) -> Jaxpr | None:
        """The program that an operation stands for, if it does."""
        if eqn.primitive is linear_scan_p:
            run = partial(linear_scan_p.impl, **eqn.params)
            shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
            return jax.make_jaxpr(run, axis_env=list(self.mesh.shape.items()))(*shapes).jaxpr
        found = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        return getattr(found, "jaxpr", found)

    def _count(self, step: Step, total: Tally) -> int:
        """Add what an operation does to the total; returns the memory that it takes within."""
        name, params, _, ins, outs = step
        written = sum(out.bytes for out in outs if out.sources is None)
        sources: dict[Value, int] = {}
        for value in ins:
            sources |= value.reads()
        moved = written + sum(sources.values())
        if name in COLLECTIVES:
            self._exchanged(step, total)
        elif name == "scan":
            body = self.program(params["jaxpr"].jaxpr, _arguments(params["jaxpr"]))
            total.add(body, params["length"])
            return body.peak
        elif name == "while":  # how often is not known: once
            body = self.program(params["body_jaxpr"].jaxpr, _arguments(params["body_jaxpr"]))
            total.add(body)
            return body.peak
        elif name == "cond":
            branches = [self.program(b.jaxpr, _arguments(b)) for b in params["branches"]]
            total.add(max(branches, key=lambda b: sum(w.bytes * w.times for w in b.work)))
            return max(b.peak for b in branches)
        elif name in PRODUCTS:
            total.work.append(Work(*_product(step), moved, 1))
        elif name == "fft":
            total.work.append(Work("transform", _transform(step), moved, 1))
        elif name in IN_PLACE:
            update = ins[1 if name == "dynamic_update_slice" else 2]
            total.work.append(Work("passing", 0, 3 * update.bytes, 1))
        elif name in KERNELS or written:
            total.work.append(Work("passing", 0, moved, 1))
        split = max((value.parts for value in ins), default=1)
        if name in REDUCTIONS and split > 1:  # XLA's own, of what it places
            total.collectives.append(Collective("all-reduce", split, (MODEL,), outs[0].bytes, 1))
        return 0

    def _exchanged(self, step: Step, total: Tally) -> None:
        """Add a collective."""
        axes: Any = step.params.get("axes", step.params.get("axis_name"))
        axes = (axes,) if isinstance(axes, str) else tuple(axes)
        devices = math.prod(self.mesh.shape[axis] for axis in axes)
        whole = step.outs if step.name == "all_gather" else step.ins
        kind = COLLECTIVES[step.name]
        if devices > 1:
            total.collectives += [Collective(kind, devices, axes, v.bytes, 1) for v in whole]


def _bytes(values: set[Value]) -> int:
    return sum(value.bytes for value in values)


def _view(of: Value, view: Value) -> Step:
    """The same memory, seen otherwise."""
    return Step("view", {}, [], [of], [view])


def _arguments(closed: Any) -> list[Value]:
    return list(map(_value, closed.in_avals))


def _needed(steps: list[Step], results: list[Value]) -> list[Step]:
    """The steps without those whose results nobody reads."""
    needed, kept = set(results), []
    for step in reversed(steps):
        if needed.intersection(step.outs):
            needed.update(step.ins)
            kept.append(step)
    return kept[::-1]


def _fuse(steps: list[Step], results: list[Value]) -> None:
    """Decide which values are arrays in memory, and what the others are computed from."""
    whole = set(results)
    for step in reversed(steps):
        if step.name in WHOLE or (step.name in ALIASES and step.outs[0] in whole):
            whole.update(step.ins)
    for step in steps:
        if step.name in KERNELS or (step.name not in ALIASES and whole.intersection(step.outs)):
            continue
        for out in step.outs:
            out.sources = {}
            for value in step.ins:
                out.sources |= value.reads()
            if step.name in PARTIAL:
                out.sources = {s: min(size, out.bytes) for s, size in out.sources.items()}


def _product(step: Step) -> tuple[str, float]:
    """Kind and operations of a product."""
    left, right = step.avals[:2]
    if step.name == "contraction":
        return "float32", 2.0 * left.size
    if step.name == "dot_general":
        (contracted, _), (batch, _) = step.params["dimension_numbers"]
        shared = math.prod(left.shape[i] for i in contracted)
        operations = 2.0 * left.size * right.size / shared
        operations /= math.prod(left.shape[i] for i in batch)
    else:
        operations = 2.0 * left.size * right.size / max(1, left.shape[0])
    if left.dtype.itemsize < 4:
        return "bfloat16", operations
    precision = step.params["precision"]
    return "float32" if "HIGH" in str(precision) else "fast", operations


def _transform(step: Step) -> float:
    """Operations of Fourier transforms: 5 n log2 n of complex numbers, half of real ones."""
    n = math.prod(step.params["fft_lengths"])
    real = "RFFT" in str(step.params["fft_type"])
    along = len(step.params["fft_lengths"])
    count = math.prod(step.avals[0].shape[:-along])
    return (2.5 if real else 5.0) * count * n * math.log2(max(2, n))
