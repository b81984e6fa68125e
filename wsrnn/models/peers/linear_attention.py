"""Linear attention: the one layer of Zhang et al. (2025, arXiv 2501.16265), for prompts.

A prompt of n examples and a query is the matrix X [D + O, n + 1] with columns (x_i, y_i) and
(x_q, 0). The prediction is what the layer

    X + sum_h W^V_h (X X^T / n) W^KQ_h X,    W^KQ_h one matrix, or the product W^K_h^T W^Q_h,

writes into the last O rows of the query's column. There is no softmax and no normaliser but 1 / n
(their code leaves that out too, which is another learning rate and start). With the best weights it
is one step of gradient descent from w = 0, error (d + 1 + s2) / (n + d + 1 + s2) for white normal x
and noise of variance s2.

Only the last O rows of W^V and the first D columns of W^KQ reach a prediction; the others are left
out. Two blocks start at 0, as in their code, and no gradient but sampling noise moves them: what
W^V takes from x, and what W^KQ takes from y.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Num

from wsrnn.decode import Steps
from wsrnn.models import Model, ModelConfig, check_sequences, check_steps, pick


@dataclass(frozen=True)
class LinearAttentionConfig(ModelConfig):
    """One layer of linear attention; step t asks for the values of token t, given those before.

    The values at the end of token t are not read at step t: it makes no difference whether they
    are masked (layout JointMasked, read at the last step) or not (ReadBeforeWrite).
    """

    reads_before_writing = True

    heads: int = 8
    """H, the attention heads."""
    rank: int | None = None
    """Rows R of each head's W^K and W^Q; None merges the two into one full matrix W^KQ."""
    start: float = 1e-2
    """Standard deviation of the weights at first: small ones show the plateaus of training."""

    def __post_init__(self):
        if self.heads < 1 or (self.rank is not None and self.rank < 1) or not self.start > 0:
            raise ValueError(
                "heads and rank must be at least 1 (rank None merges key and query) and start "
                f"above 0, got {self.heads}, {self.rank} and {self.start}"
            )

    def build(self, d_in: int, d_out: int, *, rngs: nnx.Rngs) -> "LinearAttention":
        """A fresh model; raises ValueError for tokens without a query beside the values."""
        if d_in <= d_out:
            raise ValueError(
                f"linear attention needs tokens of a query and its d_out values: d_in {d_in} "
                f"leaves no query beside d_out {d_out}"
            )
        return LinearAttention(self, d_in, d_out, rngs=rngs)


class LinearAttention(Model):
    """The layer; `LinearAttentionConfig` says the rest."""

    def __init__(self, config: LinearAttentionConfig, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.config, self.d_in, self.d_out = config, d_in, d_out
        H, R, D = config.heads, config.rank, d_in - d_out

        def drawn(*shape):
            return config.start * rngs.params.normal(shape)

        self.value = nnx.Param(drawn(H, d_out, d_in).at[..., :D].set(0))
        if R is None:
            self.merged = nnx.Param(drawn(H, d_in, D).at[:, D:].set(0))
        else:
            self.key = nnx.Param(drawn(H, R, d_in).at[..., D:].set(0))
            self.query = nnx.Param(drawn(H, R, D))

    def key_query(self) -> Float[Array, "H d_in D"]:
        """W^KQ of each head."""
        if self.config.rank is None:
            return self.merged[...]
        return jnp.einsum("hre,hrd->hed", self.key[...], self.query[...])

    def __call__(
        self,
        inputs: Num[ArrayLike, "N T d_in"],
        times: Num[ArrayLike, "N T"],
        *,
        steps: Steps = "all",
        mode: str | None = None,
    ) -> Float[Array, "N T O"] | Float[Array, "N O"]:
        """Return the prediction at every step, or at `steps`; the times play no part."""
        tokens, _ = check_sequences(self, inputs, times)
        N, T, _ = tokens.shape
        steps = check_steps(steps, N, T)
        if mode is not None:
            raise ValueError(f"mode {mode!r} is unknown: linear attention has one execution only")
        if isinstance(steps, str) and steps == "all":
            n, products = jnp.arange(T)[None], self._before(tokens)
        else:
            n = jnp.full(N, T - 1) if isinstance(steps, str) else jnp.asarray(steps)
            shown = jnp.where((jnp.arange(T)[None] < n[:, None])[..., None], tokens, 0)
            products = jnp.einsum("nte,ntf->nef", shown, shown)
            tokens = pick(tokens, n)
        query = tokens.at[..., -self.d_out :].set(0)
        products = products + query[..., :, None] * query[..., None, :]
        products = products / jnp.maximum(n, 1).astype(products.dtype)[..., None, None]
        asked = jnp.einsum("hed,...d->...he", self.key_query(), query[..., : -self.d_out])
        found = jnp.einsum("...ef,...hf->...he", products, asked)
        return jnp.einsum("hoe,...he->...o", self.value[...], found)

    @staticmethod
    def _before(tokens: Float[Array, "N T E"]) -> Float[Array, "N T E E"]:
        """The sums of products over the tokens before each step."""
        products = tokens[..., :, None] * tokens[..., None, :]
        return jnp.cumsum(products, 1) - products

    def states(self, inputs, times):
        """The sums over the examples before each step of all products within a token."""
        before = self._before(check_sequences(self, inputs, times)[0])
        return before.reshape(*before.shape[:2], -1)

    def operations(self, length: int) -> int:
        """Floating-point operations per token of a forward pass over T = `length`."""
        H, E, O = self.config.heads, self.d_in, self.d_out  # noqa: E741
        return 2 * (E**2 + H * (E * (E - O) + E**2 + O * E))

    def sizes(self, length):
        """Operations per token, and the floats that a sequence leaves behind."""
        return {"operations per token": self.operations(length), "state floats": self.d_in**2}
