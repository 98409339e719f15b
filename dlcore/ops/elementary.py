"""More pointwise mathematics: inverse functions, the tails of erf, sums of exponentials.

A row of `_TABLE` is a whole op: its formula, its gradient, and its parts: how a program computes it
from the operations of csrc/opcodes.def, fused with its neighbours.
"""

import functools
import math

import numpy as np

from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.creation import zeros_like
from dlcore.ops.op import OPS, Op, as_float, broadcast_shapes, cast_to, promoted
from dlcore.ops.pointwise_table import sum_to
from dlcore.program import dtypes

_EIGHTH = math.tan(math.pi / 8)
_BIG = 2.0**30  # from here on 1 + x^2 is x^2 to 2^-60
_SQRT_PI = math.sqrt(math.pi)


@functools.cache
def _arctan_series():
    """Coefficients in z = t^2 of (arctan(t) / t - 1) / z for |t| <= tan(pi / 8): the polynomial
    through the Taylor series at Chebyshev's points, off by less than 2^-53."""

    def series(z):
        return sum((-1) ** k * z ** (k - 1) / (2 * k + 1) for k in range(40, 0, -1))

    line = np.polynomial.Chebyshev.interpolate(series, 12, (0, _EIGHTH**2))
    return line.convert(kind=np.polynomial.Polynomial).coef.tolist()


def _arctan_of_positive(a):
    """arctan(t), |t| <= tan(pi / 8), after pi / 4 + arctan((a - 1) / (a + 1)) or
    pi / 2 - arctan(1 / a)."""
    far, near = a > 1 / _EIGHTH, a > _EIGHTH
    t = pw.where(far, -1.0 / a, pw.where(near, (a - 1.0) / (a + 1.0), a))
    z = t * t
    p = 0.0
    for c in reversed(_arctan_series()):
        p = p * z + c
    base = pw.where(far, math.pi / 2, pw.where(near, math.pi / 4, zeros_like(a)))
    return base + (t + t * (z * p))


def _is_negative(x):
    """Also for -0."""
    return pw.where(pw.equal(x, 0.0), 1.0 / x, x) < 0.0


def _odd(f, x):
    """f of |x| with the sign of x, and x itself where it is 0."""
    a = f(pw.absolute(x))
    return pw.where(x < 0.0, -a, pw.where(pw.equal(x, 0.0), x, a))


def _arctan(x):
    return _odd(_arctan_of_positive, x)


def _arctan2(x1, x2):
    a, b = pw.absolute(x2), pw.absolute(x1)
    low, high = pw.minimum(a, b), pw.maximum(a, b)
    same = pw.equal(low, high)  # also 0 and infinity twice
    ratio = pw.where(same, pw.where(pw.equal(high, 0.0), low, 1.0), low / high)
    angle = _arctan_of_positive(ratio)
    angle = pw.where(b > a, math.pi / 2 - angle, angle)
    angle = pw.where(_is_negative(x2), math.pi - angle, angle)
    return pw.where(_is_negative(x1), -angle, angle)


def _arcsinh(x):
    def of_positive(a):
        t = pw.minimum(a, _BIG)
        small = pw.log1p(t + t * t / (1.0 + pw.sqrt(1.0 + t * t)))
        return pw.where(a > _BIG, pw.log(a) + math.log(2), small)

    return _odd(of_positive, x)


def _arccosh(x):
    t = pw.minimum(x, _BIG) - 1.0
    small = pw.log1p(t + pw.sqrt(t) * pw.sqrt(t + 2.0))  # two roots: NaN for all t < 0
    return pw.where(x > _BIG, pw.log(x) + math.log(2), small)


def _arctanh(x):
    return _odd(lambda a: 0.5 * pw.log1p(2.0 * a / (1.0 - a)), x)


def _cbrt(x):
    """One of Newton's steps behind exp(log(x) / 3)."""

    def of_positive(a):
        y = pw.exp(pw.log(a) * (1 / 3))
        y = y - (y - a / (y * y)) * (1 / 3)
        return pw.where(pw.logical_and(pw.isfinite(a), a > 0.0), y, a)

    return _odd(of_positive, x)


