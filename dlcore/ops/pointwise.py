"""Pointwise arithmetic on arrays and tensors: the functions. Formulas and gradients are in
`pointwise_table`.
"""

import math

from dlcore.ops import pointwise_table  # noqa: F401, which registers the ops
from dlcore.ops.calling import traceable
from dlcore.ops.op import OPS, as_float, cast_to, promoted, to_tensor
from dlcore.program import dtypes
from dlcore.program.graph import scalar_value


def _unary(name, doc, as_floats=True):
    def f(x):
        x = as_float(x) if as_floats else to_tensor(x)
        return OPS[name](x)

    f.__name__, f.__doc__ = name, doc
    return traceable()(f)


def _binary(name, doc, as_floats=False):
    def f(x1, x2):
        a, b = promoted(x1, x2)
        if as_floats:
            dtype = dtypes.as_float(a.dtype)
            a, b = cast_to(a, dtype), cast_to(b, dtype)
        return _fold(name, a, b)

    f.__name__, f.__doc__ = name, doc
    return traceable(2)(f)


def _fold(name, a, b):
    """Drop x + 0, x - 0, x * 1 and x / 1, which differentiation and weak scalars produce."""
    neutral = {"add": 0, "subtract": 0, "multiply": 1, "divide": 1}.get(name)
    if neutral is not None:
        if b.shape == () and scalar_value(b) == neutral:
            return a
        if name in ("add", "multiply") and a.shape == () and scalar_value(a) == neutral:
            return b
    return OPS[name](a, b)


add = _binary("add", "x1 + x2, broadcast.")
subtract = _binary("subtract", "x1 - x2, broadcast.")
multiply = _binary("multiply", "x1 * x2, broadcast.")
divide = _binary("divide", "x1 / x2, broadcast; integers give floats.", as_floats=True)
true_divide = divide
floor_divide = _binary("floor_divide", "floor(x1 / x2), broadcast.")
mod = _binary("mod", "x1 - floor(x1 / x2) * x2: the remainder with the sign of x2.")
maximum = _binary("maximum", "The larger of x1 and x2; NaN passes on.")
minimum = _binary("minimum", "The smaller of x1 and x2; NaN passes on.")
less = _binary("less", "x1 < x2, as bool.")
less_equal = _binary("less_equal", "x1 <= x2, as bool.")
greater = _binary("greater", "x1 > x2, as bool.")
greater_equal = _binary("greater_equal", "x1 >= x2, as bool.")
equal = _binary("equal", "x1 == x2, as bool.")
not_equal = _binary("not_equal", "x1 != x2, as bool.")
logical_and = _binary("logical_and", "Both are non-zero, as bool.")
logical_or = _binary("logical_or", "At least one is non-zero, as bool.")
negative = _unary("negative", "-x.", as_floats=False)
absolute = _unary("abs", "|x|.", as_floats=False)
abs = absolute
sign = _unary("sign", "-1, 0 or 1 by the sign of x.", as_floats=False)
square = _unary("square", "x * x.", as_floats=False)
sqrt = _unary("sqrt", "Square root; NaN below 0.")
rsqrt = _unary("rsqrt", "1 / sqrt(x).")
reciprocal = _unary("reciprocal", "1 / x.")
exp = _unary("exp", "e ** x.")
expm1 = _unary("expm1", "e ** x - 1, accurate near 0.")
log = _unary("log", "Natural logarithm; NaN below 0.")
log1p = _unary("log1p", "log(1 + x), accurate near 0.")
tanh = _unary("tanh", "Hyperbolic tangent.")
sigmoid = _unary("sigmoid", "1 / (1 + exp(-x)).")
erf = _unary("erf", "Error function.")
sin = _unary("sin", "Sine; x in radians.")
cos = _unary("cos", "Cosine; x in radians.")
floor = _unary("floor", "Largest integer <= x.")
ceil = _unary("ceil", "Smallest integer >= x.")


