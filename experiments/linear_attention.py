"""One layer of linear attention: what it learns, and the plateaus on the way (Zhang et al. 2025).

Claim: trained on prompts of n examples it becomes one step of gradient descent, of error
(d + 1) / (n + d + 1) for white x. With separate keys and queries of rank 1 and a small start it
learns one principal component of x after another: the loss stays at d + 1 levels that a formula
gives (`wsrnn.icl.plateaus.saddles`), from the largest variance to the smallest. With both merged
into one matrix it falls once.

Their data (x of variances proportional to k, D = 4, N = 31, 5,000 prompts that repeat, gradient
descent on all of them at once, start 1e-2), with the 1 / n that their code leaves out: their
learning rate of 0.02 is 0.02 N^(2/3) = 0.2 here, and 0.4 is taken. They whiten w over the prompts
and centre x, which is left out here, so that the training loss lies some percent beside the levels.

Reached, error on 100,000 fresh prompts (90 % intervals of about +-1 %):

    one step, d = 5, n = 20 (formula 0.2308; 1,500 steps)     0.2307

    components learned            0         1         2         3         4
    formula                  1.0000    0.6406    0.3774    0.2098    0.1360
    plateaus, at step           300       800     1,600     3,600     6,050
              error          1.0000    0.6394    0.3772    0.2117    0.1369
    merged,   at step           200                                  2,000
              error          1.0000                                  0.1371

The variant plateaus has 10,000 prompts in place of their 5,000, for of few prompts a model learns
those prompts alone: with 5,000 the last level lies 2.5 % above that of the distribution (0.1395 on
a million fresh prompts), with 10,000 0.8 %. The plateaus end at steps 521, 1,058, 2,149 and 4,912,
as 1 / l^2 lets expect of one start (with other seeds other heads lead, and a plateau may be too
short to see). A step of plateaus takes 63 ms on two CPU cores that others use too, and one of
merged 12 where they are free, most of it to draw the prompts again: 8 minutes and 40 seconds.

Command: wsrnn train experiments/linear_attention.py [--variant plateaus | merged]
         wsrnn icl runs/linear_attention-plateaus --prompts 10000     (finds and draws them)
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.peers.linear_attention import LinearAttentionConfig
from wsrnn.optim import Constant, OptimConfig, Sgd
from wsrnn.tasks.inputs import Normal
from wsrnn.tasks.layouts import JointMasked
from wsrnn.tasks.regression import LinearRegression
from wsrnn.tasks.training import Finite

experiment = Experiment(
    task=LinearRegression(d=5, examples=20, layout=JointMasked()),
    model=LinearAttentionConfig(heads=8),
    evaluation=PrefixError(prompts=40_000, prefixes=(20,)),
    optim=OptimConfig(learning_rate=1e-2),
    steps=1500,
    batch_size=512,
    eval_every=500,
    eval_batches=8,
    save_every=500,
)
published = replace(  # Zhang et al.'s prompts
    experiment,
    task=LinearRegression(
        d=4, examples=31, inputs=Normal("k"), layout=JointMasked(), training=Finite(5000)
    ),
    model=LinearAttentionConfig(heads=5, rank=1, start=1e-2),
    evaluation=PrefixError(prompts=40_000, prefixes=(31,)),
    optim=OptimConfig(Sgd(), Constant(), learning_rate=0.4, clip_norm=None),
    draw="step",
    steps=7000,
    batch_size=5000,
    seed=7,
    eval_every=500,
    eval_batches=1,
    save_every=50,
    keep=150,
)
variants = {
    "plateaus": replace(
        published, task=replace(published.task, training=Finite(10_000)), batch_size=10_000
    ),
    "merged": replace(
        published,
        model=LinearAttentionConfig(heads=8, start=1e-6),
        optim=replace(published.optim, learning_rate=0.1),
        steps=3000,
    ),
}
