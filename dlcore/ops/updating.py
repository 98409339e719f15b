"""Blocks and elements written over: slice, slice_update, scatter, scatter_update; and reductions
over segments, the elements with one number.

Places that are known while tracing become views and constants. Places that are known only at run
time become indices of `gather` and `scatter_add`: what lies outside reads as 0 and is not written.
"""

import math

import numpy as np

from dlcore import backends
from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.creation import arange, ones_like
from dlcore.ops.indexing import _summed_rows
from dlcore.ops.op import OPS, Op, cast_to, to_array, to_tensor
from dlcore.ops.reduction import _of_others
from dlcore.ops.reduction import all as all_
from dlcore.ops.reduction import max as max_
from dlcore.ops.shaping import expand_dims, moveaxis, reshape, stack
from dlcore.program import dtypes
from dlcore.program.graph import Tensor
from dlcore.program.symbol import Symbol


def _known(values):
    """`values` as a tuple of ints, or None where some are symbolic."""
    if isinstance(values, (Tensor, Symbol)):
        return None
    if isinstance(values, (tuple, list)) and any(isinstance(v, (Tensor, Symbol)) for v in values):
        return None
    return tuple(int(v) for v in np.ravel(backends.to_host(values)))


def _index(name, x):
    x = to_tensor(x)
    if dtypes.is_float(x.dtype):
        raise TypeError(f"{name}: expected integer indices, got {x.dtype}")
    return x if x.dtype in ("int32", "int64") else pw.cast(x, "int32")


def slice(inputs, start_indices, shape):
    """The block of `shape` that begins at `start_indices`, which may be symbolic.

    Examples
    --------
    >>> from dlcore import ops
    >>> ops.slice(ops.arange(6), [2], [3])
    array([2, 3, 4], dtype=int32)
    """
    start, shape = _known(start_indices), tuple(int(n) for n in shape)
    if start is not None:
        return _block(inputs, start, shape)
    start = stack(start_indices) if isinstance(start_indices, (tuple, list)) else start_indices
    return _moving_block(inputs, start, shape)


