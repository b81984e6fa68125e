"""Learning curves as inline SVG that takes the page's font and text colour."""

import io
import re
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np

from wsrnn.figures import Figure, finish, log_ticks, new_figure
from wsrnn.page.groups import Group, Line

# Seen on white and on black.
COLOURS = ("#c1272d", "#3b7dbf", "#2f9e44", "#a64ca6", "#e08a1e", "#17a2b8", "#8a8f98", "#b0a01f")
DASHES = {"solid": "-", "dashed": "--", "dotted": ":"}
INK = "#010203"  # replaced by the page's text colour


class Style(NamedTuple):
    """How a group is drawn, and marked in the table."""

    colour: str
    dash: str


def styles(count: int) -> list[Style]:
    """As many styles, the dashes changing once all colours are used."""
    every = cycle(Style(colour, dash) for dash in DASHES for colour in COLOURS)
    return [next(every) for _ in range(count)]


def learning_curves(groups: Sequence[Group], name: str) -> dict[str, str]:
    """SVG by title: loss against steps and against seconds, a line a group, a band over seeds."""
    pictures = {}
    for kind, x, title in (
        ("train", "steps", "training loss by step"),
        ("valid", "steps", "validation loss by step"),
        ("valid", "seconds", "validation loss by seconds of training"),
    ):
        lines = [(group.line(kind), style) for group, style in
                 zip(groups, styles(len(groups)), strict=True)]  # fmt: skip
        drawn = [(line, style) for line, style in lines if line is not None]
        drawn = [(line, style) for line, style in drawn if np.isfinite(getattr(line, x)).any()]
        if any(len(line.steps) > 1 for line, _ in drawn):
            label = "step" if x == "steps" else "seconds of training"
            pictures[title] = svg(_draw(drawn, x, label), f"{name} {title}")
    return pictures


def _draw(lines: Sequence[tuple[Line, Style]], x: str, label: str) -> Figure:
    figure = new_figure(4.8, 3.1)
    axes = figure.subplots()
    for line, style in lines:
        at = getattr(line, x)
        if (line.least < line.most).any():
            axes.fill_between(at, line.least, line.most, color=style.colour, alpha=0.18, lw=0)
        mark = "o" if len(at) < 40 else None
        axes.plot(at, line.mean, DASHES[style.dash], color=style.colour, lw=1.6, marker=mark, ms=3)
    axes.set_xlabel(label)
    least, most = (
        min(line.least.min() for line, _ in lines),
        max(line.most.max() for line, _ in lines),
    )
    if 0 < 3 * least < most:
        axes.set_yscale("log")
        if most < 1e3 * least:
            log_ticks(axes.yaxis)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="y", color="#8a8f98", alpha=0.25, lw=0.6)
    finish(axes, legend=False)
    return figure


def svg(figure: Figure, name: str) -> str:
    """Return a figure as an <svg> element; `name` keeps its ids apart from other figures'."""
    import matplotlib

    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.tick_params(which="both", colors=INK)
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(INK)
        for spine in axes.spines.values():
            spine.set_color(INK)
    figure.patch.set_alpha(0)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.S)
    drawing = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _open_svg, drawing, count=1, flags=re.S)
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)  # the same in every figure, used by none
    return drawing.replace(INK, "currentColor")


def _open_svg(found: re.Match) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{found[1]}" role="img">'
    )
