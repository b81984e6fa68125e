"""Real tables."""

from wsrnn.evaluations.tables import TableErrors
from wsrnn.experiment import Experiment
from wsrnn.models.head import HeadConfig
from wsrnn.models.lift import LiftConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.tasks.tables import SyntheticTables

experiment = Experiment(
    task=SyntheticTables(d=33, examples=64),
    model=WarpConfig(
        root_form="evidence",
        root_priors=6,
        features=33,
        drive="value",
        layout="read_before_write",
        lift=LiftConfig("moments"),
        write="identity",
        transition=TransitionConfig("identity"),
        read_time=False,
        read_input=True,
        head=HeadConfig("clip", bound=8.0),
        mode="conv",
    ),
    evaluation=TableErrors(),
    optim=OptimConfig(learning_rate=1e-2, warmup=100),
    steps=600,
    batch_size=24,
    eval_every=300,
    eval_batches=20,
    save_every=300,
)
