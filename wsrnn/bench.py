"""What executions and models cost and how they round, side by side in one process."""

import os
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from wsrnn import data, loop
from wsrnn.errors import UserError
from wsrnn.experiment import Experiment
from wsrnn.metrics import last_valid
from wsrnn.models import ModelConfig
from wsrnn.models.rnn import RnnConfig
from wsrnn.models.ssm import SsmConfig
from wsrnn.models.textbook import TextbookConfig
from wsrnn.models.transformer import TransformerConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.recipe import Recipe
from wsrnn.recurrence import MODES
from wsrnn.recurrence.plan import Plan
from wsrnn.sharding import MeshConfig
from wsrnn.step import Program
from wsrnn.tasks import Batch


@dataclass
class Timing:
    """What was measured of one row."""

    compile_s: float
    step_ms: float  # median of the repeats: value and gradient, without the optimiser
    spread_ms: tuple[float, float]  # least and most
    tokens_per_s: float
    temporary_mib: float  # what the compiled step allocates beyond its arguments, on each device
    parameters: int
    operations: float | None  # of a step by formula, those in matrix products; None if not known
    fraction: float | None  # of the operations that large matrix products do in this time
    fraction_copied: float | None  # counted bytes, of those that copying moves in this time


@dataclass
class Machine:
    """What the first device does at best."""

    product: float  # operations a second, float32 products of 2048 x 2048
    copy: float  # bytes a second read and written


@dataclass
class Errors:
    """The largest errors of one row, relative to the largest value of the reference."""

    outputs: float  # in float32
    gradients: float  # in float32, of the parameter where it is largest
    parameter: str  # that parameter
    gradients_float64: float | None  # None of the reference itself


def executions(recipe: Recipe) -> dict[str, Experiment]:
    """The experiment in every mode, or in the one that a flag names (auto: that it chooses)."""
    experiment = recipe.experiment()
    if any(flag.partition("=")[0] == "--model.mode" for flag in recipe.flags):
        experiment = experiment.resolve()
        return {experiment.model.mode: experiment}
    return modes(experiment)


def modes(experiment: Experiment) -> dict[str, Experiment]:
    """The experiment in each mode that its model can run."""
    variants = {}
    for mode in experiment.model.modes:
        try:
            variants[mode] = replace(experiment, model=replace(experiment.model, mode=mode))
        except ValueError:
            continue  # such as weight clipping, which is not linear: scan is all there is
    return variants or {"only": experiment}


def chosen(experiment: Experiment) -> str | None:
    """The mode that `auto` chooses; None for a model that has no auto."""
    if not (isinstance(experiment.model, WarpConfig) and experiment.model.modes):
        return None
    return replace(experiment, model=replace(experiment.model, mode="auto")).resolve().model.mode


def textbooks(experiment: Experiment) -> dict[str, Experiment]:
    """The plain executions of the same model with a dense A, for a WARP; of others none."""
    if not isinstance(experiment.model, WarpConfig):
        return {}
    dense = TransitionConfig("dense")
    return {
        "textbook": textbook(experiment, transition=dense),
        "textbook, checkpoint": textbook(experiment, transition=dense, checkpoint=True),
    }


def textbook(experiment: Experiment, **changes: Any) -> Experiment:
    """The plain execution of a WARP, with changes of its config.

    Raises UserError where A, as a matrix, and its gradient would not fit the machine.
    """
    P = experiment.model.root(experiment.task.d_in, experiment.task.d_out).size
    if memory() < 3 * 4 * P**2:
        raise UserError(
            f"textbook holds A as a matrix, {4 * P**2 / 1e9:.3g} GB for P = {P:,}, with its "
            "gradient: leave out --textbook and --errors, or choose a smaller root network"
        )
    own = {f.name: getattr(experiment.model, f.name) for f in fields(WarpConfig)}
    return replace(experiment, model=TextbookConfig(**own | {"mode": "scan"} | changes))


