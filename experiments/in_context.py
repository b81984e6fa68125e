"""In-context linear regression from noisy examples: a WARP that learns to do it, as a convolution.

Claim: WARP as published is a weak in-context learner, because a state that is linear in the tokens
holds no products x y. With a learned pointwise lift before B the state sums products of the token,
which is still a convolution; read by a root of tied residual layers, whose depth is the number of
its steps of gradient descent, it comes close to ridge regression, the best prediction there is.

Learned, in 2,505 numbers: which products are summed (the lift), where they are added to theta (B),
theta_0 and the sizes of the eight steps. Given: that theta is a matrix and a vector, and that the
root multiplies what it has found with the query. Beside it: conjugate gradients with everything
built in, and, as variants, an MLP root that is given nothing.

Reached in 9,000 steps, 2 minutes on two CPU cores, error (MSE on y_q over its variance, 4,096 fresh
prompts) after n examples:

                                        n=0       n=5      n=10      n=15      n=20
    this model                       1.0000    0.2291    0.0581    0.0305    0.0192
    ridge (0.25)                     1.0000    0.2057    0.0525    0.0281    0.0169
    mlp (no noise; ridge 0.0001)     1.0405    0.6127    0.3189    0.1165    0.0465
    mlp_d2 (the same, d = 2)         1.0948    0.2766    0.0572    0.0015

It is no ridge regression beyond its training prompts (`wsrnn icl`): with inputs twice as large its
error is above 1e5, with inputs of half the size 0.061 (ridge 0.060).

The variants with an MLP root are trained on their longest prompts alone (20 and 15 examples), in
20,000 and 6,000 steps; trained on all prefixes alike `mlp` ended at 0.0708 after 20 examples and
`mlp_d2` at 0.0078 after 15 (20,000 steps).

Command: wsrnn train                                   (this file is the default experiment)
         wsrnn train experiments/in_context.py --variant mlp        (no noise, an MLP root)
         wsrnn train experiments/in_context.py --variant mlp_d2     (the same for d = 2, n = 15)
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.lift import LiftConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=5, examples=20, noise=0.25),
    model=WarpConfig(
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
    ),
    evaluation=PrefixError(built_in=True),
    optim=OptimConfig(learning_rate=4e-3, warmup=300),
    steps=20_000,
    batch_size=256,
    eval_every=2000,
    eval_batches=8,
    save_every=2000,
)
mlp = replace(
    experiment,
    task=replace(experiment.task, noise=0.0, train_on="longest"),
    steps=10_000,
    model=replace(
        experiment.model,
        width=12,
        activation="relu",
        lift=LiftConfig("mlp", width=96, size=64),
    ),
)
variants = {
    "mlp": mlp,
    "mlp_d2": replace(
        mlp,
        task=replace(mlp.task, d=2, examples=15),
        steps=6000,
        evaluation=PrefixError(prefixes=(0, 2, 5, 10, 15), built_in=True),
    ),
    "tied": replace(
        experiment,
        model=replace(experiment.model, root_form="tied", root_steps=8, root_prior=0.25),
        optim=OptimConfig(learning_rate=2e-3, warmup=500),
        steps=9000,
    ),
}
