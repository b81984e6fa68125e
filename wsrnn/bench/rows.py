"""What is measured: experiments by name. The one file of the benchmark that names models."""

import os
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from wsrnn.errors import UserError
from wsrnn.experiment import Experiment
from wsrnn.models import ModelConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.peers.transformer import TransformerConfig
from wsrnn.models.warp import WarpConfig
from wsrnn.models.warp.textbook import TextbookConfig
from wsrnn.recipe import Recipe
from wsrnn.recurrence import Dense


def executions(recipe: Recipe) -> dict[str, Experiment]:
    """The experiment in every mode, or in that of --model.mode (auto: the one it chooses)."""
    experiment = recipe.experiment()
    if any(flag.partition("=")[0] == "--model.mode" for flag in recipe.flags):
        experiment = experiment.resolve()
        return {str(experiment.model.mode): experiment}
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
    dense = Dense()
    return {
        "textbook": textbook(experiment, transition=dense),
        "textbook, checkpoint": textbook(experiment, transition=dense, checkpoint=True),
    }


def textbook(experiment: Experiment, **changes: Any) -> Experiment:
    """The plain execution of a WARP, with changes of its config.

    Raises UserError where A, as a matrix, and its gradient would not fit the machine.
    """
    model = experiment.model
    assert isinstance(model, WarpConfig)
    P = model.network(experiment.task.d_in, experiment.task.d_out).size
    if memory() < 3 * 4 * P**2:
        raise UserError(
            f"textbook holds A as a matrix, {4 * P**2 / 1e9:.3g} GB for P = {P:,}, with its "
            "gradient: leave out --textbook and --errors, or choose a smaller root network"
        )
    own = {f.name: getattr(model, f.name) for f in fields(WarpConfig)}
    return replace(experiment, model=TextbookConfig(**own | {"mode": "scan"} | changes))


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
    root = experiment.model.root
    exact = {"root": replace(root, bfloat16=False)} if getattr(root, "bfloat16", False) else {}
    return textbook(experiment, **exact)


def peers(experiment: Experiment) -> dict[str, Experiment]:
    """GRU, LSTM, diagonal SSM and causal Transformer of the same number of parameters, within 5 %.

    Raises ValueError where the model is too small to be matched.
    """
    own = vars(experiment.model)
    common = {name: own[name] for name in ("head", "layout") if name in own}

    def ssm(mode: Any) -> Callable[[int], ModelConfig]:
        return lambda w: SsmConfig(width=w, states=w // 2, layers=4, spectra=4, mode=mode, **common)

    families: dict[str, Callable[[int], ModelConfig]] = {
        "gru": lambda w: RnnConfig(cell="gru", width=w, **common),
        "lstm": lambda w: RnnConfig(cell="lstm", width=w, **common),
        **{f"ssm, {mode}": ssm(mode) for mode in SsmConfig.modes},
        "transformer": lambda w: TransformerConfig(width=w, depth=4, heads=4, **common),
    }
    wanted = experiment.parameter_count()
    rows = {}
    for name, family in families.items():
        candidates = {
            width: replace(experiment, model=family(width)) for width in range(8, 2048, 8)
        }
        row = min(_bracket(candidates, wanted), key=lambda row: abs(row.parameter_count() - wanted))
        if abs(row.parameter_count() / wanted - 1) > 0.05:
            raise ValueError(
                f"--peers: no {name} comes within 5 % of {wanted:,} parameters (the nearest has "
                f"{row.parameter_count():,}): choose a larger model"
            )
        rows[name] = row
    return rows


def _bracket(candidates: dict[int, Experiment], wanted: int) -> list[Experiment]:
    """The two of an increasing family between which the wanted size lies, by bisection."""
    rows = list(candidates.values())
    low, high = 0, len(rows) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rows[middle].parameter_count() <= wanted else (low, middle)
    return [rows[low], rows[high]]


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