def peers(experiment: Experiment) -> dict[str, Experiment]:
    """GRU, LSTM, diagonal SSM and causal Transformer of the same number of parameters, within 5 %.

    Raises ValueError where the model is too small to be matched.
    """
    own = vars(experiment.model)
    common = {name: own[name] for name in ("head", "layout") if name in own}
    families = {
        "gru": lambda w: RnnConfig(cell="gru", width=w, **common),
        "lstm": lambda w: RnnConfig(cell="lstm", width=w, **common),
        **{
            f"ssm, {mode}": lambda w, mode=mode: SsmConfig(
                width=w, states=w // 2, layers=4, spectra=4, mode=mode, **common
            )
            for mode in SsmConfig.modes
        },
        "transformer": lambda w: TransformerConfig(width=w, depth=4, heads=4, **common),
    }
    wanted = parameters(experiment)
    rows = {}
    for name, family in families.items():
        candidates = {
            width: replace(experiment, model=family(width)) for width in range(8, 2048, 8)
        }
        row = min(_bracket(candidates, wanted), key=lambda row: abs(parameters(row) - wanted))
        if abs(parameters(row) / wanted - 1) > 0.05:
            raise ValueError(
                f"--peers: no {name} comes within 5 % of {wanted:,} parameters (the nearest has "
                f"{parameters(row):,}): choose a larger model"
            )
        rows[name] = row
    return rows


def _bracket(candidates: dict[int, Experiment], wanted: int) -> list[Experiment]:
    """The two of an increasing family between which the wanted size lies, by bisection."""
    rows = list(candidates.values())
    low, high = 0, len(rows) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(rows[middle]) <= wanted else (low, middle)
    return [rows[low], rows[high]]


def parameters(experiment: Experiment) -> int:
    """How many numbers the model learns; makes no arrays."""
    state = nnx.state(nnx.eval_shape(experiment.build_model))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state))


def operations(experiment: Experiment) -> float | None:
    """Operations of value and gradient by formula: of products and transforms, all devices."""
    task, N = experiment.task, experiment.batch_size
    model: ModelConfig = experiment.model
    if isinstance(model, TextbookConfig):
        built = nnx.eval_shape(experiment.build_model)
        P, C = built.root.size, built.channels
        return 6.0 * N * task.length * (P**2 + P * C) + _root_operations(experiment)
    if isinstance(model, WarpConfig):
        counts = _plan(experiment).counts
        return counts.product + counts.thin + counts.transform + _root_operations(experiment)
    sizes = nnx.eval_shape(experiment.build_model).sizes(task.length)
    per_token = sizes.get("operations per token")  # which not every model knows
    return per_token and 3.0 * N * task.length * per_token


def _root_operations(experiment: Experiment) -> float:
    """Of reading the root once and differentiating it, which takes twice as many."""
    task = experiment.task
    steps = task.length if task.reads("train") == "all" else 1
    read = experiment.model.root(task.d_in, task.d_out).operations
    return 3.0 * experiment.batch_size * steps * read


def _bytes(experiment: Experiment) -> float | None:
    """Bytes that the execution of a WARP reads and writes, by its plan's counts."""
    if not isinstance(experiment.model, WarpConfig) or not experiment.model.modes:
        return None
    counts = _plan(experiment).counts
    return counts.reading + counts.passing


def _plan(experiment: Experiment) -> Plan:
    return min(experiment.plans(devices=1), key=lambda plan: plan.seconds)


def machine() -> Machine:
    """Measure the rates that rows are compared with."""
    a, long = jnp.full((2048, 2048), 1 / 2048), jnp.ones(2**24)
    work = {  # of some size, that starting it may take no time beside it
        "product": lambda: jax.lax.fori_loop(
            0, 2, lambda _, x: jnp.matmul(x, a, precision="highest"), a
        ),
        "copy": lambda: jax.lax.fori_loop(0, 2, lambda _, x: x + 1, long),
    }
    seconds = {}
    for name, function in work.items():
        compiled, times = jax.jit(function).lower().compile(), []
        for _ in range(3):
            began = time.perf_counter()
            jax.block_until_ready(compiled())
            times.append(time.perf_counter() - began)
        seconds[name] = median(times) / 2
    return Machine(2 * 2048**3 / seconds["product"], 8 * 2**24 / seconds["copy"])


