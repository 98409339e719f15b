"""Images read at places that a matrix per image names: shifts, flips, rotations, zooms, crops.

    column = m0 j + m1 i + m2, row = m3 j + m4 i + m5        for the pixel (i, j) of the result

x (N, H, W, C), matrix (N, 6), y (N, P, Q, C). Bilinear reading weights the four pixels around the
place by its fractions, nearest reading takes one. Places are fixed-point numbers of 32 fraction
bits, so that this formula and csrc/cpu/kernels/affine_sample.cpp read the very same pixels.
"""

import numpy as np

from dlcore.ops.calling import traceable
from dlcore.ops.op import OPS, Op, cast_to, to_tensor
from dlcore.ops.shaping import concatenate, reshape
from dlcore.program import dtypes
from dlcore.program.graph import Tensor

INTERPOLATIONS = ("nearest", "bilinear")
FILL_MODES = ("constant", "nearest", "reflect", "wrap", "mirror")
_MOST_PIXELS = 2**15
_BITS, _ONE = 32, 1 << 32
_MOST_SLOPE, _MOST_OFFSET = 2.0**14, 2.0**29  # entries beyond are cut: no sum leaves 64 bits


def _places(xp, matrix, p, q):
    """(rows, columns) int64 (N, P, Q) in fixed point."""
    most = np.array([_MOST_SLOPE, _MOST_SLOPE, _MOST_OFFSET] * 2)
    m = matrix.astype(np.float64)
    most = xp.broadcast_to(xp.asarray(most), m.shape)
    m = xp.where(m > -most, xp.minimum(m, most), -most)  # NaN becomes -most
    m = xp.rint(m * _ONE).astype(np.int64).T[:, :, None, None]
    i, j = xp.arange(p)[None, :, None], xp.arange(q)[None, None, :]
    return m[3] * j + m[4] * i + m[5], m[0] * j + m[1] * i + m[2]


def _inside(xp, i, n, mode):
    """(index, whether there is such a pixel) for the positions `i` on an axis of n pixels."""
    if mode == "nearest":
        return xp.clip(i, 0, n - 1), xp.ones(i.shape, bool)
    if mode == "wrap":
        return i % n, xp.ones(i.shape, bool)
    if mode == "reflect":
        k = i % (2 * n)
        return xp.where(k < n, k, 2 * n - 1 - k), xp.ones(i.shape, bool)
    if mode == "mirror":
        k = i % max(2 * n - 2, 1)
        return xp.where(k < n, k, 2 * n - 2 - k), xp.ones(i.shape, bool)
    return xp.clip(i, 0, n - 1), (i >= 0) & (i < n)


def _taps(xp, matrix, shape, p, q, interpolation, fill_mode, dtype):
    """[(image, row, column, whether it is there, weight)], each (N, P, Q): what a pixel reads."""
    n, h, w, _ = shape
    rows, columns = _places(xp, matrix, p, q)
    images = xp.arange(n)[:, None, None]
    taps = []
    if interpolation == "nearest":
        rows, columns = rows + _ONE // 2, columns + _ONE // 2
    fractions = [((x & (_ONE - 1)) / _ONE).astype(dtype) for x in (rows, columns)]
    for a in (0, 1):
        for b in (0, 1):
            r, r_there = _inside(xp, (rows >> _BITS) + a, h, fill_mode)
            c, c_there = _inside(xp, (columns >> _BITS) + b, w, fill_mode)
            down = fractions[0] if a else 1 - fractions[0]
            right = fractions[1] if b else 1 - fractions[1]
            taps.append((images, r, c, r_there & c_there, down * right))
    if interpolation == "nearest":
        return [(*taps[0][:4], xp.ones(rows.shape, dtype))]
    return taps


def _formula(xp, x, matrix, shape, interpolation, fill_mode, fill_value):
    if not x.size or 0 in shape:
        return xp.zeros((x.shape[0], *shape, x.shape[3]), x.dtype)
    y = 0
    for n, r, c, there, weight in _taps(
        xp, matrix, x.shape, *shape, interpolation, fill_mode, x.dtype
    ):
        value = xp.where(there[..., None], x[n, r, c], x.dtype.type(fill_value))
        # A pixel of weight 0 is not read: infinities beside a whole place do not matter.
        y = y + xp.where(weight[..., None] == 0, x.dtype.type(0), weight[..., None] * value)
    return y


def _grad_formula(xp, dy, matrix, shape, interpolation, fill_mode, fill_value):
    n, h, w, c = dy.shape[0], *shape, dy.shape[3]
    dx = xp.zeros((n, h, w, c), dy.dtype)
    if dy.size and dx.size:
        taps = _taps(xp, matrix, dx.shape, *dy.shape[1:3], interpolation, fill_mode, dy.dtype)
        for image, row, column, there, weight in taps:
            # One index, as all backends add by one.
            pixel = ((image * h + row) * w + column).reshape(-1)
            part = xp.where(there, weight, 0)[..., None] * dy
            xp.add.at(dx.reshape(-1, c), pixel, part.reshape(-1, c))
    return dx


