"""A learner with nothing to learn: ridge regression as a WARP, to test the rest against."""

from flax import nnx

from wsrnn.models.lift import LiftConfig
from wsrnn.models.warp import TransitionConfig, Warp, WarpConfig


def least_squares_root(d_in: int, d_out: int, prior: float) -> Warp:
    """A WARP that is ridge regression with the penalty `prior`, by conjugate gradients."""
    config = WarpConfig(
        root_form="cg",
        root_steps=d_in - d_out,
        root_prior=prior,
        drive="value",
        layout="read_before_write",
        lift=LiftConfig("bilinear"),
        write="identity",
        transition=TransitionConfig("identity"),
        read_time=False,
        read_input=True,
        mode="conv",
    )
    return config.build(d_in, d_out, rngs=nnx.Rngs(0))
