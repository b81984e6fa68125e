"""A long sequence of which only the beginning tells the class."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from wsrnn.checks import check_fields, check_positive
from wsrnn.tasks import Batch, Synthetic, clock


@dataclass(frozen=True)
class EarlySignal(Synthetic):
    """White noise, to whose first `early` steps the mean of the class is added; scored at the last.

    All later steps are the same noise whatever the class. The means are normal vectors, centred
    over the classes and scaled to the deviation `strength`. The default sizes are those of
    EigenWorms. With the first steps summed up the classes lie about strength sqrt(early) deviations
    apart in each channel; summed up over everything, sqrt(length / early) times less.
    """

    length: int = 17_984
    """Steps."""
    channels: int = 6
    """Of each step."""
    classes: int = 5
    """To tell apart."""
    early: int = 512
    """Steps at the beginning that depend on the class."""
    strength: float = 1.0
    """Deviation of the classes' means, where the noise has 1."""
    pool_seed: int = 0
    """Which means."""

    loss = "cross_entropy"

    def __post_init__(self):
        check_fields(self)
        check_positive(self, "length", "channels", "classes", "early")
        if self.classes < 2 or self.early > self.length:
            raise ValueError(
                f"classes must be at least 2 and early at most the length {self.length}, got "
                f"{self.classes} and {self.early}"
            )

    @property
    def d_in(self):
        """Channels."""
        return self.channels

    @property
    def d_out(self):
        """Classes."""
        return self.classes

    def sample(self, rng, split):
        """Draw a class and the noise, and add the class's mean to the first steps."""
        label = rng.integers(self.classes)
        inputs = rng.standard_normal((self.length, self.channels), np.float32)
        means = _means(self.classes, self.channels, self.pool_seed)
        inputs[: self.early] += np.float32(self.strength) * means[label]
        mask = np.ones(self.length, np.float32)
        return Batch(inputs, clock(self.length), np.int32(label), mask, {})


@lru_cache(maxsize=8)
def _means(classes: int, channels: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng([seed, classes, channels]).standard_normal((classes, channels))
    centred = drawn - drawn.mean(0)
    return (centred / centred.std()).astype(np.float32)
