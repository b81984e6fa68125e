"""Classification of time series: WARP in layers beside S5, LinOSS and a GRU under one budget.

The stack is two residual blocks (norm, WARP with rotations, gelu, gate) and a WARP whose final
weights are read once, of settings chosen on validation parts of the training cases. Then all were
trained on all training cases and the test cases read once. Accuracy on the archive's split, mean of
three seeds [least, most], 300 steps of 32, jitter 0.2, peers not tuned:

                    BasicMotions             RacketSports             JapaneseVowels
    warp stack      0.992 [0.975, 1]         0.897 [0.882, 0.908]     0.974 [0.970, 0.978]
    mlp stack       0.983 [0.95, 1]          0.886 [0.882, 0.895]     0.968 [0.962, 0.970]
    s5              0.883 [0.85, 0.925]      0.875 [0.862, 0.888]     0.983 [0.981, 0.984]
    linoss          0.900 [0.85, 0.95]       0.877 [0.849, 0.901]     0.975 [0.968, 0.981]
    gru             1.000 [1, 1]             0.868 [0.855, 0.882]     0.979 [0.973, 0.984]

                    Libras        NATOPS        PenDigits     ArticularyWordRecognition
    warp stack      0.828         0.924         0.969         0.903
    s5              0.800         0.876         0.931         0.959
    linoss          0.735         0.846         0.918         0.769
    gru             0.726         0.915         0.917         0.910
Five splits 70/15/15, the paper's way (`--task.split resampled --task.split-seed 0`), BasicMotions
and RacketSports: warp stack 1 and 0.931 +- 0.030, GRU 1 and 0.912 +- 0.023, S5 0.933 +- 0.109 and
0.909 +- 0.032, LinOSS 0.900 +- 0.070 and 0.902 +- 0.030. 150 steps on ACSF1 and PLAID: 0.453 and
0.290, S5 0.447 and 0.337. Heartbeat is learned by nobody.
`words`, 16,000 steps: the stack reads its first layer at every 64th step, exactly, so that a
gradient takes 0.12 s (S5 2.5 s, LinOSS 1.5 s, GRU 2.0 s). 450 steps: 0.603 [0.597, 0.607], three
seeds; in equal time S5 (20 steps) 0.240, LinOSS (34) 0.237, GRU (26) 0.257, one seed each: chance,
which says nothing of longer training. `early`, 17,984 steps (chance 0.2): 0.997 [0.992, 1], three
seeds, 300 steps of 16, 4 minutes on a shared core.

Command: wsrnn trials experiments/classification.py --task.problem NAME --data-dir DATA
"""

from dataclasses import replace

from wsrnn.evaluations.labels import Accuracy
from wsrnn.experiment import Experiment
from wsrnn.models.peers.oscillator import OscillatorConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.warp import FromFirst, Matrix, MlpLift, Query, WarpConfig
from wsrnn.models.warp.stack import StackConfig
from wsrnn.optim import AdamW, Cosine, OptimConfig
from wsrnn.recurrence import Rotation
from wsrnn.root import Linear, Mlp
from wsrnn.tasks.archive import Archive
from wsrnn.tasks.early import EarlySignal
from wsrnn.tasks.words import SpokenWords

warp = WarpConfig(
    root=Mlp(width=24, depth=2, start="he"),
    transition=Rotation(start="decay", contract=True),
    lift=MlpLift(width=64, size=32),
    write=Matrix(scale=0.1),
    query=Query(points=4),
    drive="value",
    mode="conv",
)
stack = StackConfig(
    below=WarpConfig(
        root=Linear(start="he"),
        transition=Rotation(start="oscillate", contract=True),
        write=Matrix(scale=0.3),
        drive="value",
        mode="scan",
    ),
    layers=2,
    channels=48,
    gated=True,
    last=WarpConfig(
        root=Linear(start="he"),
        transition=Rotation(start="decay", contract=True),
        write=Matrix(scale=0.02),
        drive="value",
        mode="conv",
    ),
)
models = {
    "warp stack": stack,
    "mlp stack": replace(stack, last=replace(warp, lift=None)),
    "warp": warp,
    "s5": SsmConfig(width=64, states=32, layers=2),
    "linoss": OscillatorConfig(width=64, states=64, layers=2),
    "gru": RnnConfig(width=96),
    "published warp": WarpConfig(root=Mlp(width=24, depth=1), start=FromFirst(), mode="conv"),
}
experiment = Experiment(
    task=Archive("BasicMotions", jitter=0.2, final=True),
    model=stack,
    evaluation=Accuracy(),
    optim=OptimConfig(
        AdamW(weight_decay=0.01, matrices_only=True), Cosine(warmup=50), learning_rate=3e-3
    ),
    steps=300,
    batch_size=32,
    eval_every=300,
    eval_batches=None,
    save_every=300,
)

strided = replace(
    stack,
    encoder=WarpConfig(
        root=Mlp(width=4, depth=1, start="he"),
        transition=Rotation(start="orthogonal", radius=0.98, contract=True),
        write=Matrix(scale=0.3),
        drive="value",
        mode="scan",
    ),
    every=64,
)
words = replace(
    experiment,
    task=SpokenWords(shift=1600, jitter=0.05),
    model=strided,
    optim=replace(experiment.optim, rates=("*A.modulus=0.1", "*A.angle=0.1")),
    steps=450,
    batch_size=16,
    eval_every=450,
    save_every=450,
)
slow = replace(strided.encoder, transition=Rotation(start="decay", contract=True))
early = replace(
    words,
    task=EarlySignal(),
    model=replace(strided, encoder=slow),
    evaluation=Accuracy(batches=8),
    steps=300,
    eval_every=300,
    eval_batches=16,
    save_every=300,
)
frames = replace(
    experiment, task=SpokenWords(frame=64, shift=1600, jitter=0.05), steps=1000, eval_every=500
)
variants = {"words": words, "early": early, "frames": frames}

same_time = {  # steps of the peers in the time of one of WARP's, as measured at 16,000 time steps
    "s5": (SsmConfig(width=32, states=32, layers=2), 0.045),
    "linoss": (OscillatorConfig(width=32, states=32, layers=2), 0.076),
    "gru": (RnnConfig(width=64), 0.057),
}


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """The table: equal steps, or on the long sequences equal time."""
    if experiment.model == stack:
        return {name: replace(experiment, model=model) for name, model in models.items()}
    return {"warp stack": experiment} | {
        name: replace(
            experiment,
            model=model,
            optim=replace(experiment.optim, rates=(), schedule=Cosine(warmup=round(50 * part))),
            steps=round(part * experiment.steps),
        )
        for name, (model, part) in same_time.items()
    }
