"""Weight-space linear RNNs: the hidden state is the flat weights of a small network.

recurrence/ root/ decode.py
    the mathematics: theta_t = A theta_{t-1} + B u_t, y_t = root(theta_t, z_t)
models/ tasks/ evaluations/ optim/
    the parts that users add to: one part, one file
step.py loop.py experiment.py cli.py
    one compiled step, the training loop, the configuration of a run, the command line

``wsrnn.fit(experiment, "runs/a")`` trains an `Experiment`, in Python or from a file;
``wsrnn.load("runs/a")`` returns the trained model and the experiment of a run.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["Experiment", "fit", "load"]

_HOMES = {"Experiment": "experiment", "fit": "loop", "load": "run"}


def __getattr__(name: str):
    """Import what is heavy when it is first asked for: `wsrnn --help` should not wait for jax."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"wsrnn.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'wsrnn' has no attribute {name!r}")
