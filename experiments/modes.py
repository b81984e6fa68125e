"""Recurrent against convolution mode: the same parameters, data and steps, another execution.

Claim: `scan` and `conv` are one model. Two runs from the same start see the same losses but for
float32 round-off. The rate is kept low for this: Adam moves every entry of a dense A by about its
rate, so the spectral norm by up to P times that, and ten times the rate (with a relu root) makes
training chaotic within 100 steps; round-off then grows into other losses, as it would between two
machines.

Reached, 500 steps on two CPU cores: largest relative difference of the loss 3.1e-6; a step takes
33.6 ms by scan and 12.0 ms by conv, with 10.5 and 7.4 MiB of temporary memory.

Command: wsrnn train experiments/modes.py              trains both as sibling runs and compares them
         wsrnn train experiments/modes.py --model.mode scan                       trains one of them
"""

from dataclasses import replace

from wsrnn.experiment import Experiment
from wsrnn.models.warp import Matrix, MlpLift, Query, WarpConfig
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.recurrence import Dense
from wsrnn.root import Mlp
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=5, examples=63),
    model=WarpConfig(
        root=Mlp(width=16, depth=2, activation="tanh", start="he"),
        transition=Dense(start="orthogonal", radius=0.95),
        lift=MlpLift(width=32, size=16),
        write=Matrix(scale=0.03),
        query=Query(time=False, inputs=True),
        drive="value",
        layout="read_before_write",
    ),
    optim=OptimConfig(learning_rate=1e-4, schedule=Cosine(warmup=50)),
    steps=500,
    batch_size=64,
    eval_every=250,
    save_every=250,
)
variants = {"small": replace(experiment, steps=100, eval_every=50)}


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """The siblings that `wsrnn train` runs when no flag names a mode."""
    return {
        mode: replace(experiment, model=replace(experiment.model, mode=mode))
        for mode in ("scan", "conv")
    }
