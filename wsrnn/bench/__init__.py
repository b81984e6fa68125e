"""What executions and models cost and how they round, measured side by side in one process.

rows      what is measured: the modes of a model, plain textbook executions, models of equal size
timing    how it is measured: value and gradient, in turns
rounding  errors of float32 against float64
table     text for a terminal; figures: pictures

Another model to compare with is a row in `rows`; nothing else names concrete models.
"""

from wsrnn.bench.figures import draw_costs, draw_scaling
from wsrnn.bench.rounding import Errors, errors, largest_error
from wsrnn.bench.rows import (
    chosen,
    executions,
    memory,
    modes,
    peers,
    reference,
    textbook,
    textbooks,
)
from wsrnn.bench.table import against_best, errors_text, text
from wsrnn.bench.timing import Machine, Timing, machine, measure
from wsrnn.clock import peak_memory

__all__ = [
    "Errors",
    "Machine",
    "Timing",
    "against_best",
    "chosen",
    "draw_costs",
    "draw_scaling",
    "errors",
    "errors_text",
    "executions",
    "largest_error",
    "machine",
    "measure",
    "memory",
    "modes",
    "peak_memory",
    "peers",
    "reference",
    "text",
    "textbook",
    "textbooks",
]
