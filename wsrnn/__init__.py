"""Weight-space linear RNNs: the hidden state is the flat weights of a small network.

recurrence/ root/ decode.py
    the mathematics: theta_t = A theta_{t-1} + B u_t, y_t = root(theta_t, z_t)
models/ tasks/ evaluations/ optim/
    the parts that users add to: one part, one file
step.py loop.py experiment.py cli.py
    one compiled step, the training loop, the configuration of a run, the command line

``wsrnn.fit(experiment, "runs/a")`` trains an `Experiment`, in Python or from a file;
``wsrnn.load("runs/a")`` returns the trained model and the experiment of a run.

The names a user needs most can be imported from here, and are loaded when they are first used:

runs         Experiment, OptimConfig, fit, load
models       Warp, WarpConfig, summing, Model, ModelConfig, and the parts of a WARP:
  root       Mlp, Linear, Gated, Residual, Descent, ConjugateGradients, Evidence, Constant, OneStep,
             Formula
  transition Dense, Identity, Scalar, Diagonal, Rotation, Shift, BlockDiagonal, LowRank
  lift       MlpLift, Bilinear, Outer, LowRankLift, Moments, StepMoments
  start      Learned, FromFirst, Impulse
  write      Matrix, Direct
  others     Query, Waves, Features, Head, Scale, Tanh, Clip, DynamicTanh
base classes Root, Transition, Lift, Start, WriteForm, Task, Evaluation, Rule, Schedule
data         Batch, what a task makes; Mean, what its loss returns
errors       UserError, RunError

Tasks, evaluations and the models to compare with are imported from their own modules:
`wsrnn.tasks.regression`, `wsrnn.evaluations.in_context`, `wsrnn.models.peers.transformer`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "experiment": "Experiment",
    "loop": "fit",
    "run": "load",
    "optim": "OptimConfig Rule Schedule",
    "models": "Model ModelConfig",
    "models.warp": "Warp WarpConfig summing "
    "Lift MlpLift Bilinear Outer LowRankLift Moments StepMoments Start Learned FromFirst Impulse "
    "WriteForm Matrix Direct Query Waves Features Head Scale Tanh Clip DynamicTanh",
    "root": "Root Mlp Linear Gated Residual Descent ConjugateGradients Evidence Constant OneStep "
    "Formula",
    "recurrence": "Transition Dense Identity Scalar Diagonal Rotation Shift BlockDiagonal LowRank",
    "tasks": "Task Batch",
    "metrics": "Mean",
    "errors": "UserError RunError",
    "evaluations": "Evaluation",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `wsrnn --help` should not wait for jax."""
    if name in _HOME:
        return getattr(importlib.import_module(f"wsrnn.{_HOME[name]}"), name)
    raise AttributeError(f"module 'wsrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion in a notebook."""
    return [*globals(), *__all__]
