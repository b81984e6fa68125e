"""What each part of a WARP is worth, on a dynamical system, on images and on a UEA problem.

One change at a time, rate 1e-3, three seeds, last step, mean. Mass-spring-damper (64 points, 25
known, nothing fed back, 600 steps of 32): MSE/1e-2 after the context in the range of training and
in the wide one. BasicMotions (`motions --steps 300`): accuracy on 40 test cases, spread +-0.05.

                      narrow   wide  motions                       narrow   wide  motions
    WARP (12x2)       0.108    4.38    0.775   root 6 wide         1.13     4.14    0.775
    trained by scan   0.101    3.87    0.783   root 24 wide        0.0477   7.02    0.742
    A dense from I    0.0228   1.85    0.900   root 1 deep         1.15     2.71    0.758
    A blocks          0.276    2.95    0.750   root 4 deep         0.0686  96.1     0.808
    A rotation        2.03     6.04    0.608   16 waves            0.0465  14.1     0.750
    A low rank        2.47     8.00    0.958   theta_0 from x_0    0.104    4.99    0.800
    A diagonal        3.59     3.04    0.883   theta_0 an impulse  0.117    5.17    0.808
    A identity        5.53    10.5     0.925   MLP readout         0.149    1.51    0.900
    x's difference    0.179  351       0.592   fed back, forcing 1 0.421   diverges

A decides most, and on each task another one: a dense A from I is best on the oscillator, where I
and diagonals fail; on motions low rank, I and dense from I are, a start near I being worth more
than the form. Reading theta as a network is worth a factor of 1.4 over an ordinary MLP of the same
state in the range of training, and loses beyond it (2.9) and on motions. Depth, width and waves
help within the range, harm beyond it, and do nothing on motions. Conv and scan training agree
within the spread. theta_0 does not matter. Differences, the paper's drive, are worse everywhere.
Fed back, with half or 85 % of the steps free, no copy stayed finite. Images have not been run.

Command: wsrnn trials experiments/ablations.py [--variant images]    (one table each, three seeds)
"""

from dataclasses import replace

from wsrnn.evaluations.completion import Completion
from wsrnn.evaluations.labels import Accuracy
from wsrnn.evaluations.systems import SystemErrors
from wsrnn.experiment import Experiment
from wsrnn.models.warp import FromFirst, Impulse, Matrix, Query, WarpConfig, Waves
from wsrnn.models.warp.ordinary import OrdinaryConfig
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.recurrence import BlockDiagonal, Dense, Diagonal, Identity, LowRank, Rotation
from wsrnn.root import Mlp
from wsrnn.tasks.archive import Archive
from wsrnn.tasks.continuation import Continuation, Recursive
from wsrnn.tasks.images import ImageCompletion
from wsrnn.tasks.systems import MassSpringDamper

warp = WarpConfig(
    root=Mlp(width=12, depth=2, start="he"),
    transition=Dense(start="orthogonal", radius=0.99),
    write=Matrix(scale=0.1),
    drive="value",
    mode="conv",
)
experiment = Experiment(
    task=MassSpringDamper(context=(25,), points=64, trained=4096, tested=1024, wide=False),
    model=warp,
    evaluation=SystemErrors(unit=1e-2),
    optim=OptimConfig(learning_rate=1e-3, schedule=Cosine(warmup=50)),
    steps=600,
    batch_size=32,
    eval_every=200,
    eval_batches=16,
    save_every=600,
)
variants = {
    "images": replace(
        experiment,
        task=ImageCompletion(side=14, context=(25, 150)),
        evaluation=Completion((25, 75, 150), images=2000),
    ),
    "motions": replace(
        experiment,
        task=Archive("BasicMotions", jitter=0.2, final=True),
        evaluation=Accuracy(),
        eval_batches=None,
    ),
}


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """One change each."""
    model = experiment.model
    changes = {
        "WARP": {},
        "trained by scan": {"mode": "scan"},
        "A identity": {"transition": Identity()},
        "A diagonal": {"transition": Diagonal(start="decay")},
        "A rotation": {"transition": Rotation(start="orthogonal", radius=0.99)},
        "A blocks of layers": {"transition": BlockDiagonal(start="orthogonal", radius=0.99)},
        "A low rank": {"transition": LowRank(rank=8, start="decay")},
        "A dense from I": {"transition": Dense(start="identity")},
        "difference": {"drive": "difference"},
        "theta_0 from x_0": {"start": FromFirst(depth=1, width=32)},
        "theta_0 an impulse": {"start": Impulse()},
        "root 6 wide": {"root": replace(model.root, width=6)},
        "root 24 wide": {"root": replace(model.root, width=24)},
        "root 1 deep": {"root": replace(model.root, depth=1)},
        "root 4 deep": {"root": replace(model.root, depth=4)},
        "16 waves beside tau": {"query": Query(waves=Waves(count=16))},
    }
    table = {name: replace(experiment, model=replace(model, **c)) for name, c in changes.items()}
    table["MLP readout"] = replace(experiment, model=OrdinaryConfig(model, width=48, depth=2))
    if isinstance(experiment.task, Continuation):
        for forcing in (1.0, 0.5, 0.15):
            task = replace(experiment.task, strategy=Recursive(forcing))
            table[f"fed back, forcing {forcing:g}"] = replace(experiment, task=task)
    return table
