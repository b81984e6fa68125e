"""In-context regression: a prompt of examples (x_i, y_i), a new function for each prompt."""

from dataclasses import dataclass, field

import numpy as np

from wsrnn.tasks import Batch, Synthetic, clock


@dataclass(frozen=True)
class LinearRegression(Synthetic):
    """y = w.x + noise, x and w standard normal (Garg et al. 2022), read before written.

    A prompt is T = examples + 1 tokens (x_t, y_t) [d + 1]. Step t is scored on y_t from the t
    tokens before it and x_t; the target is w.x_t without its noise. A training prompt is scored at
    one random step, so that the model pays for that step only; other splits at every step. Var(y) =
    d.
    """

    d: int = 5
    """Dimension of x."""
    examples: int = 20
    """The most examples that come before a query."""
    noise: float = 0.0
    """Variance of the noise on the labels in the prompt."""
    loss: str = field(default="mse", init=False)

    answers_in_tokens = True

    def __post_init__(self):
        if self.d < 1 or self.examples < 1 or not 0 <= self.noise < float("inf"):
            raise ValueError(
                f"linear regression needs d and examples of at least 1 and noise of at least 0, "
                f"got {self.d}, {self.examples} and {self.noise}"
            )

    @property
    def d_in(self):
        """A token is x and y."""
        return self.d + 1

    @property
    def d_out(self):
        """One label."""
        return 1

    @property
    def length(self):
        """Every step's x is a query, the last one's too."""
        return self.examples + 1

    def reads(self, split):
        """One random prefix in training, all of them elsewhere."""
        return "one" if split == "train" else "all"

    def sample(self, rng, split):
        """Draw one prompt."""
        x = rng.standard_normal((self.length, self.d), np.float32)
        w = rng.standard_normal(self.d, np.float32)
        clean = (x @ w)[:, None]
        labels = clean
        if self.noise:
            labels = clean + self.noise**0.5 * rng.standard_normal(clean.shape, np.float32)
        mask = np.ones(self.length, np.float32)
        if split == "train":
            mask = (np.arange(self.length) == rng.integers(self.length)).astype(np.float32)
        tokens = np.concatenate([x, labels], 1)
        return Batch(tokens, clock(self.length), clean, mask, {"w": w})
