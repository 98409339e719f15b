"""Elements by index: take, its gradient, one-hot; running sums and products; orders."""

import math

import numpy as np

from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable, traced_as
from dlcore.ops.creation import arange
from dlcore.ops.op import (
    OPS,
    Op,
    as_float,
    broadcast_shapes,
    cast_to,
    check_axis,
    concrete,
    is_symbolic,
    to_tensor,
)
from dlcore.ops.reduction import sum as sum_
from dlcore.ops.shaping import (
    broadcast_to,
    concatenate,
    expand_dims,
    moveaxis,
    ravel,
    reshape,
    split,
    transpose,
)
from dlcore.program import dtypes
from dlcore.program.graph import Tensor, current_trace
from dlcore.program.symbol import Symbol
from dlcore.program.variable import Variable


def _gather(xp, table, index):
    inside = (index >= 0) & (index < table.shape[0])
    rows = (
        table[xp.where(inside, index, 0)]
        if table.shape[0]
        else xp.zeros((len(index), *table.shape[1:]), table.dtype)
    )
    return xp.where(inside.reshape((-1,) + (1,) * (table.ndim - 1)), rows, table.dtype.type(0))


def _scatter_add(xp, rows, index, *base, length):
    y = base[0].copy() if base else xp.zeros((length, *rows.shape[1:]), rows.dtype)
    if not rows.size or not length:
        return y
    inside = (index >= 0) & (index < length)
    rows = xp.where(inside.reshape((-1,) + (1,) * (rows.ndim - 1)), rows, rows.dtype.type(0))
    xp.add.at(y, xp.where(inside, index, 0), rows)
    return y


# Rows of a table by a vector of indices; rows outside the table are 0.
Op(
    "gather",
    lambda table, index: ((*index.shape, *table.shape[1:]), table.dtype),
    _gather,
    lambda g, y, table, index: [OPS["scatter_add"](g, index, length=table.shape[0]), None],
    kernel=lambda node: ("gather", [], []),
)
# Its gradient: y = 0, or a base of y's shape; y[index[i]] += rows[i].
Op(
    "scatter_add",
    lambda rows, index, *base, length: ((length, *rows.shape[1:]), rows.dtype),
    _scatter_add,
    lambda g, y, rows, index, *base, length: [OPS["gather"](g, index), None, g][: 2 + len(base)],
    kernel=lambda node: ("scatter_add", [], []),
    overwrites=2,
)


def _summed_rows(rows, index, *base, length):
    """scatter_add, of integers as float64 (exactly up to 2^53), which the kernels take."""
    wide = "float64" if not dtypes.is_float(rows.dtype) else rows.dtype
    y = OPS["scatter_add"](
        cast_to(rows, wide), index, *(cast_to(b, wide) for b in base), length=length
    )
    return cast_to(y, rows.dtype)


def rows_of(x):
    """(rows, index) of a gradient that is 0 but for rows of a table that was read by `gather`, each
    to be added at its index; None for other tensors."""
    node = getattr(x, "node", None)
    scattered = node is not None and node.op is OPS["scatter_add"] and len(node.inputs) == 2
    return node.inputs if scattered else None


def add_rows(x, rows, index):
    """x with rows[i] added to x[index[i]]; a program does that in place where x is a variable."""
    return OPS["scatter_add"](rows, index, to_tensor(x), length=x.shape[0])


@traceable(2)
def take(x, indices, axis=None):
    """Elements of x at `indices` along `axis` (None: of the flat tensor).

    Negative indices count from the end; indices outside give zeros.
    """
    x, index = to_tensor(x), to_tensor(indices)
    if dtypes.is_float(index.dtype):
        raise TypeError(f"take: expected integer indices, got {index.dtype}")
    if axis is None:
        x, axis = ravel(x), 0
    axis = check_axis("take", axis, x.ndim)
    if index.dtype not in ("int32", "int64"):
        index = pw.cast(index, "int32")
    index = pw.where(pw.less(index, 0), index + x.shape[axis], index)
    rows = OPS["gather"](moveaxis(x, axis, 0), ravel(index))
    rest = tuple(s for i, s in enumerate(x.shape) if i != axis)
    y = reshape(rows, index.shape + rest)
    n = index.ndim
    order = [*range(n, n + axis), *range(n), *range(n + axis, n + len(rest))]
    return transpose(y, order)


