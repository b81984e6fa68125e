"""eval: test results of a checkpoint next to baselines."""

from dataclasses import dataclass

from wsrnn.commands import Outcome
from wsrnn.commands.recipes import checkpoint, data_flags
from wsrnn.report import report
from wsrnn.run import reopen


@dataclass(frozen=True)
class Options:
    """Judge a run's checkpoint on the test split: results.json, figures and TensorBoard."""

    step: str = "best"
    """best (on validation), last, or a number."""
    data_dir: str | None = None
    """Where data files lie; None is as in training."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""


def run(options: Options, folder: str, flags: list[str]) -> Outcome:
    """Judge a checkpoint on the test split."""
    if options.data_dir:
        flags = [*flags, *data_flags(options.data_dir, reopen(folder, flags))]
    document = report(folder, checkpoint(options.step), tuple(flags))
    return document, document["text"], 0
