"""Root networks: small networks whose weights are the state of the recurrence."""

from wsrnn.root.base import Network, Root
from wsrnn.root.descent import Descent
from wsrnn.root.evidence import Evidence
from wsrnn.root.mlp import ACTIVATIONS, Activation, Gated, RootNet, RootStart
from wsrnn.root.residual import Residual

MLPS = (RootNet,)
"""Those that are layers of kernels and biases."""

__all__ = [
    "ACTIVATIONS",
    "MLPS",
    "Activation",
    "Descent",
    "Evidence",
    "Gated",
    "Network",
    "Residual",
    "Root",
    "RootNet",
    "RootStart",
]
