"""WARP as published, on in-context regression without noise: what it can and cannot do.

Claim: with the paper's start (A = I, B = 0, difference drive, no lift) theta is linear in the
tokens, so that no linear probe finds w in it, and a root of degree L in theta gives a polynomial of
degree L in them. At A = I one example at most is usable: the error is at least 1 - 1/d. Once A has
moved, a state of r (d + 1) floats holds r mixtures of examples: the error is at least
max(0, 1 - r/d). For a linear root with one hidden layer of H units the bound is
(d + 1) / (min(n, H) + d + 1) for all parameters; for this root, a relu network of two hidden layers
of 12 units, no such bound is known.

Reached in 6,000 steps (batch 128, minutes on two CPU cores), error after n examples:

                         n=0       n=1       n=2       n=5      n=10      n=15      n=20
    d = 2             1.0008    0.6746    0.4797    0.3028    0.2487    0.2378
    d = 5             1.0012    0.8495              0.5317    0.4943    0.4916    0.4971
    one step, d = 5   1.0000    0.8583              0.5275    0.3904    0.2896    0.2384

From ten examples on it gains nothing: it does worse than one step of gradient descent there.

Command: wsrnn train experiments/as_published.py [--variant d5], then wsrnn icl runs/as_published
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.warp import Query, WarpConfig
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.root import Mlp
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=2, examples=15),
    model=WarpConfig(
        root=Mlp(width=12, depth=2),
        query=Query(time=False, inputs=True),
        layout="read_before_write",
        mode="conv",
    ),
    evaluation=PrefixError(prefixes=(0, 1, 2, 5, 10, 15)),
    optim=OptimConfig(learning_rate=2e-3, schedule=Cosine(warmup=200)),
    steps=6000,
    batch_size=128,
    eval_every=1000,
    eval_batches=8,
    save_every=1000,
)
variants = {
    "d5": replace(
        experiment,
        task=LinearRegression(d=5, examples=20),
        evaluation=PrefixError(prefixes=(0, 1, 5, 10, 15, 20)),
    )
}