def _hypot(x1, x2):
    a, b = pw.absolute(x1), pw.absolute(x2)
    low, high = pw.minimum(a, b), pw.maximum(a, b)
    plain = pw.logical_and(high > 0.0, pw.isfinite(high))
    ratio = low / pw.where(plain, high, 1.0)
    return pw.where(plain, high * pw.sqrt(1.0 + ratio * ratio), a + b)


def _logaddexp(x1, x2):
    apart = pw.where(pw.equal(x1, x2), zeros_like(x1), -pw.absolute(x1 - x2))
    return pw.maximum(x1, x2) + pw.log1p(pw.exp(apart))


def _erfc(x):
    """2 gelu(t) / t at t = -sqrt(2) x: gelu keeps its relative accuracy in both tails. That t is
    rounded, by e, would count x^2-fold there, and is put right."""
    x = pw.maximum(pw.minimum(x, 28.0), -8.0)  # 0 and 2 beyond
    t = x * -math.sqrt(2)
    zero = pw.equal(t, 0.0)
    y = 2.0 * OPS["gelu"](t) / pw.where(zero, 1.0, t)
    y = y * (1.0 + pw.maximum(x, 0.0) * math.sqrt(2) * _product_error(x, t))
    return pw.where(zero, 1.0, y)


def _product_error(x, t):
    """-x sqrt(2) - t, where t is that product, rounded (Dekker 1971)."""
    bits = 12 if x.dtype == "float32" else 27

    def high_part(v):
        wide = v * (2.0**bits + 1.0)
        return wide - (wide - v)

    root = float(np.asarray(math.sqrt(2), x.dtype))
    high = float(high_part(np.asarray(root, x.dtype)))
    low = root - high
    rest = math.sqrt(2) - root - 9.667293313452913e-17  # sqrt(2) beyond its double
    x = -x
    x_high = high_part(x)
    x_low = x - x_high
    return ((x_high * high - t) + x_high * low + x_low * high) + (x_low * low + x * rest)


def _erfinv(y, m=None):
    """Two of Halley's steps towards erf(x) = y from a closed form (Winitzki 2008), with erfc where
    |y| > 1/2; `m` has the functions."""
    m = m or _Symbolic
    a = m.absolute(y)
    tail = 1.0 - a
    u = m.log(tail * (1.0 + a))
    v = 2 / (math.pi * 0.147) + 0.5 * u
    x = m.sqrt(m.maximum(m.sqrt(v * v - u / 0.147) - v, 0.0))
    x = m.where(a < 0.1, a * (0.5 * _SQRT_PI), x)  # where the difference cancels
    for _ in range(2):
        off = m.where(a > 0.5, tail - m.erfc(x), m.erf(x) - a)
        step = off * m.exp(x * x) * (0.5 * _SQRT_PI)
        x = x - step / (1.0 + x * step)
    x = m.where(m.equal(a, 1.0), math.inf, x)
    return m.where(y < 0.0, -x, m.where(m.equal(y, 0.0), y, x))


class _Symbolic:
    absolute, log, sqrt, exp = pw.absolute, pw.log, pw.sqrt, pw.exp
    maximum, where, erf, equal = pw.maximum, pw.where, pw.erf, pw.equal

    erfc = staticmethod(_erfc)


class _OfNumPy:
    absolute, log, sqrt, exp = np.absolute, np.log, np.sqrt, np.exp
    maximum, where, equal = np.maximum, np.where, np.equal
    erf, erfc = (np.vectorize(f, otypes=["float64"]) for f in (math.erf, math.erfc))


def _special(name, xp, x):
    """erfc or erfinv of CuPy; those of NumPy are made here, element by element."""
    if xp is not np:
        import cupyx.scipy.special

        return getattr(cupyx.scipy.special, name)(x)
    if not x.size:
        return x.copy()
    return _OfNumPy.erfc(x) if name == "erfc" else _erfinv(x.astype("float64"), _OfNumPy)


