"""More arithmetic of elements, put together from pointwise ops; bits of integers; activations.

Ops on bits have no kernel: a program that holds one runs by formulas.
"""

import math

import numpy as np

from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.creation import ones_like, zeros_like
from dlcore.ops.op import (
    OPS,
    Op,
    as_float,
    broadcast_shapes,
    cast_to,
    check_axis,
    promoted,
    to_tensor,
)
from dlcore.ops.reduction import sum as sum_
from dlcore.ops.shaping import expand_dims, moveaxis
from dlcore.program import dtypes


def _floats(x1, x2):
    a, b = promoted(x1, x2)
    dtype = dtypes.as_float(a.dtype)
    return cast_to(a, dtype), cast_to(b, dtype)


@traceable()
def exp2(x):
    """2 ** x."""
    return pw.power(2.0, as_float(x))


@traceable(2)
def logaddexp2(x1, x2):
    """log2(2 ** x1 + 2 ** x2), without overflow."""
    a, b = _floats(x1, x2)
    gap = a - b
    infinite = pw.where(pw.equal(a, b), 0.0, -math.inf)
    apart = pw.where(pw.isfinite(gap), pw.minimum(-gap, gap), infinite)
    return pw.maximum(a, b) + pw.log1p(exp2(apart)) * (1 / math.log(2))


@traceable()
def fabs(x):
    """|x| as floats."""
    return pw.absolute(as_float(x))


@traceable()
def deg2rad(x):
    """x degrees in radians."""
    return as_float(x) * (math.pi / 180)


@traceable()
def rad2deg(x):
    """x radians in degrees."""
    return as_float(x) * (180 / math.pi)


@traceable(2)
def heaviside(x1, x2):
    """0 where x1 < 0, 1 where x1 > 0, x2 where it is 0; NaN passes on."""
    a, b = _floats(x1, x2)
    return pw.where(pw.equal(a, 0.0), b, pw.where(pw.isnan(a), a, pw.cast(a > 0.0, a.dtype)))


@traceable(2)
def fmax(x1, x2):
    """The larger of x1 and x2; a number where the other is NaN."""
    a, b = promoted(x1, x2)
    return pw.where(pw.isnan(a), b, pw.where(pw.isnan(b), a, pw.maximum(a, b)))


@traceable(2)
def fmin(x1, x2):
    """The smaller of x1 and x2; a number where the other is NaN."""
    a, b = promoted(x1, x2)
    return pw.where(pw.isnan(a), b, pw.where(pw.isnan(b), a, pw.minimum(a, b)))


@traceable(2)
def fmod(x1, x2):
    """The remainder of x1 / x2 with the sign of x1."""
    a, b = promoted(x1, x2)
    rest = pw.mod(pw.absolute(a), pw.absolute(b))
    return pw.where(a < 0, -rest, rest)


@traceable(2)
def divide_no_nan(x1, x2):
    """x1 / x2, and 0 where x2 is 0."""
    a, b = _floats(x1, x2)
    zero = pw.equal(b, 0.0)
    return pw.where(zero, 0.0, a / pw.where(zero, 1.0, b))


@traceable(2)
def ldexp(x1, x2):
    """x1 * 2 ** x2 of integers x2."""
    a = as_float(x1)
    n, most = cast_to(to_tensor(x2), a.dtype), 1022.0 if a.dtype == "float64" else 126.0
    for _ in range(3):  # each power is finite, or 0 * inf could come out
        step = pw.clip(n, -most, most)
        a, n = a * exp2(step), n - step
    return a


@traceable()
def signbit(x):
    """x has the sign of -1, also -0, as bool."""
    x = as_float(x)
    return pw.where(pw.equal(x, 0.0), 1.0 / x, x) < 0.0


@traceable()
def isposinf(x):
    """x is +Inf, as bool."""
    return pw.equal(as_float(x), math.inf)


@traceable()
def isneginf(x):
    """x is -Inf, as bool."""
    return pw.equal(as_float(x), -math.inf)


@traceable()
def isreal(x):
    """True everywhere: there are no complex numbers."""
    return ones_like(to_tensor(x), "bool")


@traceable()
def real(x):
    """x: there are no complex numbers."""
    return to_tensor(x)


@traceable()
def imag(x):
    """Zeros: there are no complex numbers."""
    return zeros_like(to_tensor(x))


conj = conjugate = real


@traceable()
def angle(x):
    """0, and pi for negative x."""
    x = as_float(x)
    return pw.where(pw.isnan(x), x, pw.cast(pw.less(x, 0.0), x.dtype) * math.pi)


def _by_formula(name, formula):
    """An op without a kernel and a gradient."""

    def shape(*xs):
        return broadcast_shapes(name, *(x.shape for x in xs)), xs[0].dtype

    return Op(name, shape, formula)


_by_formula("nextafter", lambda xp, a, b: xp.nextafter(a, b))
_by_formula("i0", lambda xp, x: xp.i0(x).astype(x.dtype))


@traceable(2)
def nextafter(x1, x2):
    """The float next to x1 on the way to x2; without a gradient."""
    return OPS["nextafter"](*_floats(x1, x2))


@traceable()
def i0(x):
    """Modified Bessel function of the first kind, of order 0; without a gradient."""
    return OPS["i0"](as_float(x))


@traceable()
def sinc(x):
    """sin(pi x) / (pi x), and 1 at 0."""
    x = as_float(x)
    zero = pw.equal(x, 0.0)
    t = pw.where(zero, 1.0, x) * math.pi
    return pw.where(zero, 1.0, pw.sin(t) / t)


