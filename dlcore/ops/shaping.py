"""Shapes: reshape, transpose, broadcast, slice, pad, join. The first four move no data: they are
views."""

import itertools
import math
import operator

import numpy as np

from dlcore.ops.calling import traceable
from dlcore.ops.op import OPS, Op, check_axes, check_axis, promoted, to_tensor


def _reshape_shape(x, shape):
    if math.prod(shape) != x.size:
        raise ValueError(f"reshape: expected a shape of {x.size} elements, got {shape}")
    return shape, x.dtype


def _join_reshapes(x, shape):
    if shape == x.shape:
        return x
    return OPS["reshape"](x.node.inputs[0], shape=shape) if x.node.op.name == "reshape" else None


Op(
    "reshape",
    _reshape_shape,
    lambda xp, x, shape: xp.reshape(x, shape),
    lambda g, y, x, shape: [OPS["reshape"](g, shape=x.shape)],
    kind="view",
    rewrite=_join_reshapes,
)


def _join_transposes(x, axes):
    if axes == tuple(range(len(axes))):
        return x
    if x.node.op.name != "transpose":
        return None
    inner = x.node.attrs["axes"]
    return OPS["transpose"](x.node.inputs[0], axes=tuple(inner[a] for a in axes))


Op(
    "transpose",
    lambda x, axes: (tuple(x.shape[a] for a in axes), x.dtype),
    lambda xp, x, axes: xp.transpose(x, axes),
    lambda g, y, x, axes: [OPS["transpose"](g, axes=tuple(np.argsort(axes).tolist()))],
    kind="view",
    rewrite=_join_transposes,
)


def _rewrite_dense(x):
    """x where it surely lies in row-major order already."""
    node = x.node
    while node.op.name == "reshape":
        node = node.inputs[0].node
    return None if getattr(node.op, "kind", None) == "view" else x


# The same values, copied into row-major order where they lie otherwise
Op(
    "dense",
    lambda x: (x.shape, x.dtype),
    lambda xp, x: xp.ascontiguousarray(x),
    lambda g, y, x: [g],
    kind="view",
    rewrite=_rewrite_dense,
)


def _dense(x):
    """Tensor x for a kernel that reads its inputs in row-major order."""
    return OPS["dense"](x)


def _broadcast_gradient(g, y, x, shape):
    from dlcore.ops.pointwise_table import sum_to

    return [sum_to(g, x.shape)]


Op(
    "broadcast_to",
    lambda x, shape: (shape, x.dtype),
    lambda xp, x, shape: xp.broadcast_to(x, shape),
    _broadcast_gradient,
    kind="view",
)


def _slice_shape(x, bounds):
    return tuple(len(range(*b)) for b in bounds), x.dtype


def _slice(xp, x, bounds):
    return x[tuple(_as_slice(*b) for b in bounds)]


def _as_slice(start, stop, step):
    return slice(start, None if stop < 0 else stop, step)


# bounds: per axis (start, stop, step) as for range(); stop may be -1 with a negative step
Op(
    "slice",
    _slice_shape,
    _slice,
    lambda g, y, x, bounds: [OPS["place"](g, shape=x.shape, bounds=bounds)],
    kind="view",
)


def _place(xp, x, shape, bounds):
    y = xp.zeros(shape, x.dtype)
    y[tuple(_as_slice(*b) for b in bounds)] = x
    return y


# The inverse of slice: x at `bounds` of an array of zeros
Op(
    "place",
    lambda x, shape, bounds: (shape, x.dtype),
    _place,
    lambda g, y, x, shape, bounds: [OPS["slice"](g, bounds=bounds)],
    kind="assemble",
)


def _concatenate_gradient(g, y, *xs, axis):
    result, at = [], 0
    for x in xs:
        bounds = [(0, n, 1) for n in g.shape]
        bounds[axis] = (at, at + x.shape[axis], 1)
        at += x.shape[axis]
        result.append(OPS["slice"](g, bounds=tuple(bounds)))
    return result


