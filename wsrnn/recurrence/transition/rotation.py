"""A decay and an angle for each pair of weights."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from wsrnn.checks import check_fields
from wsrnn.recurrence.transition.base import Learned, LinearMap, check_radius, time_scales


@dataclass(frozen=True)
class Rotation(Learned):
    """Weights in pairs, each rotated and scaled: the real form of a complex diagonal.

    Weights i and i + P // 2 are the real and the imaginary part of one number, which a step
    multiplies by modulus_i e^(i angle_i). With an odd P the last weight stands alone and has a
    modulus only. P parameters, about 3 P operations a step.
    """

    start: Literal["orthogonal", "identity", "decay", "oscillate"] = "orthogonal"
    """orthogonal: random angles. identity: angles 0. decay: angles 0, time scales from 2 to 1,000
    steps. oscillate: these time scales, and random angles."""
    radius: float = 1.0
    """Spectral radius at the start."""

    squaring = "cheap"

    def __post_init__(self):
        check_fields(self)
        check_radius(self)

    def init(self, key, blocks):
        """{modulus [P - P // 2], angle [P // 2]}."""
        size = sum(blocks)
        pairs, rows = size // 2, size - size // 2
        angle = jnp.zeros(pairs)
        if self.start in ("orthogonal", "oscillate"):
            angle = jax.random.uniform(key, (pairs,), minval=-jnp.pi, maxval=jnp.pi)
        decay = self.start in ("decay", "oscillate")
        modulus = time_scales(rows, self.radius) if decay else jnp.full(rows, self.radius)
        return {"modulus": modulus, "angle": angle}

    def apply(self, A, theta):
        """Pair by pair."""
        pairs = len(A["angle"])
        real, imaginary, alone = jnp.split(theta, (pairs, 2 * pairs), -1)
        cos, sin = (
            jnp.broadcast_to(A["modulus"][:pairs] * f(A["angle"]), real.shape)
            for f in (jnp.cos, jnp.sin)
        )
        rotated = [real * cos - imaginary * sin, real * sin + imaginary * cos]
        return jnp.concatenate(
            [*rotated, alone * jnp.broadcast_to(A["modulus"][pairs:], alone.shape)], -1
        )

    def transpose(self, A):
        """The opposite angle."""
        return LinearMap(self, {"modulus": A["modulus"], "angle": -A["angle"]})

    def square(self, A):
        """Twice the angle, the square of the modulus."""
        return LinearMap(self, {"modulus": A["modulus"] ** 2, "angle": 2 * A["angle"]})

    def dense(self, A, size):
        """The matrix of `apply`."""
        return self.apply(A, jnp.eye(size, dtype=A["modulus"].dtype)).T

    def operations(self, A, size):
        """Four multiplications and two additions for each pair."""
        return 3 * size

    def spectral_radius(self, A, size):
        """The largest modulus."""
        return jnp.abs(A["modulus"]).max()

    def distance_to_identity(self, A, size):
        """Each pair adds 2 |modulus e^(i angle) - 1|^2 to the square."""
        pairs = len(A["angle"])
        rotated = A["modulus"][:pairs] * jnp.exp(1j * A["angle"]) - 1
        square = 2 * (jnp.abs(rotated) ** 2).sum() + ((A["modulus"][pairs:] - 1) ** 2).sum()
        return jnp.sqrt(square)

    def contracted(self, A, size):
        """With its moduli clipped."""
        return {"modulus": jnp.clip(A["modulus"], -1, 1), "angle": A["angle"]}
