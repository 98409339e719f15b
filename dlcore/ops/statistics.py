"""Counts, order statistics, differences, comparisons of whole arrays, and reductions that leave out
NaN. What gives as many elements as the values say runs on concrete arrays only."""

import math

import numpy as np

from dlcore.ops import pointwise as pw
from dlcore.ops import reduction
from dlcore.ops.calling import traceable, traced_as
from dlcore.ops.indexing import cumprod, cumsum, sort, take
from dlcore.ops.op import (
    as_float,
    check_axes,
    check_axis,
    concrete,
    is_symbolic,
    promoted,
    to_array,
    to_tensor,
)
from dlcore.ops.reduction import sum as sum_
from dlcore.ops.shaping import expand_dims, moveaxis, ravel, reshape, transpose
from dlcore.ops.shaping import split as split_
from dlcore.program import dtypes

# Comparisons and searches


@traceable(2)
def isclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """|x1 - x2| <= atol + rtol |x2|, as bool; infinities are close to themselves."""
    a, b = promoted(as_float(x1), as_float(x2))
    near = pw.logical_and(pw.absolute(a - b) <= atol + rtol * pw.absolute(b), pw.isfinite(b))
    near = pw.logical_or(near, pw.equal(a, b))
    both = pw.logical_and(pw.isnan(a), pw.isnan(b))
    return pw.logical_or(near, both) if equal_nan else near


