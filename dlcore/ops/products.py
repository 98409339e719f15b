"""Sums of products: einsum, and tensordot, inner, outer, vdot, kron and cross.

einsum takes two operands at a time, those whose product is smallest. Letters that no other operand
and no result needs are summed first; of the rest

    y[batch, m, n] = sum_k a[batch, m, k] b[batch, k, n]

is one batched matrix product, where m is of a alone, n of b alone, and k leaves the result. Without
k it is a broadcast product. Gradients come from those of the parts.
"""

import itertools
import math

from dlcore.ops.calling import traceable
from dlcore.ops.linalg import matmul
from dlcore.ops.op import OPS, cast_to, check_axes, check_axis, promoted, to_tensor
from dlcore.ops.reduction import sum as sum_
from dlcore.ops.shaping import concatenate, expand_dims, moveaxis, ravel, reshape, transpose
from dlcore.program import dtypes


def einsum(subscripts, *operands, **kwargs):
    """Sum of products by Einstein's convention, as ``numpy.einsum``.

    Parameters
    ----------
    subscripts : str
        The letters of each operand's axes, "->", and those of the result: letters that are missing
        there are summed over. A letter twice in an operand takes its diagonal; "..." stands for all
        axes without letters. Without "->" the result has the letters that occur once, in
        alphabetical order.
    *operands : array_like

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np
    >>> from dlcore import ops
    >>> ops.einsum("ij,j->i", np.ones((2, 3), "float32"), np.ones(3, "float32"))
    array([3., 3.], dtype=float32)
    """
    unknown = set(kwargs) - {"optimize"}
    if unknown or not isinstance(subscripts, str):
        what = sorted(unknown) or type(subscripts).__name__
        raise TypeError(f"einsum: expected an equation and operands, got {what}")
    return _einsum(list(operands), subscripts)


@traceable(-1)
def _einsum(xs, subscripts):
    xs = promoted(*xs)
    if xs[0].dtype in ("bool", "uint8"):
        xs = [cast_to(x, "int32") for x in xs]
    terms, result = _labels(subscripts, [x.shape for x in xs])
    sizes = _sizes(subscripts, terms, [x.shape for x in xs])
    parts = [_own_axes(*_diagonals(x, t), sizes) for x, t in zip(xs, terms, strict=True)]
    while len(parts) > 1:
        a, b = _cheapest(parts, sizes)
        rest = [p for p in parts if p is not a and p is not b]
        needed = set(result).union(*(t for _, t in rest))
        parts = [*rest, _product(_kept(*a, needed | set(b[1])), _kept(*b, needed | set(a[1])),
                                 needed, sizes)]  # fmt: skip
    x, labels = _kept(*parts[0], set(result))
    x = transpose(x, [labels.index(c) for c in result if c in labels])
    shape = tuple(sizes[c] for c in result)  # labels of size 1 were dropped
    return reshape(x, shape) if x.size == math.prod(shape) else x


