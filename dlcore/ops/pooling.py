"""Pooling over windows of 1 to 3 spatial axes, with gradients.

    max      y[n, p, c] = max over r of x[n, p stride + r - before, c]
    average  y[n, p, c] = mean over the r inside x of the same; padding does not count

x (N, H.., C), y (N, P.., C), r in 0..size - 1 on every axis. The gradient of max keeps the position
r of each maximum in its window (the first of equals; NaN wins) and neither x nor y.
"""

import itertools
import math

from dlcore.ops import pointwise, reduction  # noqa: F401, their gradients are shortened here
from dlcore.ops.calling import traceable
from dlcore.ops.op import OPS, Op, as_float, to_tensor
from dlcore.ops.shaping import _dense, _ints, pad
from dlcore.ops.spatial import (
    channels_last,
    check_data_format,
    check_sizes,
    count_places,
    find_padding,
    from_channels_last,
)


class _Windows:
    """The formulas: taps of windows as strided slices of a padded array."""

    def __init__(self, sizes, places, size, strides, before):
        axes = list(zip(sizes, places, size, strides, before, strict=True))
        self.padded = tuple(max((p - 1) * s + r, a + h) for h, p, r, s, a in axes)
        self.inside = tuple(slice(a, a + h) for h, _, _, _, a in axes)
        self.sizes, self._axes = sizes, axes

    def __iter__(self):
        """(tap, the slices of the padded array that it meets)."""
        ranges = (range(r) for _, _, r, _, _ in self._axes)
        for tap, at in enumerate(itertools.product(*ranges)):
            cuts = (
                slice(i, i + (p - 1) * s + 1, s)
                for i, (_, p, _, s, _) in zip(at, self._axes, strict=True)
            )
            yield tap, (slice(None), *cuts)

    def pad(self, xp, x, value):
        padded = xp.full((x.shape[0], *self.padded, x.shape[-1]), value, x.dtype)
        padded[(slice(None), *self.inside)] = x
        return padded

    def are_inside(self, xp):
        """For each tap, where it lies inside: (1, P.., 1)."""
        padded = self.pad(xp, xp.ones((1, *self.sizes, 1), bool), False)
        return [padded[cut] for _, cut in self]

    def counts(self, xp, dtype):
        """Taps inside, (1, P.., 1)."""
        return sum(at.astype(dtype) for at in self.are_inside(xp))


def _max_pool(xp, x, shape, size, strides, before):
    windows = _Windows(x.shape[1:-1], shape[1:-1], size, strides, before)
    padded = windows.pad(xp, x, -math.inf)
    y = xp.full((x.shape[0], *shape[1:]), -math.inf, x.dtype)
    index = xp.full(y.shape, -1, "int32")
    for (tap, cut), inside in zip(windows, windows.are_inside(xp), strict=True):
        v = padded[cut]
        wins = (v > y) | (v != v) | ((index < 0) & inside)
        y, index = xp.where(wins, v, y), xp.where(wins, tap, index)
    return y, index


def _max_pool_grad(xp, dy, index, shape, size, strides, before):
    windows = _Windows(shape[1:-1], dy.shape[1:-1], size, strides, before)
    padded = xp.zeros((shape[0], *windows.padded, shape[-1]), dy.dtype)
    for tap, cut in windows:
        padded[cut] += xp.where(index == tap, dy, 0)
    return padded[(slice(None), *windows.inside)]


def _sum_pool(xp, x, shape, size, strides, before, average):
    windows = _Windows(x.shape[1:-1], shape[1:-1], size, strides, before)
    padded = windows.pad(xp, x, 0)
    y = sum(padded[cut] for _, cut in windows)
    return y / windows.counts(xp, x.dtype) if average else y


def _sum_pool_grad(xp, dy, shape, size, strides, before, average):
    windows = _Windows(shape[1:-1], dy.shape[1:-1], size, strides, before)
    padded = xp.zeros((shape[0], *windows.padded, shape[-1]), dy.dtype)
    share = dy / windows.counts(xp, dy.dtype) if average else dy
    for _, cut in windows:
        padded[cut] += share
    return padded[(slice(None), *windows.inside)]


def _kernel(name, kind):
    """Encodes a node for the kernel `name`; `kind` is 0 for max, else `average` decides."""

    def kernel(node):
        attrs = node.attrs
        number = kind if kind == 0 else 1 if attrs["average"] else 2
        geometry = (*attrs["size"], *attrs["strides"], *attrs["before"])
        return name, [number, len(attrs["size"]), *geometry], []

    return kernel


def _max_pool_shape(x, shape, size, **_):
    return [(shape, x.dtype), (shape, "uint8" if math.prod(size) <= 256 else "int32")]


