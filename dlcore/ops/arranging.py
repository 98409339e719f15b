"""Elements in another order, repeated, joined, cut, or chosen by where they stand: tile, repeat,
roll, triangles, diagonals, stacks, grids. All by views, joins and constants known while tracing."""

import math

import numpy as np

from dlcore.ops import creation, shaping
from dlcore.ops.calling import traceable
from dlcore.ops.op import OPS, check_axes, check_axis, promoted, to_array, to_tensor
from dlcore.ops.pointwise import where
from dlcore.ops.products import diagonal_last
from dlcore.ops.shaping import (
    broadcast_to,
    concatenate,
    expand_dims,
    flip,
    moveaxis,
    ravel,
    reshape,
    transpose,
)
from dlcore.program import dtypes
from dlcore.program.graph import current_trace


@traceable()
def tile(x, repeats):
    """x side by side with itself, `repeats` times along each axis (an int: along the last)."""
    x = to_tensor(x)
    repeats = shaping._ints("tile", repeats)
    n = max(x.ndim, len(repeats))
    sizes, repeats = (1,) * (n - x.ndim) + x.shape, (1,) * (n - len(repeats)) + repeats
    if any(r < 0 for r in repeats):
        raise ValueError(f"tile: expected repeats of at least 0, got {repeats}")
    apart = reshape(x, tuple(v for s in sizes for v in (1, s)))
    wide = broadcast_to(
        apart, tuple(v for r, s in zip(repeats, sizes, strict=True) for v in (r, s))
    )
    return reshape(wide, tuple(r * s for r, s in zip(repeats, sizes, strict=True)))


@traceable()
def repeat(x, repeats, axis=None):
    """Each element along `axis` (None: of the flat tensor) `repeats` times, a number for all or one
    for each."""
    x = to_tensor(x)
    x, axis = (ravel(x), 0) if axis is None else (x, check_axis("repeat", axis, x.ndim))
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or (counts < 0).any():
        raise ValueError(f"repeat: expected repeats of at least 0 as integers, got {repeats!r}")
    n = x.shape[axis]
    if counts.size == 1:
        count = int(counts.reshape(()))
        shape = (*x.shape[: axis + 1], count, *x.shape[axis + 1 :])
        wide = broadcast_to(expand_dims(x, axis + 1), shape)
        return reshape(wide, (*x.shape[:axis], n * count, *x.shape[axis + 1 :]))
    if counts.size != n:
        raise ValueError(f"repeat: expected 1 or {n} repeats, got {counts.size}")
    from dlcore.ops.indexing import take

    return take(x, np.repeat(np.arange(n, dtype="int32"), counts), axis)


@traceable()
def roll(x, shift, axis=None):
    """x with its elements moved by `shift` along `axis` (None: flat), those that leave coming in at
    the other end."""
    x = to_tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for by, a in zip(shifts.ravel().tolist(), axes.ravel().tolist(), strict=True):
        a = check_axis("roll", a, x.ndim)
        by = by % x.shape[a] if x.shape[a] else 0
        if by:
            x = concatenate(shaping.split(x, [x.shape[a] - by], a)[::-1], a)
    return x


@traceable()
def rot90(array, k=1, axes=(0, 1)):
    """`array` turned k times by 90 degrees from the first to the second of `axes`."""
    x = to_tensor(array)
    a, b = (check_axis("rot90", n, x.ndim) for n in axes)
    if a == b:
        raise ValueError(f"rot90: expected two different axes, got {axes}")
    for axis in {0: (), 1: (b,), 2: (a, b), 3: (a,)}[k % 4]:
        x = flip(x, axis)
    return shaping.swapaxes(x, a, b) if k % 2 else x


def fliplr(x):
    """x backwards along its second axis."""
    return flip(x, 1)


def flipud(x):
    """x backwards along its first axis."""
    return flip(x, 0)


# Triangles and diagonals


def tri(N, M=None, k=0, dtype=None):
    """An N x M matrix with ones at and below diagonal k."""
    return _constant(np.tri(N, M, k, dtypes.standardize(dtype, "tri")))


def _constant(array):
    return array if current_trace() is None else to_tensor(array)


def _triangle(name, x, k, lower):
    x = to_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"{name}: expected at least 2 axes, got shape {x.shape}")
    below = np.tri(*x.shape[-2:], k if lower else k - 1, bool)
    return where(below if lower else ~below, x, 0)


@traceable()
def tril(x, k=0):
    """Matrices of the last two axes with zeros above diagonal k."""
    return _triangle("tril", x, k, True)


