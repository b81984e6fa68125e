"""One learning rate for root networks of every size: the rate of a dense A divided by P.

A step of Adam moves every entry of A by up to the rate, and so the norm of a P x P matrix by up to
P times the rate: for a wide root network, a rate that suits the other parameters is far too large
for A. With `rates=("A=1/P",)` the norm of A moves by at most the rate at every size.

Validation loss after 300 steps, one seed (a prediction of zero has 2):

    learning rate         1e-4   3e-4   1e-3   3e-3   1e-2   3e-2   1e-1
    one rate for all
      width 8,  P = 105   2.62   2.38   2.06   1.60   2.07   3.10   119
      width 16, P = 337   2.36   2.11   1.87   2.54   183    587    2.5e9
      width 32, P = 1185  2.18   2.76   123    1860   1.5e5  3.7e9  8.7e21
    A=1/P (`by_size`)
      width 8             3.40   2.94   2.29   1.86   1.54   1.71   2.10
      width 16            3.34   2.69   2.05   1.55   1.29   1.66   2.19
      width 32            2.82   2.37   1.94   1.26   1.19   1.56   2.67

With one rate for all parameters, the best of these rates falls from 3e-3 to 1e-4 as the root
network grows, and its loss rises from 1.60 to 2.18; with the rule for A it is 1e-2 at every width,
its loss falls from 1.54 to 1.19, and no rate diverges. At low rates the rule has a price, as A then
moves less still: 1.86 against 1.60 at width 8 and 3e-3.

Command, and the same with --variant by_size (figures/rates.png shows the loss against the rate):
wsrnn trials experiments/optim_rates.py --seeds 1 --rates 1e-4 3e-4 1e-3 3e-3 1e-2 3e-2 1e-1
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
