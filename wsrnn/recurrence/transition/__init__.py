"""The forms of A, the matrix that multiplies the state at every step. One form, one file.

Parameters, for P weights of the root: `Dense` P^2 (the paper's), `Identity` 0, `Scalar` 1,
`Diagonal` P, `Rotation` P (a decay and an angle for each pair), `Shift` 0 (a delay line),
`BlockDiagonal` sum p^2 (a block for each layer of the root), `LowRank` 2 P r (I + U V^T, never
formed).

A new form here is one file and its name in ``FORMS``, which enrols it in every test of equality and
makes it a choice on the command line. `base` is the contract: forms know it, and not one another,
but for `dense`, whose matrices the others are made of.
"""

from wsrnn.recurrence.transition.base import PRECISION, LinearMap, Transition
from wsrnn.recurrence.transition.block_diagonal import BlockDiagonal
from wsrnn.recurrence.transition.dense import Dense
from wsrnn.recurrence.transition.diagonal import Diagonal
from wsrnn.recurrence.transition.identity import Identity
from wsrnn.recurrence.transition.low_rank import LowRank
from wsrnn.recurrence.transition.rotation import Rotation
from wsrnn.recurrence.transition.scalar import Scalar
from wsrnn.recurrence.transition.shift import Shift

FORMS: tuple[type[Transition], ...] = (
    Dense,
    Identity,
    Scalar,
    Diagonal,
    Rotation,
    Shift,
    BlockDiagonal,
    LowRank,
)

__all__ = [
    "FORMS",
    "PRECISION",
    "BlockDiagonal",
    "Dense",
    "Diagonal",
    "Identity",
    "LinearMap",
    "LowRank",
    "Rotation",
    "Scalar",
    "Shift",
    "Transition",
]
