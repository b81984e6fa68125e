"""The tables of a benchmark for a terminal."""

from wsrnn.bench.rounding import Errors
from wsrnn.bench.timing import Timing
from wsrnn.recurrence import MODES
from wsrnn.text_table import text_table


def against_best(auto: str | None, timings: dict[str, Timing]) -> float | None:
    """The step time of the mode that auto chooses over that of the quickest mode."""
    steps = [timings[mode].step_ms for mode in MODES if mode in timings]
    return timings[auto].step_ms / min(steps) if auto in timings else None


def text(timings: dict[str, Timing], auto: str | None = None) -> str:
    """The table of step times; `times` is the slowest row's step over the row's.

    The mode that auto chooses is marked, and compared with the fastest.
    """
    slowest = max(t.step_ms for t in timings.values())
    columns = [
        "step ms", "least..most", "times", "tokens/s", "temporary MiB", "parameters", "operations",
        "of peak", "of copy", "compile s",
    ]  # fmt: skip
    rows = {
        name + " (auto)" * (name == auto): [
            f"{t.step_ms:.2f}",
            f"{t.spread_ms[0]:.2f}..{t.spread_ms[1]:.2f}",
            f"{slowest / t.step_ms:.2f}",
            f"{t.tokens_per_s:,.0f}",
            f"{t.temporary_mib:.1f}",
            f"{t.parameters:,}",
            _optional(t.operations, ".2e"),
            _optional(t.fraction, ".0%"),
            _optional(t.fraction_copied, ".0%"),
            f"{t.compile_s:.1f}",
        ]
        for name, t in timings.items()
    }
    lines = [text_table(columns, rows)]
    if auto:
        times = against_best(auto, timings)
        against = f"{times:.2f} times the step of the quickest mode" if times else "not timed here"
        lines.append(f"auto chooses {auto}: {against}")
    return "\n".join(lines)


def errors_text(errors: dict[str, Errors]) -> str:
    """The table of rounding errors."""
    rows = {
        name: [
            f"{e.outputs:.1e}",
            f"{e.gradients:.1e}",
            _optional(e.gradients_float64, ".1e"),
            e.parameter,
        ]
        for name, e in errors.items()
    }
    return text_table(["outputs", "gradients", "in float64", "largest in"], rows)


def _optional(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
