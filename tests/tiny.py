"""A run of seconds, as an experiment file, for the tests."""

from dataclasses import dataclass, replace

import numpy as np

from wsrnn.evaluations.in_context import PrefixError
from wsrnn.experiment import Experiment
from wsrnn.models.warp import Matrix, MlpLift, Query, WarpConfig
from wsrnn.optim import OptimConfig
from wsrnn.recurrence import Dense
from wsrnn.root import Mlp
from wsrnn.tasks.regression import LinearRegression


@dataclass(frozen=True)
class Poisoned(LinearRegression):
    """Now and then a prompt that is not a number: every one from number `sound` on."""

    sound: int = 10**9
    where: str = "train"

    def dataset(self, split, seed):
        def poison(i, example):
            return example._replace(targets=example.targets * np.float32(np.nan))

        ds = super().dataset(split, seed)
        if split != self.where:
            return ds
        return ds.map_with_index(lambda i, e: poison(i, e) if i >= self.sound else e)


experiment = Experiment(
    task=LinearRegression(d=2, examples=3),
    model=WarpConfig(
        root=Mlp(width=4, depth=1),
        transition=Dense(start="decay"),
        lift=MlpLift(width=4, size=3),
        write=Matrix(scale=0.3),
        query=Query(time=False, inputs=True),
        drive="value",
        layout="read_before_write",
    ),
    evaluation=PrefixError(prompts=64, prefixes=(0, 3)),
    optim=OptimConfig(learning_rate=1e-2),
    steps=12,
    batch_size=8,
    eval_every=4,
    eval_batches=2,
    save_every=3,
    log_every=2,
)
variants = {
    "poisoned": replace(experiment, task=Poisoned(d=2, examples=3, sound=48), max_skipped=4),
}