def _check(name, x, matrix, shape):
    if len(x.shape) != 4:
        raise ValueError(f"{name}: expected images (N, H, W, C), got {tuple(x.shape)}")
    if tuple(matrix.shape) != (x.shape[0], 6):
        raise ValueError(f"{name}: expected matrices ({x.shape[0]}, 6), got {tuple(matrix.shape)}")
    if max(*x.shape[1:3], *shape) > _MOST_PIXELS or min(shape) < 0:
        raise ValueError(
            f"{name}: expected at most {_MOST_PIXELS} pixels a side,"
            f" got {tuple(x.shape[1:3])} to {tuple(shape)}"
        )
    if 0 in x.shape[1:3] and 0 not in shape:
        raise ValueError(f"{name}: expected images of at least one pixel, got {tuple(x.shape)}")
    return (x.shape[0], *shape, x.shape[3]), x.dtype


def _grad_shape(dy, matrix, shape, **_):
    return (dy.shape[0], *shape, dy.shape[3]), dy.dtype


def _kernel(node):
    at = node.attrs
    how = [INTERPOLATIONS.index(at["interpolation"]), FILL_MODES.index(at["fill_mode"])]
    return node.op.name, how, [at["fill_value"]]


def _gradient(g, y, x, matrix, shape, interpolation, fill_mode, fill_value):
    return OPS["affine_sample_grad"](
        g, matrix, shape=x.shape[1:3], interpolation=interpolation, fill_mode=fill_mode,
        fill_value=fill_value,
    ), None  # fmt: skip


def _second_gradient(g, dx, dy, matrix, shape, interpolation, fill_mode, fill_value):
    return OPS["affine_sample"](
        g, matrix, shape=dy.shape[1:3], interpolation=interpolation, fill_mode=fill_mode,
        fill_value=0.0,
    ), None  # fmt: skip


Op(
    "affine_sample",
    lambda x, matrix, shape, **_: _check("affine_sample", x, matrix, shape),
    _formula,
    _gradient,
    kernel=_kernel,
)
Op("affine_sample_grad", _grad_shape, _grad_formula, _second_gradient, kernel=_kernel)


@traceable(2)
def affine_sample(
    x, matrix, shape=None, interpolation="bilinear", fill_mode="constant", fill_value=0.0
):
    """Images read at the places column = m0 j + m1 i + m2, row = m3 j + m4 i + m5.

    Parameters
    ----------
    x : array_like (N, H, W, C)
        Float32 or float64.
    matrix : array_like (N, 6)
        m0 .. m5 for each image; no gradient flows to it.
    shape : (P, Q), optional
        Pixels of the result; by default those of x.
    interpolation : {"bilinear", "nearest"}
    fill_mode : {"constant", "nearest", "reflect", "wrap", "mirror"}
        What lies outside of x: a constant, the border (a a | a b c | c c), the image reflected
        (b a | a b c | c b), repeated (b c | a b c | a b), or reflected at the centre of its border
        pixels (c b | a b c | b a).
    fill_value : float
        The constant.

    Returns
    -------
    array (N, P, Q, C)

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(3.0).reshape(1, 1, 3, 1)
    >>> affine_sample(x, [[-1.0, 0, 2, 0, 1, 0]]).ravel().tolist()
    [2.0, 1.0, 0.0]
    """
    for name, value, known in (
        ("interpolation", interpolation, INTERPOLATIONS),
        ("fill_mode", fill_mode, FILL_MODES),
    ):
        if value not in known:
            raise ValueError(
                f"affine_sample: expected {name} as one of {', '.join(known)}, got {value!r}"
            )
    x, matrix = to_tensor(x), to_tensor(matrix)
    if not dtypes.is_float(x.dtype):
        raise ValueError(f"affine_sample: expected float images, got {x.dtype}")
    shape = tuple(x.shape[1:3]) if shape is None else tuple(int(n) for n in shape)
    return OPS["affine_sample"](
        x, cast_to(matrix, dtypes.array_type(x.dtype)), shape=shape, interpolation=interpolation,
        fill_mode=fill_mode, fill_value=float(fill_value),
    )  # fmt: skip


def stack_matrix(entries, n, dtype):
    """A matrix (n, 6) for `affine_sample` from its six entries: numbers, or tensors (n,)."""
    columns = [
        reshape(e, (n, 1)) if isinstance(e, Tensor) else to_tensor(np.full((n, 1), e, dtype))
        for e in entries
    ]
    return concatenate(columns, axis=1)
