"""Optimisation, composed of optax parts: update rule, schedule, groups of parameters.

An experiment brings any optax transformation as a `Rule` and any schedule as a `Schedule`: a frozen
dataclass with `build`, whose fields become flags.
"""

from wsrnn.optim.config import OptimConfig
from wsrnn.optim.rules import RULES, AdaBelief, Adam, AdamW, Momentum, Rule, Sgd
from wsrnn.optim.schedules import SCHEDULES, Constant, Cosine, Ending, Schedule

__all__ = [
    "RULES",
    "SCHEDULES",
    "AdaBelief",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Ending",
    "Momentum",
    "OptimConfig",
    "Rule",
    "Schedule",
    "Sgd",
]
