"""Normalization: values less their mean, divided by their standard deviation.

    y = (x - mean) inv gamma + beta,    inv = 1 / sqrt(variance + epsilon)

The mean is over a batch and its spatial axes (batch normalization), over the spatial axes of one
image and a group of its channels (group and instance normalization), or over the last axes of one
row (layer normalization). With g = dy gamma, h = (x - mean) inv and means over the same elements,

    dx = inv (g - mean(g) - h mean(g h)),    dgamma = sum(dy h),    dbeta = sum(dy)

so the gradient keeps x, the mean and the variance. Ioffe and Szegedy 2015,
https://arxiv.org/abs/1502.03167; Ba et al. 2016, https://arxiv.org/abs/1607.06450; Wu and He 2018,
https://arxiv.org/abs/1803.08494; Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467.
"""

import math

from dlcore.config import epsilon as default_epsilon
from dlcore.ops import pointwise as pw
from dlcore.ops import reduction
from dlcore.ops.calling import traceable
from dlcore.ops.creation import ones, zeros
from dlcore.ops.op import OPS, Op, as_float, check_axes, check_axis, to_tensor
from dlcore.ops.row_moments import gather_groups, grouped, moments_of_rows, over_rows, spread
from dlcore.ops.shaping import _dense, expand_dims, moveaxis, reshape, transpose
from dlcore.program.differentiate import gradient_of
from dlcore.program.dtypes import array_type

# Batch, group and instance normalization of x (N, H.., C), as one op: it is made of moments and of
# pointwise ops, which fuse with their neighbours, but its gradient takes one pass for both sums.
# batched: every row of the batch has moments of its own.


def _rows(x, batched):
    batch = x.shape[0] if batched else 1
    rows = math.prod(x.shape[1:-1]) * (1 if batched else x.shape[0])
    return reshape(_dense(x), (batch, rows, x.shape[-1]))


def _normalize_shape(x, gamma, beta, batched, groups, epsilon):
    shape = (x.shape[0] if batched else 1, groups)
    return [(x.shape, x.dtype), *[(shape, array_type(x.dtype))] * 2]


