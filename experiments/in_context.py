"""In-context linear regression from noisy examples: a WARP that learns ridge regression.

Claim: WARP as published is a weak in-context learner, because a state that is linear in the tokens
holds no products x y. With a learned pointwise lift before B the state sums products of the token,
which is still a convolution; read by a root network that applies one residual layer repeatedly, it
learns ridge regression, the best possible prediction.

Theta is the matrix of that layer. Each token adds the outer product of two learned maps of itself,
as linear attention does, and the layer, divided by its norm, is applied 16 times, each time with a
learned gain. All 249 parameters are learned: the two maps, theta_0, embedding, readout and gains.
Neither least squares nor gradient descent is built in.

Reached in 6,000 steps, 36 s on two CPU cores from start to table, error (MSE on y_q over its
variance, 4,096 fresh prompts) after n examples:

                                        n=0       n=5      n=10      n=15      n=20
    this model                       1.0002    0.2142    0.0555    0.0290    0.0170
    ridge (0.25)                     1.0000    0.2057    0.0525    0.0281    0.0169
    layers (20,000 steps)            0.9993    0.2385    0.0677    0.0346    0.0209
    tied (9,000 steps)               1.0000    0.2397    0.0700    0.0373    0.0221
    mlp (no noise; ridge 0.0001)     1.3368    0.2446    0.0647    0.0217    0.0128

                                        n=0       n=2       n=5      n=10      n=15
    mlp_d2 (the same, d = 2)         1.9165    0.1626    0.0139    0.0011    0.0003

After 3,000 steps at n = 20: 0.0198 with 8 repeats, 0.0198 with 8 of a layer 12 wide, 0.0174 with
16. Beyond its training prompts (`wsrnn icl`, after 20 examples) it stays beside ridge:
inputs 1/3, 1/2, 2, 3 times as large 0.124, 0.060, 0.0043, 0.0021 (ridge 0.121, 0.060, 0.0040,
0.0018), skewed inputs 0.027 (0.015), queries in any orthant 0.059 (0.040); it loses most on weights
three times as large, 0.0101 (0.0022).

Sizes follow the task (`wsrnn show` prints them): `--task.d 8` trains on 32 examples with 21 repeats
of a layer 11 wide, and ends at 0.0108 (ridge 0.0107). Beyond 16 repeats gains start at from 1 / 4
to 4 times their usual size: gains of one linear layer that start equal stay one step size.

Without repeats, `layers`: eight layers, each a learned sum of 48 learned products, 25,825
parameters. With embedding, readout and gains written by tokens too it ended at 0.0213, and at 2e10
for inputs twice as large: tokens should write normalised layers alone.

The variants `mlp` and `mlp_d2` are such layers behind a relu and an MLP lift, trained on their
longest prompts alone (20 and 15 examples). With an MLP root without residual layers, in 20,000 and
6,000 steps, they had ended at 0.0465 and 0.0015.

Command: wsrnn train                                   (this file is the default experiment)
         wsrnn train experiments/in_context.py --variant layers     (eight layers, learned sums)
         wsrnn train experiments/in_context.py --variant mlp        (no noise, MLP lift, relu root)
         wsrnn train experiments/in_context.py --variant mlp_d2     (the same for d = 2, n = 15)
         wsrnn train experiments/in_context.py --variant tied       (the root Descent)
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.warp import LowRankLift, Matrix, MlpLift, Outer, summing
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.root import Descent, Residual
from wsrnn.tasks.layouts import ReadBeforeWrite
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=5, examples=None, noise=0.25),
    model=summing(Residual(repeats=None, spread=None), Outer()),  # sizes by rules of the task's
    evaluation=PrefixError(built_in=True),
    optim=OptimConfig(learning_rate=1e-2, schedule=Cosine(warmup=300)),
    steps=6000,
    batch_size=256,
    eval_every=1000,
    eval_batches=8,
    save_every=1000,
)
learned_B = Matrix(scale=0.3)  # writes eight layers, in place of an outer product for one
mlp = replace(
    experiment,
    task=replace(experiment.task, noise=0.0, layout=ReadBeforeWrite("longest")),
    model=summing(
        Residual(width=12, depth=8, activation="relu"),
        MlpLift(width=96, size=64),
        write=learned_B,
    ),
    optim=OptimConfig(learning_rate=4e-3, schedule=Cosine(warmup=300)),
    steps=10_000,
)
variants = {
    "layers": replace(
        experiment,
        model=summing(Residual(width=8, depth=8), LowRankLift(size=48), write=learned_B),
        optim=mlp.optim,
        steps=20_000,
    ),
    "mlp": mlp,
    "mlp_d2": replace(
        mlp,
        task=replace(mlp.task, d=2, examples=15),
        steps=6000,
        evaluation=PrefixError(prefixes=(0, 2, 5, 10, 15), built_in=True),
    ),
    "tied": replace(
        experiment,
        model=summing(Descent(steps=8, prior=0.25), LowRankLift(size=48), write=learned_B),
        optim=OptimConfig(learning_rate=2e-3, schedule=Cosine(warmup=500)),
        steps=9000,
    ),
}
