"""Associative recall: pairs of keys and values, then queries that are keys seen before."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from wsrnn.checks import check_fields
from wsrnn.tasks import Batch, clock
from wsrnn.tasks.drawn import Drawn, Raw, choose


@dataclass(frozen=True)
class VectorRecall(Drawn):
    """Keys and values uniform on spheres of radius sqrt(d); a query is a stored key (Park et al.).

    The probe of how much a state can hold: with linear attention the error is (n - 1) / (n + d - 1)
    after n pairs, with the pseudo-inverse 1 - d / n, by looking up 0.
    """

    d: int = 20
    """Dimension of the keys."""
    d_value: int = 20
    """Dimension of the values."""
    pairs: int = 64
    """Pairs to remember."""
    queries: int = 1
    """Queries after them, each for any pair."""
    noise: float = 0.0
    """Variance on each coordinate of a query."""
    masked: bool = True
    """Show queries as tokens (query, 0); otherwise as (query, v), for models that read before they
    write. Pairs are tokens (k, v)."""
    loss = "mse"

    def __post_init__(self):
        check_fields(self)
        sizes = (self.d, self.d_value, self.pairs, self.queries)
        if min(sizes) < 1 or not 0 <= self.noise < float("inf"):
            raise ValueError(
                "VectorRecall needs d, d_value, pairs and queries of at least 1 and noise of at "
                f"least 0, got {', '.join(map(str, sizes))} and {self.noise}"
            )

    @property
    def answers_in_tokens(self):
        """Whether the token of a query holds its value."""
        return not self.masked

    @property
    def d_in(self):
        """A key and a value."""
        return self.d + self.d_value

    @property
    def d_out(self):
        """A value."""
        return self.d_value

    @property
    def length(self):
        """One token for a pair or a query."""
        return self.pairs + self.queries

    def steps(self, split):
        """The queries."""
        return "last" if self.queries == 1 else "all"

    def draws(self, split):
        """Keys, values, which of them are asked for, and the noise on the queries."""
        draws = {
            "keys": Raw("normal", (self.pairs, self.d)),
            "values": Raw("normal", (self.pairs, self.d_value)),
            "asked": Raw("below", (self.queries,), self.pairs),
        }
        if self.noise:
            draws["noise"] = Raw("normal", (self.queries, self.d))
        return draws

    def build(self, raw, split, xp=np):
        """Lay pairs and queries out as tokens."""

        def sphere(v):
            scale = np.float32(v.shape[-1] ** 0.5)
            return v * scale / xp.sqrt((v**2).sum(-1, keepdims=True))

        keys, values, asked = sphere(raw["keys"]), sphere(raw["values"]), raw["asked"][..., None]
        query, answer = (xp.take_along_axis(a, asked, 1) for a in (keys, values))
        if self.noise:
            query = query + np.float32(self.noise**0.5) * raw["noise"]
        shown = xp.zeros_like(answer) if self.masked else answer
        x, y = xp.concatenate([keys, query], 1), xp.concatenate([values, shown], 1)
        shape = x.shape[:2]
        times = xp.broadcast_to(xp.asarray(clock(self.length)), shape)
        mask = xp.broadcast_to(xp.arange(self.length) >= self.pairs, shape).astype(np.float32)
        targets = xp.concatenate([values, answer], 1)
        return Batch(xp.concatenate([x, y], -1), times, targets, mask, {"asked": raw["asked"]})


@dataclass(frozen=True)
class Mqar(Drawn):
    """Multi-query associative recall in a vocabulary (Arora et al. 2023, "Zoology").

    Tokens k_1 v_1 k_2 v_2 .., then every key once more, at places whose distance from the pairs
    follows p(gap) proportional to gap^(a - 1), among random tokens. A key that comes again is
    scored on its value. Keys are distinct and from the lower half of the vocabulary, values are
    distinct and from the upper one. Models see each token as a fixed random code of signs.
    """

    vocabulary: int = 8192
    """Tokens, half of them keys."""
    length: int = 64
    """Tokens of a sequence."""
    pairs: int = 4
    """Pairs, each asked for once."""
    power: float = 0.01
    """a: gaps are drawn with odds gap^(a - 1)."""
    channels: int = 64
    """Signs in the code of a token."""
    code_seed: int = 0
    """Which codes."""
    loss = "cross_entropy"

    def __post_init__(self):
        if self.pairs < 1 or 4 * self.pairs > self.length:
            raise ValueError(
                "pairs must be at least 1 and take at most a quarter of the length "
                f"{self.length}, got {self.pairs}"
            )
        if self.vocabulary < 2 * self.pairs or self.vocabulary % 2:
            raise ValueError(
                f"vocabulary must be even and hold 2 x pairs = {2 * self.pairs} tokens, got "
                f"{self.vocabulary}"
            )
        if not self.power > 0:
            raise ValueError(f"power must be above 0, got {self.power}")
        if self.channels < 1 or len(np.unique(self.codes, axis=0)) < self.vocabulary:
            raise ValueError(
                f"{self.channels} channels give two of the {self.vocabulary} tokens the same code: "
                "raise channels"
            )

    @property
    def d_in(self):
        """The code of a token."""
        return self.channels

    @property
    def d_out(self):
        """Any token may be the answer."""
        return self.vocabulary

    @property
    def codes(self) -> np.ndarray:
        """The codes of all tokens [vocabulary, channels]."""
        return _codes(self.vocabulary, self.channels, self.code_seed)

    def steps(self, split):
        """Every query."""
        return "all"

    def draws(self, split):
        """Orders of keys, values and gaps, and the tokens that are no queries."""
        half = self.vocabulary // 2
        return {
            "keys": Raw("uniform", (half,)),
            "values": Raw("uniform", (half,)),
            "gaps": Raw("uniform", (self.length // 2 - self.pairs,)),
            "others": Raw("below", (self.length,), self.vocabulary),
        }

    def build(self, raw, split, xp=np):
        """Place keys, values and queries, and encode them."""
        n, T, half = self.pairs, self.length, self.vocabulary // 2
        even = np.zeros(half, np.float32)
        keys, values = choose(even, raw["keys"], n, xp), half + choose(even, raw["values"], n, xp)
        gap = np.arange(1, T // 2 - n + 1)
        gaps = choose(((self.power - 1) * np.log(gap)).astype(np.float32), raw["gaps"], n, xp)
        pairs = xp.stack([keys, values], 2).reshape(-1, 2 * n)
        # asked[i, j, t]: whether step t asks for pair j
        asked = (2 * n + 2 * gaps)[..., None] == xp.arange(T)
        mask = asked.any(1)
        queries, answers = ((asked * a[..., None]).sum(1) for a in (keys, values))
        tokens = xp.where(mask, queries, raw["others"])
        tokens = xp.concatenate([pairs, tokens[:, 2 * n :]], 1)
        return Batch(
            xp.asarray(self.codes)[tokens],
            xp.broadcast_to(xp.asarray(clock(T)), tokens.shape),
            answers.astype(np.int32),
            mask.astype(np.float32),
            {"tokens": tokens},
        )


@lru_cache(maxsize=4)
def _codes(vocabulary: int, channels: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, vocabulary, channels])
    return rng.choice(np.array([-1, 1], np.float32), (vocabulary, channels))
