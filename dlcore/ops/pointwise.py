"""Pointwise arithmetic: y[i] = f(x[i], ...), broadcast by NumPy's rules.

One row of a table is a whole op: its formula and its gradient. The name is that of the operation in
csrc/opcodes.def, so the native backends run any chain of these as one expression.
"""

import math

import numpy as np

from dlcore.ops.op import (
    OPS,
    Op,
    as_float,
    broadcast_shapes,
    cast_to,
    promoted,
    to_tensor,
    traceable,
)
from dlcore.program import dtypes
from dlcore.program.graph import scalar_value

_TRUTH = {
    "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and",
    "logical_or", "logical_not", "isnan", "isfinite",
}  # fmt: skip


def _pointwise(name, formula, gradient=None, outputs=1):
    """Register a pointwise op whose inputs have one dtype (but for `where` and truth values)."""

    def shape(*xs):
        s = broadcast_shapes(name, *(x.shape for x in xs))
        spec = (s, "bool" if name in _TRUTH else xs[-1].dtype)
        return spec if outputs == 1 else [spec] * outputs

    def unbroadcast(g, y, *xs):
        return [
            None if dx is None else _sum_to(dx, x.shape)
            for dx, x in zip(gradient(g, y, *xs), xs, strict=True)
        ]

    return Op(name, shape, formula, unbroadcast if gradient else None, kind="pointwise")


def _sum_to(x, shape):
    """Sum `x` over the axes along which `shape` was broadcast."""
    if x.shape == tuple(shape):
        return x
    extra = len(x.shape) - len(shape)
    if extra < 0 or 0 < math.prod(x.shape) < math.prod(shape):
        return OPS["broadcast_to"](x, shape=tuple(shape))
    axes = [i for i in range(len(x.shape)) if i < extra or (shape[i - extra] == 1 != x.shape[i])]
    summed = OPS["reduce"](x, kind="sum", axes=tuple(axes)) if axes else x
    return OPS["reshape"](summed, shape=tuple(shape))


def _p(name, *xs):
    return OPS[name](*promoted(*xs))


def _erf(xp, x):
    """erf; for float64 by the C library's, element by element (an oracle need not be fast)."""
    if xp is np:
        return np.vectorize(math.erf, otypes=[x.dtype])(x) if x.size else x.copy()
    from cupyx.scipy.special import erf

    return erf(x)


def _sigmoid(xp, x):
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _silu_slope(xp, x):
    s = _sigmoid(xp, x)
    return s * (1 + x * (1 - s))


def _silu_curve(x):
    """Second derivative of silu."""
    s = _p("sigmoid", x)
    return s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s))


def _adam(xp, w, g, m, v, alpha, c1, c2, eps):
    m = m + (g - m) * c1
    v = v + (g * g - v) * c2
    return w - alpha * m / (xp.sqrt(v) + eps), m, v


def _momentum(xp, w, g, m, rate, momentum):
    m = momentum * m - rate * g
    return w + m, m


_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


def _gelu_grad(xp, g, x):
    cdf = 0.5 * (1 + _erf(xp, x * x.dtype.type(_SQRT_HALF)))
    return g * (cdf + x * xp.exp(-0.5 * x * x) * x.dtype.type(_INV_SQRT_2PI))


_GELU_LINEAR, _GELU_CUBIC = math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi)


def _gelu_tanh(xp, x):
    return x * _sigmoid(xp, x * (_GELU_LINEAR + _GELU_CUBIC * x * x))


def _gelu_tanh_grad(xp, g, x):
    z = x * x
    s = _sigmoid(xp, x * (_GELU_LINEAR + _GELU_CUBIC * z))
    return g * (s + s * (1 - s) * x * (_GELU_LINEAR + 3 * _GELU_CUBIC * z))


def _gelu_tanh_curve(x):
    """Second derivative of gelu_tanh."""
    z = x * x
    s = _p("sigmoid", x * (_GELU_LINEAR + _GELU_CUBIC * z))
    slope = _GELU_LINEAR + 3.0 * _GELU_CUBIC * z
    bend = 6.0 * _GELU_CUBIC * x + slope * slope * (1.0 - 2.0 * s)
    return s * (1.0 - s) * (2.0 * slope + x * bend)


def _select(condition, x):
    return _p("where", condition, x, 0.0)


