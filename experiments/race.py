"""d = 20, n = 40 without noise: four learners, the same time for each.

Claim: a WARP that sums learned products and takes 16 learned steps of descent, all of it one
convolution, learns Garg et al.'s (2022) task sooner than a Transformer, a GRU and DeltaNet of the
same size do.

Every model has about 120,000 numbers, sees the same prompts and predicts after every prefix; the
loss is the mean over random prefixes. Learned by WARP are its products (the lift), B, theta_0 and
the step sizes; given is that its root takes steps of descent. The others are given nothing.

Command: wsrnn train experiments/race.py          (all four; figures/time.png is the race)
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.fast_weights import FastWeightsConfig
from wsrnn.models.lift import LiftConfig
from wsrnn.models.rnn import RnnConfig
from wsrnn.models.transformer import TransformerConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=20, examples=40),
    model=WarpConfig(
        root_form="tied",
        root_steps=16,
        root_prior=0.1,
        drive="value",
        layout="read_before_write",
        lift=LiftConfig("low_rank", size=256),
        transition=TransitionConfig("identity"),
        input_scale=0.3,
        read_time=False,
        read_input=True,
        mode="conv",
    ),
    evaluation=PrefixError(prefixes=(0, 5, 10, 20, 30, 40), built_in=True),
    optim=OptimConfig(learning_rate=1e-3, warmup=300),
    steps=4000,
    batch_size=64,
    draw="step",
    eval_every=250,
    eval_batches=16,
    save_every=1000,
)
before = {"layout": "read_before_write", "read_time": False}
racers = {
    "warp": experiment,
    "transformer": replace(
        experiment, model=TransformerConfig(width=56, depth=3, heads=2, **before), steps=2500
    ),
    "gru": replace(experiment, model=RnnConfig(width=182, **before), steps=2500),
    "deltanet": replace(
        experiment, model=FastWeightsConfig(width=70, depth=2, heads=2, **before), steps=2500
    ),
}


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """Each with the steps of its own, which take about the same time."""
    return racers
