"""One sequence, every state, in any mode: for tests and for looking at a trajectory."""

from jaxtyping import Array, Float

from wsrnn.recurrence.methods import WholeScan
from wsrnn.recurrence.plan import Mode, plan
from wsrnn.recurrence.problem import InitialState, Recurrence
from wsrnn.recurrence.scan import linear_scan
from wsrnn.recurrence.transition import LinearMap
from wsrnn.recurrence.write import Write


def unroll(
    A: LinearMap,
    B: Write,
    u: Float[Array, "T D"],
    theta0: Float[Array, " P"],
    mode: Mode = "scan",
) -> Float[Array, "T P"]:
    """Return every theta_t = A theta_{t-1} + B u_t, with theta_0 = theta0 + B u_0.

    `scan` takes T steps in order; `conv` convolves the drive with A^t [B, theta0]; `parallel` joins
    neighbours in log2 T rounds. Same values, same gradients. Raises ValueError for an unknown mode
    and one that A cannot run.
    """
    recurrence = Recurrence(A, B, u[None], InitialState.shared(theta0, 1))
    how = plan(A, recurrence.sizes, mode)
    if isinstance(how.method, WholeScan) or how.mode == "scan":
        return linear_scan(A, B.apply(u).at[0].add(theta0))
    trajectories, v, h = how.method.trajectories(recurrence)
    return trajectories.join(trajectories.states(v, h), len(u))[0]
