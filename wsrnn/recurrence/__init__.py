"""The recurrence theta_t = A theta_{t-1} + B u_t and its exact executions.

Modes, equal in values and gradients: `scan`, step by step; `conv`, the kernel A^t [B, theta_0] once
for all sequences, then a causal convolution of a few at a time (or powers of A where one step is
read); `parallel`, logarithmic depth, for every form of A but `Dense`; `auto`, the least counted
cost.

From the bottom up: `transition` and `write` are A and B; `scan`, `kernel`, `convolution` and `last`
compute states; `costs` counts what that takes; `methods` are the executions made of them; `plan`
chooses one. `problem` is the value that all of them take. `delta` is the delta rule, and `split` a
dense A over several devices.

Sizes, in every file: N batch, T time, D inputs, O outputs, P state size (the weights of the root
network), R columns of the start, C channels of a drive. The state is always the *last* axis, except
where a name says time-minor: ``[P, T]`` keeps time contiguous for the transforms.
"""

from wsrnn.recurrence.convolution import Blocked, Spectral, Trajectories
from wsrnn.recurrence.costs import Sizes
from wsrnn.recurrence.delta import delta_rule
from wsrnn.recurrence.kernel import kernel_powers
from wsrnn.recurrence.last import state_at
from wsrnn.recurrence.methods import WholeScan
from wsrnn.recurrence.plan import MODES, Mode, Plan, plan, plans
from wsrnn.recurrence.problem import InitialState, Recurrence
from wsrnn.recurrence.scan import linear_scan
from wsrnn.recurrence.split import Rows
from wsrnn.recurrence.transition import (
    FORMS,
    PRECISION,
    BlockDiagonal,
    Dense,
    Diagonal,
    Identity,
    LinearMap,
    LowRank,
    Rotation,
    Scalar,
    Shift,
    Transition,
)
from wsrnn.recurrence.unroll import unroll
from wsrnn.recurrence.write import Injection, Projection, Write

__all__ = [
    "FORMS",
    "MODES",
    "PRECISION",
    "BlockDiagonal",
    "Blocked",
    "Dense",
    "Diagonal",
    "Identity",
    "InitialState",
    "Injection",
    "LinearMap",
    "LowRank",
    "Mode",
    "Plan",
    "Projection",
    "Recurrence",
    "Rotation",
    "Rows",
    "Scalar",
    "Shift",
    "Sizes",
    "Spectral",
    "Trajectories",
    "Transition",
    "WholeScan",
    "Write",
    "delta_rule",
    "kernel_powers",
    "linear_scan",
    "plan",
    "plans",
    "state_at",
    "unroll",
]
