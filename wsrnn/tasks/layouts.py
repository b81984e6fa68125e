"""How prompts are laid out as tokens, where they are read, and what training asks for.

A new layout, here or in an experiment file, is one class with `tokens`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from wsrnn.checks import check_fields

TrainOn = Literal["any", "longest", "all"]


class PromptLayout(ABC):
    """From n + 1 points [N, n + 1, d] and labels [N, n + 1, 1] to T tokens, and back.

    The methods take numpy or jax.numpy as `xp`.
    """

    answers_in_tokens: ClassVar[bool] = False
    """Whether token t holds y_t: only for models that read before they write."""
    one_query: ClassVar[bool] = False
    """Whether a prompt is read at its end alone, and not after every prefix."""
    asks_sum: ClassVar[bool] = False
    """Whether the target is Y_N = Y_{N-1} + y_q, not y_q."""
    queries: ClassVar[slice] = slice(None)
    """The steps at which a prompt is read, one for each of `prefixes`."""
    train_on: TrainOn
    """What a training prompt is scored on."""

    def length(self, n: int) -> int:
        """T, for the most examples n."""
        return n + 1

    def prefixes(self, n: int) -> range:
        """The numbers of examples after which a prompt is read."""
        return range(n if self.one_query else 0, n + 1)

    @abstractmethod
    def tokens(self, x: Any, labels: Any, xp: Any = np) -> Any:
        """The tokens [N, T, d + 1]."""

    def targets(self, clean: Any, labels: Any, xp: Any) -> Any:
        """What is asked for at each token [N, T, 1]; `clean` are the labels without noise."""
        return clean

    def scored(self, asked: Any, xp: Any) -> Any:
        """At which tokens [N, T] the points that are asked for [N, n + 1] are predicted."""
        return asked

    def shown(self, tokens: Any) -> tuple[Any, Any]:
        """Points [N, n + 1, d] and labels [N, n + 1] from tokens, the last label 0 if masked."""
        return tokens[..., :-1], tokens[..., -1]


@dataclass(frozen=True)
class ReadBeforeWrite(PromptLayout):
    """Tokens (x_t, y_t); step t is scored on y_t from the t tokens before it and x_t."""

    train_on: TrainOn = "any"
    """What a training prompt is scored on: a random one of its prefixes, for which a model pays
    alone; the longest (then validation is, too); or all, as in Garg et al. (2022)."""

    answers_in_tokens = True

    def __post_init__(self):
        check_fields(self)

    def tokens(self, x, labels, xp=np):
        """Points and labels side by side."""
        return xp.concatenate([x, labels], -1)


@dataclass(frozen=True)
class Interleaved(PromptLayout):
    """Tokens (x_t, 0), (0, y_t), scored at every x."""

    train_on: TrainOn = "any"
    """What a training prompt is scored on: a random one of its prefixes, for which a model pays
    alone; the longest (then validation is, too); or all."""

    queries = slice(None, None, 2)

    def __post_init__(self):
        check_fields(self)

    def length(self, n):
        """Two tokens for each example, one for the query."""
        return 2 * n + 1

    def tokens(self, x, labels, xp=np):
        """Points and labels in turns."""
        N, T, _ = x.shape
        keys = xp.concatenate([x, xp.zeros_like(labels)], -1)
        values = xp.concatenate([xp.zeros_like(x), labels], -1)
        return xp.stack([keys, values], 2).reshape(N, 2 * T, -1)[:, :-1]

    def targets(self, clean, labels, xp):
        """Both tokens of an example have its target."""
        return xp.repeat(clean, 2, 1)[:, :-1]

    def scored(self, asked, xp):
        """Points alone."""
        N, T = asked.shape
        return xp.stack([asked, xp.zeros_like(asked)], 2).reshape(N, 2 * T)[:, :-1]

    def shown(self, tokens):
        """Every second token each."""
        return tokens[:, ::2, :-1], np.pad(tokens[:, 1::2, -1], ((0, 0), (0, 1)))


@dataclass(frozen=True)
class JointMasked(PromptLayout):
    """Tokens (x_t, y_t) of n examples and (x_q, 0), scored at that last one."""

    one_query = True
    queries = slice(-1, None)
    train_on = "longest"

    def tokens(self, x, labels, xp=np):
        """The last label is 0."""
        return xp.concatenate([x, xp.where(_query(x, xp), 0, labels)], -1)


@dataclass(frozen=True)
class TokenSums(JointMasked):
    """Joint masked tokens, summed over the prompt."""

    def tokens(self, x, labels, xp=np):
        """Sums of x and of y."""
        return xp.cumsum(super().tokens(x, labels, xp), 1)

    def shown(self, tokens):
        """Differences of the sums."""
        return _differences(tokens, of_x=1)


@dataclass(frozen=True)
class LegacySums(JointMasked):
    """Joint masked as in WARP's own code: x summed over its coordinates, y over the prompt.

    The last label is 0 and Y_N = Y_{N-1} + y_q is asked for, which Y_{N-1} alone answers with
    R^2 = 1 - 1 / N.
    """

    asks_sum = True

    def tokens(self, x, labels, xp=np):
        """Sums of x along its coordinates, of y along the examples."""
        sums = xp.cumsum(xp.where(_query(x, xp), 0, labels), 1)
        return xp.concatenate([xp.cumsum(x, 2), xp.where(_query(x, xp), 0, sums)], -1)

    def targets(self, clean, labels, xp):
        """The sum of the labels, with that of the query free of noise."""
        return xp.cumsum(xp.where(_query(clean, xp), clean, labels), 1)

    def shown(self, tokens):
        """Differences of the sums."""
        return _differences(tokens, of_x=2)


LAYOUTS: tuple[type[PromptLayout], ...] = (
    ReadBeforeWrite, JointMasked, Interleaved, TokenSums, LegacySums,
)  # fmt: skip


def _query(x: Any, xp: Any) -> Any:
    """Which points are the query [n + 1, 1]."""
    T = x.shape[1]
    return (xp.arange(T) == T - 1)[:, None]


def _differences(tokens: Any, of_x: int) -> tuple[Any, Any]:
    """Points, as differences along the axis `of_x`, and labels; that of the query 0."""
    x, y = tokens[..., :-1], tokens[..., -1]
    x, y = np.diff(x, axis=of_x, prepend=0), np.diff(y, axis=1, prepend=0)
    y[:, -1] = 0
    return x, y