@traceable(2)
def logical_xor(x1, x2):
    """Exactly one is non-zero, as bool."""
    return pw.not_equal(pw.logical_not(to_tensor(x1)), pw.logical_not(to_tensor(x2)))


@traceable()
def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    """x with numbers for NaN and infinities; by default the largest of the type."""
    x = to_tensor(x)
    if not dtypes.is_float(x.dtype):
        return x
    most = float(np.finfo(dtypes.array_type(x.dtype)).max)
    high, low = most if posinf is None else posinf, -most if neginf is None else neginf
    x = pw.where(pw.isnan(x), nan, x)
    x = pw.where(pw.equal(x, math.inf), high, x)
    return pw.where(pw.equal(x, -math.inf), low, x)


@traceable()
def saturate_cast(x, dtype):
    """x as `dtype`, numbers beyond its range as its ends."""
    x, dtype = to_tensor(x), dtypes.standardize(dtype, "saturate_cast")
    if dtype == "bool" or dtypes.is_float(dtype):
        return pw.cast(x, dtype)
    ends = np.iinfo(dtype)
    low, high = float(ends.min), float(ends.max)
    if not dtypes.is_float(x.dtype):
        within = np.iinfo(x.dtype) if x.dtype != "bool" else ends
        low, high = max(ends.min, within.min), min(ends.max, within.max)
        return pw.cast(pw.clip(x, int(low), int(high)), dtype)
    wide = dtypes.array_type(x.dtype)
    below = np.nextafter(np.asarray(high + 1, wide), np.asarray(0, wide))  # what x's type can hold
    y = pw.cast(pw.clip(x, low, float(min(below, high))), dtype)
    return pw.where(x >= high, ends.max, y)


@traceable(-1)
def _select(xs, n):
    *choices, default = promoted(*xs[n:])
    y = default
    for condition, x in zip(reversed(xs[:n]), reversed(choices), strict=True):
        y = OPS["where"](to_tensor(condition), *promoted(x, y))
    return y


def select(condlist, choicelist, default=0):
    """Elements of the first choice whose condition is non-zero, else of `default`."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"select: expected as many conditions as choices, got {len(condlist)} and "
            f"{len(choicelist)}"
        )
    return _select([*condlist, *choicelist, default], len(condlist))


# Activations


@traceable()
def squareplus(x, b=4):
    """(x + sqrt(x^2 + b)) / 2 (Barron 2021)."""
    x = as_float(x)
    return 0.5 * (x + pw.sqrt(pw.square(x) + float(b)))


@traceable()
def sparse_plus(x):
    """0 below -1, (x + 1)^2 / 4 up to 1, x above."""
    x = as_float(x)
    return pw.where(x > 1.0, x, 0.25 * pw.square(pw.maximum(x, -1.0) + 1.0))


@traceable()
def sparse_sigmoid(x):
    """(x + 1) / 2 limited to 0..1."""
    return pw.clip(0.5 * (as_float(x) + 1.0), 0.0, 1.0)


@traceable()
def sparsemax(x, axis=-1):
    """The nearest point of the simplex (Martins and Astudillo 2016): max(x - t, 0), t such that it
    sums to 1.

    x_i is above t where 1 + sum_j (x_i - x_j) > 0 over all x_j > x_i, so no sorting is needed.
    """
    x = as_float(x)
    axis = check_axis("sparsemax", axis, x.ndim)
    x = moveaxis(x, axis, -1)
    excess = pw.maximum(expand_dims(x, -2) - expand_dims(x, -1), 0.0)
    inside = pw.stop_gradient(pw.cast(sum_(excess, -1) < 1.0, x.dtype))
    t = (sum_(inside * x, -1, True) - 1.0) / sum_(inside, -1, True)
    return moveaxis(pw.relu(x - t), -1, axis)


# Bits

_BITS = {
    "bitwise_and": (lambda xp, x, y: xp.bitwise_and(x, y), "Bits that are 1 in x and in y."),
    "bitwise_or": (lambda xp, x, y: xp.bitwise_or(x, y), "Bits that are 1 in x or in y."),
    "bitwise_xor": (lambda xp, x, y: xp.bitwise_xor(x, y), "Bits that differ in x and y."),
    "bitwise_left_shift": (lambda xp, x, y: xp.left_shift(x, y), "x with its bits moved up by y."),
    "bitwise_right_shift": (
        lambda xp, x, y: xp.right_shift(x, y),
        "x with its bits moved down by y, copies of its sign coming in.",
    ),
    "bitwise_not": (lambda xp, x: xp.bitwise_not(x), "x with each bit changed."),
    "gcd": (lambda xp, x, y: xp.gcd(x, y), "Greatest common divisor of integers."),
    "lcm": (lambda xp, x, y: xp.lcm(x, y), "Least common multiple of integers."),
}


def _of_integers(name, formula, doc):
    def shape(*xs):
        return broadcast_shapes(name, *(x.shape for x in xs)), xs[0].dtype

    Op(name, shape, formula)

    def run(*xs):
        xs = promoted(*xs)
        if dtypes.is_float(xs[0].dtype):
            raise TypeError(f"{name}: expected integers, got {xs[0].dtype}")
        return OPS[name](*xs)

    def one(x):
        return run(x)

    def two(x, y):
        return run(x, y)

    def pair(x1, x2):
        return run(x1, x2)

    f = one if name == "bitwise_not" else pair if name in ("gcd", "lcm") else two
    f.__name__, f.__doc__ = name, doc
    return traceable(f.__code__.co_argcount)(f)


globals().update({name: _of_integers(name, *row) for name, row in _BITS.items()})
bitwise_invert = bitwise_not  # noqa: F821
left_shift, right_shift = bitwise_left_shift, bitwise_right_shift  # noqa: F821
