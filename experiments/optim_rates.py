"""One learning rate for root networks of every size: the rate of a dense A divided by P.

A step of Adam moves every entry of A by up to the rate, and so the norm of a P x P matrix by up to
P times the rate: one rate for all parameters is too large for A in a wide root network long before
it suits the others. With `rates=("A=1/P",)` the norm of A moves by at most the rate at every size.

Loss after 300 steps of 16 prompts, one seed, by learning rate:

                  1e-4    3e-4    1e-3    3e-3    1e-2    3e-2    1e-1
    one rate for all parameters
    width 8      2.621   2.382   2.057   1.601   2.071   3.103   119.2
    width 16     2.360   2.111   1.871   2.538   183.4   587.2   3e+09
    the rate of A divided by P
    width 8      3.400   2.935   2.291   1.861   1.535   1.709   2.101
    width 16     3.341   2.687   2.051   1.549   1.290   1.663   2.187
    width 32     2.822   2.365   1.936   1.261   1.194   1.560

With one rate for all the best rate falls from 3e-3 to 1e-3 as the width grows from 8 to 16, and
three times that rate already diverges or is close to it; with the rule 1e-2 is best at every width,
nothing diverges, and every width ends lower than without it (1.54, 1.29, 1.19 against 1.60, 1.87).

Command: wsrnn trials experiments/optim_rates.py --seeds 1 --rates 1e-4 3e-4 1e-3 3e-3 1e-2 3e-2
         wsrnn trials experiments/optim_rates.py --variant by_size --seeds 1 --rates ...
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