def _normalize(xp, x, gamma, beta, batched, groups, epsilon):
    batch = x.shape[0] if batched else 1
    rows = x.reshape(batch, math.prod(x.shape[:-1]) // max(batch, 1), x.shape[-1])
    mean, variance = moments_of_rows(xp, rows, groups)
    each = grouped(rows, groups)
    y = (each - mean[:, None, :, None]) / xp.sqrt(variance[:, None, :, None] + epsilon)
    return y.reshape(x.shape) * gamma + beta, mean, variance


def _normalize_parts(x, gamma, beta, batched, groups, epsilon):
    mean, variance = OPS["moments"](_rows(x, batched), groups=groups)
    channels = x.shape[-1]
    scale = spread(pw.rsqrt(variance + epsilon), channels) * gamma
    offset = beta - spread(mean, channels) * scale
    return x * over_rows(scale, x.ndim) + over_rows(offset, x.ndim), mean, variance


def _normalize_gradient(g, y, x, gamma, beta, batched, groups, epsilon):
    dy = g[0] if g[0] is not None else pw.multiply(x, 0.0)
    channels = x.shape[-1]
    mean, inv = spread(y[1], channels), pw.rsqrt(y[2] + epsilon)
    first, second = OPS["centered_sums"](_rows(dy, batched), _rows(x, batched), _dense(mean))
    share = y[1].size / max(x.size, 1)
    shift = gather_groups(first * gamma, groups) * inv * -share
    slope = gather_groups(second * gamma, groups) * (inv * inv * inv) * -share
    if g[1] is not None:
        shift = shift + g[1] * share
    if g[2] is not None:
        slope = slope + g[2] * (2.0 * share)
    shift, slope, inv = (spread(t, channels) for t in (shift, slope, inv))
    scale, slope, shift = (over_rows(t, x.ndim) for t in (inv * gamma, slope, shift - mean * slope))
    dx = dy * scale + (x * slope + shift)
    return [dx, _over_batch(second * inv), _over_batch(first)]


def _over_batch(x):
    """(B, C) summed to (C,)."""
    x = OPS["reduce"](x, kind="sum", axes=(0,)) if x.shape[0] != 1 else x
    return reshape(x, (x.shape[1],))


Op(
    "normalize_channels",  # x (N, H.., C), gamma, beta (C) -> y, mean, variance (N or 1, G)
    _normalize_shape,
    _normalize,
    _normalize_gradient,
    parts=_normalize_parts,
)


# Layer normalization of rows x (N, D); not centered: RMS normalization.


def _layer_norm(xp, x, gamma, beta, centered, epsilon):
    mean = xp.mean(x, axis=1) if centered else xp.zeros(x.shape[0], x.dtype)
    d = x - mean[:, None]
    inv = 1 / xp.sqrt(xp.mean(d * d, axis=1) + epsilon)
    return d * inv[:, None] * gamma + beta, mean, inv


def _layer_norm_grad(xp, dy, x, mean, inv, gamma, centered):
    h, g = (x - mean[:, None]) * inv[:, None], dy * gamma
    dx = g - h * xp.mean(g * h, axis=1, keepdims=True)
    if centered:
        dx = dx - xp.mean(g, axis=1, keepdims=True)
    return dx * inv[:, None], xp.sum(dy * h, axis=0), xp.sum(dy, axis=0)


def _layer_norm_gradient(g, y, x, gamma, beta, centered, epsilon):
    dy = pw.multiply(x, 0.0) if g[0] is None else _dense(g[0])
    _, mean, inv = y
    dx, dgamma, dbeta = OPS["layer_norm_grad"](dy, x, mean, inv, gamma, centered=centered)
    if g[1] is not None and centered:
        dx = dx + expand_dims(g[1] / x.shape[1], 1)
    if g[2] is not None:
        slope = g[2] * pw.power(inv, 3) / -x.shape[1]
        dx = dx + (x - expand_dims(mean, 1)) * expand_dims(slope, 1)
    return [dx, dgamma, dbeta]


def _layer_norm_grad_parts(dy, x, mean, inv, gamma, centered):
    h, g = (x - expand_dims(mean, 1)) * expand_dims(inv, 1), dy * gamma
    dx = g - h * reduction.mean(g * h, 1, keepdims=True)
    if centered:
        dx = dx - reduction.mean(g, 1, keepdims=True)
    return dx * expand_dims(inv, 1), reduction.sum(dy * h, 0), reduction.sum(dy, 0)


Op(
    "layer_norm",  # x (N, D), gamma, beta (D) -> y, mean (N), inv (N)
    lambda x, *_, **attrs: [(x.shape, x.dtype)] + [(x.shape[:1], array_type(x.dtype))] * 2,
    _layer_norm,
    _layer_norm_gradient,
    kernel=lambda node: ("layer_norm", [int(node.attrs["centered"])], [node.attrs["epsilon"]]),
    optional=2,
)
Op(
    "layer_norm_grad",  # dy, x, mean, inv, gamma -> dx, dgamma, dbeta
    lambda dy, x, *_, **attrs: [(x.shape, x.dtype)] + [(x.shape[1:], array_type(x.dtype))] * 2,
    _layer_norm_grad,
    gradient_of(_layer_norm_grad_parts),
    kernel=lambda node: ("layer_norm_grad", [int(node.attrs["centered"])], []),
    optional=2,
)


def _channels_last(name, x, axis):
    """(x with `axis` last, the function that moves it back)."""
    if x.ndim < 1:
        raise ValueError(f"{name}: expected at least one axis, got a scalar")
    axis = check_axis(name, axis, x.ndim)
    return moveaxis(x, axis, -1), lambda y: moveaxis(y, -1, axis)


def _vectors(name, x, *vectors):
    """Vectors over the channels of x as tensors of its type, for halves of float32; None as it
    is."""
    result = []
    for v in vectors:
        v = None if v is None else pw.cast(to_tensor(v), array_type(x.dtype))
        if v is not None and v.shape != x.shape[-1:]:
            raise ValueError(f"{name}: expected vectors of {x.shape[-1]} channels, got {v.shape}")
        result.append(v)
    return result


def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """(x - mean) / sqrt(variance + epsilon) scale + offset, as `keras.ops.batch_normalization`.

    Parameters
    ----------
    x : array
    mean, variance, offset, scale : array (C,)
        C is the size of `axis`.
    axis : int
    epsilon : float, default 1e-3

    Returns
    -------
    array of the shape of x
    """
    return _batch_normalization(x, mean, variance, offset, scale, axis, epsilon)


@traceable(5)
def _batch_normalization(x, mean, variance, offset, scale, axis, epsilon):
    name = "batch_normalization"
    x, back = _channels_last(name, as_float(x), axis)
    mean, variance, offset, scale = _vectors(name, x, mean, variance, offset, scale)
    factor = pw.rsqrt(variance + epsilon)
    factor = factor if scale is None else factor * scale
    shift = -(mean * factor) if offset is None else offset - mean * factor
    # in one operation, which convolutions take as their epilogue
    return back(pw.cast(x * factor + shift, x.dtype))


def normalize_channels(name, x, gamma, beta, axis, epsilon, groups=None):
    """(y, mean, variance) of x normalized by its own moments; gamma and beta may be None.

    groups : int, optional
        Of channels, each image by itself; by default every channel, over the batch. Mean and
        variance are (N, groups) or (1, C).
    """
    x, back = _channels_last(name, as_float(x), axis)
    gamma, beta = _vectors(name, x, gamma, beta)
    dtype = array_type(x.dtype)
    gamma = ones(x.shape[-1:], dtype) if gamma is None else gamma
    beta = zeros(x.shape[-1:], dtype) if beta is None else beta
    attrs = {"batched": groups is not None, "groups": groups or x.shape[-1], "epsilon": epsilon}
    y, mean, variance = OPS["normalize_channels"](x, gamma, beta, **attrs)
    return back(y), mean, variance


def _normalize_rows(name, x, gamma, beta, axis, epsilon, centered):
    axes = check_axes(name, axis, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    order = kept + axes
    sizes = tuple(x.shape[a] for a in axes)
    n, size = math.prod(x.shape[a] for a in kept), math.prod(sizes)
    dtype = array_type(x.dtype)

    def vector(v, what, value):
        if v is None:
            return _dense(OPS["broadcast_to"](to_tensor(value, dtype), shape=(size,)))
        v = pw.cast(to_tensor(v), dtype)
        if v.shape != sizes and v.size != size:
            raise ValueError(f"{name}: expected {what} of shape {sizes}, got {v.shape}")
        return reshape(_dense(v), (size,))

    moved = x if order == tuple(range(x.ndim)) else transpose(x, order)
    y, *_ = OPS["layer_norm"](
        reshape(_dense(moved), (n, size)),
        vector(gamma, "gamma", 1.0),
        vector(beta, "beta", 0.0),
        centered=centered,
        epsilon=float(default_epsilon() if epsilon is None else epsilon),
    )
    y = reshape(y, moved.shape)
    return y if moved is x else transpose(y, [order.index(a) for a in range(x.ndim)])


@traceable(3)
def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=None):
    """x normalized over `axis` of each row, as `keras.ops.layer_normalization`.

    Parameters
    ----------
    x : array
    gamma, beta : array, optional
        Factors and offsets, of the shape of the normalized axes.
    axis : int or tuple of int, default -1
    epsilon : float, default `config.epsilon()`

    Returns
    -------
    array of the shape of x

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.ops.layer_normalization(np.array([[1.0, 3.0]], "float32"))
    array([[-1.,  1.]], dtype=float32)
    """
    return _normalize_rows("layer_normalization", as_float(x), gamma, beta, axis, epsilon, True)


@traceable(2)
def rms_normalization(x, scale=None, axis=-1, epsilon=None):
    """x / sqrt(mean(x^2) + epsilon) scale over `axis`, as `keras.ops.rms_normalization`.

    Parameters
    ----------
    x : array
    scale : array, optional
        Factors, of the shape of the normalized axes.
    axis : int or tuple of int, default -1
    epsilon : float, default `config.epsilon()`

    Returns
    -------
    array of the shape of x
    """
    return _normalize_rows("rms_normalization", as_float(x), scale, None, axis, epsilon, False)
