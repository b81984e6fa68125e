"""WARP and its peers on one task, matched by parameters in one table and by state in the other.

Every model learns linear regression with noise 0.25, d = 5, from the same batches. The first table
has models of 25,825 numbers, the variant `state` models that carry 256 floats from token to token
(a Transformer's keys and values of the 21 tokens; linear attention always carries 36); both to 5 %.
Operations per token stand beside them. Three learning rates and three seeds are trained at once,
and the rate whose validation loss is lowest on average is reported.

Not yet trained: no numbers stand here.

Command: wsrnn trials experiments/peers.py [--variant state] --rates 1e-3 3e-3 1e-2
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.fast_weights import FastWeightsConfig
from wsrnn.models.lift import LiftConfig
from wsrnn.models.linear_attention import LinearAttentionConfig
from wsrnn.models.rnn import RnnConfig
from wsrnn.models.selective import DeltaWarpConfig, SelectiveConfig
from wsrnn.models.ssm import SsmConfig
from wsrnn.models.transformer import TransformerConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.tasks.regression import LinearRegression

warp = WarpConfig(
    root_form="residual",
    width=8,
    depth=8,
    activation="identity",
    drive="value",
    layout="read_before_write",
    lift=LiftConfig("low_rank", size=48),
    transition=TransitionConfig("identity"),
    input_scale=0.3,
    read_time=False,
    read_input=True,
    mode="conv",
)
experiment = Experiment(
    task=LinearRegression(d=5, examples=20, noise=0.25),
    model=warp,
    evaluation=PrefixError(),
    optim=OptimConfig(learning_rate=3e-3, warmup=200),
    steps=1000,
    batch_size=64,
    eval_every=500,
    eval_batches=16,
    save_every=500,
)
before = {"layout": "read_before_write", "read_time": False}
by_parameters = {  # 25,825 numbers and 5 % more or less
    "warp": warp,
    "selective warp": SelectiveConfig(
        width=12, depth=2, lift=LiftConfig("low_rank", size=51), **before
    ),
    "delta warp": DeltaWarpConfig(psi=LiftConfig("mlp", width=132, size=188), read_time=False),
    "gru": RnnConfig(width=87, **before),
    "lstm": RnnConfig(cell="lstm", width=74, **before),
    "s5": SsmConfig(width=48, states=40, layers=2, **before),
    "linear attention": LinearAttentionConfig(heads=717),
    "deltanet": FastWeightsConfig(width=32, depth=2, heads=2, **before),
    "gated deltanet": FastWeightsConfig(rule="gated_delta", width=32, depth=2, heads=2, **before),
    "ttt-linear": FastWeightsConfig(rule="ttt", width=44, depth=1, heads=2, **before),
    "transformer": TransformerConfig(width=32, depth=2, heads=2, **before),
}
by_state = {  # 256 floats that go from token to token, and 5 % more or less
    "warp": replace(warp, width=6, depth=4, lift=LiftConfig("low_rank", size=32)),
    "selective warp": SelectiveConfig(width=36, lift=LiftConfig("low_rank", size=24), **before),
    "delta warp": DeltaWarpConfig(psi=LiftConfig("mlp", width=64, size=256), read_time=False),
    "gru": RnnConfig(width=256, **before),
    "lstm": RnnConfig(cell="lstm", width=128, **before),
    "s5": SsmConfig(width=64, states=64, layers=2, **before),
    "linear attention": LinearAttentionConfig(heads=8),  # always (d + 1)^2 = 36
    "deltanet": FastWeightsConfig(width=16, depth=2, heads=2, **before),
    "gated deltanet": FastWeightsConfig(rule="gated_delta", width=16, depth=2, heads=2, **before),
    "ttt-linear": FastWeightsConfig(rule="ttt", width=22, depth=1, heads=2, **before),
    "transformer": TransformerConfig(width=6, depth=1, heads=1, **before),
}
variants = {"state": replace(experiment, model=by_state["warp"], steps=1500)}


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """The table that the WARP belongs to."""
    models = by_state if experiment.model == by_state["warp"] else by_parameters
    return {name: replace(experiment, model=model) for name, model in models.items()}
