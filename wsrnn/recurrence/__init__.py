"""The recurrence theta_t = A theta_{t-1} + B u_t and its exact executions.

Sizes, here and in every file of the package: N batch, T time, D inputs, O outputs, P state size
(the weights of the root network), C channels of a convolution. The state is always the *last* axis,
except where a name says time-minor: ``[P, T]`` keeps time contiguous for the transforms.
"""

from wsrnn.recurrence.convolution import convolution, state_at
from wsrnn.recurrence.kernel import krylov
from wsrnn.recurrence.transition import FORMS, Dense, Diagonal, Identity, Transition
from wsrnn.recurrence.unroll import MODES, check_mode, unroll

__all__ = [
    "FORMS",
    "MODES",
    "Dense",
    "Diagonal",
    "Identity",
    "Transition",
    "check_mode",
    "convolution",
    "krylov",
    "state_at",
    "unroll",
]
