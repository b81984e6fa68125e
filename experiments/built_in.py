"""In-context regression by an algorithm that is built in: nothing here is *learned* to learn.

Claim: tokens lifted to x x^T and y x^T make theta the statistics of ridge regression, still by a
linear recurrence with an exact convolution mode, and the root that these weights form is the
algorithm: the layers of `Descent` are steps of gradient descent, those of `ConjugateGradients` its
iterations. Trained are the sizes of the steps (descent: 8 parameters) and the penalty (1).

Reached, error after n examples (1,000 steps, 40 s on two CPU cores):

                                        n=0       n=1       n=2       n=5      n=10      n=20
    Descent, no noise                1.0000    0.8143    0.6165    0.1969    0.0406    0.0042
    Descent, noise 0.25              1.0000    0.8159    0.6495    0.2356    0.0694    0.0191
    ConjugateGradients, noise 0.25   1.0000    0.8081    0.6429    0.2057    0.0526    0.0169
    ridge, noise 0.25                1.0000    0.8081    0.6429    0.2057    0.0525    0.0169

Descent (noise 0.25) never diverges: at most 1.42 times ridge for n up to 20, and for inputs of 1/3,
1/2, 2, 3 times the size 1.10, 1.04, 1.72, 2.68 times ridge; ConjugateGradients stays within 1 %.

Command: wsrnn train experiments/built_in.py [--variant noise | cg]
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.warp import Bilinear, summing
from wsrnn.optim import Cosine, OptimConfig
from wsrnn.root import ConjugateGradients, Descent
from wsrnn.tasks.regression import LinearRegression

experiment = Experiment(
    task=LinearRegression(d=5, examples=20),
    model=summing(Descent(steps=8, prior=0.1), Bilinear()),
    evaluation=PrefixError(prefixes=(0, 1, 2, 5, 10, 20)),
    optim=OptimConfig(learning_rate=3e-2, schedule=Cosine(warmup=50)),
    steps=1000,
    batch_size=256,
    eval_every=500,
    eval_batches=8,
    save_every=500,
)
noise = replace(
    experiment,
    task=replace(experiment.task, noise=0.25),
    model=summing(Descent(steps=8, prior=0.25), Bilinear()),
)
variants = {
    "noise": noise,
    "cg": replace(noise, model=summing(ConjugateGradients(steps=5, prior=0.25), Bilinear())),
}