def get_item(x, key):
    """x[key] for integers, slices, Ellipsis and None, or for arrays of integers (one takes rows,
    several elements) and masks that are known. Of concrete arrays as NumPy does."""
    if isinstance(x, Symbol):
        return x[key]
    if current_trace() is None:
        xp, x = concrete("get_item", x)
        return xp.asarray(x[key])
    x = to_tensor(x)
    if not isinstance(key, tuple):
        key = (key,)
    given = sum(k is not None and k is not Ellipsis for k in key)
    ellipses = [i for i, k in enumerate(key) if k is Ellipsis]
    if len(ellipses) > 1 or given > x.ndim:
        raise IndexError(f"getitem: expected at most {x.ndim} indices, got {len(key)}")
    basic = [isinstance(k, (slice, type(None), type(...))) for k in key]
    if key and not any(basic) and not all(isinstance(k, _INTEGERS) for k in key):
        return _elements(x, key)
    at = ellipses[0] if ellipses else len(key)
    full = (slice(None),) * (x.ndim - given)
    key = key[:at] + full + key[at + 1 :]
    bounds, shape, axis = [], [], 0
    for k in key:
        if k is None:
            shape.append(1)
            continue
        n = x.shape[axis]
        if isinstance(k, slice):
            bounds.append(k.indices(n))
            shape.append(len(range(*bounds[-1])))
        elif isinstance(k, _INTEGERS):
            if not -n <= k < n:
                raise IndexError(f"getitem: expected an index in {-n}..{n - 1}, got {k}")
            bounds.append((int(k) % n, int(k) % n + 1, 1))
        else:
            raise TypeError(
                f"getitem: expected integers and slices, got {type(k).__name__}; use ops.take"
            )
        axis += 1
    whole = all(b == (0, n, 1) for b, n in zip(bounds, x.shape, strict=True))
    y = x if whole else OPS["slice"](x, bounds=tuple(bounds))
    return reshape(y, tuple(shape))


_INTEGERS = int, np.integer


def _elements(x, key):
    """x[i, j, ..] for arrays of indices of the first axes, which broadcast together."""
    indices = []
    for k in key:
        if isinstance(k, (Tensor, Variable)):
            if k.dtype == "bool":
                raise TypeError(
                    "getitem: expected a mask that is known while tracing, got a symbolic tensor;"
                    " ops.where(mask, x, 0) keeps the shape"
                )
            indices.append(to_tensor(k))
            continue
        k = np.asarray(k)
        if k.dtype == bool:
            shape = x.shape[len(indices) : len(indices) + k.ndim]
            if k.shape != shape or not k.ndim:
                raise IndexError(f"getitem: expected a mask of shape {shape}, got {k.shape}")
            indices += k.nonzero()
            continue
        if k.dtype.kind not in "iu" and k.size:
            raise TypeError(f"getitem: expected integers and slices, got {k.dtype}")
        n = x.shape[len(indices)]
        outside = k[(k < -n) | (k >= n)]
        if outside.size:
            raise IndexError(f"getitem: expected an index in {-n}..{n - 1}, got {outside[0]}")
        indices.append(k.astype("int64"))
    lead = x.shape[: len(indices)]
    if len(lead) == 1:
        return take(x, indices[0], axis=0)
    count = math.prod(lead)
    kind = "int32" if count < 2**31 else "int64"
    flat, inside = 0, True
    for index, n in zip(indices, lead, strict=True):
        index = pw.cast(to_tensor(index), kind)
        index = pw.where(index < 0, index + n, index)
        inside = pw.logical_and(inside, pw.logical_and(index >= 0, index < n))
        flat = flat * n + index
    flat = pw.where(inside, flat, count)  # which `take` knows to be outside
    return take(reshape(x, (count, *x.shape[len(lead) :])), flat, axis=0)


