"""New linear systems, each to be identified from its own states."""

from dataclasses import dataclass

import numpy as np

from wsrnn.checks import check_fields
from wsrnn.tasks import Batch, clock
from wsrnn.tasks.drawn import Drawn, Raw


@dataclass(frozen=True)
class LinearSystem(Drawn):
    """s_{t+1} = W s_t + eps_t, W a random rotation or reflection (Haar) times `radius`, s_1 normal.

    Step t is scored on the next state but for its noise, W s_t (von Oswald et al. 2023, "Uncovering
    mesa-optimization algorithms"). Where not all is seen, C keeps the first coordinates: any other
    C with orthonormal rows gives the same distribution, because W prefers no direction.
    """

    d: int = 10
    """Dimension of the state."""
    length: int = 50
    """T, the steps of a trajectory."""
    noise: float = 0.01
    """Variance of each coordinate of eps."""
    radius: float = 1.0
    """Size of every eigenvalue of W."""
    observed: int | None = None
    """Coordinates that are seen; None shows all."""
    pairs: bool = False
    """Show tokens (s_t, s_{t+1}), for models that read before they write; otherwise s_t."""
    loss = "mse"

    def __post_init__(self):
        check_fields(self)
        if min(self.d, self.length) < 1 or not 0 <= self.noise < float("inf"):
            raise ValueError(
                "LinearSystem needs d and length of at least 1 and noise of at least 0, "
                f"got {self.d}, {self.length} and {self.noise}"
            )
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"radius must be above 0, got {self.radius}")
        if self.observed is not None and not 1 <= self.observed <= self.d:
            raise ValueError(f"observed must lie within 1 and d = {self.d}, got {self.observed}")

    @property
    def answers_in_tokens(self):
        """A pair holds the next state."""
        return self.pairs

    @property
    def d_out(self):
        """What is seen of a state."""
        return self.observed or self.d

    @property
    def d_in(self):
        """One state or two."""
        return self.d_out * (1 + self.pairs)

    def draws(self, split):
        """W before it is made orthogonal, the first state, and the noise on the others."""
        d = self.d
        return {
            "W": Raw("normal", (d, d)),
            "start": Raw("normal", (d,)),
            "noise": Raw("normal", (self.length, d)),
        }

    def build(self, raw, split, xp=np):
        """Run the systems."""
        Q, R = xp.linalg.qr(raw["W"])
        # Q alone is not Haar: QR leaves the signs of its columns to the implementation.
        Q = Q * xp.sign(xp.diagonal(R, axis1=1, axis2=2))[:, None]
        W = np.float32(self.radius) * Q
        states, clean = [raw["start"]], []
        for t in range(self.length):
            clean.append((W @ states[-1][..., None])[..., 0])
            states.append(clean[-1] + np.float32(self.noise**0.5) * raw["noise"][:, t])
        seen = xp.stack(states, 1)[..., : self.d_out]
        inputs, targets = seen[:, :-1], xp.stack(clean, 1)[..., : self.d_out]
        if self.pairs:
            inputs = xp.concatenate([inputs, seen[:, 1:]], -1)
        times = xp.broadcast_to(xp.asarray(clock(self.length)), inputs.shape[:2])
        return Batch(inputs, times, targets, xp.ones_like(times), {"W": W})
