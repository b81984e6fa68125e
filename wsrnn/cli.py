"""The command line: parse, run a command of `wsrnn.commands`, print.

    wsrnn COMMAND positional arguments, then in any order: the command's options, --any.field value,
    any.field:class

Nothing heavy is imported before a command is known.
"""

import difflib
import importlib
import inspect
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from wsrnn import __version__, allocator, processes, signals
from wsrnn.checks import nearest
from wsrnn.errors import STOPPED, RunError, UserError


class Command(NamedTuple):
    """A command as `wsrnn --help` shows it; the rest is in its file in `wsrnn.commands`."""

    positional: tuple[str, ...]
    summary: str
    fields: bool = True
    """Whether it takes an experiment's fields and classes."""


FILE, RUN = ("FILE",), ("DIR",)  # an experiment file, which may be left out; a run folder
OPTIONAL = (FILE, ("NAME",))
RUNS = ("RUN...",)  # any number of folders

INTERRUPTED = "interrupted; the same command continues from a run's last checkpoint"

COMMANDS = {
    "train": Command(FILE, "train an experiment, or continue, and report on the best checkpoint"),
    "trials": Command(FILE, "train several seeds and learning rates as one program"),
    "eval": Command(RUN, "evaluate a run's checkpoint on the test split"),
    "icl": Command(RUN, "study what a run on prompts learns in context"),
    "predict": Command((*RUN, "DATA"), "predict on your own data, an npz or a csv file"),
    "watch": Command(RUNS, "follow runs in a terminal, those at work and those that ended", False),
    "report": Command(RUNS, "gather runs into one HTML page and a csv", fields=False),
    "show": Command(FILE, "show an experiment's config, sizes and counted costs"),
    "plan": Command(FILE, "predict bytes, exchanges and time of a step on many devices"),
    "bench": Command(FILE, "time a training step in every mode, or compare how modes round"),
    "data": Command(("NAME",), "list known data sets, or bring one and check it", fields=False),
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0, 2 for a user's mistake, 1 for a failed run.

    A run that was stopped exits with 130 after Ctrl-C and 75 after SIGTERM.
    """
    try:
        sys.exit(_run(list(sys.argv[1:] if argv is None else argv)))
    except UserError as error:
        sys.exit(_complain(error, 2))
    except RunError as error:
        sys.exit(_complain(error, 1))
    except KeyboardInterrupt:
        sys.exit(_complain(f"SIGINT: {INTERRUPTED}", STOPPED[signal.SIGINT]))
    except BrokenPipeError:  # the reader of our output has left, as head does
        sys.stdout = None
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_complain(f"{where}{error.strerror or error}", 2))
    except Exception as error:
        if not _lacks_memory(error):
            processes.fail(error)
            raise
        sys.exit(
            _complain(f"out of memory: lower batch_size, the length or the width ({error})", 1)
        )


def _lacks_memory(error: Exception) -> bool:
    """Whether numpy or a device had no room for an array."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
        and ("RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error))
    )


def entry() -> NoReturn:
    """The console script: `main`, but gone at once after an error or Ctrl-C.

    Threads of a failed save, or of jax while it starts, can otherwise hold or crash the exit.
    """

    def leave(number, _):
        name, code = signal.Signals(number).name, STOPPED[number]
        try:
            processes.end(f"{name}: {INTERRUPTED}", code)
            _complain(f"{name}: {INTERRUPTED}", code)
        finally:  # also where nobody reads stderr any more
            os._exit(code)

    signals.listen(leave)  # until training begins, which saves first, and after it
    allocator.keep_freed()
    try:
        main()
    except SystemExit as stop:
        processes.leave()
        if not stop.code:
            raise
        sys.stderr.flush()
        os._exit(stop.code if isinstance(stop.code, int) else 1)


def _complain(message: Any, code: int) -> int:
    processes.end(str(message), code, patience=1)
    print(f"wsrnn: {message}", file=sys.stderr)
    return code


def _run(argv: list[str]) -> int:
    """Run the command that the words name; returns its exit code."""
    if not argv:
        raise UserError(f"name a COMMAND: {', '.join(COMMANDS)} (see wsrnn --help)")
    name, *words = argv
    if name in ("-h", "--help", "--version"):
        print(f"wsrnn {__version__}" if name == "--version" else _overview())
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        cure = f"did you mean {close[0]}?" if close else f"choose from {', '.join(COMMANDS)}"
        raise UserError(f"unknown COMMAND {name}: {cure}")
    shows_help = "-h" in words or "--help" in words
    positional, words = _positional(name, words, shows_help)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", force=True)
    logging.getLogger("wsrnn").setLevel(logging.INFO)
    for library in ("absl", "asyncio"):  # orbax narrates, and repeats its errors
        logging.getLogger(library).setLevel(logging.CRITICAL)
    from wsrnn import flags
    from wsrnn.artifacts import to_json
    from wsrnn.experiment import Experiment
    from wsrnn.precision import in_float32

    command = importlib.import_module(f"wsrnn.commands.{name}")
    fields = flags.names(Experiment) if COMMANDS[name].fields else []
    words = flags.classes_first([w for w in words if w not in ("-h", "--help")], fields)
    options, words = flags.parse_options(command.Options, words)
    place = positional[0] if fields else None
    if shows_help:
        print(_help(name, command.Options, place, options, words))
        return 0
    for word in words:
        if not fields or (word.startswith("--") and flags.head(word) not in fields):
            raise UserError(_not_an_option(word, name, place, options))
    document, text, code = in_float32(command.run)(options, *positional, words)
    if processes.is_lead():
        print(to_json(document) if options.json else text, flush=True)
    return code


def _overview() -> str:
    """What `wsrnn --help` prints."""
    lines = [
        "usage: wsrnn COMMAND [arguments] [options] [--any.field value ...] [any.field:class ...]",
        "",
        "Weight-space linear RNNs: train, evaluate, use, inspect and time them.",
        "",
    ]
    for name, (positional, summary, _) in COMMANDS.items():
        what = f"[{positional[0]}]" if positional in OPTIONAL else " ".join(positional)
        lines.append(f"  {name:8} {what:9}  {summary}")
    return "\n".join([
        *lines,
        "",
        "FILE is an experiment file (.py); without it, the main job, in-context regression. DIR is",
        "a run folder. `wsrnn COMMAND [FILE or DIR] --help` lists options, fields and classes.",
        "`wsrnn --version` prints the version.",
    ])  # fmt: skip


def _positional(name: str, words: list[str], shows_help: bool) -> tuple[list, list[str]]:
    """A command's positional arguments, which stand first, and the other words."""
    wanted, given = COMMANDS[name].positional, []
    if wanted == RUNS:
        count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        if not count and not shows_help:
            raise UserError(f"{name} needs run folders, before all options: wsrnn {name} RUN...")
        return [words[:count]], words[count:]
    for place in wanted:
        word = words[0] if words else "-"
        if word.startswith("-") or (place == "FILE" and ":" in word):
            break
        if place == "FILE" and not word.endswith(".py"):
            raise UserError(f"{name} takes an experiment file (.py), not {word}")
        given.append(word)
        words = words[1:]
    missing = wanted[len(given) :]
    if missing and wanted not in OPTIONAL and not shows_help:
        raise UserError(
            f"{name} needs {' and '.join(missing)}, before all options: wsrnn {name} "
            f"{' '.join(wanted)} (see wsrnn {name} --help)"
        )
    if words and not words[0].startswith("-") and ":" not in words[0]:
        raise UserError(f"unexpected argument {words[0]} (see wsrnn {name} --help)")
    return [*given, *[None] * len(missing)], words


def _experiment(name: str, place: str | None, options: Any):
    """The experiment that a command begins with, its file's own classes, and where it is from."""
    from wsrnn.recipe import Recipe, default_file
    from wsrnn.run import reopen

    if place and COMMANDS[name].positional != FILE:
        return reopen(place), [], f"the run {place}"
    recipe = Recipe.read(place or default_file(), getattr(options, "variant", None))
    variants = ", ".join(recipe.variants()) or "none"
    return recipe.experiment(), recipe.classes(), f"{recipe.name}.py (variants: {variants})"


def _help(name: str, kind: type, place: str | None, options: Any, words: list[str]) -> str:
    """A command's options and every field, with the classes that the words name."""
    from wsrnn import flags

    wanted, about = COMMANDS[name].positional, inspect.cleandoc(kind.__doc__ or "")
    arguments = f"[{wanted[0]}]" if wanted in OPTIONAL else " ".join(wanted)
    if not COMMANDS[name].fields:
        usage = f"usage: wsrnn {name} {arguments} [options]"
        return "\n".join([usage, "", about, "", flags.options_text(kind)])
    experiment, own, where = _experiment(name, place, options)
    lines = [
        f"usage: wsrnn {name} {arguments} [options] [--any.field value ...] [any.field:class ...]",
        "",
        about,
        "",
        f"Options, fields and classes stand in any order. Defaults are those of {where}.",
        "A class, as listed at the end, puts another part in place, its fields at their defaults.",
        "",
        flags.help_text(kind, experiment, words, own),
    ]
    return "\n".join(lines)


def _not_an_option(word: str, name: str, place: str | None, options: Any) -> str:
    """What is wrong with a flag that is neither an option of the command nor a field."""
    from wsrnn import flags

    flag = word.partition("=")[0].replace("_", "-")
    others = [
        other
        for other in COMMANDS
        if flag in flags.own_names(importlib.import_module(f"wsrnn.commands.{other}").Options)
    ]
    if others:
        return f"{word} is an option of wsrnn {' and '.join(others)}, not of {name}"
    if not COMMANDS[name].fields:
        return f"unknown flag {word}{nearest(flag, flags.own_names(type(options)))}"
    experiment, *_ = _experiment(name, place, options)
    return flags.explain(word, experiment, flags.own_names(type(options)))
