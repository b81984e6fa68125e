"""In-context linear regression: a WARP that learns in context, trained as a convolution.

Claim: WARP as published is a weak in-context learner, because a state that is linear in the tokens
holds no products x y. With a learned pointwise lift before B the state sums features of (x, y),
which is still a convolution, and the root network decodes a regression from them.

Command: wsrnn train                                   (this file is the default experiment)
"""

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.lift import LiftConfig
from wsrnn.models.phi import PhiConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=5, examples=20),
    model=WarpConfig(
        width=32,
        depth=2,
        drive="value",
        layout="read_before_write",
        lift=LiftConfig("mlp", width=96, size=64),
        phi=PhiConfig(start="he"),
        transition=TransitionConfig("identity"),
        input_scale=0.03,
        read_time=False,
        read_input=True,
        mode="conv",
    ),
    evaluation=PrefixError(),
    optim=OptimConfig(learning_rate=2e-3, warmup=500),
    steps=9000,
    batch_size=256,
    eval_every=1000,
    eval_batches=8,
    save_every=1000,
)
