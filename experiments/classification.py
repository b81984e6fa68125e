"""Classification of time series: WARP, alone and in layers, beside S5, LinOSS and a GRU."""

from dataclasses import replace

from wsrnn.evaluations.labels import Accuracy
from wsrnn.experiment import Experiment
from wsrnn.models.peers.oscillator import OscillatorConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.warp import FromFirst, Matrix, MlpLift, Query, WarpConfig
from wsrnn.models.warp.stack import StackConfig
from wsrnn.optim import AdamW, Cosine, OptimConfig
from wsrnn.recurrence import Identity, Rotation
from wsrnn.root import Linear, Mlp
from wsrnn.tasks.archive import Archive

warp = WarpConfig(
    root=Mlp(width=24, depth=2, start="he"),
    transition=Rotation(start="decay"),
    lift=MlpLift(width=64, size=32),
    write=Matrix(scale=0.1),
    query=Query(points=4),
    drive="value",
    mode="conv",
)
layer = WarpConfig(
    root=Linear(start="he"),
    transition=Rotation(start="oscillate"),
    write=Matrix(scale=0.3),
    drive="value",
    mode="scan",
)
stack = StackConfig(
    below=layer,
    layers=2,
    channels=48,
    gated=True,
    last=replace(warp, lift=None),
)
models = {
    "warp": warp,
    "stack": stack,
    "s5": SsmConfig(width=64, states=32, layers=2),
    "linoss": OscillatorConfig(width=64, states=64, layers=2),
    "gru": RnnConfig(width=96),
    "published": WarpConfig(
        root=Mlp(width=24, depth=2), transition=Identity(), start=FromFirst(), mode="conv"
    ),
}
experiment = Experiment(
    task=Archive("BasicMotions", jitter=0.2),
    model=warp,
    evaluation=Accuracy(),
    optim=OptimConfig(
        AdamW(weight_decay=0.01, matrices_only=True), Cosine(warmup=50), learning_rate=3e-3
    ),
    steps=400,
    batch_size=32,
    eval_every=400,
    eval_batches=None,
    save_every=400,
)


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """The table."""
    return {name: replace(experiment, model=model) for name, model in models.items()}
