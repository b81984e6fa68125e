"""draft"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.linear_attention import LinearAttentionConfig
from wsrnn.optim import OptimConfig
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=5, examples=20, layout="joint_masked"),
    model=LinearAttentionConfig(heads=8),
    evaluation=PrefixError(prompts=40_000, prefixes=(20,)),
    optim=OptimConfig(learning_rate=1e-2),
    steps=1500,
    batch_size=512,
    eval_every=500,
    eval_batches=8,
    save_every=500,
)
plateaus = replace(
    experiment,
    task=LinearRegression(d=4, examples=31, spectrum="k", layout="joint_masked", prompts=5000),
    model=LinearAttentionConfig(heads=5, rank=1, start=1e-2),
    evaluation=PrefixError(prompts=40_000, prefixes=(31,)),
    optim=OptimConfig("sgd", learning_rate=0.4, schedule="constant", clip_norm=None),
    draw="step",
    steps=7000,
    batch_size=5000,
    seed=7,
    eval_every=500,
    eval_batches=1,
    save_every=50,
    keep=100,
)
variants = {
    "plateaus": plateaus,
    "merged": replace(
        plateaus,
        model=LinearAttentionConfig(heads=8, start=1e-6),
        optim=replace(plateaus.optim, learning_rate=0.1),
        steps=3000,
    ),
}
