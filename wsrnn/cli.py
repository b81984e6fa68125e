"""The command line: parse, call, print. Nothing heavy is imported before a command is known."""

import argparse
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
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
        sys.exit(_complain("interrupted; `wsrnn train` continues from its last checkpoint", 130))
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
        os._exit(_complain("interrupted; `wsrnn train` continues from its last checkpoint", 130))

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
    document, text, code = RUN[args.command](args, flags)
    if args.json:
        from wsrnn.report import to_json

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


def _recipe(args, flags: list[str]):
    from wsrnn.experiment import Recipe, default_file

    recipe = Recipe.read(args.file or default_file(), args.variant, flags)
    if not args.data_dir:
        return recipe
    return dataclasses.replace(recipe, flags=(*flags, *_data_flags(args, recipe.experiment())))


def _data_flags(args, experiment) -> list[str]:
    """--data-dir is short for the field of the tasks and evaluations that read files."""
    parts = [p for p in ("task", "evaluation") if hasattr(getattr(experiment, p), "data_dir")]
    if not parts:
        raise UserError(f"--data-dir: the task {type(experiment.task).__name__} reads no files")
    folder = str(Path(args.data_dir).expanduser().resolve())
    return [flag for part in parts for flag in (f"--{part}.data-dir", folder)]


def _train(args, flags):
    import jax

    from wsrnn import loop
    from wsrnn.report import report

    recipe = _recipe(args, flags)
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
    return outcome | document, f"\n{document['text']}\n{_where(out)}", 0


def _train_members(members, out: Path, init_from):
    """Train a sweep's members as sibling runs, then compare them."""
    import jax

    from wsrnn import bench, loop
    from wsrnn.report import compare, report, write_json

    expected = {member.member for member in members} | {"comparison", "figures", "results.json"}
    if out.is_file() or (out.is_dir() and {path.name for path in out.iterdir()} - expected):
        raise UserError(
            f"--out {out} is a file, a single run or something else: name another folder for the "
            "siblings"
        )
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
        f"\n{document['steps']:,} steps from the same start, the loss of every step compared with "
        f"{members[0].member}"
    ]
    lines += [
        f"{name:8} final loss {row['final loss']:.6g}  largest difference "
        f"{row['largest difference of loss']:.2e}  (relative {row['relative']:.2e})  validation "
        f"{row['validation loss']:.4g} after {row['seconds']:.3g} s of training"
        for name, row in document["rows"].items()
    ]
    text = [*lines, bench.text(timings), document.pop("text"), _where(out)]
    return document, "\n".join(text), 0


def _trials(args, flags):
    from wsrnn.trials import trials

    recipe = _recipe(args, flags)
    variant = f"-{args.variant}" if args.variant else ""
    out = Path(args.out or f"runs/trials-{recipe.name}{variant}")
    document = trials(recipe.members(), out, args.seeds, args.rates)
    if document is None:
        return {"stopped": True}, f"stopped; the same command continues {out}", 130
    return document, f"\n{document['text']}\n{_where(out)}", 0


def _stopped(outcome, out: Path):
    text = f"stopped at step {outcome['step']}; the same command continues {out}"
    return outcome, text, 130


def _where(out: Path) -> str:
    return f"run folder {out}   watch: tensorboard --logdir {out}"


def _eval(args, flags):
    from wsrnn.experiment import reopen
    from wsrnn.report import report

    if args.data_dir:
        flags = [*flags, *_data_flags(args, reopen(args.run)[1])]
    document = report(args.run, _step(args.step), tuple(flags))
    return document, document["text"], 0


def _icl(args, flags):
    from wsrnn.icl import study

    document = study(args.run, _step(args.step), tuple(flags), args.prompts)
    return document, document["text"], 0


def _step(text: str) -> str | int:
    if text in ("best", "last"):
        return text
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"--step takes best, last or a number, not {text!r}")
    return int(text)


