"""The command line: parse, call `wsrnn.commands`, print.

Nothing heavy is imported before a command is known.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from wsrnn import __version__
from wsrnn.errors import RunError, UserError

FILE = dict(
    nargs="?", metavar="FILE", help="experiment file (.py); without it, the in-context main job"
)
DIR = dict(metavar="DIR", help="run folder")
VARIANT = (
    "--variant",
    dict(metavar="V", help="one of the file's `variants`, such as small or paper"),
)
DATA = (
    "--data-dir",
    dict(metavar="DIR", help="where data files lie; else $WSRNN_DATA, else ~/.cache/wsrnn"),
)
STEP = ("--step", dict(default="best", metavar="S", help="best (on validation), last, or a number"))
JSON = (
    "--json",
    dict(action="store_true", help="print one JSON document on stdout, all else on stderr"),
)

# command: what it does, its positional arguments, its options; every other --flag is a field
COMMANDS: dict[str, tuple[str, list, list]] = {
    "train": (
        "Train an experiment, continuing what --out holds, and report on the best checkpoint.",
        [("file", FILE)],
        [
            VARIANT,
            ("--out", dict(metavar="DIR", help="run folder; default runs/FILE[-VARIANT]")),
            ("--init-from", dict(metavar="RUN", help="start from another run's best parameters")),
            DATA,
            JSON,
        ],
    ),
    "trials": (
        "Train an experiment, or all of a file's siblings, at several learning rates from several\n"
        "seeds, all copies of a model as one program on one device. Reports the best rate's last\n"
        "step: mean, least and most over seeds, beside sizes and costs. Continues what --out has.",
        [("file", FILE)],
        [
            VARIANT,
            ("--seeds", dict(type=int, default=3, metavar="N", help="how many; default 3")),
            ("--rates", dict(nargs="+", type=float, default=(), metavar="R",
                             help="learning rates; default each experiment's own")),
            ("--out", dict(metavar="DIR", help="folder; default runs/trials-FILE[-VARIANT]")),
            DATA,
            JSON,
        ],
    ),
    "eval": (
        "Judge a run's checkpoint on the test split: results.json, figures and TensorBoard.",
        [("run", DIR)],
        [STEP, DATA, JSON],
    ),
    "icl": (
        "Study what a run on prompts learns in context: error after every number of examples with\n"
        "bootstrap intervals, beside algorithms; other laws than in training; prompts that were\n"
        "tampered with; implied weights; probes of the state; plateaus of training.\n"
        "Writes DIR/icl and TensorBoard.",
        [("run", DIR)],
        [
            STEP,
            ("--prompts", dict(type=int, default=1280, metavar="N", help="how many, all fresh")),
            JSON,
        ],
    ),
    "predict": (
        "Predict on your own data: an npz with `inputs` [N, T, D] and maybe `times` [N, T], or a\n"
        "long csv with columns id, t and the channels, in the units the model was trained on.\n"
        "Writes outputs [N, T, O], times, lengths and ids to an npz, and a figure.",
        [("run", DIR), ("data", dict(metavar="DATA", help="npz or csv file"))],
        [STEP, ("--out", dict(metavar="NPZ", help="or a folder; default DIR/predictions")), JSON],
    ),
    "show": (
        "Show an experiment's resolved config and sizes: P, parameters by part, floats that\n"
        "streaming carries, bytes of the convolution kernel, what each execution is counted to\n"
        "cost and which mode auto takes. Makes no arrays.",
        [("file", FILE)],
        [VARIANT, DATA, JSON],
    ),
    "bench": (
        "Time value and gradient of the training loss in every mode, in turns: step time,\n"
        "tokens/s, temporary memory, operations by formula, their part of what large matrix\n"
        "products do. Writes a table, JSON and a figure. --model.mode M times that mode alone.\n"
        "With --errors: how each mode rounds, against the plainest lax.scan in float64.",
        [("file", FILE)],
        [
            VARIANT,
            ("--repeats", dict(type=int, metavar="N", help="timed steps of each row; default 7")),
            ("--textbook", dict(action="store_true", help="beside the plainest lax.scan")),
            ("--peers", dict(action="store_true", help="beside GRU, LSTM, SSM and Transformer")),
            ("--errors", dict(action="store_true", help="round-off of the modes, not their costs")),
            ("--over", dict(nargs="*", action="append", metavar=("FIELD", "VALUE"),
                            help="for several values of a field, such as task.length")),
            ("--out", dict(metavar="DIR", help="folder; default runs/bench-FILE[-VARIANT]")),
            DATA,
            JSON,
        ],
    ),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0, 2 for a user's mistake, 1 for a failed run, 130 if stopped."""
    try:
        sys.exit(_run(list(sys.argv[1:] if argv is None else argv)))
    except UserError as error:
        sys.exit(_complain(error, 2))
    except RunError as error:
        sys.exit(_complain(error, 1))
    except KeyboardInterrupt:
        sys.exit(
            _complain("interrupted; the same command continues from a run's last checkpoint", 130)
        )
    except BrokenPipeError:  # the reader of our output has left, as head does
        sys.stdout = None
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_complain(f"{where}{error.strerror or error}", 2))
    except Exception as error:
        if not _lacks_memory(error):
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

    def leave(*_):
        os._exit(
            _complain("interrupted; the same command continues from a run's last checkpoint", 130)
        )

    signal.signal(signal.SIGINT, leave)  # until training begins, which saves first
    try:
        main()
    except SystemExit as stop:
        if not stop.code:
            raise
        sys.stderr.flush()
        os._exit(stop.code if isinstance(stop.code, int) else 1)


