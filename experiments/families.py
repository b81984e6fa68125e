"""Six families of tasks that are learned in context: WARP beside three peers, each as long.

Every learner is trained for 2,000 steps of 64 sequences, the same for all, and predicts each target
from the tokens before it. The WARPs repeat one layer, a sum of learned outer products of tokens;
they have 2,065 to 6,492 parameters (recall: 177,444), the peers 24,000 to 37,000. The learning
rates are those that did well in `peers.py`.

    sparse      d = 20, 3 weights that are not 0, 40 examples
    relu        two-layer networks of 100 units, d = 20, n = 100  WARP: with learned features of x
    sinusoid    amplitude and phase, n = 10                       WARP: with learned features of x
    system      s' = W s + noise, d = 10, 50 steps
    recall      4 of 64 keys and values, then 4 queries           WARP: two layers
    classes     4 new Gaussian classes in d = 16, n = 32

Reached, error at the end of the sequence, beside the best algorithm known to us:

                WARP     GRU     Transformer  DeltaNet   beside
    sparse      0.0322   0.7668  0.5339       0.5089     lasso 0.0000, least squares 0.0000
    relu        0.2413   0.6201  0.4052       0.3751     ridge 0.6489; at n = 50 Gaussian process
                                                         (length 10) 0.282, WARP 0.2867
    sinusoid    0.0194   0.1623  0.1643       0.1140     least squares on sin x, cos x 0.0000,
                                                         Gaussian process (length 2) 0.0233
    system      0.0113   0.7525  0.1071       0.0302     ridge 0.0021

and accuracy, of the answers to 4 queries and after 32 examples:

    recall      0.8996   0.2670  1.0000       0.2543     lookup 1, always the first value 0.25
    classes     0.7742   0.2812  0.7156       0.7172     nearest class mean 0.7820

WARP's training takes 63 s (classes) to 170 s (system, relu) on two cores that had other work, its
peers' 24 to 305 s, DeltaNet's more than WARP's in relu and classes. recall, whose values come after
their keys, has to bind neighbours: WARP takes 13 minutes to do it less well than a Transformer in
40 s, and DeltaNet cannot, for its published form has short convolutions that ours leaves out.

Command: wsrnn train experiments/families.py --variant sparse     (its four learners in one table)
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.evaluations.sequences import Recall, StepScores
from wsrnn.experiment import Experiment
from wsrnn.models.peers.fast_weights import FastWeightsConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.transformer import TransformerConfig
from wsrnn.models.warp import Features, Matrix, Outer, Query, WarpConfig, summing
from wsrnn.models.warp.stack import StackConfig
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.recurrence import Diagonal
from wsrnn.root import Mlp, Residual
from wsrnn.tasks.classes import NewClasses
from wsrnn.tasks.dynamics import LinearSystem
from wsrnn.tasks.layouts import ReadBeforeWrite
from wsrnn.tasks.prompts import Prompts
from wsrnn.tasks.recall import Mqar
from wsrnn.tasks.regression import LinearRegression, ReluNetwork, Sinusoid


def looped(width: int, repeats: int = 16, **more) -> WarpConfig:
    """A WARP that sums outer products of `width` units and repeats that layer."""
    return summing(Residual(width=width, repeats=repeats), Outer(size=width), **more)


experiment = Experiment(
    task=LinearRegression(d=20, examples=40, sparse=3),
    model=looped(24, 32),
    evaluation=PrefixError(prefixes=(0, 5, 10, 20, 40)),
    optim=OptimConfig(learning_rate=1e-2, schedule=Cosine(warmup=200)),
    steps=2000,
    batch_size=64,
    eval_every=250,
    eval_batches=8,
    save_every=1000,
)
binding = WarpConfig(
    root=Mlp(width=32, depth=1),
    transition=Diagonal(start="decay"),
    write=Matrix(scale=0.1),
    query=Query(time=False, inputs=True),
    drive="value",
    mode="scan",  # with 32 channels and 32 steps a kernel costs more than it saves
)
variants = {
    "sparse": experiment,
    "relu": replace(
        experiment,
        task=ReluNetwork(d=20, examples=100),
        model=looped(40, features=Features(units=15)),
        evaluation=PrefixError(prefixes=(0, 10, 20, 50, 100)),
    ),
    "sinusoid": replace(
        experiment,
        task=Sinusoid(),
        model=looped(24, features=Features(units=16)),
        evaluation=PrefixError(prefixes=(0, 1, 2, 5, 10)),
    ),
    "system": replace(
        experiment,
        task=LinearSystem(pairs=True),
        model=looped(24),
        evaluation=StepScores(steps=(1, 5, 10, 20, 49)),
    ),
    "recall": replace(
        experiment,
        task=Mqar(vocabulary=64, length=32, channels=32),
        model=StackConfig(
            below=binding,
            channels=64,
            last=summing(
                Residual(width=32, repeats=4), None, layout="standard", write=Matrix(scale=0.3)
            ),
        ),
        evaluation=Recall(pairs=(2, 4, 8)),
    ),
    "classes": replace(
        experiment,
        task=NewClasses(classes=4),
        model=looped(24, 4),
        evaluation=StepScores(steps=(1, 4, 8, 16, 32)),
    ),
}


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """The WARP of a family and its peers, which learn from all prefixes of a prompt at once."""
    task = experiment.task
    layout = "read_before_write" if task.answers_in_tokens else "standard"
    seen = {"layout": layout, "read_time": False}
    peers = {
        "gru": RnnConfig(width=87, **seen),
        "transformer": TransformerConfig(width=32, depth=2, heads=2, **seen),
        "deltanet": FastWeightsConfig(width=32, depth=2, heads=2, **seen),
    }
    beside = replace(
        experiment,
        task=replace(task, layout=ReadBeforeWrite("all")) if isinstance(task, Prompts) else task,
        optim=replace(experiment.optim, learning_rate=3e-3),
    )
    return {"warp": experiment} | {
        name: replace(beside, model=model) for name, model in peers.items()
    }
