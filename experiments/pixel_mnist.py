"""MNIST as a sequence of pixels: next-pixel training as a convolution, completion by the recurrence.

Claim: one set of parameters, two executions. Training sees true pixels only, so it is a convolution
over all steps at once; completion feeds the model's own predictions back, so it is a scan. From its
first L pixels an image is completed better than by repeating the last pixel or by the mean image.
"""

import dataclasses

from wsrnn.evaluations.completion import Completion
from wsrnn.experiment import Experiment
from wsrnn.models.head import HeadConfig
from wsrnn.models.phi import PhiConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.tasks.pixels import PixelSequence

experiment = Experiment(
    task=PixelSequence(),
    model=WarpConfig(
        width=24,
        depth=3,
        drive="value",
        phi=PhiConfig(start="he"),
        transition=TransitionConfig("dense", start="orthogonal", radius=0.998),
        input_scale=0.1,
        head=HeadConfig("dynamic_tanh"),
        mode="conv",
    ),
    evaluation=Completion((100, 300, 600)),
    optim=OptimConfig(learning_rate=3e-4, warmup=500),
    steps=20_000,
    batch_size=64,
    eval_every=1000,
    eval_batches=16,
    save_every=1000,
)

small = dataclasses.replace(
    experiment,
    task=PixelSequence(side=14),
    model=dataclasses.replace(
        experiment.model,
        depth=0,
        transition=TransitionConfig("dense", start="orthogonal", radius=0.995),
        encoding=256,
        encoding_base=40,
        head=HeadConfig("clip"),
    ),
    evaluation=Completion((25, 75, 150)),
    optim=OptimConfig(learning_rate=1e-3, warmup=50),
    steps=2500,
    batch_size=32,
    eval_every=500,
    eval_batches=16,
    save_every=500,
)

paper = dataclasses.replace(
    experiment,
    task=PixelSequence(loss="nll"),
    model=WarpConfig(
        width=24, depth=3, head=HeadConfig("tanh", uncertain=True, floor=0.5), mode="conv"
    ),
    optim=OptimConfig(
        "adabelief", learning_rate=1e-4, schedule="constant", clip_norm=None, clip_value=1e-7
    ),
    steps=86_000,
    batch_size=128,
)

variants = {
    "small": small,
    "paper": paper,
    "fashion": dataclasses.replace(experiment, task=PixelSequence("fashion_mnist")),
    "classify": dataclasses.replace(
        experiment,
        task=PixelSequence(side=14, target="label", loss="cross_entropy"),
        model=dataclasses.replace(
            experiment.model,
            depth=2,
            transition=TransitionConfig("dense", start="orthogonal", radius=0.995),
            head=HeadConfig(),
        ),
        evaluation=None,
        optim=OptimConfig(learning_rate=1e-3, warmup=50),
        steps=3000,
        eval_every=500,
        save_every=500,
    ),
}