@traceable()
def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    """1 at the class of every element of x and 0 elsewhere, on a new axis."""
    x = to_tensor(x)
    if sparse:
        raise TypeError(f"one_hot: expected sparse=False, got {sparse}")
    if dtypes.is_float(x.dtype):
        x = pw.cast(x, "int32")
    hot = pw.equal(expand_dims(x, -1), to_tensor(arange(num_classes)))
    hot = pw.cast(hot, dtypes.standardize(dtype, "one_hot", halves=True))
    axis = check_axis("one_hot", axis, x.ndim + 1)
    return hot if axis == x.ndim else moveaxis(hot, -1, axis)


@traceable(2)
def take_along_axis(x, indices, axis=None):
    """x[.., indices[.., j], ..] along `axis` (None: of the flat tensor), the other axes broadcast.

    Negative indices count from the end; indices outside give zeros.
    """
    x, index = to_tensor(x), to_tensor(indices)
    if axis is None:
        x, index, axis = ravel(x), ravel(index), 0
    axis = check_axis("take_along_axis", axis, x.ndim)
    if index.ndim != x.ndim or dtypes.is_float(index.dtype):
        raise ValueError(
            f"take_along_axis: expected integer indices of rank {x.ndim}, "
            f"got {index.dtype} of shape {index.shape}"
        )
    x, index = moveaxis(x, axis, -1), moveaxis(index, axis, -1)
    lead = broadcast_shapes("take_along_axis", x.shape[:-1], index.shape[:-1])
    n, count = x.shape[-1], math.prod(lead)
    kind = "int32" if count * n < 2**31 else "int64"
    index = broadcast_to(pw.cast(index, kind), (*lead, index.shape[-1]))
    index = pw.where(index < 0, index + n, index)
    inside = pw.logical_and(index >= 0, index < n)
    first = np.arange(count, dtype=kind).reshape(*lead, 1) * n
    flat = pw.where(inside, index + first, -1)
    y = OPS["gather"](ravel(broadcast_to(x, (*lead, n))), ravel(flat))
    return moveaxis(reshape(y, index.shape), -1, axis)


@traceable(2)
def in_top_k(targets, predictions, k):
    """Whether predictions[i, targets[i]] is among the k largest of its row, as bool (N).

    Ties with the k-th count as inside; a row with NaN or Inf at its target is outside.
    """
    y, scores = to_tensor(targets), as_float(predictions)
    own = sum_(pw.where(one_hot(y, scores.shape[-1], dtype="bool"), scores, 0.0), -1, True)
    larger = sum_(pw.cast(pw.greater(scores, own), scores.dtype), -1)
    inside = pw.logical_and(pw.greater_equal(y, 0), pw.less(y, scores.shape[-1]))
    finite = pw.isfinite(reshape(own, larger.shape))
    return pw.logical_and(pw.logical_and(pw.less(larger, float(k)), finite), inside)


def _accumulate(name, x, axis, dtype):
    """ "cumsum" or "cumprod" along `axis` (None: of the flat tensor)."""
    if is_symbolic(x):
        return _running(x, name, axis, dtype)
    xp, x = concrete(name, x)
    if dtype is not None or x.dtype.name in ("bool", "uint8"):
        x = x.astype(dtypes.standardize(dtype or "int32", name))
    axis = axis if axis is None else check_axis(name, axis, x.ndim)
    return getattr(xp, name)(x, axis).astype(x.dtype)


