"""Families of functions for in-context regression.

A new one is a subclass of `Regression`: its random parameters, its values and their power. Longer
than other files because it is a list: eight families that do not depend on one another, each read
alone.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from wsrnn.choices import choice
from wsrnn.tasks.drawn import Raw
from wsrnn.tasks.inputs import INPUTS, Inputs, Normal
from wsrnn.tasks.layouts import LAYOUTS, PromptLayout, ReadBeforeWrite, TrainOn
from wsrnn.tasks.prompts import Prompt, Regression

Weights = Literal["normal", "uniform"]
Dummy = Literal["ones", "orthogonal"]


@dataclass(frozen=True)
class LinearRegression(Regression):
    """y = w.x, w and x normal (Garg et al. 2022), or as `weights` and `inputs` say.

    `sparse` keeps that many entries of w. The test of a shift is in `tasks.shifts`.
    """

    inputs: Annotated[Inputs, choice(lambda: INPUTS)] = field(default_factory=Normal)
    """What x is drawn from."""
    sparse: int | None = None
    """Entries of w that are not 0; None keeps all."""
    weights: Weights = "normal"
    """Distribution of the entries of w: normal, or uniform from +-1."""

    def __post_init__(self):
        super().__post_init__()
        if self.sparse is not None and not 1 <= self.sparse <= self.d:
            raise ValueError(f"sparse must lie within 1 and d = {self.d}, got {self.sparse}")

    @property
    def eigenvalues(self) -> np.ndarray:
        """Variances [d] of x's coordinates."""
        return self.inputs.variances(self.d)

    @property
    def power(self):
        """Every kept w has variance 1, or 1 / 3 if uniform."""
        return self.eigenvalues.sum() * self.variance

    @property
    def variance(self) -> float:
        """E w_j^2 over what is kept and what is not."""
        return (self.sparse or self.d) / self.d / (3 if self.weights == "uniform" else 1)

    def points(self):
        """As many numbers as coordinates."""
        return self.inputs.raw(self.context_length + 1, self.d)

    def place(self, raw, xp):
        """Scaled as `inputs` says."""
        return self.inputs.place(raw)

    def function(self):
        """The weights, and which are kept."""
        order = {"order": Raw("uniform", (self.d,))} if self.sparse else {}
        return {"w": Raw(self.weights, (self.d,)), **order}

    def latent(self, drawn, xp):
        """w, 0 where it is not kept."""
        w = 2 * drawn["w"] - 1 if self.weights == "uniform" else drawn["w"]
        if self.sparse:
            rank = xp.argsort(xp.argsort(drawn["order"], 1), 1)
            w = xp.where(rank < self.sparse, w, 0)
        return {"w": w}

    def values(self, latent, x, xp):
        """w.x."""
        return x @ latent["w"][..., None]


@dataclass(frozen=True)
class Quadratic(LinearRegression):
    """y = w.x^2 / sqrt 3, x^2 coordinate by coordinate (as in Garg et al.'s code)."""

    @property
    def power(self):
        """E x^4 = 3 l^2."""
        return (self.eigenvalues**2).sum() * self.variance

    def values(self, latent, x, xp):
        """As large as a linear one for white x."""
        return (x**2) @ latent["w"][..., None] / np.float32(3**0.5)


