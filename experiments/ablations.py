"""What each part of a WARP is worth, on a dynamical system, on images and on a UEA problem.

One change at a time, rate 1e-3, three seeds, last step, mean. Mass-spring-damper (64 points, 25
known, nothing fed back, 600 steps of 32): MSE/1e-2 after the context in the range of training and
in the wide one. MNIST of 14 x 14, 75 pixels known (`images --steps 300`): MSE/1e-2, 2,000 test
images, spread +-0.2. BasicMotions (`motions --steps 300`): accuracy, 40 cases, spread +-0.05.

                      narrow   wide  image motion                     narrow   wide  image motion
    WARP (12x2)        0.108   4.38   5.42  0.775   MLP readout        0.149   1.51   5.25  0.900
    trained by scan    0.101   3.87   5.51  0.783   root 6 wide         1.13   4.14   5.96  0.775
    A dense from I    0.0228   1.85   5.41  0.900   root 24 wide      0.0477   7.02  5.82*  0.742
    A blocks           0.276   2.95   5.57  0.750   root 1 deep         1.15   2.71   6.61  0.758
    A rotation          2.03   6.04   5.65  0.608   root 4 deep       0.0686   96.1  6.54*  0.808
    A low rank          2.47   8.00   8.09  0.958   16 waves          0.0465   14.1   5.51  0.750
    A diagonal          3.59   3.04   8.76  0.883   theta_0 from x_0   0.104   4.99   5.48  0.800
    A identity          5.53   10.5   32.8  0.925   theta_0 impulse    0.117   5.17   5.89  0.808
    x's difference     0.179    351  5.43*  0.592   fed back, forced   0.421  inf    5.54

A decides most: dense from I is best or near it everywhere, I and diagonals serve motions alone. The
root network is worth a factor of 1.4 over an MLP readout of the same state in the range of training
and loses beyond it, on images and on motions. Depth, width and waves help within that range only.
Conv and scan training agree within the spread. theta_0 hardly matters. Differences, the paper's
drive, lose on two tasks and diverge on images (*: from one seed of three, two of root 4 deep; mean
of the others). Fed back with half of the steps free no copy stayed finite.

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
