"""WARP: its parts, one a file, the model composed of them, and the models built of it.

config      WarpConfig: the parts, and which combinations are valid; `summing`
lift features start write query     the parts beside `wsrnn.root` and `wsrnn.recurrence`
model streaming     the model in one call, and one step at a time
stack       layers of it
selective   an A_t that depends on the token: no convolution
textbook    the plainest execution, a reference for tests and benchmarks

A new lift, start or write is one class in its file and its name in the tuple there, or a class of
an experiment file.
"""

from wsrnn.models.head import Clip, DynamicTanh, Head, Scale, Tanh
from wsrnn.models.warp.config import WarpConfig, summing
from wsrnn.models.warp.features import Features
from wsrnn.models.warp.lift import (
    LIFTS,
    Bilinear,
    Lift,
    LowRankLift,
    MlpLift,
    Moments,
    Outer,
    StepMoments,
)
from wsrnn.models.warp.model import Warp
from wsrnn.models.warp.positions import Positions
from wsrnn.models.warp.query import Query, Raster, Waves
from wsrnn.models.warp.start import STARTS, FromFirst, Impulse, Learned, Start
from wsrnn.models.warp.write import WRITES, Direct, Matrix, WriteForm

__all__ = [
    "LIFTS",
    "STARTS",
    "WRITES",
    "Bilinear",
    "Clip",
    "Direct",
    "DynamicTanh",
    "Features",
    "FromFirst",
    "Head",
    "Impulse",
    "Learned",
    "Lift",
    "LowRankLift",
    "Matrix",
    "MlpLift",
    "Moments",
    "Outer",
    "Positions",
    "Query",
    "Raster",
    "Scale",
    "Start",
    "StepMoments",
    "Tanh",
    "Warp",
    "WarpConfig",
    "Waves",
    "WriteForm",
    "summing",
]
