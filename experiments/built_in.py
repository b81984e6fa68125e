"""In-context regression by an algorithm that is built in: nothing here is *learned* to learn.

Claim: tokens lifted to x x^T and y x^T make theta the statistics of ridge regression, still by a
linear recurrence with an exact convolution mode, and the root that these weights form is the
algorithm: `tied` layers are steps of gradient descent, `cg` layers conjugate gradients. What is
trained is the size of the steps (tied: 8 numbers) and the penalty (1 number).

Command: wsrnn train experiments/built_in.py [--variant noise | cg | cg_untrained]
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.lift import LiftConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=5, examples=20),
    model=WarpConfig(
        root_form="tied",
        root_steps=8,
        root_prior=0.1,
        drive="value",
        layout="read_before_write",
        lift=LiftConfig("bilinear"),
        write="identity",
        transition=TransitionConfig("identity"),
        read_time=False,
        read_input=True,
        mode="conv",
    ),
    evaluation=PrefixError(prefixes=(0, 1, 2, 5, 10, 20)),
    optim=OptimConfig(learning_rate=3e-2, warmup=50),
    steps=1000,
    batch_size=256,
    eval_every=500,
    eval_batches=8,
    save_every=500,
)
noise = replace(
    experiment,
    task=replace(experiment.task, noise=0.25),
    model=replace(experiment.model, root_prior=0.25),
)
variants = {
    "noise": noise,
    "cg": replace(noise, model=replace(noise.model, root_form="cg", root_steps=5)),
}