@dataclass(frozen=True)
class OutlierRegression(LinearRegression):
    """y = w.x, but each example is with probability p a dummy of label 0 (Park et al. 2024).

    Dummies are never asked for; training is scored at every other point, or at the last.
    """

    layout: Annotated[PromptLayout, choice(lambda: LAYOUTS)] = field(
        default_factory=lambda: ReadBeforeWrite(train_on="all")
    )
    """How a prompt becomes tokens, and where it is read."""
    outliers: float = 0.5
    """p, the probability that an example is a dummy."""
    dummy: Dummy = "ones"
    """ones: the vector of ones. orthogonal: one vector a prompt, orthogonal to w, of length
    sqrt(d)."""

    trains_on: ClassVar[tuple[TrainOn, ...]] = ("longest", "all")  # any one could be a dummy

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.outliers < 1:
            raise ValueError(f"outliers must lie between 0 and 1, got {self.outliers}")
        if self.dummy == "orthogonal" and self.d < 2:
            raise ValueError("nothing is orthogonal to w for d 1: raise d or set dummy ones")

    def draws(self, split):
        """Also which points are dummies and where they lie."""
        draws = super().draws(split) | {"outlier": Raw("uniform", (self.context_length + 1,))}
        return draws | ({"dummy": Raw("normal", (self.d,))} if self.dummy == "orthogonal" else {})

    def prompt(self, raw, split, xp=np):
        """Put dummies in the place of examples."""
        x, clean, labels, latents = super().prompt(raw, split, xp)
        outlier, w = self._outlier(raw, xp), latents["w"]
        if self.dummy == "ones":
            dummy = xp.ones_like(w)
        else:
            along = (raw["dummy"] * w).sum(-1, keepdims=True) / (w**2).sum(-1, keepdims=True)
            dummy = raw["dummy"] - along * w
            dummy = dummy * np.float32(self.d**0.5) / xp.sqrt((dummy**2).sum(-1, keepdims=True))
        x = xp.where(outlier[..., None], dummy[:, None], x)
        clean, labels = (xp.where(outlier[..., None], 0, y) for y in (clean, labels))
        return Prompt(x, clean, labels, latents | {"outlier": outlier})

    def asked(self, raw, split, xp):
        """What is no dummy, as far as the curriculum has come."""
        return super().asked(raw, split, xp) & ~self._outlier(raw, xp)

    def _outlier(self, raw, xp):
        """Which examples are dummies [N, T]; the last point never is."""
        return (raw["outlier"] < self.outliers) & (
            xp.arange(self.context_length + 1) < self.context_length
        )


@dataclass(frozen=True)
class ReluNetwork(Regression):
    """y = sqrt(2 / r) sum_i a_i relu(w_i.x) with r hidden units, a and w normal (Garg et al.)."""

    d: int = 20
    """Dimension of x."""
    examples: int = 100
    """The most examples that come before a query."""
    hidden: int = 100
    """r, the hidden units of the function."""

    def __post_init__(self):
        super().__post_init__()
        if self.hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {self.hidden}")

    @property
    def power(self):
        """2 / r times r E relu(w.x)^2 = d / 2 each."""
        return float(self.d)

    def function(self):
        """Both layers."""
        return {"w": Raw("normal", (self.d, self.hidden)), "a": Raw("normal", (self.hidden, 1))}

    def values(self, latent, x, xp):
        """Two layers."""
        return xp.maximum(x @ latent["w"], 0) @ latent["a"] * np.float32((2 / self.hidden) ** 0.5)


@dataclass(frozen=True)
class DecisionTree(Regression):
    """A full binary tree: node by node right where x_j > 0, j uniform; normal leaves (Garg et al.).

    Nodes lie in a heap: the children of node i are 2 i + 1 and 2 i + 2.
    """

    d: int = 20
    """Dimension of x."""
    examples: int = 100
    """The most examples that come before a query."""
    depth: int = 4
    """Decisions on the way to a leaf."""

    def __post_init__(self):
        super().__post_init__()
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, got {self.depth}")

    @property
    def power(self):
        """Of a leaf."""
        return 1.0

    def function(self):
        """Coordinates of the nodes, values of the leaves."""
        return {
            "coordinate": Raw("below", (2**self.depth - 1,), self.d),
            "leaf": Raw("normal", (2**self.depth,)),
        }

    def values(self, latent, x, xp):
        """Walk down."""
        node = xp.zeros(x.shape[:2], int)
        for _ in range(self.depth):
            coordinate = xp.take_along_axis(latent["coordinate"], node, 1)
            right = xp.take_along_axis(x, coordinate[..., None], 2)[..., 0] > 0
            node = 2 * node + 1 + right
        return xp.take_along_axis(latent["leaf"], node - (2**self.depth - 1), 1)[..., None]


