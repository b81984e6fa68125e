"""plan: bytes, exchanges and time of a training step on many devices, before there are any."""

from dataclasses import dataclass
from typing import Any

from wsrnn import scaling
from wsrnn.checks import nearest
from wsrnn.commands import Outcome
from wsrnn.commands.recipes import read_recipe
from wsrnn.errors import UserError
from wsrnn.experiment import Experiment
from wsrnn.scaling import DEVICES, Device, Forecast, Measured
from wsrnn.text_table import human_bytes, text_table

COLUMNS = (
    "data x model", "parameters", "optimiser", "working", "sent", "collectives", "work ms",
    "exchange ms", "step ms", "efficiency",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Predict a training step on any number of devices: bytes of parameters, optimiser state and
    working memory on each, bytes that each sends, time of a step, parallel efficiency. The step is
    traced for each mesh and counted, at peak rates from data sheets; needs no such device, makes no
    arrays.
    """

    devices: str = "1,8,64"
    """How many devices, as 8,64,512."""
    device: str = "h100"
    """Which: a100, h100, h200, tpu-v5e, tpu-v5p, or cpu for this kind of machine."""
    measure: bool = False
    """Also compile and run each on the devices that are there, which may be simulated."""
    variant: str | None = None
    """One of the file's `variants`, such as small or paper."""
    data_dir: str | None = None
    """Where data files lie; None is $WSRNN_DATA, else ~/.cache/wsrnn."""
    json: bool = False
    """Print one JSON document on stdout, all else on stderr."""


def run(options: Options, file: str | None, flags: list[str]) -> Outcome:
    """Forecast each mesh, and measure it if wanted."""
    counts, device = _counts(options.devices), _device(options.device)
    if options.measure:
        scaling.check_visible(max(counts), options.device)
    experiment = read_recipe(file, options, flags).experiment()
    if experiment.mesh.data != -1:
        raise UserError("plan lays out --devices itself: leave out --mesh.data")
    rows, notes = _rows(experiment, counts, device)
    if not rows:
        raise UserError(notes[0])
    one = scaling.forecast(experiment, 1, 1, device.backend)
    found = {}
    if options.measure:
        meshes = {(row.data, row.model) for row in [one, *rows]}
        found = {mesh: scaling.measure(experiment, *mesh) for mesh in sorted(meshes)}
    document = {
        "device": options.device,
        "rates": device._asdict(),
        "batch_size": experiment.batch_size,
        "rows": [_document(row, one, device, found.get((row.data, row.model))) for row in rows],
        "notes": notes,
    }
    cells = [(f"{row.devices:,} x {options.device}", _cells(row, one, device)) for row in rows]
    lines = [text_table(COLUMNS, cells), ""]
    if found:
        lines += [_comparison(rows, one, found, device), ""]
    return document, "\n".join([*lines, *notes, *_legend(experiment, device)]), 0


def _counts(text: str) -> list[int]:
    """The numbers of devices that --devices names."""
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise UserError(f"--devices takes numbers of devices, as 8,64,512, not {text!r}")
    return sorted(set(map(int, words)))


def _device(name: str) -> Device:
    if name not in DEVICES:
        raise UserError(f"--device {name} is unknown{nearest(name, DEVICES)}")
    return DEVICES[name]


def _rows(
    experiment: Experiment, counts: list[int], device: Device
) -> tuple[list[Forecast], list[str]]:
    """A forecast for each mesh, and a line for what there is none of."""
    rows, notes = [], []
    size, parts = experiment.batch_size, experiment.optim.accumulate
    for count in counts:
        if size % (count * parts):
            per = -(-size // (count * parts)) * count * parts
            also = f" x optim.accumulate {parts}" if parts > 1 else ""
            notes.append(
                f"batch_size {size} is not divisible by {count} device(s){also}: "
                f"set --batch-size {per}"
            )
            continue
        meshes = scaling.shapes(experiment, count)
        if not meshes:
            notes.append(
                f"{count} device(s) do not divide by mesh.model {experiment.mesh.model}: change "
                "one of them"
            )
        for data, model in meshes:
            rows.append(scaling.forecast(experiment, data, model, device.backend))
    if not scaling.splittable(experiment):
        notes.append(
            "no parameter is large enough to be split over mesh.model: every device has a whole "
            "copy of all, and only the batch is split"
        )
    return rows, notes


def _efficiency(row: Forecast, one: Forecast, device: Device) -> float:
    return one.seconds(device) / row.seconds(device) / row.devices


def _cells(row: Forecast, one: Forecast, device: Device) -> list[str]:
    counted = row.counted
    return [
        f"{row.data} x {row.model}",
        human_bytes(row.parameters), human_bytes(row.optimiser),
        human_bytes(row.batch + counted.peak), human_bytes(counted.sent()),
        f"{sum(c.times for c in counted.collectives):,}",
        f"{1e3 * row.working(device):.3g}", f"{1e3 * row.exchanging(device):.3g}",
        f"{1e3 * row.seconds(device):.3g}", f"{_efficiency(row, one, device):.0%}",
        *["too large"] * (row.peak > device.memory),
    ]  # fmt: skip


def _document(
    row: Forecast, one: Forecast, device: Device, measured: Measured | None
) -> dict[str, Any]:
    volume = [[*key, size] for key, size in sorted(row.counted.volume().items())]
    found = {
        "devices": row.devices, "data": row.data, "model": row.model,
        "parameter_bytes": row.parameters, "optimiser_bytes": row.optimiser,
        "batch_bytes": row.batch, "working_bytes": row.counted.peak, "peak_bytes": row.peak,
        "fits": row.peak <= device.memory,
        "operations": row.counted.operations(), "sent_bytes": row.counted.sent(),
        "volume": volume, "collectives": sum(c.times for c in row.counted.collectives),
        "work_s": row.working(device), "exchange_s": row.exchanging(device),
        "step_s": row.seconds(device), "efficiency": _efficiency(row, one, device),
    }  # fmt: skip
    if measured:
        volume = [[*key, size] for key, size in sorted(measured.volume.items())]
        found["measured"] = {
            "memory": measured.memory._asdict(), "volume": volume, "step_s": measured.seconds
        }  # fmt: skip
    return found


def _comparison(
    rows: list[Forecast], one: Forecast, found: dict[tuple[int, int], Measured], device: Device
) -> str:
    """The forecasts beside what was compiled and run."""
    base = found[1, 1].seconds
    cells = []
    for row in rows:
        measured = found[row.data, row.model]
        held = row.parameters + row.optimiser + row.batch
        counted = sum(row.counted.volume().values())
        cells.append((
            f"{row.data} x {row.model}",
            [
                human_bytes(held), human_bytes(measured.memory.arguments),
                human_bytes(row.counted.peak), human_bytes(measured.memory.temporary),
                f"{counted:,}", f"{sum(measured.volume.values()):,}",
                f"{row.devices * row.working(device) / one.working(device):.2f}",
                f"{measured.seconds / base:.2f}", f"{1e3 * measured.seconds:.3g}",
            ],
        ))  # fmt: skip
    columns = (
        "arguments", "compiled", "working", "compiled", "exchanged bytes", "compiled",
        "work of all", "time", "measured ms",
    )  # fmt: skip
    return text_table(columns, cells) + (
        "\nwork of all, time: over those of one device; devices that share cores take the time of "
        "all their work"
    )


def _legend(experiment: Experiment, device: Device) -> list[str]:
    return [
        f"bytes are those of each device; batch_size {experiment.batch_size} is split over all; "
        "efficiency: against one device with the whole batch",
        "working: the batch and what the step makes beside the state; sent: by each device in a "
        "step; exchanges hide behind no work",
        f"rates: {device.fraction:.0%} of the peak: {device.float32 / 1e12:.3g} TFLOP/s float32, "
        f"{device.bandwidth / 1e9:,.0f} GB/s of memory, {device.link / 1e9:,.0f} GB/s between "
        f"{device.group:,}, {device.network / 1e9:,.3g} GB/s beyond; "
        f"{1e6 * device.launch:.2g} us an operation, {1e6 * device.latency:.2g} us an exchange",
    ]
