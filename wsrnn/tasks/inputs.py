"""What the points x of a linear function are drawn from.

A new distribution, here or in an experiment file, is one class.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from wsrnn.checks import check_fields
from wsrnn.tasks.drawn import Raw

Spectrum = Literal["white", "k", "1/k"]


class Inputs(ABC):
    """A distribution of independent coordinates of mean 0."""

    distribution: ClassVar[Literal["normal", "uniform"]]
    """Of the numbers that `place` is given."""

    def raw(self, *shape: int) -> Raw:
        """What points are drawn from."""
        return Raw(self.distribution, shape)

    @abstractmethod
    def variances(self, d: int) -> np.ndarray:
        """Of the coordinates [d]."""

    @abstractmethod
    def place(self, raw: Any) -> Any:
        """x [N, T, d] from what it is drawn from."""


@dataclass(frozen=True)
class Normal(Inputs):
    """Normal, of covariance diag(l)."""

    spectrum: Spectrum = "white"
    """l: all 1; or proportional to k or 1/k, of trace 1 (Zhang et al. 2025)."""

    distribution = "normal"

    def __post_init__(self):
        check_fields(self)

    def variances(self, d):
        """The eigenvalues of the covariance."""
        k = np.arange(1, d + 1)
        l = {"white": np.ones(d), "k": k, "1/k": 1 / k}[self.spectrum]  # noqa: E741
        return l if self.spectrum == "white" else l / l.sum()

    def place(self, raw):
        """Scaled by the spectrum."""
        return raw * np.sqrt(self.variances(raw.shape[-1])).astype(np.float32)


@dataclass(frozen=True)
class Uniform(Inputs):
    """Uniform from +- a bound (von Oswald et al. 2023, and WARP's own tasks: 1)."""

    bound: float = 1.0
    """The largest modulus."""

    distribution = "uniform"

    def __post_init__(self):
        check_fields(self)
        if not 0 < self.bound < float("inf"):
            raise ValueError(f"Uniform.bound must be above 0, got {self.bound}")

    def variances(self, d):
        """A third of the bound's square."""
        return np.full(d, self.bound**2 / 3)

    def place(self, raw):
        """From [0, 1) to +- the bound."""
        return (2 * raw - 1) * np.float32(self.bound)


INPUTS: tuple[type[Inputs], ...] = (Normal, Uniform)