def _labels(subscripts, shapes):
    """Lists of labels, a list per operand and that of the result; the axes of "..." are numbers,
    -1 the last."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(
            f"einsum: expected {len(terms)} operands for {subscripts!r}, got {len(shapes)}"
        )
    found, hidden = [], 0
    for term, shape in zip(terms, shapes, strict=True):
        letters = term.replace("...", "", 1)
        more = len(shape) - len(letters)
        dots = "..." in term
        if not (letters.isalpha() or not letters) or more < 0 or (more and not dots):
            raise ValueError(
                f"einsum: expected a letter for each axis in {term!r}, got shape {shape}"
            )
        hidden = max(hidden, more) if dots else hidden
        found.append(_with_dots(term, more))
    if not arrow:
        count = [c for c in left if c.isalpha()]
        right = "..." * ("..." in left) + "".join(c for c in sorted(count) if count.count(c) == 1)
    result = _with_dots(right, hidden)
    known = set().union(*map(set, found))
    if len(set(result)) < len(result) or not set(result) <= known:
        raise ValueError(
            f"einsum: expected different letters of the operands in the result, got {subscripts!r}"
        )
    return found, result


def _with_dots(term, n):
    before, dots, after = term.partition("...")
    return [*before, *(range(-n, 0) if dots else ()), *after]


def _sizes(subscripts, terms, shapes):
    sizes = {}
    for term, shape in zip(terms, shapes, strict=True):
        for c, n in zip(term, shape, strict=True):
            if n != sizes.setdefault(c, n) and n != 1:
                if sizes[c] != 1:
                    raise ValueError(
                        f"einsum: expected one size for each letter of {subscripts!r}, "
                        f"got {sizes[c]} and {n}"
                    )
                sizes[c] = n
    return sizes


def _diagonals(x, labels):
    """x with one axis for each of its labels."""
    labels = list(labels)
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            x = diagonal_last(x, i, j)
            labels = [d for k, d in enumerate(labels) if k not in (i, j)] + [c]
    return x, labels


def diagonal_last(x, axis1, axis2, offset=0):
    """The diagonal x[.., i, .., i + offset, ..] as the last axis."""
    rest = [k for k in range(x.ndim) if k not in (axis1, axis2)]
    x = transpose(x, [*rest, axis1, axis2])
    rows, columns = x.shape[-2:]
    n = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    first = -offset * columns if offset < 0 else offset
    flat = reshape(x, (*x.shape[:-2], rows * columns))
    bounds = [(0, s, 1) for s in flat.shape[:-1]]
    last = (first, first + (n - 1) * (columns + 1) + 1, columns + 1) if n else (0, 0, 1)
    return OPS["slice"](flat, bounds=(*bounds, last))


def _own_axes(x, labels, sizes):
    """x without axes of size 1 that are broadcast against those of other operands."""
    kept = [i for i, c in enumerate(labels) if x.shape[i] == sizes[c]]
    return reshape(x, tuple(x.shape[i] for i in kept)), [labels[i] for i in kept]


def _kept(x, labels, needed):
    """x summed over the labels that nobody needs."""
    axes = tuple(i for i, c in enumerate(labels) if c not in needed)
    return (sum_(x, axes) if axes else x), [c for c in labels if c in needed]


def _cheapest(parts, sizes):
    """The two operands whose labels together span the fewest products."""

    def products(pair):
        return math.prod(sizes[c] for c in {*pair[0][1], *pair[1][1]})

    return min(itertools.combinations(parts, 2), key=products)


def _product(a, b, needed, sizes):
    (x, of_x), (z, of_z) = a, b
    both = [c for c in of_x if c in of_z]
    batch, summed = ([c for c in both if (c in needed) is kept] for kept in (True, False))
    own_x, own_z = ([c for c in of if c not in both] for of in (of_x, of_z))
    labels = batch + own_x + own_z

    def arranged(x, labels, *groups):
        """x with the axes of the batch, then one for each group."""
        x = transpose(x, [labels.index(c) for c in (*batch, *(c for g in groups for c in g))])
        merged = (math.prod(sizes[c] for c in group) for group in groups)
        return reshape(x, (*(sizes[c] for c in batch), *merged))

    if summed and dtypes.is_float(x.dtype) and (own_x or own_z):
        y = matmul(arranged(x, of_x, own_x, summed), arranged(z, of_z, summed, own_z))
    else:
        y = arranged(x, of_x, own_x, (), summed) * arranged(z, of_z, (), own_z, summed)
        y = sum_(y, -1) if summed else y
    return reshape(y, tuple(sizes[c] for c in labels)), labels


@traceable(2)
def tensordot(x1, x2, axes=2):
    """Sum of products over pairs of axes: the last `axes` of x1 with the first of x2, or the pairs
    of ``axes = (axes of x1, axes of x2)``."""
    a, b = promoted(x1, x2)
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ValueError(f"tensordot: expected axes in 0..{min(a.ndim, b.ndim)}, got {axes}")
        pairs = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        pairs = [[n] if isinstance(n, int) else list(n) for n in axes]
        pairs = [
            [check_axis("tensordot", n, x.ndim) for n in of]
            for x, of in zip((a, b), pairs, strict=True)
        ]
    summed = [[x.shape[n] for n in of] for x, of in zip((a, b), pairs, strict=True)]
    if summed[0] != summed[1]:
        raise ValueError(f"tensordot: expected summed axes of one size, got {summed}")
    labels = [[(i, n) for n in range(x.ndim)] for i, x in enumerate((a, b))]
    for i, j in zip(*pairs, strict=True):
        labels[1][j] = labels[0][i]
    sizes = dict(zip(labels[1], b.shape, strict=True)) | dict(zip(labels[0], a.shape, strict=True))
    needed = set(labels[0]) ^ set(labels[1])
    return _product((a, labels[0]), (b, labels[1]), needed, sizes)[0]


@traceable(2)
def inner(x1, x2):
    """Sum of products over the last axes; scalars multiply."""
    a, b = promoted(x1, x2)
    return a * b if not a.shape or not b.shape else tensordot(a, b, ((-1,), (-1,)))


@traceable(2)
def outer(x1, x2):
    """x1[i] x2[j] of the flat tensors."""
    a, b = promoted(x1, x2)
    return expand_dims(ravel(a), 1) * ravel(b)


@traceable(2)
def vdot(x1, x2):
    """Sum of products of the flat tensors."""
    a, b = promoted(x1, x2)
    if a.size != b.size:
        raise ValueError(f"vdot: expected as many elements, got shapes {a.shape} and {b.shape}")
    return sum_(ravel(a) * ravel(b))


@traceable(2)
def kron(x1, x2):
    """Blocks x1[i, j, ..] x2, put together."""
    a, b = promoted(x1, x2)
    n = max(a.ndim, b.ndim)
    a, b = (reshape(x, (1,) * (n - x.ndim) + x.shape) for x in (a, b))
    shape = tuple(p * q for p, q in zip(a.shape, b.shape, strict=True))
    a = expand_dims(a, tuple(range(1, 2 * n, 2)))
    return reshape(a * expand_dims(b, tuple(range(0, 2 * n, 2))), shape)


@traceable(2)
def cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Vector product along the axes of 3 (or 2: their third is 0) elements; of two plane vectors
    the third element alone."""
    a, b = promoted(x1, x2)
    axisa, axisb, axisc = (axis,) * 3 if axis is not None else (axisa, axisb, axisc)
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    if not {a.shape[-1], b.shape[-1]} <= {2, 3}:
        raise ValueError(f"cross: expected vectors of 2 or 3, got {a.shape[-1]} and {b.shape[-1]}")
    (a0, a1, a2), (b0, b1, b2) = ([_entry(x, i) for i in range(3)] for x in (a, b))
    z = a0 * b1 - a1 * b0
    if a.shape[-1] == b.shape[-1] == 2:
        return z
    entries = [expand_dims(t, -1) for t in (a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, z)]
    return moveaxis(concatenate(entries, -1), -1, axisc)


def _entry(x, i):
    return x[..., i] if i < x.shape[-1] else x[..., 0] * 0


@traceable()
def trace(x, offset=0, axis1=0, axis2=1):
    """Sum of a diagonal; see `diagonal`."""
    x = to_tensor(x)
    check_axes("trace", (axis1, axis2), x.ndim)
    axis1, axis2 = (check_axis("trace", a, x.ndim) for a in (axis1, axis2))
    return sum_(diagonal_last(x, axis1, axis2, offset), -1)