# name: (formula(xp, *arrays), gradient(g, y, *inputs) -> one tensor or None per input)
_TABLE = {
    "identity": (lambda xp, x: x + 0, lambda g, y, x: [g]),
    "add": (lambda xp, a, b: a + b, lambda g, y, a, b: [g, g]),
    "subtract": (lambda xp, a, b: a - b, lambda g, y, a, b: [g, -g]),
    "multiply": (lambda xp, a, b: a * b, lambda g, y, a, b: [g * b, g * a]),
    "divide": (lambda xp, a, b: a / b, lambda g, y, a, b: [g / b, -(g * y) / b]),
    "maximum": (
        lambda xp, a, b: xp.maximum(a, b),
        lambda g, y, a, b: _to_winner(g, a, y),
    ),
    "minimum": (
        lambda xp, a, b: xp.minimum(a, b),
        lambda g, y, a, b: _to_winner(g, a, y),
    ),
    "power": (
        lambda xp, a, b: xp.power(a, b),
        lambda g, y, a, b: [
            g * b * _p("power", a, b - 1.0),
            None if scalar_value(b) is not None else g * _where_positive(a, y),
        ],
    ),
    "floor_divide": (lambda xp, a, b: xp.floor_divide(a, b), None),
    "mod": (
        lambda xp, a, b: xp.mod(a, b),
        lambda g, y, a, b: [g, -g * _p("floor_divide", a, b)],
    ),
    "negative": (lambda xp, x: -x, lambda g, y, x: [-g]),
    "abs": (lambda xp, x: xp.abs(x), lambda g, y, x: [g * _p("sign", x)]),
    "sign": (lambda xp, x: xp.sign(x), None),
    "sqrt": (lambda xp, x: xp.sqrt(x), lambda g, y, x: [0.5 * g / y]),
    "rsqrt": (lambda xp, x: 1 / xp.sqrt(x), lambda g, y, x: [-0.5 * g * y / x]),
    "square": (lambda xp, x: x * x, lambda g, y, x: [2.0 * g * x]),
    "reciprocal": (lambda xp, x: 1 / x, lambda g, y, x: [-g * y * y]),
    "exp": (lambda xp, x: xp.exp(x), lambda g, y, x: [g * y]),
    "expm1": (lambda xp, x: xp.expm1(x), lambda g, y, x: [g * (y + 1.0)]),
    "log": (lambda xp, x: xp.log(x), lambda g, y, x: [g / x]),
    "log1p": (lambda xp, x: xp.log1p(x), lambda g, y, x: [g / (x + 1.0)]),
    "tanh": (lambda xp, x: xp.tanh(x), lambda g, y, x: [OPS["tanh_grad"](g, y)]),
    "sigmoid": (_sigmoid, lambda g, y, x: [OPS["sigmoid_grad"](g, y)]),
    "erf": (
        _erf,
        lambda g, y, x: [g * (2 / math.sqrt(math.pi)) * _p("exp", -(x * x))],
    ),
    "sin": (lambda xp, x: xp.sin(x), lambda g, y, x: [g * _p("cos", x)]),
    "cos": (lambda xp, x: xp.cos(x), lambda g, y, x: [-g * _p("sin", x)]),
    "floor": (lambda xp, x: xp.floor(x), None),
    "ceil": (lambda xp, x: xp.ceil(x), None),
    "round": (lambda xp, x: xp.rint(x), None),
    "trunc": (lambda xp, x: xp.trunc(x), None),
    "round_bf16": (lambda xp, x: dtypes.round_to_half(xp, x, "bfloat16"), None),
    "round_f16": (lambda xp, x: dtypes.round_to_half(xp, x, "float16"), None),
    "relu": (
        lambda xp, x: xp.where(x < 0, x.dtype.type(0), x),
        lambda g, y, x: [OPS["relu_grad"](g, y)],
    ),
    "less": (lambda xp, a, b: a < b, None),
    "less_equal": (lambda xp, a, b: a <= b, None),
    "greater": (lambda xp, a, b: a > b, None),
    "greater_equal": (lambda xp, a, b: a >= b, None),
    "equal": (lambda xp, a, b: a == b, None),
    "not_equal": (lambda xp, a, b: a != b, None),
    "logical_and": (lambda xp, a, b: xp.logical_and(a, b), None),
    "logical_or": (lambda xp, a, b: xp.logical_or(a, b), None),
    "logical_not": (lambda xp, x: xp.logical_not(x), None),
    "isnan": (lambda xp, x: xp.isnan(x), None),
    "isfinite": (lambda xp, x: xp.isfinite(x), None),
    "where": (
        lambda xp, c, a, b: xp.where(c, a, b),
        lambda g, y, c, a, b: [None, OPS["where"](c, g, g * 0.0), OPS["where"](c, g * 0.0, g)],
    ),
    "softplus": (
        lambda xp, x: xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))),
        lambda g, y, x: [g * _p("sigmoid", x)],
    ),
    "silu": (
        lambda xp, x: x * _sigmoid(xp, x),
        lambda g, y, x: [OPS["silu_grad"](g, x)],
    ),
    "silu_grad": (
        lambda xp, g, x: g * _silu_slope(xp, x),
        lambda h, y, g, x: [OPS["silu_grad"](h, x), h * g * _silu_curve(x)],
    ),
    "gelu": (
        lambda xp, x: 0.5 * x * (1 + _erf(xp, x * x.dtype.type(_SQRT_HALF))),
        lambda g, y, x: [OPS["gelu_grad"](g, x)],
    ),
    "gelu_grad": (
        _gelu_grad,
        lambda h, y, g, x: [
            OPS["gelu_grad"](h, x),
            h * g * (2.0 - x * x) * _p("exp", -0.5 * x * x) * _INV_SQRT_2PI,
        ],
    ),
    "gelu_tanh": (
        _gelu_tanh,
        lambda g, y, x: [OPS["gelu_tanh_grad"](g, x)],
    ),
    "gelu_tanh_grad": (
        _gelu_tanh_grad,
        lambda h, y, g, x: [OPS["gelu_tanh_grad"](h, x), h * g * _gelu_tanh_curve(x)],
    ),
    "sigmoid_grad": (
        lambda xp, g, y: g * y * (1 - y),
        lambda h, z, g, y: [OPS["sigmoid_grad"](h, y), h * g * (1.0 - 2.0 * y)],
    ),
    "tanh_grad": (
        lambda xp, g, y: g * (1 - y * y),
        lambda h, z, g, y: [OPS["tanh_grad"](h, y), -2.0 * h * g * y],
    ),
    "relu_grad": (
        lambda xp, g, y: xp.where(y > 0, g, g.dtype.type(0)),
        lambda h, z, g, y: [OPS["relu_grad"](h, y), None],
    ),
}