@dataclass(frozen=True)
class Sinusoid(Regression):
    """y = a sin(x + p), x from +-5, a from (0.1, 0.5), p from (0, pi) (Finn et al. 2017).

    `legacy_correlated` draws a and p from one number, as a published copy does by using one key
    twice: a family of one parameter.
    """

    d: int = 1
    """Dimension of x: 1."""
    examples: int = 10
    """The most examples that come before a query."""
    legacy_correlated: bool = False
    """Draw a and p from the same uniform number."""

    def __post_init__(self):
        super().__post_init__()
        if self.d != 1:
            raise ValueError(f"a sinusoid is a function of one number: d must be 1, got {self.d}")

    @property
    def power(self):
        """E a^2 E sin^2; correlated, by averaging over the one number."""
        if not self.legacy_correlated:
            return (0.5**3 - 0.1**3) / 1.2 / 2
        u = (np.arange(10_000) + 0.5) / 10_000
        # over x in +-5: E sin^2(x + p) = 1/2 - cos(2 p) sin(10) / 20
        square = 0.5 - np.cos(2 * np.pi * u) * np.sin(10) / 20
        return float(((0.1 + 0.4 * u) ** 2 * square).mean())

    def points(self):
        """Uniform."""
        return Raw("uniform", (self.context_length + 1, 1))

    def place(self, raw, xp):
        """From +-5."""
        return 10 * raw - 5

    def function(self):
        """Amplitude and phase, or one number for both."""
        names = ("both",) if self.legacy_correlated else ("amplitude", "phase")
        return {name: Raw("uniform") for name in names}

    def latent(self, drawn, xp):
        """a and p [N]."""
        a, p = (drawn.get(name, drawn.get("both")) for name in ("amplitude", "phase"))
        return {"amplitude": 0.1 + 0.4 * a, "phase": np.float32(np.pi) * p}

    def values(self, latent, x, xp):
        """a sin(x + p)."""
        return latent["amplitude"][:, None, None] * xp.sin(x + latent["phase"][:, None, None])


@dataclass(frozen=True)
class GaussianProcess(Regression):
    """A function from a Gaussian process, k(x, x') = exp(-|x - x'|^2 / (2 l^2)), x from +-1.

    The best prediction is the posterior mean, in closed form.
    """

    d: int = 1
    """Dimension of x."""
    examples: int = 40
    """The most examples that come before a query."""
    noise: float = 0.01
    """Variance of the noise on the labels in the prompt; targets are free of it."""
    scale: float = 0.5
    """l, the length scale of the kernel."""
    nugget: ClassVar[float] = 1e-4
    """Added to k(x, x), so that float32 can factor the kernel."""

    def __post_init__(self):
        super().__post_init__()
        if not self.scale > 0:
            raise ValueError(f"scale must be above 0, got {self.scale}")

    @property
    def power(self):
        """k(x, x)."""
        return 1.0

    def points(self):
        """Uniform."""
        return Raw("uniform", (self.context_length + 1, self.d))

    def place(self, raw, xp):
        """From +-1."""
        return 2 * raw - 1

    def function(self):
        """One normal number a point, made dependent by the kernel's Cholesky factor."""
        return {"z": Raw("normal", (self.context_length + 1, 1))}

    def values(self, latent, x, xp):
        """L z with L L^T the kernel and its nugget."""
        squares = ((x[:, :, None] - x[:, None]) ** 2).sum(-1)
        kernel = xp.exp(-squares / (2 * self.scale**2)) + self.nugget * xp.eye(x.shape[1])
        return (xp.linalg.cholesky(kernel) @ latent["z"]).astype(np.float32)


@dataclass(frozen=True)
class Parity(Regression):
    """y = the product of k coordinates of x in {-1, 1}^d, another set of them for each prompt."""

    d: int = 10
    """Dimension of x."""
    examples: int = 140
    """The most examples that come before a query."""
    k: int = 2
    """Coordinates in the product."""

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.k <= self.d:
            raise ValueError(f"k must lie within 1 and d = {self.d}, got {self.k}")

    @property
    def power(self):
        """Every value is 1 or -1."""
        return 1.0

    def points(self):
        """Uniform, for the signs."""
        return Raw("uniform", (self.context_length + 1, self.d))

    def place(self, raw, xp):
        """Signs."""
        return xp.where(raw < 0.5, -1.0, 1.0).astype(np.float32)

    def function(self):
        """An order of the coordinates."""
        return {"order": Raw("uniform", (self.d,))}

    def latent(self, drawn, xp):
        """Which coordinates [N, d] are multiplied."""
        return {"chosen": xp.argsort(xp.argsort(drawn["order"], 1), 1) < self.k}

    def values(self, latent, x, xp):
        """The product over the chosen coordinates."""
        return xp.where(latent["chosen"][:, None], x, 1).prod(-1, keepdims=True)