def measure(
    experiments: dict[str, Experiment], repeats: int = 7, rates: Machine | None = None
) -> dict[str, Timing]:
    """Time value and gradient of each experiment's training loss on its first batch, in turns.

    Taking turns spreads the machine's moods over all of them; compilation is timed apart. Memory is
    XLA's own account of the compiled step.
    """
    ready: dict[str, Any] = {}
    for name, experiment in experiments.items():
        experiment = experiment.resolve()
        mesh = experiment.mesh.build(experiment.batch_size)
        program = loop.compose(experiment, mesh)
        batch = next(data.train_stream(experiment.task, experiment.batch_size, experiment.seed))
        batch = loop.to_devices(batch, mesh)
        params = program.init().params
        began = time.perf_counter()
        compiled = program.gradients.lower(params, batch).compile()
        took = time.perf_counter() - began
        jax.block_until_ready(compiled(params, batch))
        ready[name] = (compiled, params, batch, took)

    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(repeats):
        for name, (compiled, params, batch, _) in ready.items():
            began = time.perf_counter()
            jax.block_until_ready(compiled(params, batch))
            times[name].append(time.perf_counter() - began)

    result = {}
    for name, (compiled, _, _, took) in ready.items():
        experiment, seconds = experiments[name], times[name]
        devices = experiment.mesh.devices()
        counted, moved = operations(experiment), _bytes(experiment)
        result[name] = Timing(
            took,
            1e3 * median(seconds),
            (1e3 * min(seconds), 1e3 * max(seconds)),
            experiment.batch_size * experiment.task.length / median(seconds),
            compiled.memory_analysis().temp_size_in_bytes / 2**20,
            parameters(experiment),
            counted,
            counted / median(seconds) / rates.product / devices if counted and rates else None,
            moved / median(seconds) / rates.copy / devices if moved and rates else None,
        )
    return result


def memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory() -> float:
    """MiB that this process has held in memory at most, so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def errors(experiments: dict[str, Experiment]) -> dict[str, Errors]:
    """How executions of one WARP round, and `textbook`, against `textbook` in float64.

    Outputs and gradients of the training loss on the first batch, on one device; the parameters are
    drawn in float32. Raises UserError where there is no `reference`.
    """
    first = next(iter(experiments.values()))
    exact = reference(first)
    rows = experiments | {"textbook": textbook(first)}
    batch = next(data.train_stream(first.task, first.batch_size, first.seed))
    given = jax.device_get(_on_one_device(first).init().params), batch._replace(latents={})
    truth = _outputs_and_gradients(exact, *given, np.float64)
    result = {}
    for name, row in rows.items():
        narrow = _outputs_and_gradients(row, *given, np.float32)
        (_, outputs), (parameter, gradients) = map(_largest_error, narrow, truth)
        wide = None
        if name != "textbook":
            wide = _outputs_and_gradients(row, *given, np.float64)[1]
            wide = _largest_error(wide, truth[1])[1]
        result[name] = Errors(outputs, gradients, parameter, wide)
    return result


def reference(experiment: Experiment) -> Experiment:
    """What `errors` compares with, to be run in float64.

    Raises UserError for another model than a WARP, and where A as a matrix would not fit.
    """
    if not isinstance(experiment.model, WarpConfig):
        raise UserError(
            "--errors compares the executions of a WARP, and "
            f"{type(experiment.model).__name__} has no textbook to be compared with: name another "
            "experiment"
        )
    return textbook(experiment, bfloat16=False)


def _on_one_device(experiment: Experiment) -> Program:
    return loop.compose(experiment.resolve(), MeshConfig(data=1).build(experiment.batch_size))


def _outputs_and_gradients(experiment: Experiment, params: Any, batch: Batch, dtype) -> tuple:
    """What training computes of a batch, everything in one precision."""
    params, batch = jax.tree.map(
        lambda x: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x, (params, batch)
    )
    with jax.enable_x64(dtype == np.float64):
        program, reads = _on_one_device(experiment), experiment.task.reads("train")

        @jax.jit
        def outputs(params, batch):
            at = None if reads == "all" else last_valid(batch.mask)
            return nnx.merge(program.graphdef, params)(batch.inputs, batch.times, at=at)

        gradients, _ = program.gradients(params, batch)
        return jax.device_get((outputs(params, batch), gradients))


def _largest_error(values: Any, truth: Any) -> tuple[str, float]:
    """The array of a tree that is off the most, relative to its largest value, and how much.

    A gradient that is zero but for rounding, as of a bias that differences cancel, is compared with
    the largest value of the whole tree instead.
    """
    paths, truth = zip(*jax.tree_util.tree_leaves_with_path(truth), strict=True)
    sizes = [np.abs(x).max(initial=0) for x in truth]
    off = {}
    for path, value, x, size in zip(paths, jax.tree.leaves(values), truth, sizes, strict=True):
        size = size if size > 1e-10 * max(sizes) else max(sizes)
        error = float(np.abs(value - x).max(initial=0) / (size or 1))
        off[jax.tree_util.keystr(path, simple=True, separator=".")] = error
    worst = max(off, key=lambda name: np.nan_to_num(off[name], nan=np.inf))
    return worst, off[worst]


def against_best(auto: str | None, timings: dict[str, Timing]) -> float | None:
    """The step time of the mode that auto chooses over that of the quickest mode."""
    steps = [timings[mode].step_ms for mode in MODES if mode in timings]
    return timings[auto].step_ms / min(steps) if auto in timings else None


def text(timings: dict[str, Timing], auto: str | None = None) -> str:
    """The table for a terminal; `times` is the slowest row's step over the row's.

    The mode that auto chooses is marked, and compared with the quickest.
    """
    marked = {name + " (auto)" * (name == auto): timing for name, timing in timings.items()}
    width = _width(marked)
    titles = {"step ms": 10, "least..most": 20, "times": 8, "tokens/s": 12, "temporary MiB": 15}
    titles |= {"parameters": 12, "operations": 12, "of peak": 9, "of copy": 9, "compile s": 11}
    head = " " * width + "".join(f"{name:>{w}}" for name, w in titles.items())
    slowest = max(t.step_ms for t in timings.values())
    rows = [
        f"{name:{width}}{t.step_ms:10.2f}{t.spread_ms[0]:10.2f}..{t.spread_ms[1]:<8.2f}"
        f"{slowest / t.step_ms:8.2f}{t.tokens_per_s:12,.0f}{t.temporary_mib:15.1f}"
        f"{t.parameters:12,}{_optional(t.operations, '.2e'):>12}"
        f"{_optional(t.fraction, '.0%'):>9}{_optional(t.fraction_copied, '.0%'):>9}"
        f"{t.compile_s:11.1f}"
        for name, t in marked.items()
    ]
    if auto:
        times = against_best(auto, timings)
        against = f"{times:.2f} times the step of the quickest mode" if times else "not timed here"
        rows.append(f"auto chooses {auto}: {against}")
    return "\n".join([head, *rows])


def errors_text(errors: dict[str, Errors]) -> str:
    """The table of errors for a terminal."""
    width = _width(errors)
    titles = {"outputs": 11, "gradients": 11, "in float64": 12}
    head = " " * width + "".join(f"{name:>{w}}" for name, w in titles.items())
    rows = [
        f"{name:{width}}{e.outputs:11.1e}{e.gradients:11.1e}"
        f"{_optional(e.gradients_float64, '.1e'):>12}  {e.parameter}"
        for name, e in errors.items()
    ]
    return "\n".join([head + "  largest in", *rows])


def _width(names: Iterable[str]) -> int:
    return max(12, *(len(name) + 2 for name in names))


def _optional(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
