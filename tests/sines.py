"""Runs of one step that continue sines, as an experiment file, for the tests of predict."""

from dataclasses import replace

from wsrnn.experiment import Experiment
from wsrnn.models.peers.dlinear import DLinearConfig
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.warp import WarpConfig
from wsrnn.root import Mlp
from wsrnn.tasks.continuation import Recursive
from wsrnn.tasks.series import Series
from wsrnn.tasks.systems import Sine

SINE = Sine(context=(3,), points=8, validated=8, tested=8)
experiment = Experiment(task=SINE, model=RnnConfig(width=4), steps=1, batch_size=8, eval_batches=1)
variants = {
    "fed_back": replace(
        experiment,
        task=replace(SINE, strategy=Recursive()),
        model=WarpConfig(root=Mlp(width=4, depth=1)),
    ),
    "windows": replace(experiment, task=Series(context=(3,), horizon=5)),
    "fixed": replace(experiment, model=DLinearConfig()),
}
