"""A baseline without training: ridge regression as a WARP with built-in conjugate gradients."""

from flax import nnx

from wsrnn.models.warp import Bilinear, Warp, summing
from wsrnn.root import ConjugateGradients


def least_squares_root(d_in: int, d_out: int, prior: float) -> Warp:
    """A WARP that is ridge regression with the penalty `prior`, by conjugate gradients."""
    config = summing(ConjugateGradients(steps=d_in - d_out, prior=prior), Bilinear())
    return config.build(d_in, d_out, rngs=nnx.Rngs(0))
