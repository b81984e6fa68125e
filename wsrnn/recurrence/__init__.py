"""The recurrence theta_t = A theta_{t-1} + B u_t and its exact executions.

Without a B the channels are added to the first weights, one to one.

Sizes, here and in every file of the package: N batch, T time, D inputs, O outputs, P state size
(the weights of the root network), R columns of the start, C channels of a drive. The state is
always the *last* axis, except where a name says time-minor: ``[P, T]`` keeps time contiguous for
the transforms.
"""

from wsrnn.recurrence.convolution import Blocked, Spectral, Trajectories
from wsrnn.recurrence.delta import delta_rule
from wsrnn.recurrence.kernel import krylov
from wsrnn.recurrence.last import state_at
from wsrnn.recurrence.plan import MODES, Mode, Plan, plan, plans
from wsrnn.recurrence.scan import driven, recur
from wsrnn.recurrence.split import Rows
from wsrnn.recurrence.transition import FORMS, Dense, Diagonal, Identity, Transition
from wsrnn.recurrence.unroll import unroll

__all__ = [
    "FORMS",
    "MODES",
    "Blocked",
    "Dense",
    "Diagonal",
    "Identity",
    "Mode",
    "Plan",
    "Rows",
    "Spectral",
    "Trajectories",
    "Transition",
    "delta_rule",
    "driven",
    "krylov",
    "plan",
    "plans",
    "recur",
    "state_at",
    "unroll",
]
