"""Formulas of physics for the root `Formula`: exact solutions, smooth in all of their parameters.

A formula maps numbers o, the outputs of an inner network, and z, the time, to y. One of your own is
a function of this form, see experiments/README.md.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsrnn.root.monomials import monomials

Number = Float[Array, ""]
MOST = 1e4  # of a forecast by a linear map that is not stable


def damped(
    stiffness: Number, damping: Number, x: Number, v: Number, t: Number
) -> tuple[Number, Number]:
    """x(t) and x'(t) of x'' = -stiffness x - damping x', from x and v at t = 0, t at least 0.

    With h = damping / 2 and q = (stiffness - h^2) t^2

        x(t)  = e^(-h t) (x C + (v + h x) t S)               C = cos sqrt q
        x'(t) = e^(-h t) (v C - (stiffness x + h v) t S)     S = sin sqrt q / sqrt q

    C and S are entire functions of q: hyperbolic below 0, and a series about 0 where the square
    root has no derivative. So one formula has finite values and gradients for the under-, over- and
    critically damped oscillator, for stiffness and damping of at least 0.
    """
    h = damping / 2
    C, S = waves((stiffness - h**2) * t**2, h * t)
    return x * C + (v + h * x) * t * S, v * C - (stiffness * x + h * v) * t * S


def waves(q: Number, decay: Number) -> tuple[Number, Number]:
    """e^-decay times cos sqrt q and sin sqrt q / sqrt q, for any q of at least -decay^2.

    Below -1 the exponents are added before they are taken: cosh would overflow.
    """
    root = jnp.sqrt(jnp.maximum(q, 1.0))
    real = jnp.sqrt(jnp.maximum(-q, 1.0))
    # decay - real would cancel where the damping is strong.
    slow = jnp.exp(-jnp.where(q < -1, decay**2 + q, 0) / (decay + real))
    fast = jnp.exp(-(decay + real))
    near = jnp.clip(q, -1, 1)
    fall = jnp.exp(-decay)
    C = jnp.select(
        [q > 1, q < -1], [fall * jnp.cos(root), (slow + fast) / 2], fall * _series(near, 0)
    )
    S = jnp.select(
        [q > 1, q < -1],
        [fall * jnp.sin(root) / root, (slow - fast) / (2 * real)],
        fall * _series(near, 1),
    )
    return C, S


def _series(q: Number, first: int) -> Number:
    """cos sqrt q (first 0) or sin sqrt q / sqrt q (first 1) for |q| <= 1, to 1e-17."""
    total = jnp.ones_like(q)
    for k in range(9, 0, -1):
        total = 1 - total * q / ((2 * k + first) * (2 * k + first - 1))
    return total


def mass_spring_damper(
    m: Number, k: Number, c: Number, x: Number, v: Number, t: Number
) -> tuple[Number, Number]:
    """x(t) and x'(t) of m x'' + c x' + k x = 0; see `damped`."""
    return damped(k / m, c / m, x, v, t)


def oscillation(
    zeta: Number, omega: Number, amplitude: Number, phase: Number, t: Number
) -> tuple[Number, Number]:
    """The same by damping ratio and natural frequency: x'' + 2 zeta omega x' + omega^2 x = 0.

    From x = amplitude cos phase and x' = -omega amplitude sin phase, which is no more special at
    critical damping, zeta = 1, than anywhere else.
    """
    x, v = amplitude * jnp.cos(phase), -omega * amplitude * jnp.sin(phase)
    return damped(omega**2, 2 * zeta * omega, x, v, t)


def sine(o: Float[Array, " 1"], z: Float[Array, " 1"]) -> Float[Array, " 1"]:
    """sin(2 pi z + o): the paper's root of SINE, by its phase."""
    return jnp.sin(2 * jnp.pi * z + o)


@dataclass(frozen=True)
class Oscillator:
    """Position and velocity of a damped oscillator, by four numbers o: (zeta, omega, x, v).

    zeta and omega are `zeta` and `omega` at o = 0 and grow with e^o, up to a factor of e^4, so that
    they are finite for any o; x and v are the state at time 0. Velocities are in units of `speed`.
    """

    zeta: float = 0.1
    """Damping ratio at o = 0."""
    omega: float = 20.0
    """Natural frequency at o = 0, for the time z."""
    speed: float = 1.0
    """The velocity that is 1 in the data."""

    def __call__(self, o: Float[Array, " 4"], z: Float[Array, " 1"]) -> Float[Array, " 2"]:
        """(x, x') at time z."""
        zeta, omega = jnp.array([self.zeta, self.omega]) * jnp.exp(4 * jnp.tanh(o[:2] / 4))
        x, v = damped(omega**2, 2 * zeta * omega, o[2], self.speed * o[3], z[0])
        return jnp.stack([x, v / self.speed])


@dataclass(frozen=True)
class CarriedOscillator:
    """The last sample (x, x'), carried on by the oscillator that `OneStep` has identified.

    trace and determinant of D give damping and stiffness, for the eigenvalues of I + D are
    e^((-h +- i w) / steps): with u = sin^2(w / steps)

        det(I + D) = e^(-2 h / steps)        u = (4 det D - (tr D)^2) / (4 det(I + D))

    in which nothing cancels, and w^2 = steps^2 arcsin^2 sqrt u is analytic in u, also below 0. w
    must stay below steps pi / 2, four samples in a period.
    """

    steps: int = 255
    """Steps between the times 0 and 1: the samples of a sequence but one."""
    speed: float = 1.0
    """The velocity that is 1 in the data."""

    def __call__(self, o: Float[Array, " 7"], z: Float[Array, " 1"]) -> Float[Array, " 2"]:
        """(x, x') at time z."""
        (a, b, c, d), (x, v), L = o[:4], o[4:6], o[6]
        trace, det = a + d, a * d - b * c
        grown = jnp.maximum(trace + det, -0.99)  # det(I + D) - 1, which no oscillator has at -1
        u = jnp.clip((4 * det - trace**2) / (4 * (1 + grown)), -10, 0.99)
        h = -self.steps * jnp.log1p(grown) / 2
        stiffness = jnp.maximum(h**2 + self.steps**2 * squared_angle(u), 0)
        t = jnp.maximum(z[0] - (L - 1) / self.steps, 0)
        x, v = damped(stiffness, jnp.maximum(2 * h, 0), x, self.speed * v, t)
        return jnp.stack([x, v / self.speed])


