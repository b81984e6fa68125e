"""Forecasts."""

from dataclasses import replace

from wsrnn.evaluations.forecast import Forecast
from wsrnn.experiment import Experiment
from wsrnn.models.peers.dlinear import DLinearConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.warp import Matrix, Query, WarpConfig, Waves
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.recurrence import Dense, Rotation
from wsrnn.root import Linear, Mlp
from wsrnn.tasks.series import Ett

warp = WarpConfig(
    root=Linear(start="he"),
    transition=Dense(start="orthogonal", radius=0.995),
    write=Matrix(scale=0.1),
    query=Query(waves=Waves(count=32, base=30)),
    drive="value",
    mode="conv",
)
experiment = Experiment(
    task=Ett(),
    model=warp,
    evaluation=Forecast(),
    optim=OptimConfig(learning_rate=1e-3, schedule=Cosine(warmup=100)),
    steps=2000,
    batch_size=128,
    eval_every=250,
    eval_batches=None,
    save_every=250,
)
models = {
    "mlp": replace(
        warp, root=Mlp(width=8, depth=1), transition=Rotation(radius=0.995), mode="auto"
    ),
    "rot": replace(warp, transition=Rotation(radius=0.995), mode="auto"),
    "gru": RnnConfig(width=64),
    "dlinear": DLinearConfig(),
    "s5": SsmConfig(width=32, states=32, layers=2),
}
variants = {"m1": replace(experiment, task=Ett(name="ETTm1"))}
for name, m in models.items():
    variants[name] = replace(experiment, model=m)
    variants["m1-" + name] = replace(variants["m1"], model=m)
p24 = replace(experiment, task=Ett(context=(4,), horizon=4, patch=24, stride=8))
wq = replace(warp, query=Query(waves=Waves(count=4, base=4)), mode="auto")
variants["p24"] = replace(p24, model=wq)
variants["p24mlp"] = replace(p24, model=replace(wq, root=Mlp(width=16, depth=1, start="he")))
variants["m24"] = replace(variants["p24"], task=replace(p24.task, name="ETTm1", stride=32))
variants["m24mlp"] = replace(variants["p24mlp"], task=replace(p24.task, name="ETTm1", stride=32))
