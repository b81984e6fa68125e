"""Update rules: how a gradient becomes the direction of a step.

A new rule, here or in an experiment file, is one class with `build`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import jax
import optax

from wsrnn.checks import check_fields
from wsrnn.choices import choice
from wsrnn.optim.groups import selected


class Rule(ABC):
    """A frozen dataclass whose fields are flags, and which builds an optax transformation.

    For example Lion, in an experiment file:

        @dataclass(frozen=True)
        class Lion(Rule):
            b1: float = 0.9

            def build(self):
                return optax.scale_by_lion(self.b1)
    """

    @abstractmethod
    def build(self) -> optax.GradientTransformation:
        """The transformation of the (clipped) gradient, without learning rate and sign.

        The step subtracts its output times the rate: optax's ``scale_by_*``, not its complete
        optimisers, whose output is added (``optax.chain(optax.lion(1.0), optax.scale(-1))`` works
        too). It is passed the mean loss of the batch as `value`. With `mesh.model` > 1 it sees
        large parameters padded with zeros, whose updates are ignored.
        """


def check_betas(rule: Rule) -> None:
    """ValueError for decays of the moments outside [0, 1)."""
    for name in ("b1", "b2"):
        if not 0 <= getattr(rule, name) < 1:
            raise ValueError(f"optim.rule.{name} must lie in [0, 1), got {getattr(rule, name)}")


@dataclass(frozen=True)
class Adam(Rule):
    """Adam (Kingma & Ba 2015)."""

    b1: float = 0.9
    """Decay of the first moment."""
    b2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment."""

    def __post_init__(self):
        check_betas(self)

    def build(self):
        """The ratio of the moments, corrected for their start at zero."""
        return optax.scale_by_adam(self.b1, self.b2, self.eps)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    weight_decay: float = 1e-4
    """Part of a parameter that a step subtracts, times the parameter's learning rate."""
    decay: tuple[str, ...] = ("*",)
    """Patterns of the parameters that decay, as in `optim.rates`."""
    matrices_only: bool = False
    """Whether biases and other vectors are left out."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"optim.rule.weight_decay must be at least 0, got {self.weight_decay}")

    def build(self):
        """Adam's direction plus the decayed parameters."""
        return optax.chain(
            super().build(), optax.add_decayed_weights(self.weight_decay, self.decayed)
        )

    def decayed(self, params):
        """Whether each parameter decays; ValueError for a pattern that matches none."""
        return jax.tree.map(
            lambda chosen, leaf: chosen and (len(leaf.shape) > 1 or not self.matrices_only),
            selected(params, self.decay, "optim.rule.decay"),
            params,
        )


@dataclass(frozen=True)
class AdaBelief(Rule):
    """AdaBelief (Zhuang et al. 2020), which the paper uses."""

    b1: float = 0.9
    """Decay of the first moment."""
    b2: float = 0.999
    """Decay of the variance of the gradient around it."""
    eps: float = 1e-16
    """Added to the root of the variance."""

    def __post_init__(self):
        check_betas(self)

    def build(self):
        """The first moment over the root of the variance."""
        return optax.scale_by_belief(self.b1, self.b2, self.eps)


@dataclass(frozen=True)
class Momentum:
    """A running sum of past gradients."""

    decay: float = 0.9
    """What is kept of it at each step."""
    nesterov: bool = False
    """Whether it is Nesterov's variant, which looks a step ahead."""

    def __post_init__(self):
        if not 0 < self.decay < 1:
            raise ValueError(f"optim.rule.momentum.decay must lie in (0, 1), got {self.decay}")


@dataclass(frozen=True)
class Sgd(Rule):
    """Gradient descent."""

    momentum: Annotated[Momentum, choice(lambda: (Momentum,))] | None = None
    """None is plain."""

    def __post_init__(self):
        check_fields(self)

    def build(self):
        """The gradient itself, or its running sum."""
        if self.momentum is None:
            return optax.identity()
        return optax.trace(self.momentum.decay, self.momentum.nesterov)


RULES: tuple[type[Rule], ...] = (Adam, AdamW, AdaBelief, Sgd)
"""The rules of the package."""