@traceable(2)
def allclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether all elements are close; see `isclose`."""
    return reduction.all(isclose(x1, x2, rtol, atol, equal_nan))


def isin(x1, x2, assume_unique=False, invert=False):
    """Whether each element of x1 is one of x2, as bool."""
    if is_symbolic(x1, x2):
        return _isin(x1, x2, invert)
    xp, a = concrete("isin", x1)
    return xp.isin(a, xp.asarray(x2), assume_unique=assume_unique, invert=invert)


@traceable(2)
def _isin(x1, x2, invert):
    a, b = promoted(x1, x2)
    found = reduction.any(pw.equal(expand_dims(a, -1), ravel(b)), -1)
    return pw.logical_not(found) if invert else found


def searchsorted(sorted_sequence, values, side="left"):
    """How many elements of a sorted vector are below each value ("left"), or not above ("right"),
    as int32."""
    shape = getattr(sorted_sequence, "shape", None) or np.shape(sorted_sequence)
    if side not in ("left", "right") or len(shape) != 1:
        raise ValueError(
            f"searchsorted: expected a vector and side 'left' or 'right', got {shape} and {side!r}"
        )
    if is_symbolic(sorted_sequence, values):
        return _count_below(sorted_sequence, values, side)
    xp, a = concrete("searchsorted", sorted_sequence)
    return xp.searchsorted(a, xp.asarray(values), side).astype("int32")


@traceable(2)
def _count_below(edges, values, side):
    a, v = promoted(edges, values)
    v = expand_dims(v, -1)
    return sum_(pw.cast(a < v if side == "left" else a <= v, "int32"), -1)


def digitize(x, bins):
    """The number of the bin of each element, as int32: how many of the rising edges `bins` are not
    above it."""
    return searchsorted(bins, x, "right")


# Averages and differences


def average(x, axis=None, weights=None):
    """Mean over `axis`, with `weights` of the shape of x or, along one axis, a vector."""
    return reduction.mean(x, axis) if weights is None else _average(x, weights, axis)


@traceable(2)
def _average(x, weights, axis):
    x, w = promoted(as_float(x), weights)
    if w.shape != x.shape:
        if not isinstance(axis, int) or w.shape != (x.shape[axis],):
            raise ValueError(
                f"average: expected weights of shape {x.shape}, or a vector along an axis, "
                f"got {w.shape}"
            )
        axis = check_axis("average", axis, x.ndim)
        w = reshape(w, (-1,) + (1,) * (x.ndim - 1 - axis))
        return sum_(x * w, axis) / sum_(w)
    return sum_(x * w, axis) / sum_(w, axis)


@traceable()
def ptp(x, axis=None, keepdims=False):
    """The largest minus the smallest element over `axis`."""
    return reduction.max(x, axis, keepdims) - reduction.min(x, axis, keepdims)


@traceable()
def diff(a, n=1, axis=-1):
    """Differences of neighbours along `axis`, taken n times."""
    a = to_tensor(a)
    axis = check_axis("diff", axis, a.ndim)
    for _ in range(n):
        size = a.shape[axis]
        if size < 2:
            return split_(a, [0], axis)[0]
        (_, behind), (front, _) = split_(a, [1], axis), split_(a, [size - 1], axis)
        a = pw.not_equal(behind, front) if a.dtype == "bool" else behind - front
    return a


def trapezoid(y, x=None, dx=1.0, axis=-1):
    """The integral along `axis` of lines between the points y, at x or `dx` apart."""
    return _trapezoid(y, dx, axis) if x is None else _trapezoid_at(y, x, axis)


@traceable()
def _trapezoid(y, dx, axis):
    y = moveaxis(as_float(y), axis, -1)
    return sum_(y[..., 1:] + y[..., :-1], -1) * (0.5 * dx)


@traceable(2)
def _trapezoid_at(y, x, axis):
    y, x = promoted(as_float(y), x)
    y, x = moveaxis(y, axis, -1), x if x.ndim == 1 else moveaxis(x, axis, -1)
    return sum_((y[..., 1:] + y[..., :-1]) * diff(x), -1) * 0.5


@traceable()
def corrcoef(x):
    """Correlations of the rows of a matrix."""
    x = as_float(x)
    x = x - reduction.mean(x, -1, True)
    c = x @ x.T if x.ndim == 2 else sum_(x * x)
    if x.ndim != 2:
        return c / c
    scale = pw.sqrt(sum_(x * x, -1, True))
    return c / (scale * reshape(scale, (1, -1)))


@traceable(2)
def cdist(x, y):
    """Euclidean distances of all rows of x (.., P, D) from all rows of y (.., R, D)."""
    a, b = promoted(as_float(x), y)
    return pw.sqrt(sum_(pw.square(expand_dims(a, -2) - expand_dims(b, -3)), -1))


# NaN left out


def _without(x, value):
    x = to_tensor(x)
    return pw.where(pw.isnan(x), value, x) if dtypes.is_float(x.dtype) else x


@traceable()
def nansum(x, axis=None, keepdims=False):
    """Sum over `axis` of what is not NaN."""
    return sum_(_without(x, 0.0), axis, keepdims)


@traceable()
def nanprod(x, axis=None, keepdims=False):
    """Product over `axis` of what is not NaN."""
    return reduction.prod(_without(x, 1.0), axis, keepdims)


def _nan_of_nothing(x, y, axis, keepdims):
    return pw.where(reduction.all(pw.isnan(as_float(x)), axis, keepdims), math.nan, y)


@traceable()
def nanmax(x, axis=None, keepdims=False):
    """Largest over `axis` of what is not NaN; NaN of nothing."""
    y = reduction.max(_without(x, -math.inf), axis, keepdims)
    return _nan_of_nothing(x, y, axis, keepdims)


@traceable()
def nanmin(x, axis=None, keepdims=False):
    """Smallest over `axis` of what is not NaN; NaN of nothing."""
    return _nan_of_nothing(x, reduction.min(_without(x, math.inf), axis, keepdims), axis, keepdims)


def _count(x, axis, keepdims):
    x = as_float(x)
    return sum_(pw.cast(pw.logical_not(pw.isnan(x)), x.dtype), axis, keepdims)


@traceable()
def nanmean(x, axis=None, keepdims=False):
    """Mean over `axis` of what is not NaN; NaN of nothing."""
    return nansum(x, axis, keepdims) / _count(x, axis, keepdims)


@traceable()
def nanvar(x, axis=None, keepdims=False):
    """Variance over `axis` of what is not NaN; NaN of nothing."""
    x = as_float(x)
    off = pw.where(pw.isnan(x), 0.0, x - nanmean(x, axis, True))
    return sum_(pw.square(off), axis, keepdims) / _count(x, axis, keepdims)


@traceable()
def nanstd(x, axis=None, keepdims=False):
    """Standard deviation over `axis` of what is not NaN; NaN of nothing."""
    return pw.sqrt(nanvar(x, axis, keepdims))


@traceable()
def nanargmax(x, axis=None, keepdims=False):
    """Index (int32) of the largest along `axis` of what is not NaN; -1 of nothing."""
    y = reduction.argmax(_without(x, -math.inf), axis, keepdims)
    return pw.where(reduction.all(pw.isnan(as_float(x)), axis, keepdims), -1, y)


@traceable()
def nanargmin(x, axis=None, keepdims=False):
    """Index (int32) of the smallest along `axis` of what is not NaN; -1 of nothing."""
    y = reduction.argmin(_without(x, math.inf), axis, keepdims)
    return pw.where(reduction.all(pw.isnan(as_float(x)), axis, keepdims), -1, y)


@traceable()
def nancumsum(x, axis=None, dtype=None):
    """Running sum along `axis` where NaN counts 0."""
    return cumsum(_without(x, 0.0), axis, dtype)


@traceable()
def nancumprod(x, axis=None, dtype=None):
    """Running product along `axis` where NaN counts 1."""
    return cumprod(_without(x, 1.0), axis, dtype)


# Order statistics


def _traced_quantile(x, q, axis=None, method="linear", keepdims=False):
    """Between the two elements that enclose place q (n - 1) of those sorted."""
    x, q = as_float(x), np.asarray(q, "float64")
    axes = check_axes("quantile", axis, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    rows = tuple(x.shape[a] for a in kept)
    s = sort(reshape(transpose(x, (*kept, *axes)), (*rows, -1)))
    place = q.ravel() * (s.shape[-1] - 1)
    place = np.round(place) if method == "nearest" else place
    low, high = np.floor(place).astype("int32"), np.ceil(place).astype("int32")
    weights = {"lower": 0.0 * place, "higher": 0.0 * place + 1.0, "midpoint": 0.0 * place + 0.5}
    t = weights.get(method, place - low).astype(x.dtype)
    below, above = take(s, low, -1), take(s, high, -1)
    y = pw.where(t < 0.5, below + (above - below) * t, above - (above - below) * (1.0 - t))
    y = pw.where(pw.isnan(s[..., -1:]), math.nan, y)  # which come last
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape)) if keepdims else rows
    return reshape(moveaxis(y, -1, 0), (*q.shape, *shape))


def _traced_median(x, axis=None, keepdims=False):
    return _traced_quantile(x, 0.5, axis, keepdims=keepdims)


def _traced_percentile(x, q, axis=None, method="linear", keepdims=False):
    return _traced_quantile(x, np.asarray(q) / 100.0, axis, method, keepdims)


def _order(name, x, axis, keepdims, *q, **method):
    xp, x = concrete(name, x)
    axis = axis if axis is None else check_axes(name, axis, x.ndim)
    y = getattr(xp, name)(x, *q, axis=axis, keepdims=keepdims, **method)
    return xp.asarray(y, dtypes.as_float(x.dtype.name))


@traced_as(_traced_median)
def median(x, axis=None, keepdims=False):
    """Median over `axis`."""
    return _order("median", x, axis, keepdims)


_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(name, doc, traced=None):
    def f(x, q, axis=None, method="linear", keepdims=False):
        if method not in _METHODS:
            raise ValueError(
                f"{name}: expected method 'linear', 'lower', 'higher', 'midpoint' or 'nearest', "
                f"got {method!r}"
            )
        return _order(name, x, axis, keepdims, to_array(q), method=method)

    f.__name__, f.__doc__ = name, doc
    return f if traced is None else traced_as(traced)(f)


quantile = _quantile("quantile", "Quantiles q (0..1) over `axis`.", _traced_quantile)
percentile = _quantile("percentile", "Percentiles q (0..100) over `axis`.", _traced_percentile)


# Of concrete arrays only


def nanmedian(x, axis=None, keepdims=False):
    """Median over `axis` of what is not NaN in a concrete array."""
    return _order("nanmedian", x, axis, keepdims)


nanquantile = _quantile("nanquantile", "Quantiles of what is not NaN in a concrete array.")
nanpercentile = _quantile("nanpercentile", "Percentiles of what is not NaN in a concrete array.")


def nonzero(x):
    """The indices (int32) of the non-zero elements of a concrete array, a vector for each axis."""
    xp, x = concrete("nonzero", x)
    return tuple(i.astype("int32") for i in xp.nonzero(x))


def argpartition(x, kth, axis=-1):
    """Indices (int32) that bring the k-th smallest of a concrete array to its place, the smaller
    ones before it."""
    xp, x = concrete("argpartition", x)
    return xp.argpartition(x, kth, axis).astype("int32")


def bincount(x, weights=None, minlength=0, sparse=False):
    """How often 0, 1, .. occur in a concrete vector of integers (or each row of a matrix), or sums
    of their `weights`; while tracing use `segment_sum`."""
    xp, x = concrete("bincount", x)
    if x.ndim not in (1, 2) or x.dtype.kind not in "iub" or sparse:
        raise ValueError(
            f"bincount: expected integers of 1 or 2 axes and not sparse, got {x.dtype} {x.shape}"
        )
    w = None if weights is None else xp.asarray(weights)
    length = max(int(x.max()) + 1 if x.size else 0, minlength)
    dtype = "int32" if w is None else to_array(w[:0]).dtype
    if x.ndim == 1:
        return xp.bincount(x, w, length).astype(dtype)
    rows = [xp.bincount(r, None if w is None else w[i], length) for i, r in enumerate(x)]
    return xp.stack(rows).astype(dtype)


def histogram(x, bins=10, range=None):
    """(counts int32, edges) of the elements of a concrete array in `bins` intervals of `range`."""
    xp, x = concrete("histogram", x)
    counts, edges = xp.histogram(x, bins=bins, range=range)
    return counts.astype("int32"), edges.astype(dtypes.as_float(x.dtype.name))


def correlate(x1, x2, mode="valid"):
    """Sums of products of two concrete vectors at all shifts; mode "valid", "same" or "full"."""
    xp, a = concrete("correlate", x1)
    b = xp.asarray(x2)
    if a.ndim != 1 or b.ndim != 1 or mode not in ("valid", "same", "full"):
        raise ValueError(
            f"correlate: expected two vectors and mode 'valid', 'same' or 'full', "
            f"got {a.shape}, {b.shape} and {mode!r}"
        )
    return xp.correlate(a, b, mode)
