"""Reductions over axes: sum, mean, max, min, prod, var, std, argmax, norm, logsumexp."""

import builtins
import functools
import math

import numpy as np

from dlcore import config
from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.creation import full
from dlcore.ops.op import OPS, Op, as_float, cast_to, check_axes, check_axis, concrete, to_tensor
from dlcore.ops.shaping import ravel, reshape
from dlcore.program import dtypes

_KINDS = {"sum": 0, "max": 1, "min": 2, "prod": 3}


def _reduced(shape, axes, keepdims=True):
    if keepdims:
        return tuple(1 if i in axes else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i not in axes)


def _reduce(xp, x, kind, axes):
    kinds = {"sum": xp.sum, "max": xp.max, "min": xp.min, "prod": xp.prod}
    return kinds[kind](x, axis=axes, keepdims=True).astype(x.dtype)


def _reduce_gradient(g, y, x, kind, axes):
    if kind == "sum":
        return [OPS["broadcast_to"](g, shape=x.shape)]
    if kind == "prod":
        return [g * _of_others(x, lambda z, kind: OPS["reduce"](z, kind=kind, axes=axes))]
    wins = pw.cast(pw.equal(x, y), x.dtype)
    return [wins * (g / OPS["reduce"](wins, kind="sum", axes=axes))]


def _of_others(x, reduced):
    """For each factor of a product that of the others, also where some are 0; ``reduced(x, kind)``
    is the "sum" or "prod" that belongs to each element."""
    zero = pw.equal(x, 0.0)
    factors = pw.where(zero, 1.0, x)
    zeros = pw.cast(zero, x.dtype)
    return pw.where(reduced(zeros, "sum") > zeros, 0.0, reduced(factors, "prod") / factors)


def _reduce_shape(x, kind, axes):
    if kind in ("max", "min") and builtins.any(x.shape[a] == 0 for a in axes):
        raise ValueError(f"{kind}: expected at least one element to reduce, got shape {x.shape}")
    return _reduced(x.shape, axes), x.dtype


def _fold(inputs, numbers, attrs):
    n = math.prod(inputs[0].shape[a] for a in attrs["axes"])
    kind, x = attrs["kind"], numbers[0]
    return x * n if kind == "sum" else x**n if kind == "prod" else x


# Keeps reduced axes with size 1; the public functions reshape.
Op(
    "reduce",
    _reduce_shape,
    _reduce,
    _reduce_gradient,
    kernel=lambda node: ("reduce", [_KINDS[node.attrs["kind"]]], []),
    fold=_fold,
)


def _arg_reduce_shape(x, axis, smallest):
    if x.shape[axis] == 0:
        raise ValueError(f"argmax: expected at least one element, got shape {x.shape}")
    return _reduced(x.shape, (axis,)), "int32"


Op(
    "arg_reduce",
    _arg_reduce_shape,
    lambda xp, x, axis, smallest: xp.expand_dims(
        (xp.argmin if smallest else xp.argmax)(x, axis), axis
    ).astype("int32"),
    kernel=lambda node: ("arg_reduce", [int(node.attrs["smallest"])], []),
)


def _finish(x, y, axes, keepdims):
    return y if keepdims else reshape(y, _reduced(x.shape, axes, False))


def _run(kind, x, axis, keepdims):
    axes = check_axes(kind, axis, x.ndim)
    y = OPS["reduce"](x, kind=kind, axes=axes) if axes else x
    return _finish(x, y, axes, keepdims)


@traceable()
def sum(x, axis=None, keepdims=False):
    """Sum over `axis` (None: all); bools and small integers are summed as int32."""
    x = to_tensor(x)
    x = cast_to(x, "int32") if x.dtype in ("bool", "uint8") else x
    return _run("sum", x, axis, keepdims)


@traceable()
def prod(x, axis=None, keepdims=False, dtype=None):
    """Product over `axis` (None: all)."""
    x = to_tensor(x)
    x = cast_to(x, "int32") if x.dtype in ("bool", "uint8") else x
    return _run("prod", x if dtype is None else pw.cast(x, dtype), axis, keepdims)


@traceable()
def max(x, axis=None, keepdims=False, initial=None):
    """Largest element over `axis` (None: all), and `initial`; NaN passes on."""
    return _extreme("max", pw.maximum, x, axis, keepdims, initial)


@traceable()
def min(x, axis=None, keepdims=False, initial=None):
    """Smallest element over `axis` (None: all), and `initial`; NaN passes on."""
    return _extreme("min", pw.minimum, x, axis, keepdims, initial)


def _extreme(kind, combine, x, axis, keepdims, initial):
    x = to_tensor(x)
    if initial is None:
        return _run(kind, x, axis, keepdims)
    axes = check_axes(kind, axis, x.ndim)
    if not builtins.all(x.shape[a] for a in axes):
        return full(_reduced(x.shape, axes, keepdims), initial, x.dtype)
    return combine(_run(kind, x, axis, keepdims), initial)


amax, amin = max, min


def _in_float32(f):
    """`f(x, ...)` of halves with float32 in between."""

    @functools.wraps(f)
    def wrapped(x, *args, **kwargs):
        x = as_float(x)
        if x.dtype not in dtypes.HALVES:
            return f(x, *args, **kwargs)
        return cast_to(f(cast_to(x, "float32"), *args, **kwargs), x.dtype)

    return wrapped


