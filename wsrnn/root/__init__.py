"""Root networks: small networks whose weights are the state of the recurrence."""

from wsrnn.root.base import Root
from wsrnn.root.mlp import ACTIVATIONS, Activation, RootNet, RootStart

ROOTS = (RootNet,)

__all__ = ["ACTIVATIONS", "ROOTS", "Activation", "Root", "RootNet", "RootStart"]
