"""Dynamical systems to be forecast from a context: the generated ones of WARP's paper.

SINE, mass-spring-damper, Lotka-Volterra and spirals with the ranges of the paper (arXiv 2506.01153)
and its code, and Lorenz-63. Train, valid and test are drawn apart; where the paper tests in a wider
range of parameters, valid stays in the narrow one. Closed forms where there are any, else SciPy.
All sequences of a split are made at once and kept in the process.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import grain
import numpy as np
from jaxtyping import Float

from wsrnn.checks import check_positive
from wsrnn.tasks import SPLITS, Split
from wsrnn.tasks.continuation import Continuation, Sequence

Range = tuple[float, float]


@dataclass(frozen=True)
class System(Continuation):
    """The base of systems: a subclass defines `channels` and `draw`, and its sizes."""

    points: int = 256
    """S, the samples of a sequence, evenly over its whole time."""
    trained: int = 1024
    """Training sequences. Where there is no noise fewer are the first of more, those of Lorenz-63
    up to the error of their integration."""
    validated: int = 1024
    """Validation sequences."""
    tested: int = 1024
    """Test sequences."""

    def __post_init__(self):
        check_positive(self, "points", least=2)
        check_positive(self, "trained", "validated", "tested")
        for name in ("noise", "step"):
            if not 0 <= getattr(self, name, 0) < float("inf"):
                raise ValueError(
                    f"{type(self).__name__}.{name} must be at least 0, got {getattr(self, name)}"
                )
        super().__post_init__()

    @property
    def samples(self):
        """As many as `points`."""
        return self.points

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int, split: Split) -> Sequence:
        """Make sequences [count, S, D] in one, with their latents and contexts, if they have any.

        What they are drawn from must not depend on how many there are.
        """

    def sequences(self, split, seed):
        """Return those of a split, made when they are first asked for."""
        values, latents, context = _drawn(self, split, seed)

        def one(i):
            own = {name: numbers[i] for name, numbers in latents.items()}
            return Sequence(values[i], own, None if context is None else int(context[i]))

        return grain.MapDataset.range(len(values)).map(one)


@lru_cache(maxsize=12)
def _drawn(task: System, split: Split, seed: int) -> Sequence:
    count = {"train": task.trained, "valid": task.validated, "test": task.tested}[split]
    drawn = task.draw(np.random.default_rng([seed, SPLITS.index(split)]), count, split)
    return drawn._replace(values=drawn.values.astype(np.float32))


def uniform(rng: np.random.Generator, count: int, *ranges: Range) -> Float[np.ndarray, "K count"]:
    """Independent numbers, K a sequence, drawn sequence by sequence."""
    low, high = np.array(ranges, float).T
    return (low + (high - low) * rng.random((count, len(ranges)))).T


@dataclass(frozen=True)
class Sine(System):
    """sin(2 pi t + phase), phase within +-pi / 6, from its first sample; 16 points on [0, 1].

    The paper's five sizes are `trained` 1, 10, 100, 1,000 and 10,000, each the first of the next.
    """

    context: tuple[int, ...] = (1,)
    points: int = 16
    trained: int = 10
    validated: int = 1000
    tested: int = 1000

    channels = 1

    def draw(self, rng, count, split):
        """In closed form."""
        (phase,) = uniform(rng, count, (-np.pi / 6, np.pi / 6))
        t = np.linspace(0, 1, self.points)
        return Sequence(np.sin(2 * np.pi * t + phase[:, None])[..., None], {"phase": phase})


@dataclass(frozen=True)
class MassSpringDamper(System):
    """m x'' + c x' + k x = 0: position and velocity on [0, 1], from (1, 0) + U(-start, start)^2.

    `start` 0 is the paper's MSD; 0.5, with 8,192 and 2,048 sequences, its MSD-Zero. Without noise.
    Never more than 0.36 of critically damped in the narrow range, up to 1.07 in the wide one.
    """

    context: tuple[int, ...] = (100,)
    trained: int = 20_480
    tested: int = 4096
    start: float = 0.0
    """How far each coordinate of the start state lies from (1, 0), at most."""
    m: Range = (0.02, 0.04)
    """Mass, in training and validation."""
    k: Range = (4.0, 16.0)
    """Stiffness."""
    c: Range = (0.01, 0.2)
    """Damping."""
    wide: bool = True
    """Test in the wider range of the paper, not in that of training."""
    wide_m: Range = (0.01, 0.05)
    """Mass in the wider range."""
    wide_k: Range = (2.0, 18.0)
    """Stiffness in the wider range."""
    wide_c: Range = (0.01, 0.3)
    """Damping in the wider range."""
    speed: float = 28.0
    """The velocity that is 1 in the data, about the fastest in training; the paper's raw data have
    1, so that velocities of +-27 stand beside positions of +-1."""

    channels = 2

    def __post_init__(self):
        super().__post_init__()
        for name in ("m", "k", "wide_m", "wide_k"):
            if not min(getattr(self, name)) > 0:
                found = getattr(self, name)
                raise ValueError(f"MassSpringDamper.{name} must be above 0, got {found}")
        if min(*self.c, *self.wide_c) < 0 or not self.speed > 0:
            raise ValueError(
                "MassSpringDamper needs a damping of at least 0 and a speed above 0, got "
                f"c {self.c}, wide_c {self.wide_c} and speed {self.speed}"
            )

    def draw(self, rng, count, split):
        """By the two eigenvalues, complex or real."""
        wide = self.wide and split == "test"
        ranges = (self.wide_m, self.wide_k, self.wide_c) if wide else (self.m, self.k, self.c)
        off = (-self.start, self.start)
        m, k, c, x, v = uniform(rng, count, *ranges, off, off)
        latents = {"m": m, "k": k, "c": c, "x": x + 1, "v": v}
        values = oscillations(k / m, c / m, x + 1, v, np.linspace(0, 1, self.points))
        return Sequence(values / [1, self.speed], latents)


def oscillations(
    stiffness: Float[np.ndarray, " N"],
    damping: Float[np.ndarray, " N"],
    x: Float[np.ndarray, " N"],
    v: Float[np.ndarray, " N"],
    t: Float[np.ndarray, " S"],
) -> Float[np.ndarray, "N S 2"]:
    """x and x' of x'' = -stiffness x - damping x' at times t, from the roots of its polynomial.

    Equal roots, for which x has another form, are moved apart by 1e-6 of their size.
    """
    half = damping / 2
    gap = half**2 - stiffness
    least = 1e-12 * np.maximum(half**2, stiffness)
    gap = np.where(np.abs(gap) < least, least, gap).astype(complex)
    a, b = -half + np.sqrt(gap), -half - np.sqrt(gap)
    A = (v - b * x) / (a - b)
    B = x - A
    waves = np.exp(np.multiply.outer([a, b], t)) * np.array([A, B])[..., None]
    return np.stack([waves.sum(0), (np.array([a, b])[..., None] * waves).sum(0)], -1).real


@dataclass(frozen=True)
class Spirals(System):
    """y' = [[-0.3, 2], [-2, -0.3]] y from the unit circle, every second one mirrored, t to 4 pi.

    The curves of diffrax's example of neural CDEs, which the paper classifies; here they go on.
    """

    context: tuple[int, ...] = (20,)
    points: int = 100
    noise: float = 0.0
    """Standard deviation of independent noise on the samples; the example's is 0 or 0.1."""

    channels = 2

    def draw(self, rng, count, split):
        """In closed form."""
        angle, flip = uniform(rng, count, (0, 2 * np.pi), (0, 2))
        t = np.linspace(0, 4 * np.pi, self.points)
        sign = np.where(flip < 1, -1, 1)
        turn = angle[:, None] - 2 * t
        values = np.exp(-0.3 * t)[:, None] * np.stack([np.cos(turn), np.sin(turn)], -1)
        values *= np.stack([sign, np.ones(count)], -1)[:, None]
        values += self.noise * rng.standard_normal(values.shape)
        return Sequence(values, {"angle": angle, "sign": sign})