def _predict(args, flags):
    import numpy as np

    from wsrnn import figures
    from wsrnn.experiment import load_step
    from wsrnn.predict import predict, read_sequences

    model, experiment, number = load_step(args.run, _step(args.step), flags)
    sequences = read_sequences(Path(args.data), experiment.task.d_in)
    outputs = predict(model, sequences)
    path = _predictions(args, number, flags)
    title = f"{args.run} step {number} on {Path(args.data).name}"
    figure = figures.predictions(sequences.times[:6], outputs[:6], sequences.inputs[:6], title)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            outputs=outputs,
            times=sequences.times,
            lengths=sequences.lengths,
            ids=sequences.ids,
        )
        figure.savefig(path.with_suffix(".png"))
    except OSError as error:
        raise UserError(f"--out {path} cannot be written: {error.strerror}") from None
    document = {
        "outputs": str(path),
        "figure": str(path.with_suffix(".png")),
        "shape": list(outputs.shape),
        "step": number,
    }
    return (
        document,
        f"wrote {path} (outputs {list(outputs.shape)}) and {path.with_suffix('.png')}",
        0,
    )


def _predictions(args, step: int, flags: list[str]) -> Path:
    """Where predictions are written: never over the data they are made from."""
    from wsrnn.report import slug

    name = f"{Path(args.data).name}-{slug(step, flags)}.npz"
    path = Path(args.out) if args.out else Path(args.run) / "predictions" / name
    if path.is_dir() or str(args.out).endswith("/"):
        path = path / name
    if path.suffix != ".npz":
        raise UserError(f"--out {path}: predictions are written as .npz, or name a folder")
    if path.resolve() == Path(args.data).resolve():
        raise UserError(f"--out {path} is the data itself: name another file")
    return path


def _show(args, flags):
    import jax
    import numpy as np
    from flax import nnx

    from wsrnn import bench
    from wsrnn.experiment import flatten

    experiment = _recipe(args, flags).experiment()
    every = [plan for named in bench.modes(experiment).values() for plan in named.plans()]
    chosen = min(experiment.plans(), key=lambda plan: plan.seconds, default=None)
    how = f"chosen by {'auto' if experiment.model.mode == 'auto' else 'name'}" if chosen else ""
    experiment = experiment.resolve()
    model = nnx.eval_shape(experiment.build_model)
    parts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.as_pure(nnx.state(model))):
        part = jax.tree_util.keystr(path[:1], simple=True)
        parts[part] = parts.get(part, 0) + int(np.prod(leaf.shape))
    task = experiment.task
    sizes = {"d_in": task.d_in, "d_out": task.d_out, "T": task.length} | model.sizes(task.length)
    document = {
        "config": flatten(experiment),
        "sizes": sizes,
        "parameters": parts | {"total": sum(parts.values())},
    }
    if every:
        document["plans"] = [{"plan": str(plan), "chosen": plan == chosen} for plan in every]
    lines = [f"{name:32}{value}" for name, value in document["config"].items()]
    lines += ["", *(f"{name:32}{value:,}" for name, value in sizes.items())]
    lines += [
        f"{'parameters ' + name:32}{value:,}" for name, value in document["parameters"].items()
    ]
    lines += [""] * bool(every) + [
        f"{how if row['chosen'] else 'considered':32}{row['plan']}"
        for row in document.get("plans", [])
    ]
    return document, "\n".join(lines), 0


def _bench(args, flags):
    import jax

    from wsrnn import bench, figures
    from wsrnn.report import write_json

    if args.repeats is not None and (args.errors or args.repeats < 1):
        what = "--errors times nothing: leave it out" if args.errors else f"got {args.repeats}"
        raise UserError(f"--repeats must be at least 1, and goes with timings: {what}")
    recipe = _recipe(args, flags)
    over = _over_field(args.over)
    recipes = _over(recipe, over)
    groups = {value: _rows(bench, recipe, args) for value, recipe in recipes.items()}
    out = Path(
        args.out or f"runs/bench-{recipe.name}" + (f"-{args.variant}" if args.variant else "")
    )
    _make_folder(out)  # before minutes of measuring
    document = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    if args.errors:
        found = {value: bench.errors(rows) for value, rows in groups.items()}
        document |= {"reference": "textbook in float64"}
        document |= _by_value(over, {value: _as_rows(rows) for value, rows in found.items()})
        write_json(out / "errors.json", document)
        texts = {value: bench.errors_text(rows) for value, rows in found.items()}
        note = (
            "largest errors in float32, relative to the largest value, against textbook in "
            f"float64; wrote {out}/errors.json"
        )
        return document, "\n".join([*_under_titles(over, texts), note]), 0

    machine = bench.machine()
    timings = {
        value: bench.measure(rows, args.repeats or 7, machine) for value, rows in groups.items()
    }
    autos = {value: bench.chosen(recipe.experiment()) for value, recipe in recipes.items()}
    document |= {"machine": dataclasses.asdict(machine), "peak_mib": bench.peak_memory()}
    document |= _by_value(
        over,
        {
            value: _as_rows(rows)
            | {"auto": autos[value], "auto_over_best": bench.against_best(autos[value], rows)}
            for value, rows in timings.items()
        },
    )
    write_json(out / "bench.json", document)
    _cost_figure(figures, timings, over, recipe.name).savefig(out / "bench.png")
    texts = {value: bench.text(rows, autos[value]) for value, rows in timings.items()}
    note = (
        f"machine: {machine.product / 1e9:,.0f} GFLOP/s in large float32 products, "
        f"{machine.copy / 1e9:,.1f} GB/s copied; wrote {out}/bench.json and bench.png; "
        f"at most {document['peak_mib']:,.0f} MiB resident"
    )
    return document, "\n".join([*_under_titles(over, texts), note]), 0