@traceable()
def triu(x, k=0):
    """Matrices of the last two axes with zeros below diagonal k."""
    return _triangle("triu", x, k, False)


@traceable()
def diagonal(x, offset=0, axis1=0, axis2=1):
    """x[i, i + offset] of the matrices of two axes, as the last axis."""
    x = to_tensor(x)
    check_axes("diagonal", (axis1, axis2), x.ndim)
    axis1, axis2 = (check_axis("diagonal", a, x.ndim) for a in (axis1, axis2))
    return diagonal_last(x, axis1, axis2, offset)


@traceable()
def diag(x, k=0):
    """The matrix with the vector x on diagonal k, or diagonal k of the matrix x."""
    x = to_tensor(x)
    if x.ndim == 2:
        return diagonal_last(x, 0, 1, k)
    if x.ndim != 1:
        raise ValueError(f"diag: expected 1 or 2 axes, got shape {x.shape}")
    n = x.shape[0] + abs(k)
    first = -k * n if k < 0 else k
    bounds = ((first, first + (x.shape[0] - 1) * (n + 1) + 1, n + 1) if x.size else (0, 0, 1),)
    return reshape(OPS["place"](x, shape=(n * n,), bounds=bounds), (n, n))


@traceable()
def diagflat(x, k=0):
    """The matrix with the flat x on diagonal k."""
    return diag(ravel(x), k)


# Joins and cuts


@traceable(-1)
def hstack(xs):
    """Tensors joined along their second axis, vectors along the first."""
    xs = [reshape(x, (1,)) if not x.shape else x for x in promoted(*xs)]
    return concatenate(xs, min(xs[0].ndim - 1, 1))


@traceable(-1)
def vstack(xs):
    """Tensors joined along their first axis; vectors are rows."""
    return concatenate([_at_least(x, 2) for x in promoted(*xs)], 0)


@traceable(-1)
def dstack(xs):
    """Tensors joined along their third axis; vectors are rows."""
    return concatenate([_at_least(x, 3) for x in promoted(*xs)], 2)


def _at_least(x, ndim):
    """x with axes in front for vectors, behind for matrices."""
    if x.ndim < 2:
        x = reshape(x, (1, x.size))
    return expand_dims(x, 2) if ndim == 3 and x.ndim == 2 else x


