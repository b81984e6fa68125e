"""WARP: its parts, one noun a file, the model that they make, and what is built of it.

config      WarpConfig: which parts there are, and which go together; `summing`
lift features start write query     the parts beside `wsrnn.root` and `wsrnn.recurrence`
model streaming     the model in one call, and one step at a time
stack       layers of it
selective   an A_t that depends on the token: no convolution
textbook    the plainest execution, to compare with
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
)
from wsrnn.models.warp.model import Warp
from wsrnn.models.warp.query import Query, Waves
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
    "Query",
    "Scale",
    "Start",
    "Tanh",
    "Warp",
    "WarpConfig",
    "Waves",
    "WriteForm",
    "summing",
]
