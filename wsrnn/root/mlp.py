"""The paper's root network: a small MLP read from a flat vector of weights."""

from dataclasses import dataclass
from itertools import pairwise

from wsrnn.checks import check_positive
from wsrnn.root.activations import Activation
from wsrnn.root.layers import Layered


@dataclass(frozen=True)
class Mlp(Layered):
    """An MLP of hidden layers of one width."""

    width: int = 24
    """Units of each hidden layer."""
    depth: int = 3
    """Hidden layers; for none take `Linear`."""
    activation: Activation = "relu"
    """After each hidden layer."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "width", "depth")

    @property
    def nonlinearity(self):
        """The activation."""
        return self.activation

    def layers(self, d_in, d_out):
        """Hidden layers and the last one."""
        return list(pairwise([d_in, *[self.width] * self.depth, d_out]))
