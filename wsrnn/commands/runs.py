"""eval, icl and predict: what is done with a finished run."""

from pathlib import Path

import numpy as np

from wsrnn.artifacts import slug
from wsrnn.commands.recipes import data_flags
from wsrnn.errors import UserError
from wsrnn.icl import study
from wsrnn.predict import draw_predictions, read_sequences
from wsrnn.predict import predict as predict_on
from wsrnn.report import report
from wsrnn.run import load_step, reopen


def evaluate(args, flags):
    """Judge a checkpoint on the test split."""
    if args.data_dir:
        flags = [*flags, *data_flags(args, reopen(args.run)[1])]
    document = report(args.run, _step(args.step), tuple(flags))
    return document, document["text"], 0


def icl(args, flags):
    """Study what a run learns in context."""
    document = study(args.run, _step(args.step), tuple(flags), args.prompts)
    return document, document["text"], 0


def _step(text: str) -> str | int:
    if text in ("best", "last"):
        return text
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"--step takes best, last or a number, not {text!r}")
    return int(text)


def predict(args, flags):
    """Predict on a file of the user's."""
    model, experiment, number = load_step(args.run, _step(args.step), flags)
    sequences = read_sequences(Path(args.data), experiment.task.d_in)
    outputs = predict_on(model, sequences)
    path = _predictions(args, number, flags)
    title = f"{args.run} step {number} on {Path(args.data).name}"
    figure = draw_predictions(sequences.times[:6], outputs[:6], sequences.inputs[:6], title)
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
    name = f"{Path(args.data).name}-{slug(step, flags)}.npz"
    path = Path(args.out) if args.out else Path(args.run) / "predictions" / name
    if path.is_dir() or str(args.out).endswith("/"):
        path = path / name
    if path.suffix != ".npz":
        raise UserError(f"--out {path}: predictions are written as .npz, or name a folder")
    if path.resolve() == Path(args.data).resolve():
        raise UserError(f"--out {path} is the data itself: name another file")
    return path