def _max_pool_grad_gradient(g, dx, dy, index, shape, size, strides, before):
    """g where the maxima lie."""
    windows = _Windows(shape[1:-1], dy.shape[1:-1], size, strides, before)
    edges = zip(windows.inside, windows.padded, strict=True)
    sides = [(at.start, whole - at.stop) for at, whole in edges]
    padded = pad(g, [(0, 0), *sides, (0, 0)])
    taps = [pointwise.where(pointwise.equal(index, tap), padded[cut], 0) for tap, cut in windows]
    return [sum(taps[1:], taps[0]), None]


# Attributes: shape of the result; size, strides and padding before, per spatial axis.
Op(
    "max_pool",  # x -> y, index
    _max_pool_shape,
    _max_pool,
    lambda g, y, x, **attrs: [
        OPS["max_pool_grad"](_dense(g[0]), y[1], **attrs | {"shape": x.shape})
    ],
    kernel=_kernel("pool", 0),
    optional=1,
)
Op(
    "max_pool_grad",  # dy, index -> dx
    lambda dy, index, shape, **_: (shape, dy.dtype),
    _max_pool_grad,
    _max_pool_grad_gradient,
    kernel=_kernel("pool_grad", 0),
)


def _skip_max_pool_grad(op, dy_of):
    """Let `op` of a gradient of max-pooling be computed from dy, which has fewer values."""
    rewrite = op.rewrite

    def shorter(g, *rest, **attrs):
        same = dy_of(g.node, *rest, **attrs) if g.node.op.name == "max_pool_grad" else None
        if same is None and rewrite is not None:
            return rewrite(g, *rest, **attrs)
        return same

    op.rewrite = shorter


def _activation_grad(name):
    """dx is 0 but at maxima of the activation's y, so its gradient is taken there; y is not kept
    for it."""

    def from_dy(node, y):
        dy, index = node.inputs
        pooled, x = index.node.outputs[0], index.node.inputs[0]
        return OPS["max_pool_grad"](OPS[name](dy, pooled), index, **node.attrs) if x is y else None

    _skip_max_pool_grad(OPS[name], from_dy)


def _sum_of_dy(node, kind, axes):
    """All of dy lies somewhere in dx."""
    whole = kind == "sum" and set(axes) >= set(range(1, node.outputs[0].ndim - 1))
    return OPS["reduce"](node.inputs[0], kind=kind, axes=axes) if whole else None


for _name in ("relu_grad", "sigmoid_grad", "tanh_grad"):
    _activation_grad(_name)
_skip_max_pool_grad(OPS["reduce"], _sum_of_dy)


Op(
    "sum_pool",  # x -> y; average: divided by the number of taps inside
    lambda x, shape, **_: (shape, x.dtype),
    _sum_pool,
    lambda g, y, x, **attrs: [OPS["sum_pool_grad"](_dense(g), **attrs | {"shape": x.shape})],
    kernel=_kernel("pool", 1),
)
Op(
    "sum_pool_grad",  # dy -> dx
    lambda dy, shape, **_: (shape, dy.dtype),
    _sum_pool_grad,
    lambda g, dx, dy, **attrs: [OPS["sum_pool"](_dense(g), **attrs | {"shape": dy.shape})],
    kernel=_kernel("pool_grad", 1),
)


def _geometry(name, shape, pool_size, strides, padding):
    """Attributes of pooling channels-last arrays of `shape`."""
    rank = len(shape) - 2
    if not 1 <= rank <= 3:
        raise ValueError(
            f"{name}: expected inputs (batch, 1 to 3 spatial axes, channels), got shape {shape}"
        )
    size = check_sizes(name, "pool_size", pool_size, rank)
    strides = size if strides is None else check_sizes(name, "strides", strides, rank)
    if isinstance(padding, str) and padding.lower() == "causal":
        raise ValueError(f"{name}: expected padding 'valid' or 'same', got 'causal'")
    pairs = find_padding(name, padding, shape[1:-1], size, strides)
    if any(max(pair) >= r for pair, r in zip(pairs, size, strict=True)):
        raise ValueError(f"{name}: expected padding smaller than pool_size {size}, got {padding}")
    places = count_places(shape[1:-1], pairs, size, strides)
    return {
        "shape": (shape[0], *places, shape[-1]),
        "size": size,
        "strides": strides,
        "before": tuple(a for a, _ in pairs),
    }


def pool_max(name, x, pool_size, strides, padding, data_format):
    """y and index of `max_pool`, for the function or layer called `name`."""
    data_format = check_data_format(name, data_format)
    x = channels_last(as_float(x), data_format)
    attrs = _geometry(name, x.shape, pool_size, strides, padding)
    return [from_channels_last(t, data_format) for t in OPS["max_pool"](_dense(x), **attrs)]