def _concatenate_shape(*xs, axis):
    first = xs[0].shape
    for x in xs[1:]:
        same = len(x.shape) == len(first) and all(
            i == axis or a == b for i, (a, b) in enumerate(zip(first, x.shape, strict=False))
        )
        if not same:
            raise ValueError(
                f"concatenate: expected shapes that differ on axis {axis} only, "
                f"got {first} and {x.shape}"
            )
    total = sum(x.shape[axis] for x in xs)
    return (*first[:axis], total, *first[axis + 1 :]), xs[0].dtype


Op(
    "concatenate",
    _concatenate_shape,
    lambda xp, *xs, axis: xp.concatenate(xs, axis),
    _concatenate_gradient,
    kind="assemble",
)


def _ints(name, shape):
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    try:
        return tuple(operator.index(s) for s in shape)
    except TypeError:
        raise TypeError(f"{name}: expected a tuple of integers, got {shape!r}") from None


@traceable()
def reshape(x, newshape):
    """x with another shape of the same size; one size may be -1."""
    x = to_tensor(x)
    shape = _ints("reshape", newshape)
    if shape.count(-1) == 1:
        known = -math.prod(shape)
        if (known == 0 and x.size) or (known and x.size % known):
            raise ValueError(f"reshape: expected a shape of {x.size} elements, got {shape}")
        shape = tuple(x.size // known if s == -1 and known else max(s, 0) for s in shape)
    if any(s < 0 for s in shape):
        raise ValueError(f"reshape: expected sizes of at least 0 and at most one -1, got {shape}")
    return x if shape == x.shape else OPS["reshape"](x, shape=shape)


@traceable()
def ravel(x):
    """x as one axis."""
    return reshape(x, (-1,))


@traceable()
def transpose(x, axes=None):
    """x with its axes in another order, reversed by default."""
    x = to_tensor(x)
    axes = tuple(reversed(range(x.ndim))) if axes is None else tuple(axes)
    axes = tuple(check_axis("transpose", a, x.ndim) for a in axes)
    if sorted(axes) != list(range(x.ndim)):
        raise ValueError(f"transpose: expected a permutation of {x.ndim} axes, got {axes}")
    return x if axes == tuple(range(x.ndim)) else OPS["transpose"](x, axes=axes)


@traceable()
def swapaxes(x, axis1, axis2):
    """x with two axes exchanged."""
    x = to_tensor(x)
    order = list(range(x.ndim))
    a, b = check_axis("swapaxes", axis1, x.ndim), check_axis("swapaxes", axis2, x.ndim)
    order[a], order[b] = b, a
    return transpose(x, order)


@traceable()
def moveaxis(x, source, destination):
    """x with axis `source` moved to `destination`; both may be tuples."""
    x = to_tensor(x)
    given = [a if isinstance(a, (tuple, list)) else (a,) for a in (source, destination)]
    source, destination = ([check_axis("moveaxis", a, x.ndim) for a in axes] for axes in given)
    if len(set(source)) != len(set(destination)) or len(set(source)) != len(given[0]):
        raise ValueError(f"moveaxis: expected as many different axes each, got {given}")
    order = [a for a in range(x.ndim) if a not in source]
    for to, a in sorted(zip(destination, source, strict=True)):
        order.insert(to, a)
    return transpose(x, order)


@traceable()
def expand_dims(x, axis):
    """x with new axes of size 1 at `axis` (int or tuple)."""
    x = to_tensor(x)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    ndim = x.ndim + len(axes)
    new = {check_axis("expand_dims", a, ndim) for a in axes}
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if i in new else next(sizes) for i in range(ndim)))


@traceable()
def squeeze(x, axis=None):
    """x without axes of size 1 (all of them, or those in `axis`)."""
    x = to_tensor(x)
    if axis is None:
        return reshape(x, tuple(s for s in x.shape if s != 1))
    axes = check_axes("squeeze", axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: expected size 1 on axis {a}, got shape {x.shape}")
    return reshape(x, tuple(s for i, s in enumerate(x.shape) if i not in axes))


@traceable()
def broadcast_to(x, shape):
    """x repeated to `shape` by NumPy's rules."""
    x = to_tensor(x)
    shape = _ints("broadcast_to", shape)
    try:
        fits = np.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"broadcast_to: expected a shape that {x.shape} broadcasts to, got {shape}"
        )
    return x if shape == x.shape else OPS["broadcast_to"](x, shape=shape)


