"""icl: the in-context learning study of a run on prompts; measured in `wsrnn.icl`."""

from dataclasses import dataclass

from wsrnn.commands import Outcome
from wsrnn.commands.recipes import checkpoint
from wsrnn.icl import study


@dataclass(frozen=True)
class Options:
    """Study what a run on prompts learns in context: error after every number of examples with
    bootstrap intervals, beside its baselines; prompts from other distributions than in training,
    and corrupted ones; implied weights; probes of the state; plateaus of training.
    Writes DIR/icl and TensorBoard.
    """

    step: str = "best"
    """best (on validation), last, or a number."""
    prompts: int = 1280
    """How many prompts, all fresh."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""


def run(options: Options, folder: str, flags: list[str]) -> Outcome:
    """Study what a run learns in context."""
    document = study(folder, checkpoint(options.step), tuple(flags), options.prompts)
    return document, document["text"], 0
