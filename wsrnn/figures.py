"""The style of every figure: size, colours, axes, legend. No state and no window.

What a figure shows is drawn beside the code that measures it.
"""

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
else:  # what draws nothing imports no matplotlib, which takes a second
    Axes = Axis = Figure = Any

OURS = "#c1272d"
LINES = [OURS, "#4477aa", "#228833", "#222222", "#9a9a9a", "#ccbb44", "#aa3377", "#66ccee"]
GREYS = ["#222222", "#6b6b6b", "#9a9a9a", "#c4c4c4"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    _import_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def _import_matplotlib() -> None:
    """As ever, but for a $MPLBACKEND that is not installed: files need no backend."""
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


def finish(*every: Axes, legend: bool = True, **options) -> None:
    """Leave out the frame's upper and right side; add a legend with matplotlib's options."""
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        if legend:
            axes.legend(**dict(frameon=False, fontsize=8) | options)


def log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times each power of ten, and none between."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.minorticks_off()