def squared_angle(u: Number) -> Number:
    """arcsin^2 sqrt u for u below 1: -arcsinh^2 sqrt -u below 0, and a series about 0."""
    near, series, term = jnp.clip(u, -0.1, 0.1), jnp.zeros_like(u), jnp.ones_like(u)
    for k in range(1, 13):  # the sum of (4 u)^k / (2 k^2 binomial(2 k, k))
        term = term * near * 2 * k / (2 * k - 1)
        series = series + term / (2 * k * k)
    above = jnp.arcsin(jnp.sqrt(jnp.clip(u, 0.1, 1))) ** 2
    below = jnp.arcsinh(jnp.sqrt(jnp.maximum(-u, 0.1))) ** 2
    return jnp.select([u > 0.1, u < -0.1], [above, -below], series)


@dataclass(frozen=True)
class CarriedLinear:
    """The last sample, carried on by the linear map (I + D)^k of `OneStep`: no physics.

    k is the number of whole steps from the last sample to the time z, at most 1,023; the power is
    taken by squaring. What grows stays within +-1e4, so that unstable maps are finite.
    """

    d: int = 2
    """Coordinates of a sample."""
    steps: int = 255
    """Steps between the times 0 and 1: the samples of a sequence but one."""

    def __call__(self, o: Float[Array, " K"], z: Float[Array, " 1"]) -> Float[Array, " d"]:
        """The sample at time z."""
        d = self.d
        power = jnp.eye(d, dtype=o.dtype) + o[: d * d].reshape(d, d)
        y, L = o[d * d : -1], o[-1]
        left = jnp.clip(jnp.round(jax.lax.stop_gradient(z[0] * self.steps - (L - 1))), 0, 1023)

        def bit(carry, _):
            y, power, left = carry
            y = jnp.where(left % 2 == 1, (power * y[None]).sum(1), y)
            power = (power[:, :, None] * power[None]).sum(1)
            return (jnp.clip(y, -MOST, MOST), jnp.clip(power, -MOST, MOST), left // 2), None

        bits = min(self.steps, 1023).bit_length()
        (y, _, _), _ = jax.lax.scan(bit, (y, power, left), length=bits)
        return y


@dataclass(frozen=True)
class CarriedPolynomial:
    """The last sample, carried on by s <- s + D m(s) of `OneStep`, step by step: no physics.

    As many steps as lie between the last sample and the time z. Samples stay within +-`most`, so
    that a map that is not stable is finite; its gradient may not be, and training skips that step.
    """

    d: int = 3
    """Coordinates of a sample."""
    steps: int = 255
    """Steps between the times 0 and 1: the samples of a sequence but one."""
    degree: int = 2
    """Of the monomials m, as in `OneStep`."""
    intercept: bool = False
    """Whether m has a constant, as in `OneStep`."""
    most: float = 5.0
    """What no coordinate exceeds."""

    def __call__(self, o: Float[Array, " K"], z: Float[Array, " 1"]) -> Float[Array, " d"]:
        """The sample at time z."""
        return self.at_all(o, z[:, None])[:, 0]

    def at_all(self, o: Float[Array, " K"], z: Float[Array, "1 N"]) -> Float[Array, "d N"]:
        """The samples at several times, from one trajectory."""
        D, last = o[: -self.d - 1].reshape(self.d, -1), o[-self.d - 1 : -1]

        def step(y, _):
            after = self._bounded(self.after(D, y))
            return after, after

        _, later = jax.lax.scan(step, last, length=self.steps)
        left = jnp.round(jax.lax.stop_gradient(z[0] * self.steps - (o[-1] - 1)))
        path = jnp.concatenate([last[None], later])
        return path[jnp.clip(left, 0, self.steps).astype(int)].T

    def after(self, D: Float[Array, "d K"], y: Float[Array, " d"]) -> Float[Array, " d"]:
        """The sample after y."""
        return y + self.field(D, y)

    def field(self, D: Float[Array, "d K"], y: Float[Array, " d"]) -> Float[Array, " d"]:
        """D m(y), for y as far as samples may be: powers of what lies beyond would overflow."""
        one = jnp.ones((), y.dtype) if self.intercept else None
        return (D * monomials(self._bounded(y), self.degree, one)[None]).sum(1)

    def _bounded(self, y: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.clip(y, -self.most, self.most)


@dataclass(frozen=True)
class CarriedField(CarriedPolynomial):
    """The last sample, carried on by s' = D m(s), the time in steps: Runge and Kutta's method.

    For the regression of `StepMoments(trapezoid=True)`, which has an error of the second order in
    the step; what is trained corrects it.
    """

    def after(self, D, y):
        """One step of order 4."""
        a = self.field(D, y)
        b = self.field(D, y + a / 2)
        c = self.field(D, y + b / 2)
        return y + (a + 2 * b + 2 * c + self.field(D, y + c)) / 6