@traceable()
def trunc(x):
    """x without its fraction."""
    x = to_tensor(x)
    return OPS["trunc"](x) if dtypes.is_float(x.dtype) else x


relu = _unary("relu", "max(x, 0); NaN passes on.", as_floats=False)
logical_not = _unary("logical_not", "x is zero, as bool.", as_floats=False)
isnan = _unary("isnan", "x is NaN, as bool.")
isfinite = _unary("isfinite", "x is neither NaN nor infinite, as bool.")


@traceable()
def isinf(x):
    """x is +Inf or -Inf, as bool."""
    return equal(absolute(as_float(x)), math.inf)


@traceable()
def round(x, decimals=0):
    """x rounded to `decimals` digits, halves to even."""
    x = to_tensor(x)
    if not dtypes.is_float(x.dtype):
        return x if decimals >= 0 else cast_to(round(cast_to(x, "float64"), decimals), x.dtype)
    if not decimals:
        return OPS["round"](x)
    scale = 10.0**decimals
    return OPS["round"](x * scale) / scale


@traceable(2)
def power(x1, x2):
    """x1 ** x2, broadcast; small whole exponents become products."""
    exponent = x2 if isinstance(x2, (int, float)) else None
    a, b = promoted(x1, x2)
    if exponent == 2:
        return OPS["square"](a)
    if exponent == 1:
        return a
    if exponent == 0.5 and dtypes.is_float(a.dtype):
        return OPS["sqrt"](a)
    return OPS["power"](a, b)


@traceable()
def tan(x):
    """Tangent; x in radians."""
    return sin(x) / cos(x)


@traceable()
def sinh(x):
    """Hyperbolic sine."""
    x = as_float(x)
    return 0.5 * (expm1(x) - expm1(-x))


@traceable()
def cosh(x):
    """Hyperbolic cosine."""
    e = exp(absolute(x))
    return 0.5 * (e + 1.0 / e)


@traceable()
def log2(x):
    """Logarithm of base 2."""
    return log(x) * (1 / math.log(2))


@traceable()
def log10(x):
    """Logarithm of base 10."""
    return log(x) * (1 / math.log(10))


@traceable(3)
def where(condition, x1=None, x2=None):
    """x1 where `condition` is non-zero, else x2; all broadcast."""
    if x1 is None or x2 is None:
        raise ValueError("where: expected condition, x1 and x2, got fewer; give both values")
    return OPS["where"](to_tensor(condition), *promoted(x1, x2))


@traceable()
def clip(x, x_min, x_max):
    """x limited to x_min..x_max."""
    return minimum(maximum(x, x_min), x_max)


@traceable()
def cast(x, dtype):
    """x as `dtype`; floats lose their fraction when they become integers."""
    return cast_to(to_tensor(x), dtypes.standardize(dtype, "cast", halves=True))


@traceable()
def stop_gradient(variable):
    """`variable`, through which no gradient flows."""
    return OPS["stop_gradient"](to_tensor(variable))


@traceable(8)
def adam_update(w, g, m, v, alpha, one_minus_beta_1, one_minus_beta_2, epsilon):
    """One step of Adam (Kingma and Ba 2015) with the corrected rate alpha: (w', m', v').

    m' = m + (g - m)(1 - beta_1), v' = v + (g g - v)(1 - beta_2), w' = w - alpha m' / (sqrt(v') +
    epsilon).
    """
    w = to_tensor(w)
    rest = (g, m, v, alpha, one_minus_beta_1, one_minus_beta_2, epsilon)
    return OPS["adam_update"](w, *(cast_to(to_tensor(x, w.dtype), w.dtype) for x in rest))


@traceable(5)
def momentum_update(w, g, m, learning_rate, momentum):
    """One step of SGD with momentum: (w + m', m'), m' = momentum m - learning_rate g."""
    w = to_tensor(w)
    rest = (g, m, learning_rate, momentum)
    return OPS["momentum_update"](w, *(cast_to(to_tensor(x, w.dtype), w.dtype) for x in rest))
