"""Six families of tasks that are learned in context: WARP beside three peers, each as long.

Every learner sees the same sequences, as many, and predicts from what came before. Peers have about
as many numbers as the WARP of the family.

    sparse      d = 20, 3 weights that are not 0, 40 examples     WARP: 16 steps of descent
    relu        two-layer networks of 100 units, d = 20, n = 100  WARP: MLP lift, MLP root
    sinusoid    amplitude and phase, n = 10                       WARP: MLP lift, MLP root
    system      s' = W s + noise, d = 10, 50 steps                WARP: 8 steps of descent
    recall      4 of 64 keys and values, then 4 queries           WARP: two layers
    classes     4 new Gaussian classes in d = 16, n = 32          WARP: MLP lift, MLP root

Command: wsrnn train experiments/families.py --variant sparse     (its four learners in one table)
"""

from dataclasses import replace

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.evaluations.sequences import Recall, StepScores
from wsrnn.experiment import Experiment
from wsrnn.models.fast_weights import FastWeightsConfig
from wsrnn.models.lift import LiftConfig
from wsrnn.models.phi import PhiConfig
from wsrnn.models.rnn import RnnConfig
from wsrnn.models.stack import StackConfig
from wsrnn.models.transformer import TransformerConfig
from wsrnn.models.warp import TransitionConfig, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.tasks.classes import NewClasses
from wsrnn.tasks.dynamics import LinearSystem
from wsrnn.tasks.recall import Mqar
from wsrnn.tasks.regression import LinearRegression, ReluNetwork, Sinusoid

descent = WarpConfig(
    root_form="tied",
    root_steps=16,
    drive="value",
    layout="read_before_write",
    lift=LiftConfig("low_rank", size=256),
    transition=TransitionConfig("identity"),
    input_scale=0.3,
    read_time=False,
    read_input=True,
    mode="conv",
)
sums = replace(
    descent,
    root_form="mlp",
    width=32,
    depth=2,
    lift=LiftConfig("mlp", width=96, size=64),
    phi=PhiConfig(start="he"),
    input_scale=0.03,
)
experiment = Experiment(
    task=LinearRegression(d=20, examples=40, sparse=3),
    model=descent,
    evaluation=PrefixError(prefixes=(0, 5, 10, 20, 40)),
    optim=OptimConfig(learning_rate=1e-3, warmup=200),
    steps=2000,
    batch_size=64,
    eval_every=500,
    eval_batches=8,
    save_every=1000,
)
binding = WarpConfig(
    width=32,
    depth=1,
    drive="value",
    transition=TransitionConfig("diagonal", "decay"),
    read_time=False,
    read_input=True,
    input_scale=0.1,
    mode="conv",
)
variants = {
    "sparse": experiment,
    "relu": replace(
        experiment,
        task=ReluNetwork(d=20, examples=100),
        model=sums,
        evaluation=PrefixError(prefixes=(0, 10, 20, 50, 100)),
    ),
    "sinusoid": replace(
        experiment,
        task=Sinusoid(),
        model=sums,
        evaluation=PrefixError(prefixes=(0, 1, 2, 5, 10)),
    ),
    "system": replace(
        experiment,
        task=LinearSystem(layout="pairs"),
        model=replace(descent, root_steps=8),
        evaluation=StepScores(steps=(1, 5, 10, 20, 49)),
    ),
    "recall": replace(
        experiment,
        task=Mqar(vocabulary=64, length=32, channels=32),
        model=StackConfig(
            below=binding,
            channels=16,
            last=replace(sums, layout="standard", lift=LiftConfig(), write="learned"),
        ),
        evaluation=Recall(pairs=(2, 4, 8)),
    ),
    "classes": replace(
        experiment,
        task=NewClasses(classes=4),
        model=sums,
        evaluation=StepScores(steps=(1, 4, 8, 16, 32)),
    ),
}


def sweep(experiment: Experiment) -> dict[str, Experiment]:
    """The WARP of a family and its peers."""
    layout = "read_before_write" if experiment.task.answers_in_tokens else "standard"
    seen = {"layout": layout, "read_time": False}
    peers = {
        "gru": RnnConfig(width=180, **seen),
        "transformer": TransformerConfig(width=56, depth=3, heads=2, **seen),
        "deltanet": FastWeightsConfig(width=70, depth=2, heads=2, **seen),
    }
    models = {"warp": experiment.model, **peers}
    return {name: replace(experiment, model=model) for name, model in models.items()}