@traceable()
def array_split(x, indices_or_sections, axis=0):
    """As `split`, where the first of the sections may be longer by one."""
    x, n = to_tensor(x), indices_or_sections
    if isinstance(n, (int, np.integer)):
        if n < 1:
            raise ValueError(f"array_split: expected at least 1 section, got {n}")
        size = x.shape[check_axis("array_split", axis, x.ndim)]
        n = [i * (size // n) + min(i, size % n) for i in range(1, n)]
    return shaping.split(x, n, axis)


def hsplit(x, indices_or_sections):
    """x cut along its second axis, a vector along the first."""
    return shaping.split(x, indices_or_sections, min(max(len(creation.shape(x)) - 1, 0), 1))


def vsplit(x, indices_or_sections):
    """x cut along its first axis."""
    return shaping.split(x, indices_or_sections, 0)


def dsplit(x, indices_or_sections):
    """x cut along its third axis."""
    return shaping.split(x, indices_or_sections, 2)


@traceable(2)
def append(x1, x2, axis=None):
    """x2 behind x1 along `axis` (None: both flat)."""
    xs = promoted(x1, x2)
    return concatenate([ravel(x) for x in xs] if axis is None else xs, axis or 0)


def meshgrid(*x, indexing="xy"):
    """A list of grids of the coordinates in the vectors x; "xy" has rows along the second."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: expected indexing 'xy' or 'ij', got {indexing!r}")
    return _meshgrid(list(x), indexing) if x else []


@traceable(-1)
def _meshgrid(xs, indexing):
    xs = [ravel(x) for x in xs]
    order = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        order[:2] = 1, 0
    shape = tuple(xs[i].shape[0] for i in order)
    others = [tuple(j for j in range(len(xs)) if j != order.index(i)) for i in range(len(xs))]
    return [broadcast_to(expand_dims(x, o), shape) for x, o in zip(xs, others, strict=True)]


# New arrays


def identity(n, dtype=None):
    """The n x n matrix with ones on its diagonal."""
    return creation.eye(n, dtype=dtype)


def empty(shape, dtype=None):
    """An array of `shape`; it holds zeros."""
    return creation.zeros(shape, dtype)


def empty_like(x, dtype=None):
    """An array of the shape of x; it holds zeros."""
    return creation.zeros_like(x, dtype)


def array(x, dtype=None):
    """x as a new array, or in a trace as a symbolic tensor, of `dtype`."""
    return copy(creation.convert_to_tensor(x, dtype))


def copy(x):
    """x in a new array; what is symbolic never changes, and stays."""
    x = creation.convert_to_tensor(x)
    return x.copy() if hasattr(x, "copy") else x


def logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0):
    """`num` numbers evenly spaced in their logarithm, from base ** start to base ** stop."""
    ends = to_array(start), to_array(stop)
    values = np.logspace(*ends, num, endpoint, to_array(base), axis=axis)
    return _constant(values.astype(dtypes.standardize(dtype, "logspace")))


def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """`num` numbers evenly spaced in their logarithm, from start to stop."""
    values = np.geomspace(to_array(start), to_array(stop), num, endpoint, axis=axis)
    return _constant(values.astype(dtypes.standardize(dtype, "geomspace")))


def _window(name, doc):
    def f(x):
        return _constant(getattr(np, name)(int(to_array(x))).astype(dtypes.standardize(None)))

    f.__name__, f.__doc__ = name, doc
    return f


bartlett = _window("bartlett", "The triangular window of x points.")
blackman = _window("blackman", "Blackman's window of x points.")
hamming = _window("hamming", "Hamming's window of x points.")
hanning = _window("hanning", "Hann's window of x points.")


def kaiser(x, beta):
    """Kaiser's window of x points and shape `beta`."""
    window = np.kaiser(int(to_array(x)), float(beta))
    return _constant(window.astype(dtypes.standardize(None)))


@traceable()
def vander(x, N=None, increasing=False):
    """The matrix of powers x[i] ** (N - 1 - j), or with `increasing` x[i] ** j."""
    x = to_tensor(x)
    if x.ndim != 1:
        raise ValueError(f"vander: expected 1 axis, got shape {x.shape}")
    powers = np.arange(x.shape[0] if N is None else N, dtype=dtypes.array_type(x.dtype))
    return expand_dims(x, 1) ** (powers if increasing else powers[::-1].copy())


@traceable()
def extract_sequences(x, sequence_length, sequence_stride):
    """Windows of `sequence_length` along the last axis, `sequence_stride` apart, as new axes."""
    from dlcore.ops.indexing import take

    x = to_tensor(x)
    starts = range(0, x.shape[-1] - sequence_length + 1, sequence_stride)
    places = [[a + i for i in range(sequence_length)] for a in starts]
    return take(x, np.asarray(places, "int32").reshape(-1, sequence_length), -1)


@traceable()
def unravel_index(indices, shape):
    """The coordinates, one tensor for each axis of `shape`, of places in the flat tensor."""
    at, size = to_tensor(indices), math.prod(shape)
    if dtypes.is_float(at.dtype):
        raise TypeError(f"unravel_index: expected integer indices, got {at.dtype}")
    at, result = where(at < 0, at + size, at), []
    for n in reversed(shape):
        result.append(at % n)
        at = at // n
    return tuple(reversed(result))


def _depth(name, x, block_size, data_format):
    x = to_tensor(x)
    if x.ndim != 4 or data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            f"{name}: expected images of 4 axes, channels_last or channels_first, "
            f"got {x.shape} {data_format}"
        )
    return moveaxis(x, 1, -1) if data_format == "channels_first" else x


@traceable()
def depth_to_space(x, block_size, data_format="channels_last"):
    """Images (N, H, W, b b C) as (N, b H, b W, C): each pixel's channels become a square of b."""
    x, b = _depth("depth_to_space", x, block_size, data_format), block_size
    n, h, w, c = x.shape
    if c % (b * b):
        raise ValueError(f"depth_to_space: expected channels in multiples of {b * b}, got {c}")
    c //= b * b
    y = transpose(reshape(x, (n, h, w, b, b, c)), (0, 1, 3, 2, 4, 5))
    y = reshape(y, (n, h * b, w * b, c))
    return moveaxis(y, -1, 1) if data_format == "channels_first" else y


@traceable()
def space_to_depth(x, block_size, data_format="channels_last"):
    """The inverse of `depth_to_space`."""
    x, b = _depth("space_to_depth", x, block_size, data_format), block_size
    n, h, w, c = x.shape
    if h % b or w % b:
        raise ValueError(f"space_to_depth: expected sizes in multiples of {b}, got {h} and {w}")
    y = transpose(reshape(x, (n, h // b, b, w // b, b, c)), (0, 1, 3, 2, 4, 5))
    y = reshape(y, (n, h // b, w // b, b * b * c))
    return moveaxis(y, -1, 1) if data_format == "channels_first" else y