def _bounds(name, x, start, shape):
    n = x.ndim
    fits = len(start) == len(shape) == n and all(
        a >= 0 and a + s <= size for a, s, size in zip(start, shape, x.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: expected a block inside {x.shape}, got {shape} at {start}")
    return tuple((a, a + s, 1) for a, s in zip(start, shape, strict=True))


@traceable()
def _block(x, start, shape):
    x = to_tensor(x)
    shape = tuple(x.shape[i] - start[i] if s == -1 else s for i, s in enumerate(shape))
    return OPS["slice"](x, bounds=_bounds("slice", x, start, shape))


@traceable(2)
def _moving_block(x, start, shape):
    x, start = to_tensor(x), _index("slice", start)
    if start.shape != (x.ndim,) or len(shape) != x.ndim:
        raise ValueError(
            f"slice: expected {x.ndim} start_indices and sizes, got {start.shape} and {shape}"
        )
    for axis, n in enumerate(shape):
        if n != x.shape[axis]:
            rows = OPS["gather"](moveaxis(x, axis, 0), start[axis] + to_tensor(arange(n)))
            x = moveaxis(rows, 0, axis)
    return x


def slice_update(inputs, start_indices, updates):
    """`inputs` with the block that begins at `start_indices`, which may be symbolic, replaced by
    `updates`."""
    start = _known(start_indices)
    if start is not None:
        return _block_update(inputs, updates, start)
    start = stack(start_indices) if isinstance(start_indices, (tuple, list)) else start_indices
    return _moving_update(inputs, updates, start)


@traceable(2)
def _block_update(x, updates, start):
    x, u = to_tensor(x), to_tensor(updates)
    u = cast_to(u, x.dtype)
    bounds = _bounds("slice_update", x, start, u.shape)
    if u.shape == x.shape:
        return u
    inside = OPS["place"](ones_like(u), shape=x.shape, bounds=bounds)
    return pw.where(inside, OPS["place"](u, shape=x.shape, bounds=bounds), x)


@traceable(3)
def _moving_update(x, updates, start):
    x, u, start = to_tensor(x), to_tensor(updates), _index("slice_update", start)
    if start.shape != (x.ndim,) or u.ndim != x.ndim:
        raise ValueError(
            f"slice_update: expected {x.ndim} start_indices and axes of updates, "
            f"got {start.shape} and {u.ndim}"
        )
    y, inside = cast_to(u, x.dtype), None
    for axis, n in enumerate(x.shape):
        if n == u.shape[axis]:
            continue
        at = to_tensor(arange(n)) - start[axis]
        y = moveaxis(OPS["gather"](moveaxis(y, axis, 0), at), 0, axis)
        here = pw.logical_and(at >= 0, at < u.shape[axis])
        here = reshape(here, (n,) + (1,) * (x.ndim - 1 - axis))
        inside = here if inside is None else pw.logical_and(inside, here)
    return y if inside is None else pw.where(inside, y, x)


# Elements


def _rows(name, indices, updates, shape):
    """(flat index, rows, length): rows of `updates` and which of the leading axes' places each
    belongs to, -1 outside."""
    at, depth = _index(name, indices), indices.shape[-1] if indices.ndim else 0
    if not 0 < depth <= len(shape) or updates.shape != at.shape[:-1] + tuple(shape[depth:]):
        raise ValueError(
            f"{name}: expected indices (.., k) and values (..) + shape[k:] for shape {shape}, "
            f"got {at.shape} and {updates.shape}"
        )
    at = reshape(at, (-1, depth)) if at.size else reshape(at, (0, depth))
    sizes = np.asarray(shape[:depth], at.dtype)
    at = pw.where(at < 0, at + sizes, at)
    inside = all_(pw.logical_and(at >= 0, at < sizes), axis=1)
    flat = 0
    for i, n in enumerate(sizes.tolist()):
        flat = flat * n + at[:, i]
    rest = tuple(shape[depth:])
    return (
        pw.where(inside, flat, -1),
        reshape(updates, (at.shape[0], *rest)),
        math.prod(shape[:depth]),
    )


@traceable(2)
def scatter(indices, values, shape):
    """Zeros of `shape` with values[i] added at indices[i]; indices (.., k) name the first k axes.

    Examples
    --------
    >>> import numpy as np
    >>> from dlcore import ops
    >>> ops.scatter(np.array([[0], [2], [0]]), np.array([1.0, 2.0, 3.0], "float32"), (3,))
    array([4., 0., 2.], dtype=float32)
    """
    index, values, shape = to_tensor(indices), to_tensor(values), tuple(shape)
    flat, rows, length = _rows("scatter", index, values, shape)
    return reshape(_summed_rows(rows, flat, length=length), shape)


def scatter_update(inputs, indices, updates, reduction=None):
    """`inputs` with updates[i] at indices[i], the last where several name one place; with
    `reduction` "add", "max", "min" or "mul" combined with what is there."""
    if reduction not in (None, "add", "max", "min", "mul"):
        raise ValueError(
            f"scatter_update: expected reduction None, 'add', 'max', 'min' or 'mul', "
            f"got {reduction!r}"
        )
    return _scatter_update(inputs, indices, updates, reduction)


@traceable(3)
def _scatter_update(inputs, indices, updates, reduction):
    x = to_tensor(inputs)
    updates = cast_to(to_tensor(updates), x.dtype)
    flat, rows, length = _rows("scatter_update", to_tensor(indices), updates, x.shape)
    base = reshape(x, (length, *rows.shape[1:]))
    if reduction == "add":
        y = _summed_rows(rows, flat, base, length=length)
    elif reduction is None:
        flat = _last_writers(flat)
        written = _summed_rows(pw.cast(ones_like(flat), "float32"), flat, length=length)
        written = reshape(written, (length,) + (1,) * (rows.ndim - 1))
        y = pw.where(written > 0, _summed_rows(rows, flat, length=length), base)
    else:
        kind = {"mul": "prod"}.get(reduction, reduction)
        combine = {"max": pw.maximum, "min": pw.minimum, "mul": pw.multiply}[reduction]
        y = combine(base, OPS["segment_reduce"](rows, flat, kind=kind, segments=length))
    return reshape(y, x.shape)


def _last_writers(flat):
    """The indices, -1 where a later element has the same."""
    order = np.arange(flat.shape[0])
    later = pw.logical_and(expand_dims(flat, 1) == flat, order[:, None] < order)
    return pw.where(max_(later, axis=1), -1, flat) if flat.shape[0] else flat


# Segments

_NEUTRAL = {"max": -math.inf, "min": math.inf, "prod": 1.0}
_INTEGERS = {"int32": 2**31 - 1, "int64": 2**63 - 1, "uint8": 255, "bool": 1}


def _neutral(kind, dtype):
    """What the reduction of nothing gives."""
    if kind == "prod" or dtypes.is_float(dtype):
        return _NEUTRAL[kind]
    most = _INTEGERS[dtype]
    return most if kind == "min" else -most - 1 if dtype in ("int32", "int64") else 0


def _segment_formula(xp, x, ids, kind, segments):
    y = xp.full((segments, *x.shape[1:]), x.dtype.type(_neutral(kind, x.dtype.name)))
    inside = (ids >= 0) & (ids < segments)
    combine = {"max": xp.maximum, "min": xp.minimum, "prod": xp.multiply}[kind]
    combine.at(y, ids[inside], x[inside])
    return y


def _segment_gradient(g, y, x, ids, kind, segments):
    own_g = OPS["gather"](g, ids)
    if kind == "prod":
        return [own_g * _of_others(x, lambda z, kind: _own_segment(z, ids, kind, segments)), None]
    wins = pw.cast(x == OPS["gather"](y, ids), x.dtype)
    ties = _own_segment(wins, ids, "sum", segments)
    return [own_g * wins / pw.maximum(ties, 1.0), None]


def _own_segment(x, ids, kind, segments):
    """The "sum" or "prod" of the segment that each element belongs to."""
    if kind == "sum":
        return OPS["gather"](OPS["scatter_add"](x, ids, length=segments), ids)
    return OPS["gather"](OPS["segment_reduce"](x, ids, kind=kind, segments=segments), ids)


# Without a kernel: a program that holds it runs by formulas.
Op(
    "segment_reduce",
    lambda x, ids, kind, segments: ((segments, *x.shape[1:]), x.dtype),
    _segment_formula,
    _segment_gradient,
)


def _segments(name, ids, num_segments):
    """The number of segments: by default one more than the largest id, which must be concrete."""
    if num_segments is not None:
        return int(num_segments)
    if isinstance(ids, (Tensor, Symbol)):
        raise ValueError(f"{name}: expected num_segments while tracing, got None")
    ids = to_array(backends.to_host(ids))
    return int(ids.max()) + 1 if ids.size else 0


@traceable(2)
def _segment(data, segment_ids, name, segments):
    kind = name.removeprefix("segment_")
    x, ids = to_tensor(data), _index(name, segment_ids)
    if ids.ndim != 1 or not x.shape or x.shape[0] != ids.shape[0]:
        raise ValueError(
            f"{name}: expected data (N, ..) and segment_ids (N,), got {x.shape} and {ids.shape}"
        )
    if kind == "sum":
        return _summed_rows(x, ids, length=segments)
    return OPS["segment_reduce"](x, ids, kind=kind, segments=segments)


def _segment_op(name, doc):
    def f(data, segment_ids, num_segments=None, sorted=False):
        return _segment(data, segment_ids, name, _segments(name, segment_ids, num_segments))

    f.__name__, f.__doc__ = name, doc
    return f


segment_sum = _segment_op("segment_sum", "Sums of the rows of `data` (N, ..) with each id.")
segment_max = _segment_op(
    "segment_max", "Largest of the rows of `data` (N, ..) with each id; -inf of none."
)
segment_min = _segment_op(
    "segment_min", "Smallest of the rows of `data` (N, ..) with each id; inf of none."
)
segment_prod = _segment_op("segment_prod", "Products of the rows of `data` (N, ..) with each id.")