@dataclass(frozen=True)
class LotkaVolterra(System):
    """Repeat-copy of prey and predator: p' = a p - b p q, q' = c p q - d q, from (1, 1).

    A fragment of r = 32, ..., 63 samples, 1 / 255 apart, is the context; then come 50 zeros, the
    fragment again, 50 zeros, and so on. Values are divided by `scale`.
    """

    trained: int = 15_000
    tested: int = 3000
    ad: Range = (20.0, 50.0)
    """a and d, in training and validation."""
    bc: Range = (80.0, 120.0)
    """b and c."""
    wide: bool = True
    """Test in the wider range of the paper, not in that of training."""
    wide_ad: Range = (10.0, 60.0)
    """a and d in the wider range."""
    wide_bc: Range = (70.0, 130.0)
    """b and c in the wider range."""
    fragment: tuple[int, int] = (32, 63)
    """The least and greatest r; the field `context` plays no part."""
    gap: int = 50
    """Zeros between two copies."""
    scale: float = 1.1
    """What is 1 in the data: training data then span 2, as the paper's do from -1 to 1."""

    channels = 2
    fixed_context = None

    def __post_init__(self):
        super().__post_init__()
        low, high = self.fragment
        if not 1 <= low <= high < self.points or self.gap < 0 or not self.scale > 0:
            raise ValueError(
                "LotkaVolterra needs a fragment of two rising numbers within 1 and points - 1, a "
                f"gap of at least 0 and a scale above 0, got {self.fragment}, {self.gap} and "
                f"{self.scale}"
            )

    def draw(self, rng, count, split):
        """By SciPy."""
        wide = self.wide and split == "test"
        ad, bc = (self.wide_ad, self.wide_bc) if wide else (self.ad, self.bc)
        low, high = self.fragment
        a, b, c, d, length = uniform(rng, count, ad, bc, bc, ad, (low, high + 1))
        r = length.astype(int)

        def slope(y):
            p, q = y
            return np.stack([a * p - b * p * q, c * p * q - d * q])

        y = integrate(slope, np.ones((2, count)), np.arange(high) / 255)
        at = np.arange(self.points) % (r + self.gap)[:, None]
        shown = np.take_along_axis(y, np.minimum(at, high - 1)[..., None], 1)
        values = np.where((at < r[:, None])[..., None], shown, 0) / self.scale
        return Sequence(values, {"a": a, "b": b, "c": c, "d": d}, r)


