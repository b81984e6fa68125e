"""WARP and its peers on one task, matched by parameters in one table and by state in the other.

Every model learns linear regression with noise 0.25, d = 5, from the same batches. The first table
has models of 25,825 parameters, the variant `state` models with 256 floats of recurrent state
(a Transformer's keys and values of the 21 tokens; linear attention always carries 36); both to 5 %.
Operations per token stand beside them. Three learning rates and three seeds are trained at once,
and the rate whose validation loss is lowest on average is reported.

Error after n examples, mean of three seeds, least and most at n = 20 (4,096 fresh prompts; ridge
0.2057 at n = 5, 0.0169 at n = 20). Models of one state, 1,500 steps of 64 prompts:

                 parameters   state  ops/token     rate       n=5      n=20
    looped warp         249     265      2,578     0.01    0.2520    0.0252  [0.0223, 0.0287]
    delta warp       17,287     256     34,956     0.01    0.3605    0.0675  [0.0674, 0.0676]
    warp              5,247     255     10,654     0.01    0.3752    0.1147  [0.0999, 0.1328]
    lstm             71,809     256    142,592     0.01    0.4768    0.1644  [0.1577, 0.1756]
    gated deltanet    6,953     256     14,464     0.01    0.5158    0.2145  [0.1928, 0.2537]
    ttt-linear        6,790     264     15,224     0.01    0.4639    0.2395  [0.2180, 0.2546]
    selective warp   12,986     253     25,876    0.003    0.5064    0.2426  [0.2346, 0.2578]
    linear attention    288      36      1,224    0.001    0.5477    0.3098  [0.3096, 0.3099]
    deltanet          6,885     256     14,336     0.01    0.6198    0.3697  [0.1688, 0.7106]
    gru             206,081     256    410,624     0.01    0.6461    0.4145  [0.3652, 0.4418]
    s5               51,009     256    100,864    0.003    0.7782    0.6409  [0.6167, 0.6628]
    transformer         601     252      1,512     0.01    0.9685    0.9288  [0.8823, 0.9692]

Of the state of WARP 47 floats never change, of the looped one's 73. Most are best at the highest
rate that was tried; a Transformer of 601 parameters has no chance.

Models of 25,825 parameters, 1,000 steps of 64 prompts:

                 parameters   state  ops/token     rate       n=5      n=20
    delta warp       25,991     188     52,092    0.003    0.3595    0.0697  [0.0697, 0.0697]
    warp             25,825     673     52,482    0.003    0.4028    0.1394  [0.1369, 0.1426]
    deltanet         26,053   1,024     56,320     0.01    0.4777    0.1579  [0.1417, 0.1737]
    gated deltanet   26,185   1,024     56,576     0.01    0.5086    0.1821  [0.1350, 0.2444]
    transformer      25,889   2,688     55,296     0.01    0.5246    0.2286  [0.2258, 0.2304]
    ttt-linear       25,677   1,012     56,584     0.01    0.4627    0.2447  [0.2396, 0.2525]
    lstm             25,531     148     50,468     0.01    0.5313    0.2463  [0.2355, 0.2570]
    linear attention 25,812      36    103,320    0.001    0.5465    0.3154  [0.3154, 0.3154]
    selective warp   25,778     241     51,352    0.001    0.6747    0.3947  [0.3843, 0.4064]
    gru              25,927      87     51,330     0.01    0.7309    0.5499  [0.4429, 0.6057]
    s5               25,921     160     50,944     0.01    0.8396    0.7814  [0.7332, 0.8474]

Command: wsrnn trials experiments/peers.py [--variant state] --rates 1e-3 3e-3 1e-2
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.peers.fast_weights import Delta, FastWeightsConfig, Ttt
from wsrnn.models.peers.linear_attention import LinearAttentionConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.peers.transformer import TransformerConfig
from wsrnn.models.warp import LowRankLift, Matrix, MlpLift, Outer, summing
from wsrnn.models.warp.selective import DeltaWarpConfig, SelectiveConfig
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.root import Mlp, Residual
from wsrnn.tasks.regression import LinearRegression

learned_B = Matrix(scale=0.3)
warp = summing(Residual(width=8, depth=8), LowRankLift(size=48), write=learned_B)
looped = summing(Residual(width=8, repeats=16), Outer(size=8))
experiment = Experiment(
    task=LinearRegression(d=5, examples=20, noise=0.25),
    model=warp,
    evaluation=PrefixError(),
    optim=OptimConfig(learning_rate=3e-3, schedule=Cosine(warmup=200)),
    steps=1000,
    batch_size=64,
    eval_every=500,
    eval_batches=16,
    save_every=500,
)
before = {"layout": "read_before_write", "read_time": False}
by_parameters = {  # 25,825 parameters and 5 % more or less
    "warp": warp,
    "selective warp": SelectiveConfig(
        root=Mlp(width=12, depth=2), lift=LowRankLift(size=51), **before
    ),
    "delta warp": DeltaWarpConfig(psi=MlpLift(width=132, size=188), read_time=False),
    "gru": RnnConfig(width=87, **before),
    "lstm": RnnConfig(cell="lstm", width=74, **before),
    "s5": SsmConfig(width=48, states=40, layers=2, **before),
    "linear attention": LinearAttentionConfig(heads=717),
    "deltanet": FastWeightsConfig(width=32, depth=2, heads=2, **before),
    "gated deltanet": FastWeightsConfig(
        rule=Delta(gated=True), width=32, depth=2, heads=2, **before
    ),
    "ttt-linear": FastWeightsConfig(rule=Ttt(), width=44, depth=1, heads=2, **before),
    "transformer": TransformerConfig(width=32, depth=2, heads=2, **before),
}
by_state = {  # 256 floats of recurrent state, and 5 % more or less
    "warp": summing(Residual(width=6, depth=4), LowRankLift(size=32), write=learned_B),
    "looped warp": looped,  # 249 parameters: too few for the other table
    "selective warp": SelectiveConfig(
        root=Mlp(width=36, depth=1), lift=LowRankLift(size=24), **before
    ),
    "delta warp": DeltaWarpConfig(psi=MlpLift(width=64, size=256), read_time=False),
    "gru": RnnConfig(width=256, **before),
    "lstm": RnnConfig(cell="lstm", width=128, **before),
    "s5": SsmConfig(width=64, states=64, layers=2, **before),
    "linear attention": LinearAttentionConfig(heads=8),  # always (d + 1)^2 = 36
    "deltanet": FastWeightsConfig(width=16, depth=2, heads=2, **before),
    "gated deltanet": FastWeightsConfig(
        rule=Delta(gated=True), width=16, depth=2, heads=2, **before
    ),
    "ttt-linear": FastWeightsConfig(rule=Ttt(), width=22, depth=1, heads=2, **before),
    "transformer": TransformerConfig(width=6, depth=1, heads=1, **before),
}
variants = {"state": replace(experiment, model=by_state["warp"], steps=1500)}


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """The table that the WARP belongs to."""
    models = by_state if experiment.model == by_state["warp"] else by_parameters
    return {name: replace(experiment, model=model) for name, model in models.items()}
