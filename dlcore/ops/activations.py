"""Activation functions: pointwise expressions, and softmax over the last axis."""

from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.op import OPS, Op, as_float, check_axes, check_axis, to_tensor
from dlcore.ops.reduction import sum as sum_
from dlcore.ops.shaping import moveaxis, reshape, split


def _softmax(xp, x, log):
    z = x - xp.max(x, axis=-1, keepdims=True)
    if log:
        return z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))
    e = xp.exp(z)
    return e / xp.sum(e, axis=-1, keepdims=True)


def _softmax_grad(xp, g, y, log):
    if log:
        return g - xp.exp(y) * xp.sum(g, axis=-1, keepdims=True)
    return y * (g - xp.sum(g * y, axis=-1, keepdims=True))


def _softmax_grad_gradient(h, z, g, y, log):
    if log:  # z = g - exp(y) sum(g)
        e = pw.exp(y)
        return [h - sum_(h * e, -1, True), -h * e * sum_(g, -1, True)]
    hy, gy = sum_(h * y, -1, True), sum_(g * y, -1, True)
    return [y * (h - hy), h * (g - gy) - g * hy]


# Over the last axis; log: log_softmax.
Op(
    "softmax",
    lambda x, log: (x.shape, x.dtype),
    _softmax,
    lambda g, y, x, log: [OPS["softmax_grad"](g, y, log=log)],
    kernel=lambda node: ("softmax", [int(node.attrs["log"])], []),
)
Op(
    "softmax_grad",
    lambda g, y, log: (y.shape, y.dtype),
    _softmax_grad,
    _softmax_grad_gradient,
    kernel=lambda node: ("softmax_grad", [int(node.attrs["log"])], []),
)


def _along(name, x, axis, log):
    x = as_float(x)
    if x.ndim == 0:
        raise ValueError(f"{name}: expected at least one axis, got a scalar")
    if isinstance(axis, (tuple, list)) and axis:
        axes = check_axes(name, axis, x.ndim)
        last = tuple(range(x.ndim - len(axes), x.ndim))
        moved = moveaxis(x, axes, last)
        rows = reshape(moved, (*moved.shape[: last[0]], -1))
        return moveaxis(reshape(OPS["softmax"](rows, log=log), moved.shape), last, axes)
    axis = check_axis(name, axis, x.ndim)
    if axis == x.ndim - 1:
        return OPS["softmax"](x, log=log)
    return moveaxis(OPS["softmax"](moveaxis(x, axis, -1), log=log), -1, axis)


@traceable()
def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) over `axis` (int or tuple), without overflow."""
    return _along("softmax", x, axis, False)


@traceable()
def log_softmax(x, axis=-1):
    """log(softmax(x)) over `axis` (int or tuple), without overflow."""
    return _along("log_softmax", x, axis, True)


@traceable()
def relu6(x):
    """min(max(x, 0), 6)."""
    return pw.minimum(pw.relu(x), 6)


@traceable()
def leaky_relu(x, negative_slope=0.2):
    """x where x > 0, else negative_slope x (Maas et al. 2013)."""
    x = as_float(x)
    return pw.where(pw.greater(x, 0.0), x, negative_slope * x)


@traceable()
def elu(x, alpha=1.0):
    """x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2016)."""
    x = as_float(x)
    return _upper_or(x, lambda z: alpha * pw.expm1(z))


def _upper_or(x, f):
    """x where x >= 0, else f(x), which is computed of nothing above 0: there exp could overflow."""
    upper = pw.greater_equal(x, 0.0)
    return pw.where(upper, x, f(pw.where(upper, 0.0, x)))


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@traceable()
def selu(x):
    """scale * elu(x, alpha) with alpha 1.6733 and scale 1.0507 (Klambauer et al. 2017)."""
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


@traceable()
def celu(x, alpha=1.0):
    """max(x, 0) + min(0, alpha (exp(x / alpha) - 1)) (Barron 2017)."""
    x = as_float(x)
    return _upper_or(x, lambda z: alpha * pw.expm1(z * (1.0 / alpha)))


@traceable()
def gelu(x, approximate=True):
    """x Phi(x) (Hendrycks and Gimpel 2016); approximate: by the tanh formula, as Keras' ops."""
    x = as_float(x)
    return OPS["gelu_tanh" if approximate else "gelu"](x)


@traceable()
def silu(x):
    """x sigmoid(x) (Elfwing et al. 2018)."""
    return OPS["silu"](as_float(x))


swish = silu


@traceable()
def softplus(x):
    """log(1 + exp(x)), without overflow."""
    return OPS["softplus"](as_float(x))


@traceable()
def softsign(x):
    """x / (1 + |x|)."""
    x = as_float(x)
    return x / (1.0 + pw.absolute(x))


@traceable()
def mish(x):
    """x tanh(softplus(x)) (Misra 2019)."""
    x = as_float(x)
    return x * pw.tanh(softplus(x))


@traceable()
def log_sigmoid(x):
    """log(sigmoid(x)), without overflow."""
    return -softplus(-as_float(x))


@traceable()
def hard_sigmoid(x):
    """min(max(x / 6 + 1 / 2, 0), 1)."""
    return pw.clip(as_float(x) * (1 / 6) + 0.5, 0.0, 1.0)


@traceable()
def hard_silu(x):
    """x hard_sigmoid(x)."""
    x = as_float(x)
    return x * hard_sigmoid(x)


hard_swish = hard_silu


@traceable()
def hard_tanh(x):
    """min(max(x, -1), 1)."""
    return pw.clip(as_float(x), -1.0, 1.0)


@traceable()
def tanh_shrink(x):
    """x - tanh(x)."""
    x = as_float(x)
    return x - pw.tanh(x)


@traceable()
def soft_shrink(x, threshold=0.5):
    """x moved towards 0 by `threshold`."""
    x = as_float(x)
    return pw.relu(x - threshold) - pw.relu(-x - threshold)


@traceable()
def hard_shrink(x, threshold=0.5):
    """x where |x| > threshold, else 0."""
    x = as_float(x)
    return pw.where(pw.greater(pw.absolute(x), threshold), x, 0.0)


@traceable()
def threshold(x, threshold, default_value):
    """x where x > threshold, else default_value."""
    x = to_tensor(x)
    return pw.where(pw.greater(x, threshold), x, default_value)


@traceable()
def glu(x, axis=-1):
    """a sigmoid(b) for the halves a and b of x along `axis` (Dauphin et al. 2017)."""
    x = as_float(x)
    axis = check_axis("glu", axis, x.ndim)
    if x.shape[axis] % 2:
        raise ValueError(f"glu: expected an even size on axis {axis}, got shape {x.shape}")
    a, b = split(x, 2, axis)
    return a * pw.sigmoid(b)
