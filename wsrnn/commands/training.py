"""train and trials: what makes runs."""

import dataclasses
import logging
from pathlib import Path

import jax

from wsrnn import bench, loop
from wsrnn.artifacts import write_json
from wsrnn.commands.recipes import read_recipe, where
from wsrnn.errors import UserError
from wsrnn.report import compare, report
from wsrnn.trials import trials as run_trials


def train(args, flags):
    """Train, or continue, and report; a file's siblings one after another."""
    recipe = read_recipe(args, flags)
    out = Path(args.out or f"runs/{recipe.name}" + (f"-{args.variant}" if args.variant else ""))
    init_from = Path(args.init_from) if args.init_from else None
    members = recipe.members()
    if len(members) > 1:
        return _train_members(members, out, init_from)
    outcome = loop.fit(members[0], out, init_from)
    if outcome["stopped"]:
        return _stopped(outcome, out)
    if jax.process_count() > 1:
        return outcome, f"trained; judge it on one machine with: wsrnn eval {out}", 0
    document = report(out)
    return outcome | document, f"\n{document['text']}\n{where(out)}", 0


def _train_members(members, out: Path, init_from):
    """Train a sweep's members as sibling runs, then compare them."""
    _check_folder(out, [member.member for member in members])
    if jax.process_count() > 1:
        raise UserError("siblings are trained by one process: name one of them by its flag")
    reports = {}
    for member in members:
        logging.getLogger("wsrnn").info("%s: %s", member.name, member.member)
        outcome = loop.fit(member, out / member.member, init_from)
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


def trials(args, flags):
    """Train seeds and rates of every sibling at once, and compare."""
    given = {flag.partition("=")[0].replace("_", "-") for flag in flags}
    if args.rates and "--optim.learning-rate" in given:
        raise UserError("--rates takes the place of --optim.learning-rate: give one of them")
    if "--max-skipped" in given:
        raise UserError(
            "trials count skipped steps and never stop for them: leave out --max-skipped"
        )
    recipe = read_recipe(args, flags)
    variant = f"-{args.variant}" if args.variant else ""
    out = Path(args.out or f"runs/trials-{recipe.name}{variant}")
    members = recipe.members()
    _check_folder(out, [member.member or member.name for member in members])
    document = run_trials(members, out, args.seeds, args.rates)
    if document is None:
        return {"stopped": True}, f"stopped; the same command continues {out}", 130
    return document, f"\n{document['text']}\n{where(out)}", 0


def _check_folder(out: Path, siblings: list[str]) -> None:
    """UserError where `out` holds something else than these siblings and their comparison."""
    expected = {*siblings, "comparison", "figures", "results.json"}
    found = {p.name for p in out.iterdir() if p.suffix != ".tmp"} if out.is_dir() else set()
    if out.is_file() or found - expected:
        raise UserError(
            f"--out {out} is a file, a single run or something else: name another folder for the "
            "siblings"
        )


def _stopped(outcome, out: Path):
    text = f"stopped at step {outcome['step']}; the same command continues {out}"
    return outcome, text, 130
