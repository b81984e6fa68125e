"""Plain-text tables for a terminal."""

from collections.abc import Iterable, Mapping, Sequence


def text_table(
    columns: Sequence[str], rows: Mapping[str, Sequence[str]] | Iterable[tuple[str, Sequence[str]]]
) -> str:
    """A line for the columns and one for each row: names on the left, cells aligned on the right.

    A row may be shorter than the columns.
    """
    rows = list(rows.items() if isinstance(rows, Mapping) else rows)
    lines = [["", *columns], *([name, *cells] for name, cells in rows)]
    widths = [
        max((len(line[i]) for line in lines if i < len(line)), default=0)
        for i in range(len(columns) + 1)
    ]
    return "\n".join(
        "  ".join(
            f"{cell:{'>' if i else '<'}{width}}"
            for i, (cell, width) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in lines
    )


def human_bytes(count: float) -> str:
    """A number of bytes with three digits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.3g} TiB"
