"""How fast: every execution of one model beside its plainest form and beside other models.

The sequences are noise: nothing is learned here, `wsrnn bench` times value and gradient of the
training loss (dA, dB and dtheta_0 included). What it printed is in experiments/speed.md.

Command: wsrnn bench experiments/speed.py --textbook --peers
         wsrnn bench experiments/speed.py --variant n128 --textbook --model.mode auto
         wsrnn bench experiments/speed.py --over task.length 784 1568 3136 6272 --model.mode conv
         wsrnn bench experiments/speed.py --errors --batch-size 2
"""

from dataclasses import dataclass, replace

import numpy as np

from wsrnn.experiment import Experiment
from wsrnn.models.warp import Matrix, WarpConfig
from wsrnn.recurrence import (
    BlockDiagonal,
    Dense,
    Diagonal,
    Identity,
    LowRank,
    Rotation,
    Scalar,
    Shift,
    Transition,
)
from wsrnn.root import Mlp
from wsrnn.tasks import Batch, Synthetic, clock


@dataclass(frozen=True)
class Noise(Synthetic):
    """Small normal steps in, normal targets out, at every step or at the last one."""

    length: int = 784
    """T."""
    d_in: int = 1
    """Channels in."""
    d_out: int = 1
    """Channels out."""
    last: bool = False
    """Score the last step only."""
    loss = "mse"

    def __post_init__(self):
        if min(self.length, self.d_in, self.d_out) < 1:
            raise ValueError(
                f"task.length, d_in and d_out must be at least 1, "
                f"got {self.length}, {self.d_in} and {self.d_out}"
            )

    def steps(self, split):
        """The last step alone, or all."""
        return "last" if self.last else "all"

    def sample(self, rng, split):
        """Draw one sequence."""
        inputs = 0.1 * rng.standard_normal((self.length, self.d_in), np.float32)
        targets = rng.standard_normal((self.length, self.d_out), np.float32)
        mask = np.ones(self.length, np.float32)
        if self.last:
            mask[:-1] = 0
        return Batch(inputs, clock(self.length), targets, mask, {})


# The paper's root network for MNIST, P = 1,273.
experiment = Experiment(
    task=Noise(),
    model=WarpConfig(
        root=Mlp(width=24, depth=3, start="he"),
        transition=Dense(start="orthogonal", radius=0.998),
        write=Matrix(scale=0.1),
        drive="value",
    ),
    batch_size=32,
)


def form(transition: Transition) -> Experiment:
    """The same with another form of A."""
    return replace(experiment, model=replace(experiment.model, transition=transition))


# Classification as in the paper's UEA runs: six channels, one hidden layer, one step read.
last = replace(
    experiment,
    task=Noise(length=4096, d_in=6, d_out=5, last=True),
    model=replace(experiment.model, root=Mlp(width=128, depth=1, start="he")),
)


def wide(transition: Transition) -> Experiment:
    """A root network of P = 99,853 weights: no room for a P x P matrix, and little for states."""
    return replace(
        experiment,
        task=Noise(length=1024),
        model=replace(
            experiment.model, root=Mlp(width=314, depth=2, start="he"), transition=transition
        ),
        batch_size=4,
    )


variants = {
    "n128": replace(experiment, batch_size=128),
    "identity": form(Identity()),
    "scalar": form(Scalar(radius=0.998)),
    "diagonal": form(Diagonal(start="decay")),
    "rotation": form(Rotation(radius=0.998)),
    "shift": form(Shift()),
    "block_diagonal": form(BlockDiagonal(start="orthogonal", radius=0.998)),
    "low_rank": form(LowRank(rank=16, start="orthogonal")),
    "wide_low_rank": wide(LowRank(start="orthogonal")),
    "wide_diagonal": wide(Diagonal(start="decay")),
    "last": last,
    "eigenworms": replace(last, task=replace(last.task, length=17_984)),
}