@traceable()
@_in_float32
def mean(x, axis=None, keepdims=False):
    """Mean over `axis` (None: all); NaN of nothing."""
    axes = check_axes("mean", axis, x.ndim)
    n = math.prod(x.shape[a] for a in axes)
    return sum(x, axes, keepdims) * (1.0 / n if n else math.nan)


@traceable()
@_in_float32
def var(x, axis=None, keepdims=False):
    """Variance over `axis`: mean of squared distances from the mean."""
    return mean(pw.square(x - mean(x, axis, True)), axis, keepdims)


@traceable()
@_in_float32
def std(x, axis=None, keepdims=False):
    """Standard deviation over `axis`."""
    return pw.sqrt(var(x, axis, keepdims))


@traceable()
def any(x, axis=None, keepdims=False):
    """Whether any element over `axis` is non-zero; not of nothing."""
    x = pw.not_equal(to_tensor(x), 0)
    return pw.cast(max(x, axis, keepdims, None if x.size else False), "bool")


@traceable()
def all(x, axis=None, keepdims=False):
    """Whether all elements over `axis` are non-zero; also of nothing."""
    x = pw.not_equal(to_tensor(x), 0)
    return pw.cast(min(x, axis, keepdims, None if x.size else True), "bool")


def _arg(name, x, axis, keepdims):
    x = to_tensor(x)
    if axis is None:
        y = OPS["arg_reduce"](ravel(x), axis=0, smallest=name == "argmin")
        return reshape(y, (1,) * x.ndim if keepdims else ())
    axis = check_axis(name, axis, x.ndim)
    y = OPS["arg_reduce"](x, axis=axis, smallest=name == "argmin")
    return _finish(x, y, (axis,), keepdims)


@traceable()
def argmax(x, axis=None, keepdims=False):
    """Index (int32) of the first largest element along `axis` (None: of the flat tensor)."""
    return _arg("argmax", x, axis, keepdims)


@traceable()
def argmin(x, axis=None, keepdims=False):
    """Index (int32) of the first smallest element along `axis` (None: of the flat tensor)."""
    return _arg("argmin", x, axis, keepdims)


@traceable()
@_in_float32
def logsumexp(x, axis=None, keepdims=False):
    """log(sum(exp(x))) over `axis`, without overflow; -inf of nothing."""
    axes = check_axes("logsumexp", axis, x.ndim)
    top = pw.stop_gradient(max(x, axes, True, None if x.size else -math.inf))
    top = pw.where(pw.isfinite(top), top, 0.0)
    return _finish(x, pw.log(sum(pw.exp(x - top), axes, True)) + top, axes, keepdims)


def norm(x, ord=None, axis=None, keepdims=False):
    """Norm over `axis` (None: all).

    Of vectors, over one axis: (sum |x|^ord)^(1 / ord), with the limits for inf, -inf and 0; of
    matrices, over two axes: "fro", or 1, -1, inf, -inf for the largest or smallest sum of columns
    or rows, or of concrete arrays 2, -2 and "nuc" by singular values. Without `ord` the root of the
    sum of squares.
    """
    ndim = len(x.shape) if hasattr(x, "shape") else np.ndim(x)
    axes = (
        tuple(range(ndim)) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    )
    if len(axes) == 2 and ord in (2, -2, "nuc"):
        xp, x = concrete("norm", x)
        x = x.astype(dtypes.as_float(x.dtype.name), copy=False)
        return xp.linalg.norm(x, ord, tuple(axes), keepdims)
    return _norm(x, ord, axes, keepdims)


@traceable()
@_in_float32
def _norm(x, ord, axes, keepdims):
    axes = tuple(check_axis("norm", a, x.ndim) for a in axes)
    if ord in (None, "fro", "euclidean") or (len(axes) == 1 and ord == 2):
        return pw.sqrt(sum(pw.square(x), axes, keepdims))
    y = pw.absolute(x)
    if len(axes) == 2 and ord in (1, -1, math.inf, -math.inf):
        summed, chosen = axes if builtins.abs(ord) == 1 else axes[::-1]
        y = (max if ord > 0 else min)(sum(y, summed, True), chosen, True)
        return _finish(x, y, axes, keepdims)
    if len(axes) != 1 or isinstance(ord, str):
        raise ValueError(
            f"norm: expected an ord of vectors for 1 axis or of matrices for 2, "
            f"got {ord!r} for {len(axes)}"
        )
    if builtins.abs(ord) == math.inf:
        return (max if ord > 0 else min)(y, axes, keepdims)
    if ord == 0:
        return sum(pw.cast(y > 0.0, y.dtype), axes, keepdims)
    return pw.power(sum(pw.power(y, ord), axes, keepdims), 1.0 / ord)


@traceable()
def count_nonzero(x, axis=None):
    """Number of non-zero elements over `axis`, as int32."""
    return sum(pw.cast(pw.not_equal(to_tensor(x), 0), "int32"), axis)


@traceable()
@_in_float32
def normalize(x, axis=-1, order=2, epsilon=None):
    """x divided by its norm over `axis`, or by `epsilon` (Keras' by default) where that is more."""
    epsilon = config.epsilon() if epsilon is None else epsilon
    if order == 2:  # the bound within the root, so that x = 0 has a gradient
        squares = sum(pw.square(x), axis, keepdims=True)
        return x / pw.sqrt(pw.maximum(squares, epsilon * epsilon))
    return x / pw.maximum(norm(x, order, axis, keepdims=True), epsilon)


__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero",
    "logsumexp", "max", "mean", "min", "norm", "normalize", "prod", "std", "sum", "var",
]  # fmt: skip
