"""Root networks: small networks whose weights are the state of the recurrence. One root, one file.

`base` is their contract, `layers` is shared by those of linear layers. A new root here is one
file and its name in ``ROOTS``, which enrols it in the tests and makes it a choice on the command
line; `formula` makes a root of any function, and `physics` holds some.
"""

from wsrnn.root.activations import ACTIVATIONS, Activation
from wsrnn.root.base import Network, Readout, Root, Weights
from wsrnn.root.constant import Constant
from wsrnn.root.evidence import Evidence
from wsrnn.root.formula import Formula
from wsrnn.root.gated import Gated
from wsrnn.root.layers import Layered
from wsrnn.root.linear import Linear
from wsrnn.root.mlp import Mlp
from wsrnn.root.one_step import OneStep
from wsrnn.root.residual import Residual
from wsrnn.root.solver import ConjugateGradients, Descent

ROOTS: tuple[type[Root], ...] = (
    Mlp,
    Linear,
    Gated,
    Residual,
    Descent,
    ConjugateGradients,
    Evidence,
    Constant,
)
"""Those that are described by numbers alone, unlike `Formula`, and predict, unlike `OneStep`."""

__all__ = [
    "ACTIVATIONS",
    "ROOTS",
    "Activation",
    "ConjugateGradients",
    "Constant",
    "Descent",
    "Evidence",
    "Formula",
    "Gated",
    "Layered",
    "Linear",
    "Mlp",
    "Network",
    "OneStep",
    "Readout",
    "Residual",
    "Root",
    "Weights",
]