def _complain(message: Any, code: int) -> int:
    print(f"wsrnn: {message}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{message} (see {self.prog} --help)")


def _run(argv: list[str]) -> int:
    parser = _Parser(
        prog="wsrnn",
        description="Weight-space linear RNNs: train, judge, use, inspect and time them.",
        epilog="`wsrnn COMMAND --help` lists its options and every field of the experiment.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"wsrnn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (text, positional, options) in COMMANDS.items():
        command = commands.add_parser(
            name, help=" ".join(text.split()), description=text, allow_abbrev=False, add_help=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            usage=_usage(name, positional, options),
        )  # fmt: skip
        for argument, settings in (*positional, *options):
            command.add_argument(argument, **settings)
        command.add_argument("-h", "--help", action="store_true", help="show this, and the fields")
    if not argv or argv[0] not in COMMANDS:
        parser.parse_args(argv)
    own, flags = _split(argv[1:], [option for option, _ in COMMANDS[argv[0]][2]])
    if "-h" in own or "--help" in own:
        return _help(commands.choices[argv[0]], [word for word in own if word.endswith(".py")])
    for word in flags:
        others = [n for n, (_, _, options) in COMMANDS.items() if word in dict(options)]
        if others:
            raise UserError(
                f"{word} is an option of wsrnn {' and '.join(others)}, not of {argv[0]}"
            )
    args = parser.parse_args([argv[0], *own])
    if getattr(args, "file", None) and not args.file.endswith(".py"):
        raise UserError(f"{args.command} takes an experiment file (.py), not {args.file}")
    logging.basicConfig(stream=sys.stderr, format="%(message)s", force=True)
    logging.getLogger("wsrnn").setLevel(logging.INFO)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax narrates, and repeats its errors
    from wsrnn.artifacts import to_json
    from wsrnn.commands import RUN

    document, text, code = RUN[args.command](args, flags)
    if args.json:
        print(to_json(document))
    else:
        print(text)
    return code


def _usage(name: str, positional: list, options: list) -> str:
    words = [f"[{s['metavar']}]" if s.get("nargs") else s["metavar"] for _, s in positional]
    words += [f"[{o} {s['metavar']}]" if "metavar" in s else f"[{o}]" for o, s in options]
    return " ".join(["wsrnn", name, *words, "[--any.field value ...]"])


def _split(args: list[str], options: list[str]) -> tuple[list[str], list[str]]:
    """Part a command's own words from ``--any.field value ...``; no field's value is a .py file."""
    own, flags = [], []
    into, room = own, 0
    for word in args:
        if word.startswith("--") or word == "-h":
            into = own if word.partition("=")[0] in (*options, "--help", "-h") else flags
            room = "=" not in word  # a field takes one value, or several numbers
        elif into is flags and (word.endswith(".py") or not (room or _is_number(word))):
            into = own
        else:
            room = False
        into.append(word)
    return own, flags


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _help(command: argparse.ArgumentParser, files: list[str]) -> int:
    print(command.format_help())
    import tyro

    from wsrnn.experiment import FLAG_STYLE, Experiment, Recipe, default_file

    recipe = Recipe.read(files[0] if files else default_file())
    variants = ", ".join(recipe.variants()) or "none"
    print(f"Fields, with the defaults of {recipe.name}.py (variants: {variants}):")
    tyro.cli(
        Experiment,
        default=recipe.experiment(),
        args=["--help"],
        prog=command.prog,
        config=FLAG_STYLE,
    )
    return 0