def _make_folder(out: Path) -> None:
    """UserError where nothing can be written in `out`."""
    if out.is_file():
        raise UserError(f"--out {out} is a file: name a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made: {error.strerror}") from None
    if not os.access(out, os.W_OK):
        raise UserError(f"--out {out} may not be written: name another folder")


def _over_field(given: list[list[str]] | None) -> list[str] | None:
    """The field and the values of the one --over."""
    if given is None:
        return None
    example = "--over task.length 784 1568"
    if len(given) > 1:
        raise UserError(f"--over takes one field: give it once, as {example}")
    field, *values = given[0] or [""]
    if not values:
        raise UserError(f"--over takes a field, without dashes, and its values: {example}")
    if len(set(values)) < len(values):
        raise UserError(f"--over {field} has a value twice: {' '.join(values)}")
    return given[0]


def _over(recipe, over: list[str] | None) -> dict:
    """The recipe for each value of --over; without it the recipe alone."""
    if not over:
        return {"": recipe}
    field, *values = over
    return {
        value: dataclasses.replace(recipe, flags=(*recipe.flags, f"--{field}", value))
        for value in values
    }


def _rows(bench, recipe, args) -> dict:
    """What is measured beside one another; UserError where the mesh cannot hold the batch."""
    experiment = recipe.experiment()
    experiment.mesh.build(experiment.batch_size)
    rows = bench.executions(recipe)
    if args.errors:
        if args.peers:
            raise UserError("--errors compares executions of one model: leave out --peers")
        bench.reference(experiment)
        return rows
    try:
        rows |= bench.textbooks(experiment) if args.textbook else {}
        return rows | (bench.peers(experiment) if args.peers else {})
    except ValueError as error:
        raise UserError(str(error)) from None


def _as_rows(rows: dict) -> dict:
    return {"rows": {name: dataclasses.asdict(row) for name, row in rows.items()}}


def _by_value(over: list[str] | None, documents: dict) -> dict:
    """Part of a document: one of a kind, or one for each value of a field."""
    return {"field": over[0], "values": documents} if over else documents[""]


def _under_titles(over: list[str] | None, tables: dict[str, str]) -> list[str]:
    return [f"{over[0]} {value}\n{table}\n" if over else table for value, table in tables.items()]


def _cost_figure(figures, timings, over: list[str] | None, title: str):
    """Curves over the values of a field where they are numbers, else bars."""
    costs = {
        what: {
            value: {name: getattr(timing, what) for name, timing in rows.items()}
            for value, rows in timings.items()
        }
        for what in ("step_ms", "temporary_mib")
    }
    if over and all(_is_number(value) and float(value) > 0 for value in timings):
        return figures.scaling(over[0], costs["step_ms"], costs["temporary_mib"], title)
    flat = [
        {f"{name} {value}".strip(): y for value, rows in c.items() for name, y in rows.items()}
        for c in costs.values()
    ]
    return figures.costs(*flat, title)


RUN = {
    "train": _train,
    "trials": _trials,
    "eval": _eval,
    "icl": _icl,
    "predict": _predict,
    "show": _show,
    "bench": _bench,
}
