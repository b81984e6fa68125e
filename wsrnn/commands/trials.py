"""trials: seeds and learning rates of every sibling, trained as one compiled program."""

from dataclasses import dataclass

from wsrnn.commands import Outcome
from wsrnn.commands.recipes import check_siblings, read_recipe, run_folder, where
from wsrnn.errors import UserError
from wsrnn.trials import check_copies
from wsrnn.trials import trials as run_trials


@dataclass(frozen=True)
class Options:
    """Train an experiment, or all of a file's siblings, at several learning rates from several
    seeds, all copies of a model as one program on one device. Reports the best rate's last step:
    mean, least and most over seeds, beside sizes and costs. Continues what --out holds.
    """

    variant: str | None = None
    """One of the file's `variants`, such as small or paper."""
    seeds: int = 3
    """How many seeds."""
    rates: tuple[float, ...] | None = None
    """Learning rates; None is each experiment's own."""
    only: tuple[str, ...] | None = None
    """Names of the siblings to train; None is all. The table has those that are finished too."""
    out: str | None = None
    """Folder; None is runs/trials-FILE[-VARIANT]."""
    data_dir: str | None = None
    """Where data files lie; None is $WSRNN_DATA, else ~/.cache/wsrnn."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""


def run(options: Options, file: str | None, flags: list[str]) -> Outcome:
    """Train seeds and rates of every sibling at once, and compare."""
    given = {flag.partition("=")[0].replace("_", "-") for flag in flags}
    if options.rates == ():
        raise UserError("--rates takes one learning rate or several")
    if options.only == ():
        raise UserError("--only takes one name of a sibling or several")
    if options.rates and "--optim.learning-rate" in given:
        raise UserError("--rates takes the place of --optim.learning-rate: give one of them")
    if "--max-skipped" in given:
        raise UserError(
            "trials count skipped steps and never stop for them: leave out --max-skipped"
        )
    check_copies(options.seeds, options.rates or ())  # before models are built, which takes time
    recipe = read_recipe(file, options, flags)
    out = run_folder(recipe, options, "trials-")
    members = recipe.siblings() if options.only else recipe.members()
    check_siblings(out, [member.member or member.name for member in members])
    document = run_trials(members, out, options.seeds, options.rates or (), options.only)
    table = f"\n{document['text']}\n" if document["rows"] else ""
    if document["stopped"]:
        return document, f"{table}stopped; the same command continues {out}", document["exit code"]
    return document, f"{table}{where(out)}", 1 if document["lost"] else 0
