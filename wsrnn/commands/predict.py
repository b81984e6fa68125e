"""predict: a trained model's outputs for a user's own file; the readers are in `wsrnn.predict`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsrnn.artifacts import slug
from wsrnn.commands import Outcome
from wsrnn.commands.recipes import checkpoint
from wsrnn.errors import UserError
from wsrnn.predict import check_task, draw_predictions, read_sequences
from wsrnn.predict import predict as predict_on
from wsrnn.run import load_step, reopen


@dataclass(frozen=True)
class Options:
    """Predict on your own data: an npz with `inputs` [N, T, D] and maybe `times` [N, T], or a long
    csv with columns id, t and the channels, in the units the model was trained on. Writes outputs
    [N, T, O], times, lengths and ids to an npz, and a figure.
    """

    step: str = "best"
    """best (on validation), last, or a number."""
    out: str | None = None
    """An npz file or a folder; None is DIR/predictions."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""


def run(options: Options, folder: str, data: str, flags: list[str]) -> Outcome:
    """Predict on a file of the user's."""
    step, task = checkpoint(options.step), reopen(folder, flags).task
    check_task(task)
    sequences = read_sequences(Path(data), task.d_in, task.times)  # before much is loaded
    model, _, number = load_step(folder, step, flags)
    outputs = predict_on(model, sequences)
    path = _output(options.out, Path(folder), Path(data), slug(number, flags))
    title = f"{folder} step {number} on {Path(data).name}"
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


def _output(out: str | None, folder: Path, data: Path, name: str) -> Path:
    """Where predictions are written: never over the data they are made from."""
    name = f"{data.name}-{name}.npz"
    path = Path(out) if out else folder / "predictions" / name
    if path.is_dir() or str(out).endswith("/"):
        path = path / name
    if path.suffix != ".npz":
        raise UserError(f"--out {path}: predictions are written as .npz, or name a folder")
    if path.resolve() == data.resolve():
        raise UserError(f"--out {path} is the data itself: name another file")
    return path