@dataclass(frozen=True)
class Lorenz(System):
    """Lorenz-63: x' = 10 (y - x), y' = x (28 - z) - y, z' = x y - 8 z / 3, on its attractor.

    Centred and divided by its standard deviations. The first half is the context, as in the paper,
    whose data (1,000 samples of 48 runs) are in no repository.
    """

    context: tuple[int, ...] = (500,)
    points: int = 1000
    trained: int = 48
    step: float = 0.01
    """Time between samples; a small error grows e-fold in 1.1."""
    noise: float = 0.0
    """Standard deviation of independent noise on the samples."""

    channels = 3

    def draw(self, rng, count, split):
        """By SciPy, after 10 units of time in which the start is forgotten."""

        def slope(s):
            x, y, z = s
            return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 * z / 3])

        starts = uniform(rng, count, (-10, 10), (-10, 10), (15, 35))
        t = np.concatenate([[0], 10 + self.step * np.arange(self.points)])
        values = (integrate(slope, starts, t)[:, 1:] - [0, 0, 23.5]) / [7.9, 9.0, 8.6]
        noise = rng.standard_normal((count, self.points, 3)) if self.noise else 0
        return Sequence(values + self.noise * noise, {"start": starts.T})


def integrate(
    slope, start: Float[np.ndarray, "D N"], times: Float[np.ndarray, " S"]
) -> Float[np.ndarray, "N S D"]:
    """N trajectories of y' = slope(y) by an explicit Runge-Kutta method of order 8, all in one.

    The relative error of a step is below 1e-9, 1e-12 where y is 0.
    """
    from scipy.integrate import solve_ivp  # it takes a third of a second to import

    D, N = start.shape
    found = solve_ivp(
        lambda t, y: slope(y.reshape(D, N)).ravel(), (times[0], times[-1]), start.ravel(),
        "DOP853", times, rtol=1e-9, atol=1e-12,
    )  # fmt: skip
    return np.moveaxis(found.y.reshape(D, N, -1), 0, -1)