def pool_average(name, x, pool_size, strides, padding, data_format):
    """`average_pool` of a tensor, for the function or layer called `name`."""
    data_format = check_data_format(name, data_format)
    x = channels_last(as_float(x), data_format)
    attrs = _geometry(name, x.shape, pool_size, strides, padding)
    return from_channels_last(OPS["sum_pool"](_dense(x), average=True, **attrs), data_format)


@traceable()
def max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """The largest value of each window, as `keras.ops.max_pool`; NaN passes on.

    Parameters
    ----------
    inputs : array (N, H.., C), or (N, C, H..) for "channels_first"
        With one to three spatial axes.
    pool_size : int or tuple of int
    strides : int or tuple of int, default `pool_size`
    padding : "valid", "same", or a pair (before, after) per spatial axis
    data_format : "channels_last" or "channels_first", default `config.image_data_format()`

    Returns
    -------
    array (N, P.., C), or (N, C, P..)

    Raises
    ------
    ValueError
        If the window does not fit into the padded inputs.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x = np.array([1, 5, 2, 3], "float32").reshape(1, 4, 1)
    >>> dlcore.ops.max_pool(x, 2).ravel()
    array([5., 3.], dtype=float32)
    """
    return pool_max("max_pool", inputs, pool_size, strides, padding, data_format)[0]


@traceable()
def max_pool_with_index(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """(y, index): `max_pool`, and the position of each maximum in its window."""
    return pool_max("max_pool_with_index", inputs, pool_size, strides, padding, data_format)


@traceable()
def average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """The mean of each window, as `keras.ops.average_pool`; padding does not count.

    Parameters
    ----------
    inputs, pool_size, strides, padding, data_format
        See `max_pool`.

    Returns
    -------
    array (N, P.., C), or (N, C, P..)

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x = np.array([1, 5, 2], "float32").reshape(1, 3, 1)
    >>> dlcore.ops.average_pool(x, 2, padding="same").ravel()
    array([3., 2.], dtype=float32)
    """
    return pool_average("average_pool", inputs, pool_size, strides, padding, data_format)


def _input_geometry(name, dy, input_shape, pool_size, strides, padding, data_format):
    shape = _ints(name, input_shape)
    if data_format == "channels_first" and len(shape) > 2:
        shape = (shape[0], *shape[2:], shape[1])
    attrs = _geometry(name, shape, pool_size, strides, padding)
    if dy.shape != attrs["shape"]:
        raise ValueError(
            f"{name}: expected dy {attrs['shape']} (channels last) for inputs {shape}, "
            f"got {dy.shape}"
        )
    return attrs | {"shape": shape}


@traceable(2)
def max_pool_grad(
    dy, index, input_shape, pool_size, strides=None, padding="valid", data_format=None
):
    """dx of y, index = max_pool_with_index(x, ...), where x has `input_shape`."""
    name, data_format = "max_pool_grad", check_data_format("max_pool_grad", data_format)
    dy, index = as_float(dy), to_tensor(index)
    if index.shape != dy.shape:
        raise ValueError(f"{name}: expected an index of shape {dy.shape}, got {index.shape}")
    dy, index = channels_last(dy, data_format), channels_last(index, data_format)
    attrs = _input_geometry(name, dy, input_shape, pool_size, strides, padding, data_format)
    narrow = math.prod(attrs["size"]) <= 256
    if index.dtype != ("uint8" if narrow else "int32"):
        index = OPS["cast"](index, dtype="uint8" if narrow else "int32")
    return from_channels_last(OPS[name](_dense(dy), _dense(index), **attrs), data_format)


@traceable()
def average_pool_grad(dy, input_shape, pool_size, strides=None, padding="valid", data_format=None):
    """dx of y = average_pool(x, ...), where x has `input_shape`."""
    name, data_format = "average_pool_grad", check_data_format("average_pool_grad", data_format)
    dy = channels_last(as_float(dy), data_format)
    attrs = _input_geometry(name, dy, input_shape, pool_size, strides, padding, data_format)
    return from_channels_last(OPS["sum_pool_grad"](_dense(dy), average=True, **attrs), data_format)


def repeat_pixels(x, times):
    """Channels-last tensor x with every element repeated `times` per spatial axis: the gradient of
    a sum over windows that do not overlap."""
    times = tuple(times)
    sizes = tuple(n * t for n, t in zip(x.shape[1:-1], times, strict=True))
    return OPS["sum_pool_grad"](
        _dense(x),
        average=False,
        shape=(x.shape[0], *sizes, x.shape[-1]),
        size=times,
        strides=times,
        before=(0,) * len(times),
    )
