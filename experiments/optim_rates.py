"""One learning rate for root networks of every size: the rate of a dense A divided by P.

A step of Adam moves every entry of A by up to the rate, and so the norm of a P x P matrix by up to
P times the rate: one rate for all parameters is too large for A in a wide root network long before
it suits the others. With `rates=("A=1/P",)` the norm of A moves by at most the rate at every size.

TABLE

Command: wsrnn trials experiments/optim_rates.py --seeds 1 --rates 1e-4 3e-4 1e-3 3e-3 1e-2 3e-2 1e-1
         wsrnn trials experiments/optim_rates.py --variant by_size  (the same rates)   the rule for A
"""

from dataclasses import replace

from wsrnn.experiment import Experiment
from wsrnn.models.warp import Matrix, MlpLift, Query, WarpConfig
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.recurrence import Dense
from wsrnn.root import Mlp
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=2, examples=7),
    model=WarpConfig(
        root=Mlp(width=16, depth=2, activation="tanh", start="he"),
        transition=Dense(start="orthogonal", radius=0.95),
        lift=MlpLift(width=32, size=4),
        write=Matrix(scale=0.1),
        query=Query(time=False, inputs=True),
        drive="value",
        layout="read_before_write",
        mode="conv",
    ),
    optim=OptimConfig(schedule=Cosine(warmup=20)),
    steps=300,
    batch_size=16,
    eval_every=300,
    save_every=300,
)
variants = {"by_size": replace(experiment, optim=replace(experiment.optim, rates=("A=1/P",)))}


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """Root networks of three widths: P of 105, 337 and 1,185."""
    return {
        f"width {width}": replace(
            experiment,
            model=replace(experiment.model, root=replace(experiment.model.root, width=width)),
        )
        for width in (8, 16, 32)
    }