@traceable(-1)
def concatenate(xs, axis=0):
    """Join tensors along an existing axis."""
    if not xs:
        raise ValueError("concatenate: expected at least one tensor, got none")
    xs = promoted(*xs)
    if not xs[0].shape:
        raise ValueError("concatenate: expected tensors with axes, got a scalar; use stack")
    axis = check_axis("concatenate", axis, xs[0].ndim)
    return xs[0] if len(xs) == 1 else OPS["concatenate"](*xs, axis=axis)


@traceable(-1)
def stack(x, axis=0):
    """Join tensors along a new axis."""
    if not len(x):
        raise ValueError("stack: expected at least one tensor, got none")
    xs = promoted(*x)
    axis = check_axis("stack", axis, xs[0].ndim + 1)
    return concatenate([expand_dims(t, axis) for t in xs], axis)


@traceable()
def split(x, indices_or_sections, axis=0):
    """A list of pieces of x: a number of equal ones, or cut at the given indices."""
    x = to_tensor(x)
    axis = check_axis("split", axis, x.ndim)
    n = x.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        if indices_or_sections < 1 or n % indices_or_sections:
            raise ValueError(
                f"split: expected a number of sections that divides {n}, got {indices_or_sections}"
            )
        step = n // indices_or_sections
        cuts = list(range(0, n + 1, step)) if step else [0] * (indices_or_sections + 1)
    else:
        cuts = [0, *(min(max(int(c), 0), n) for c in indices_or_sections), n]
    pieces = []
    for a, b in itertools.pairwise(cuts):
        bounds = [(0, s, 1) for s in x.shape]
        bounds[axis] = (a, max(a, b), 1)
        pieces.append(OPS["slice"](x, bounds=tuple(bounds)))
    return pieces


@traceable()
def unstack(x, num=None, axis=0):
    """A list of the slices of x along `axis`, which disappears."""
    x = to_tensor(x)
    axis = check_axis("unstack", axis, x.ndim)
    return [squeeze(piece, axis) for piece in split(x, x.shape[axis], axis)]


@traceable()
def flip(x, axis=None):
    """x backwards along `axis` (all axes by default)."""
    x = to_tensor(x)
    axes = check_axes("flip", axis, x.ndim)
    bounds = [(n - 1, -1, -1) if i in axes else (0, n, 1) for i, n in enumerate(x.shape)]
    return OPS["slice"](x, bounds=tuple(bounds))


@traceable()
def pad(x, pad_width, mode="constant", constant_values=None):
    """x with a border, `pad_width` ((before, after), ...) wide per axis: of `constant_values`, or
    of x mirrored about its last element ("reflect") or its edge ("symmetric")."""
    x = to_tensor(x)
    if mode not in ("constant", "reflect", "symmetric"):
        raise ValueError(f"pad: expected mode 'constant', 'reflect' or 'symmetric', got {mode!r}")
    widths = np.broadcast_to(np.asarray(pad_width, int), (x.ndim, 2)).tolist()
    if any(w < 0 for pair in widths for w in pair):
        raise ValueError(f"pad: expected widths of at least 0, got {pad_width}")
    if mode != "constant":
        return _mirrored(x, widths, mode)
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True))
    bounds = tuple((a, a + n, 1) for n, (a, _) in zip(x.shape, widths, strict=True))
    if not constant_values:
        return OPS["place"](x, shape=shape, bounds=bounds)
    ones = broadcast_to(to_tensor(1, x.dtype), x.shape)
    inside = OPS["place"](ones, shape=shape, bounds=bounds)
    placed = OPS["place"](x, shape=shape, bounds=bounds)
    return OPS["where"](inside, *promoted(placed, constant_values))


def _mirrored(x, widths, mode):
    from dlcore.ops.indexing import take

    for axis, (n, pair) in enumerate(zip(x.shape, widths, strict=True)):
        most = n - 1 if mode == "reflect" else n
        if max(pair) > most:
            raise ValueError(f"pad: expected widths of at most {most} on axis {axis}, got {pair}")
        if any(pair):
            x = take(x, np.pad(np.arange(n, dtype="int32"), pair, mode), axis)
    return x