def _to_winner(g, a, y):
    """Gradient of maximum and minimum: to the operand that won, of equals to the first, so that a
    number at a bound of `clip` counts as inside."""
    wins = _p("equal", a, y)
    return [_select(wins, g), _p("where", wins, 0.0, g)]


def _where_positive(a, y):
    """y log(a), and 0 where a is 0: the derivative of a ** b by b."""
    positive = _p("greater", a, 0.0)
    return _select(positive, y * _p("log", OPS["where"](positive, *promoted(a, 1.0))))


for _name, (_formula, _gradient) in _TABLE.items():
    _pointwise(_name, _formula, _gradient)
_pointwise("adam_update", _adam, outputs=3)
_pointwise("momentum_update", _momentum, outputs=2)


def _times_one(rewrite):
    """x * 1 is x: what the gradient of a sum meets need not be copied."""

    def rewritten(a, b):
        shape = broadcast_shapes("multiply", a.shape, b.shape)
        for x, y in ((a, b), (b, a)):
            if x.shape == shape and scalar_value(y) == 1:
                return x
        return rewrite(a, b)

    return rewritten


OPS["multiply"].rewrite = _times_one(OPS["multiply"].rewrite)


def _where_shape(condition, a, b):
    s = broadcast_shapes("where", condition.shape, a.shape, b.shape)
    return s, a.dtype


OPS["where"].shape = _where_shape

Op(
    "cast",
    lambda x, dtype: (x.shape, dtype),
    lambda xp, x, dtype: x.astype(dtypes.array_type(dtype)),
    lambda g, y, x, dtype: [cast_to(g, x.dtype) if dtypes.is_float(x.dtype) else None],
    kind="pointwise",
)
Op(
    "stop_gradient",
    lambda x: (x.shape, x.dtype),
    lambda xp, x: x,
    kind="view",
)


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
