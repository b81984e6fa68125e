"""Many test prompts at once, for Monte Carlo."""

import numpy as np

from wsrnn.tasks.drawn import draw


def prompts(task, count):
    """So many test prompts, drawn at once."""
    rng = np.random.default_rng(0)
    numbers = {name: draw(raw, rng, count) for name, raw in sorted(task.draws("test").items())}
    return task.build(numbers | {"index": np.arange(count)}, "test")
