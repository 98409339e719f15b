"""Moments of rows x (B, R, C) in one pass: mean and variance (B, G), over R and the channels of
each of G groups; and the two sums (B, C) that gradients of normalization take.
"""

import math

from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.creation import zeros
from dlcore.ops.op import OPS, Op, as_float, check_axes
from dlcore.ops.shaping import _dense, reshape, transpose
from dlcore.program.dtypes import array_type


def grouped(x, groups):
    batch, rows, channels = x.shape
    return x.reshape(batch, rows, groups, channels // groups)


def moments_of_rows(xp, x, groups):
    x = grouped(x, groups)
    mean = xp.mean(x, axis=(1, 3), keepdims=True)
    variance = xp.mean((x - mean) ** 2, axis=(1, 3))
    return mean[:, 0, :, 0], variance


def spread(x, channels):
    """(B, G) as (B, C): every channel has what its group has."""
    batch, groups = x.shape
    if groups == channels:
        return x
    wide = OPS["broadcast_to"](
        reshape(x, (batch, groups, 1)), shape=(batch, groups, channels // groups)
    )
    return reshape(wide, (batch, channels))


def gather_groups(x, groups):
    """(B, C) as (B, G): sums over the channels of groups."""
    batch, channels = x.shape
    if groups == channels:
        return x
    x = OPS["reduce"](reshape(x, (batch, groups, channels // groups)), kind="sum", axes=(2,))
    return reshape(x, (batch, groups))


def _moments_gradient(g, y, x, groups):
    _, rows, channels = x.shape
    scale, dx = 1.0 / (rows * channels // groups), None
    if g[0] is not None:
        dx = over_rows(spread(g[0] * scale, channels), x.ndim)
    if g[1] is not None:
        slope, mean = spread(g[1] * (2.0 * scale), channels), spread(y[0], channels)
        part = (x - over_rows(mean, x.ndim)) * over_rows(slope, x.ndim)
        dx = part if dx is None else part + dx
    return [dx if dx.shape == x.shape else OPS["broadcast_to"](dx, shape=x.shape)]


def over_rows(x, ndim):
    """(B, C) as (B, 1.., C) of `ndim` axes, to meet x (B, H.., C)."""
    return reshape(x, (x.shape[0], *(1,) * (ndim - 2), x.shape[1]))


def _centered_sums_gradient(g, y, dy, x, mean):
    g = [zeros(mean.shape, mean.dtype) if t is None else t for t in g]
    first, second = (over_rows(t, 3) for t in g)
    d = x - over_rows(mean, 3)
    return [first + second * d, second * dy, -(g[1] * y[0])]


Op(
    "moments",  # x -> mean, variance (B, G)
    lambda x, groups: [((x.shape[0], groups), array_type(x.dtype))] * 2,
    moments_of_rows,
    _moments_gradient,
    kernel=lambda node: ("moments", [node.attrs["groups"]], []),
)
Op(
    "centered_sums",  # dy, x (B, R, C), mean (B, C) -> sums of dy and of dy (x - mean), (B, C)
    lambda dy, x, mean: [(mean.shape, array_type(x.dtype))] * 2,
    lambda xp, dy, x, mean: (
        xp.sum(dy, axis=1),
        xp.sum(dy * (x - mean[:, None]), axis=1),
    ),
    _centered_sums_gradient,
    kernel=lambda node: ("centered_sums", [], []),
)


@traceable()
def moments(x, axes, keepdims=False, synchronized=False):
    """Mean and variance over `axes`, in one pass over x.

    Parameters
    ----------
    x : array
    axes : int or tuple of int
    keepdims : bool, default False
    synchronized : bool
        Accepted for Keras' sake; must be False.

    Returns
    -------
    (mean, variance)

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> mean, variance = dlcore.ops.moments(np.array([[1.0, 3.0], [5.0, 5.0]], "float32"), 1)
    >>> mean, variance
    (array([2., 5.], dtype=float32), array([1., 0.], dtype=float32))
    """
    if synchronized:
        raise ValueError("moments: expected synchronized=False, got True")
    x = as_float(x)
    axes = check_axes("moments", axes, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    sizes = tuple(x.shape[a] for a in kept)
    final = tuple(1 if a in axes else n for a, n in enumerate(x.shape)) if keepdims else sizes
    count = math.prod(x.shape[a] for a in axes)
    if kept in ((x.ndim - 1,), (0, x.ndim - 1)) and sizes[-1] and x.ndim > 1:
        rows, groups = (math.prod(sizes[:-1]), count, sizes[-1]), sizes[-1]
    else:
        rows, groups = (math.prod(sizes), count, 1), 1
        x = transpose(x, kept + axes)
    found = OPS["moments"](reshape(_dense(x), rows), groups=groups)
    return tuple(pw.cast(reshape(t, final), x.dtype) for t in found)
