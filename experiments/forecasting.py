"""Time series forecast by WARP, its peers, ridge and repetition: ETT, traffic, a csv of one's own.

Claim: with normalised windows and a state that is updated by whole patches of 24 rows, a WARP of
one channel forecasts ETTh1 and ETTm1, 96 rows from 96, as well as the linear models that are hard
to beat there (MSE 0.385 and 0.330).

Command: wsrnn train experiments/forecasting.py [--variant SET] [--seed N] --data-dir DATA
         wsrnn train experiments/forecasting.py --variant csv --task.path mine.csv
"""

from dataclasses import replace

from wsrnn.evaluations.forecast import Forecast
from wsrnn.experiment import Experiment
from wsrnn.models.peers.dlinear import DLinearConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.warp import FromFirst, Head, Matrix, Query, Scale, WarpConfig, Waves
from wsrnn.optim import AdaBelief, Constant, Cosine, OptimConfig
from wsrnn.recurrence import Dense
from wsrnn.root import Mlp
from wsrnn.tasks.continuation import Recursive
from wsrnn.tasks.series import PUBLIC, Ett, Public, Series, Traffic

DAYS = dict(context=(4,), horizon=4, patch=24)  # 96 rows in, 96 out
experiment = Experiment(
    task=Ett(**DAYS, stride=4),
    model=WarpConfig(
        root=Mlp(width=16, depth=1, start="he"),
        transition=Dense(start="orthogonal", radius=0.995),
        write=Matrix(scale=0.1),
        query=Query(waves=Waves(count=4, base=4)),
        drive="value",
    ),
    evaluation=Forecast(),
    optim=OptimConfig(learning_rate=1e-3, schedule=Cosine(warmup=100)),
    steps=2000,
    batch_size=128,
    eval_every=200,
    eval_batches=None,
    save_every=1000,
)
minutes = replace(experiment, task=replace(experiment.task, name="ETTm1", stride=16))
short = replace(experiment, steps=500, eval_every=50)
peers = {
    "dlinear": DLinearConfig(),
    "gru": RnnConfig(width=128),
    "s5": SsmConfig(width=64, states=32, layers=2),
}
sizes = {name: dict(context=(4,), horizon=2, patch=12) for name in PUBLIC} | {
    "exchange": DAYS,
    "illness": dict(context=(9,), horizon=6, patch=4),
    "gas_rate": dict(context=(4,), horizon=2, patch=6),
}

variants = {
    "m1": minutes,
    "h2": replace(experiment, task=replace(experiment.task, name="ETTh2")),
    "m2": replace(minutes, task=replace(minutes.task, name="ETTm2")),
    "traffic": replace(
        experiment, task=Traffic(context=(4,), horizon=4, patch=3, stride=8), steps=3000
    ),
    "csv": replace(short, task=Series(**DAYS)),
    **{name: replace(short, task=Public(name=name, **size)) for name, size in sizes.items()},
    **{name: replace(experiment, model=model) for name, model in peers.items()},
    **{f"m1_{name}": replace(minutes, model=model) for name, model in peers.items()},
    "paper": replace(
        experiment,
        task=Ett(Recursive(forcing=0.25, sampled=True), loss="nll", normalise=False),
        model=WarpConfig(
            root=Mlp(width=148, depth=1),
            start=FromFirst(depth=2, width=32),
            head=Head(scale=Scale()),
        ),
        optim=OptimConfig(
            AdaBelief(), Constant(), learning_rate=1e-5, clip_norm=None, clip_value=1e-7
        ),
        steps=1500,
        batch_size=3600,
    ),
}
