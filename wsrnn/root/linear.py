"""A linear root."""

from dataclasses import dataclass

from wsrnn.root.layers import Layered


@dataclass(frozen=True)
class Linear(Layered):
    """y = W z + b: theta holds W and b, and y is linear in the state."""

    nonlinearity = "identity"

    def layers(self, d_in, d_out):
        """One."""
        return [(d_in, d_out)]
