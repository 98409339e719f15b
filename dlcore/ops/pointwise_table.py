"""Pointwise arithmetic: y[i] = f(x[i], ...), broadcast by NumPy's rules.

One row of a table is a whole op: its formula and its gradient. The name is that of the operation in
csrc/opcodes.def, so the native backends run any chain of these as one expression.
"""

import math

import numpy as np

from dlcore.ops.op import OPS, Op, broadcast_shapes, cast_to, promoted
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
            None if dx is None else sum_to(dx, x.shape)
            for dx, x in zip(gradient(g, y, *xs), xs, strict=True)
        ]

    return Op(name, shape, formula, unbroadcast if gradient else None, kind="pointwise")


def sum_to(x, shape):
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
