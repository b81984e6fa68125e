"""train: train or resume a run, or one for each sibling that a file's `sweep` returns."""

import dataclasses
import logging
import signal
from dataclasses import dataclass
from pathlib import Path

import jax

from wsrnn import bench, loop, processes
from wsrnn.artifacts import write_json
from wsrnn.commands import Outcome
from wsrnn.commands.recipes import check_siblings, read_recipe, run_folder, where
from wsrnn.errors import STOPPED, UserError
from wsrnn.report import compare, report


@dataclass(frozen=True)
class Options(processes.Options):
    """Train an experiment, continuing what --out holds, and report on the best checkpoint."""

    variant: str | None = None
    """One of the file's `variants`, such as small or paper."""
    out: str | None = None
    """Run folder; None is runs/FILE[-VARIANT]."""
    init_from: str | None = None
    """Start from another run's best parameters."""
    profile: str | None = None
    """START:STEPS, such as 100:5, traces these steps by jax's profiler into the run folder."""
    data_dir: str | None = None
    """Where data files lie; None is $WSRNN_DATA, else ~/.cache/wsrnn."""
    strict: bool = False
    """Stop where the last checkpoint is damaged, and do not go on from the one before."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""


def run(options: Options, file: str | None, flags: list[str]) -> Outcome:
    """Train, or continue, and report; a file's siblings one after another."""
    processes.start(options)  # before anything else, which may touch a device
    recipe = read_recipe(file, options, flags)
    out = run_folder(recipe, options)
    init_from = Path(options.init_from) if options.init_from else None
    members = recipe.members()
    if len(members) > 1:
        return _train_members(members, out, init_from, options.profile, options.strict)
    outcome = loop.fit(members[0], out, init_from, options.profile, options.strict)
    if outcome["stopped"]:
        return _stopped(outcome, out)
    if jax.process_count() > 1:
        return outcome, f"trained; judge it on one machine with: wsrnn eval {out}", 0
    document = report(out)
    return outcome | document, f"\n{document['text']}\n{where(out)}", 0


def _train_members(members, out: Path, init_from, profile, strict):
    """Train a sweep's members as sibling runs, then compare them."""
    check_siblings(out, [member.member for member in members])
    if jax.process_count() > 1:
        raise UserError("siblings are trained by one process: name one of them by its flag")
    reports = {}
    for member in members:
        logging.getLogger("wsrnn").info("%s: %s", member.name, member.member)
        outcome = loop.fit(member, out / member.member, init_from, profile, strict)
        if outcome["stopped"]:
            return _stopped(outcome, out / member.member)
        reports[member.member] = report(out / member.member)
    document = compare(out, reports)
    timings = bench.measure({member.member: member.experiment() for member in members})
    for name, timing in timings.items():
        document["rows"][name] |= dataclasses.asdict(timing)
    write_json(out / "results.json", document)
    lines = [
        f"\n{document['steps']:,} steps from the same seed, the loss of every step compared with "
        f"{members[0].member}'s"
    ]
    lines += [
        f"{name:8} final loss {row['final loss']:.6g}  largest difference "
        f"{row['largest difference of loss']:.2e}  (relative {row['relative']:.2e})  validation "
        f"{row['validation loss']:.4g}"
        + (f" after {row['seconds']:.3g} s of training" if row["seconds"] >= 0 else "")
        for name, row in document["rows"].items()
    ]
    text = [*lines, bench.text(timings), document.pop("text"), where(out)]
    return document, "\n".join(text), 0


def _stopped(outcome, out: Path):
    code = outcome["exit code"]
    names = " and ".join(signal.Signals(n).name for n in STOPPED if STOPPED[n] == code)
    text = f"stopped at step {outcome['step']} by {names}; the same command continues {out}"
    return outcome, text, code