# name: (formula(xp, *arrays), gradient(g, y, *inputs), parts(*inputs), what it is)
_TABLE = {
    "arctan": (
        lambda xp, x: xp.arctan(x),
        lambda g, y, x: [g / (1.0 + x * x)],
        _arctan,
        "Inverse of the tangent, in -pi/2..pi/2.",
    ),
    "arctan2": (
        lambda xp, x1, x2: xp.arctan2(x1, x2),
        lambda g, y, x1, x2: [g * x2 / (x1 * x1 + x2 * x2), -g * x1 / (x1 * x1 + x2 * x2)],
        _arctan2,
        "Angle of the point (x2, x1), in -pi..pi.",
    ),
    "arcsin": (
        lambda xp, x: xp.arcsin(x),
        lambda g, y, x: [g * pw.rsqrt((1.0 - x) * (1.0 + x))],
        lambda x: _arctan(x / pw.sqrt((1.0 - x) * (1.0 + x))),
        "Inverse of the sine, in -pi/2..pi/2; NaN beyond -1..1.",
    ),
    "arccos": (
        lambda xp, x: xp.arccos(x),
        lambda g, y, x: [-g * pw.rsqrt((1.0 - x) * (1.0 + x))],
        lambda x: 2.0 * _arctan_of_positive(pw.sqrt((1.0 - x) / (1.0 + x))),
        "Inverse of the cosine, in 0..pi; NaN beyond -1..1.",
    ),
    "arcsinh": (
        lambda xp, x: xp.arcsinh(x),
        lambda g, y, x: [g * pw.rsqrt(1.0 + x * x)],
        _arcsinh,
        "Inverse of the hyperbolic sine.",
    ),
    "arccosh": (
        lambda xp, x: xp.arccosh(x),
        lambda g, y, x: [g * pw.rsqrt((x - 1.0) * (x + 1.0))],
        _arccosh,
        "Inverse of the hyperbolic cosine; NaN below 1.",
    ),
    "arctanh": (
        lambda xp, x: xp.arctanh(x),
        lambda g, y, x: [g / ((1.0 - x) * (1.0 + x))],
        _arctanh,
        "Inverse of the hyperbolic tangent; NaN beyond -1..1.",
    ),
    "cbrt": (
        lambda xp, x: xp.cbrt(x),
        lambda g, y, x: [g / (3.0 * y * y)],
        _cbrt,
        "Cube root.",
    ),
    "hypot": (
        lambda xp, x1, x2: xp.hypot(x1, x2),
        lambda g, y, x1, x2: [g * (x1 / y), g * (x2 / y)],
        _hypot,
        "sqrt(x1^2 + x2^2), without overflow.",
    ),
    "logaddexp": (
        lambda xp, x1, x2: xp.logaddexp(x1, x2),
        lambda g, y, x1, x2: [g * pw.sigmoid(x1 - x2), g * pw.sigmoid(x2 - x1)],
        _logaddexp,
        "log(exp(x1) + exp(x2)), without overflow.",
    ),
    "erfc": (
        lambda xp, x: _special("erfc", xp, x),
        lambda g, y, x: [g * (-2 / _SQRT_PI) * pw.exp(-(x * x))],
        _erfc,
        "1 - erf(x), accurate in its tail.",
    ),
    "erfinv": (
        lambda xp, x: _special("erfinv", xp, x),
        lambda g, y, x: [g * (0.5 * _SQRT_PI) * pw.exp(y * y)],
        _erfinv,
        "Inverse of the error function; NaN beyond -1..1.",
    ),
}


def _declare(name, formula, gradient, parts, doc):
    def shape(*xs):
        return broadcast_shapes(name, *(x.shape for x in xs)), xs[0].dtype

    def unbroadcast(g, y, *xs):
        return [sum_to(dx, x.shape) for dx, x in zip(gradient(g, y, *xs), xs, strict=True)]

    Op(name, shape, formula, unbroadcast, parts=parts)

    def one(x):
        return OPS[name](as_float(x))

    def two(x1, x2):
        a, b = promoted(x1, x2)
        dtype = dtypes.as_float(a.dtype)
        return OPS[name](cast_to(a, dtype), cast_to(b, dtype))

    n = formula.__code__.co_argcount - 1
    f = one if n == 1 else two
    f.__name__, f.__doc__ = name, doc
    return traceable(n)(f)


globals().update({name: _declare(name, *row) for name, row in _TABLE.items()})
