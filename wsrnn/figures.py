"""The style of every figure: size, colours, axes, legend. No state and no window.

What a figure shows is drawn beside the code that measures it.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS = "#c1272d"
LINES = [OURS, "#4477aa", "#228833", "#222222", "#9a9a9a", "#ccbb44", "#aa3377", "#66ccee"]
GREYS = ["#222222", "#6b6b6b", "#9a9a9a", "#c4c4c4"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def finish(*every: Axes, legend: bool = True, **options) -> None:
    """Leave out the frame's upper and right side; add a legend with matplotlib's options."""
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        if legend:
            axes.legend(**dict(frameon=False, fontsize=8) | options)
