"""Reductions over axes: sum, mean, max, min, prod, var, std, argmax, norm, logsumexp."""

import builtins
import functools
import math

from dlcore.ops import pointwise as pw
from dlcore.ops.op import OPS, Op, as_float, cast_to, check_axes, check_axis, to_tensor, traceable
from dlcore.ops.shaping import ravel, reshape
from dlcore.program.dtypes import HALVES

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
        return [g * y / x]  # undefined where a factor is 0, as in most frameworks
    wins = pw.cast(pw.equal(x, y), x.dtype)
    return [wins * (g / OPS["reduce"](wins, kind="sum", axes=axes))]


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
def max(x, axis=None, keepdims=False):
    """Largest element over `axis` (None: all); NaN passes on."""
    return _run("max", to_tensor(x), axis, keepdims)


@traceable()
def min(x, axis=None, keepdims=False):
    """Smallest element over `axis` (None: all); NaN passes on."""
    return _run("min", to_tensor(x), axis, keepdims)


amax, amin = max, min


def _in_float32(f):
    """`f(x, ...)` of halves with float32 in between."""

    @functools.wraps(f)
    def wrapped(x, *args, **kwargs):
        x = as_float(x)
        if x.dtype not in HALVES:
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
    """Whether any element over `axis` is non-zero."""
    return pw.cast(max(pw.not_equal(to_tensor(x), 0), axis, keepdims), "bool")


@traceable()
def all(x, axis=None, keepdims=False):
    """Whether all elements over `axis` are non-zero."""
    return pw.cast(min(pw.not_equal(to_tensor(x), 0), axis, keepdims), "bool")


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
    """log(sum(exp(x))) over `axis`, without overflow."""
    axes = check_axes("logsumexp", axis, x.ndim)
    top = pw.stop_gradient(max(x, axes, True))
    top = pw.where(pw.isfinite(top), top, 0.0)
    return _finish(x, pw.log(sum(pw.exp(x - top), axes, True)) + top, axes, keepdims)


@traceable()
@_in_float32
def norm(x, ord=None, axis=None, keepdims=False):
    """Euclidean norm over `axis` (None: all); ord 1 and inf give the sum and the largest of |x|."""
    if ord in (None, 2, "fro", "euclidean"):
        return pw.sqrt(sum(pw.square(x), axis, keepdims))
    if ord == 1:
        return sum(pw.absolute(x), axis, keepdims)
    if ord == math.inf:
        return max(pw.absolute(x), axis, keepdims)
    raise ValueError(f"norm: expected ord 1, 2 or inf, got {ord!r}")


@traceable()
def count_nonzero(x, axis=None):
    """Number of non-zero elements over `axis`, as int32."""
    return sum(pw.cast(pw.not_equal(to_tensor(x), 0), "int32"), axis)


@traceable()
@_in_float32
def normalize(x, axis=-1, order=2, epsilon=None):
    """x divided by its norm over `axis`."""
    n = norm(x, order, axis, keepdims=True)
    return x / pw.maximum(n, 1e-12 if epsilon is None else epsilon)


__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero",
    "logsumexp", "max", "mean", "min", "norm", "normalize", "prod", "std", "sum", "var",
]  # fmt: skip
