"""draft"""


from wsrnn.evaluations.completion import Completion
from wsrnn.experiment import Experiment
from wsrnn.models.warp import Matrix, Positions, Query, Raster, WarpConfig
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.recurrence import Identity
from wsrnn.root import Mlp
from wsrnn.tasks.images import ImageCompletion

experiment = Experiment(
    task=ImageCompletion(context=(50, 700)),
    model=WarpConfig(
        root=Mlp(width=32, depth=3, start="he"),
        transition=Identity(),
        positions=Positions(size=256),
        write=Matrix(scale=0.1),
        query=Query(time=False, waves=Raster(side=28, modes=14)),
        drive="value",
    ),
    evaluation=Completion((100, 300, 600)),
    optim=OptimConfig(learning_rate=1e-3, schedule=Cosine(warmup=200)),
    steps=20_000,
    batch_size=64,
    eval_every=1000,
    eval_batches=32,
    save_every=1000,
)
variants = {"small": experiment}
