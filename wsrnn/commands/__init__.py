"""The commands, one function each: from parsed words and flags to (document, text, exit code).

Imported once a command is known, for all of them need jax.
"""

from wsrnn.commands import costs, runs, training

RUN = {
    "train": training.train,
    "trials": training.trials,
    "eval": runs.evaluate,
    "icl": runs.icl,
    "predict": runs.predict,
    "show": costs.show,
    "bench": costs.measure,
}