@traceable()
def _running(x, name, axis, dtype):
    """By doubling: after k steps each element holds those of the 2^k places up to its own."""
    x, combine = to_tensor(x), pw.add if name == "cumsum" else pw.multiply
    if dtype is not None or x.dtype in ("bool", "uint8"):
        x = pw.cast(x, dtype or "int32")
    x, axis = (ravel(x), 0) if axis is None else (x, check_axis(name, axis, x.ndim))
    n, step = x.shape[axis], 1
    while step < n:
        first, rest = split(x, [step], axis)
        x = concatenate([first, combine(rest, split(x, [n - step], axis)[0])], axis)
        step *= 2
    return x


def cumsum(x, axis=None, dtype=None):
    """Running sum along `axis` (None: of the flat tensor)."""
    return _accumulate("cumsum", x, axis, dtype)


def cumprod(x, axis=None, dtype=None):
    """Running product along `axis` (None: of the flat tensor)."""
    return _accumulate("cumprod", x, axis, dtype)


# Orders

# Without a kernel: a program that holds it runs by formulas.
Op(
    "argsort",
    lambda x, axis: (x.shape, "int32"),
    lambda xp, x, axis: xp.argsort(x, axis, kind="stable").astype("int32"),
)


@traceable()
def argsort(x, axis=-1):
    """Indices (int32) that sort x along `axis` (None: flat); equal elements keep their order."""
    x = to_tensor(x)
    x, axis = (ravel(x), 0) if axis is None else (x, check_axis("argsort", axis, x.ndim))
    return OPS["argsort"](x, axis=axis)


def _sort(x, axis=-1):
    x = to_tensor(x)
    x, axis = (ravel(x), 0) if axis is None else (x, axis)
    return take_along_axis(x, argsort(x, axis), axis)


@traced_as(_sort)
def sort(x, axis=-1):
    """x sorted along `axis` (None: flat)."""
    xp, x = concrete("sort", x)
    return xp.sort(x, axis)


def _top_k(x, k, sorted=True):
    order = split(argsort(pw.negative(to_tensor(x))), [int(k)], -1)[0]
    return take_along_axis(x, order, -1), order


@traced_as(_top_k)
def top_k(x, k, sorted=True):
    """(values, indices) of the k largest along the last axis, in falling order."""
    xp, x = concrete("top_k", x)
    order = xp.argsort(-x, axis=-1, kind="stable")[..., :k]
    return xp.take_along_axis(x, order, -1), order.astype("int32")


def unique(
    x, sorted=True, return_index=False, return_inverse=False, return_counts=False, axis=None,
    size=None, fill_value=None,
):  # fmt: skip
    """The different values of a concrete array, sorted; along `axis` its different slices.

    Behind them, where asked for, indices (int32) of their first occurrences, of each element among
    them, and their counts. With `size` that many values (and counts): the first ones, or with
    `fill_value`, by default 0, behind them (with counts of 0).
    """
    xp, x = concrete("unique", x)
    options = {"return_index": return_index, "return_counts": return_counts}
    found = xp.unique(x, return_inverse=return_inverse, axis=axis, **options)
    values, *rest = found if isinstance(found, tuple) else (found,)
    if size is not None:
        values = _of_size(xp, values, size, axis or 0, fill_value or 0)
        if return_index:
            rest[0] = _of_size(xp, rest[0], size, 0, rest[0][0] if len(rest[0]) else 0)
        if return_counts:
            rest[-1] = _of_size(xp, rest[-1], size, 0, 0)
    rest = tuple(r.astype("int32") for r in rest)
    return (values, *rest) if rest else values


def _of_size(xp, x, size, axis, fill_value):
    """The first `size` slices of x along `axis`, or `fill_value` behind them all."""
    x = xp.take(x, xp.arange(min(size, x.shape[axis])), axis)
    width = [(0, size - n if a == axis else 0) for a, n in enumerate(x.shape)]
    return xp.pad(x, width, constant_values=fill_value)
