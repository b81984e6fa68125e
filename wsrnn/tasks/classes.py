"""Few-shot classification: Gaussian classes, from the labelled examples of a prompt."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from wsrnn.checks import check_fields
from wsrnn.tasks import Batch, Split, clock
from wsrnn.tasks.drawn import Drawn, Raw, choose


@dataclass(frozen=True)
class FewShot(Drawn):
    """Base of the families: n examples (x_i, label_i) and a query, x = (mu + eps eta) / scale.

    Labels stand in the tokens as vectors, one-hot, and are the classes that are predicted.
    """

    d: int = 16
    """Dimension of x."""
    examples: int = 32
    """Examples before the query."""
    masked: bool = False
    """Show the query as a token (x_q, 0) and score it alone. Otherwise all tokens are (x_t,
    label_t), for models that read before they write: step t is scored from the t tokens before it
    and x_t."""
    loss = "cross_entropy"

    def __post_init__(self):
        check_fields(self)
        if min(self.d, self.examples) < 1:
            raise ValueError(
                f"{type(self).__name__} needs d and examples of at least 1, "
                f"got {self.d} and {self.examples}"
            )

    @property
    @abstractmethod
    def answerable(self) -> int:
        """The first step whose label the examples before it may tell."""

    @abstractmethod
    def clouds(self, raw: dict[str, Any], split: Split, xp: Any) -> tuple[Any, Any, Any]:
        """Means [N, C, d] and labels [N, C] of a prompt's classes; which of them x_t is of [N, T].

        Means are divided by the same scale as the points.
        """

    @property
    @abstractmethod
    def spread(self) -> float:
        """Standard deviation of each coordinate of x around its mean."""

    @property
    def answers_in_tokens(self):
        """Whether token t holds label t."""
        return not self.masked

    @property
    def d_in(self):
        """x and a one-hot label."""
        return self.d + self.d_out

    @property
    def length(self):
        """Examples and query."""
        return self.examples + 1

    def steps(self, split):
        """Every step that can be answered."""
        return "last" if self._first == self.examples else "all"

    @property
    def _first(self) -> int:
        return self.examples if self.masked else self.answerable

    def build(self, raw, split, xp=np):
        """Draw the points around their means and lay them out as tokens."""
        means, labels, member = self.clouds(raw, split, xp)
        x = xp.take_along_axis(means, member[..., None], 1) + np.float32(self.spread) * raw["eta"]
        targets = xp.take_along_axis(labels, member, 1)
        steps = xp.arange(self.length)
        shown = targets[..., None] == xp.arange(self.d_out)
        if self.masked:
            shown = shown & (steps < self.examples)[:, None]
        times = xp.broadcast_to(xp.asarray(clock(self.length)), targets.shape)
        mask = xp.broadcast_to(steps >= self._first, targets.shape)
        inputs = xp.concatenate([x, shown], -1).astype(np.float32)
        return Batch(inputs, times, targets.astype(np.int32), mask.astype(np.float32), {})


@dataclass(frozen=True)
class NewClasses(FewShot):
    """A few classes, new in each prompt: mu uniform on (-1, 1)^d, x = mu + a normal vector.

    As in Lee et al. 2024. Every step is scored.
    """

    classes: int = 2
    """Classes of a prompt."""

    answerable = 0
    spread = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes}")

    @property
    def d_out(self):
        """A label for each."""
        return self.classes

    def draws(self, split):
        """Means, which class each point is of, and where it lies around its mean."""
        return {
            "mu": Raw("uniform", (self.classes, self.d)),
            "class": Raw("below", (self.length,), self.classes),
            "eta": Raw("normal", (self.length, self.d)),
        }

    def clouds(self, raw, split, xp):
        """Labels need no drawing: the means are."""
        labels = xp.broadcast_to(xp.arange(self.classes), raw["mu"].shape[:2])
        return 2 * raw["mu"] - 1, labels, raw["class"]


@dataclass(frozen=True)
class BurstyClasses(FewShot):
    """Training classes from a fixed pool, so that labels can also be kept in the weights.

    mu_k from N(0, I / d), x = (mu + eps eta) / sqrt(1 + eps^2) with eta as mu; K classes share L
    labels. A prompt holds n / burstiness classes, each that often, drawn with p(k) proportional to
    k^-alpha, in random order; the query is of one of them (Reddy 2023). Under burstiness 0 each
    point is of a class drawn for itself, the query too, which the examples need not show. Tests
    take new means, which only the examples can tell.
    """

    d: int = 64
    """Dimension of x."""
    examples: int = 8
    """Examples before the query."""
    classes: int = 128
    """K, in the pool."""
    labels: int = 32
    """L, the number of labels that classes are given."""
    burstiness: int = 1
    """Examples of each class in a prompt; 0 draws every point for itself."""
    alpha: float = 0.0
    """Exponent of Zipf's law of the classes."""
    eps: float = 0.1
    """Size of a cloud."""
    pool_seed: int = 0
    """Which pool."""

    def __post_init__(self):
        super().__post_init__()
        if self.labels < 2 or self.classes % self.labels:
            raise ValueError(
                f"labels must be at least 2 and divide the {self.classes} classes, got "
                f"{self.labels}"
            )
        if self.burstiness < 0 or (self.burstiness and self.examples % self.burstiness):
            raise ValueError(
                f"burstiness must be 0 or divide the {self.examples} examples, got "
                f"{self.burstiness}"
            )
        if self.burstiness and self.examples // self.burstiness > self.classes:
            raise ValueError(
                f"{self.examples} examples of burstiness {self.burstiness} need more than the "
                f"{self.classes} classes: raise classes"
            )
        if not (self.alpha >= 0 and self.eps >= 0):
            raise ValueError(f"alpha and eps must be at least 0, got {self.alpha} and {self.eps}")

    @property
    def answerable(self):
        """The query alone."""
        return self.examples

    @property
    def spread(self):
        """Of x, which has the variance 1 / d in all."""
        return self.eps / (self.d * (1 + self.eps**2)) ** 0.5

    @property
    def d_out(self):
        """The number of labels."""
        return self.labels

    def draws(self, split):
        """The classes of a prompt, their order, the class of the query, means, and the points."""
        draws = {"eta": Raw("normal", (self.length, self.d))}
        if split != "train":
            draws["mu"] = Raw("normal", (self.classes, self.d))
        if not self.burstiness:
            return draws | {"class": Raw("uniform", (self.length,))}
        present = self.examples // self.burstiness
        return draws | {
            "class": Raw("uniform", (self.classes,)),
            "order": Raw("uniform", (self.examples,)),
            "query": Raw("below", (1,), present),
        }

    def clouds(self, raw, split, xp):
        """Chosen from the pool, or from a prompt's own."""
        log_p = -self.alpha * np.log(np.arange(1, self.classes + 1)).astype(np.float32)
        if self.burstiness:
            chosen = choose(log_p, raw["class"], self.examples // self.burstiness, xp)
            order = xp.argsort(raw["order"], 1) // self.burstiness
            member = xp.concatenate([order, raw["query"]], 1)
        else:
            p = np.exp(log_p)
            chosen = xp.searchsorted(xp.asarray(np.cumsum(p / p.sum())[:-1]), raw["class"])
            member = xp.broadcast_to(xp.arange(self.length), chosen.shape)
        mu, labels = _pool(self.classes, self.labels, self.d, self.pool_seed)
        if split == "train":
            mu = xp.asarray(mu)[chosen]
        else:
            mu = xp.take_along_axis(raw["mu"], chosen[..., None], 1)
        scale = np.float32((self.d * (1 + self.eps**2)) ** 0.5)
        return mu / scale, xp.asarray(labels)[chosen], member


@lru_cache(maxsize=4)
def _pool(classes: int, labels: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Means [K, d], not yet scaled, and labels [K], each label equally often."""
    rng = np.random.default_rng([seed, classes, labels, d])
    shared = np.repeat(np.arange(labels), classes // labels)
    return rng.standard_normal((classes, d), np.float32), rng.permutation(shared)
