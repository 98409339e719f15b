"""Convolution in 1 to 3 dimensions and its two gradients, on channels-last arrays.

    y[n, p, k] = sum over r, c of x[n, p stride + r dilation - before, c] w[r, c, k]

x (N, H.., C), w (R.., C / groups, K), y (N, P.., K); p, r are positions on all spatial axes; x is 0
outside; with groups, each of `groups` runs of K / groups results sees its own run of C / groups
channels. `conv`, `conv_input_grad` and `conv_filter_grad` solve this trilinear form for one of its
parts, so each has the two others as its gradients.

Attributes: `shape` of the result; strides, dilation and `before` (zeros in front) per spatial axis;
groups. How many zeros lie behind follows from the shapes.
"""

import itertools
import math

from dlcore.ops.op import OPS, Op
from dlcore.ops.shaping import _dense

_LIMIT = 2**59  # elements of an array: its bytes fit 64 bits


def _checked(name, x, w, y, shape, strides, groups):
    rank = len(strides)
    if not len(x) == len(w) == len(y) == rank + 2:
        raise ValueError(f"{name}: expected {rank + 2} axes, got shapes {x}, {w} and {y}")
    if groups < 1 or x[-1] != w[-2] * groups or y[-1] % groups:
        raise ValueError(
            f"{name}: expected {groups} groups that divide {x[-1]} channels for a filter of "
            f"{w[-2]} and {y[-1]} results, got filter {w}"
        )
    if x[0] != y[0] or w[-1] != y[-1]:
        raise ValueError(
            f"{name}: expected one batch size and number of results, got {x}, {w} and {y}"
        )
    if math.prod(shape) > _LIMIT:
        raise ValueError(f"{name}: expected a result of at most 2**59 elements, got shape {shape}")
    return shape


def _conv_shape(x, w, *, shape, strides, groups, **_):
    return _checked("conv", x.shape, w.shape, shape, shape, strides, groups), x.dtype


def _input_grad_shape(dy, w, *, shape, strides, groups, **_):
    name = "conv_input_grad"
    return _checked(name, shape, w.shape, dy.shape, shape, strides, groups), dy.dtype


def _filter_grad_shape(x, dy, *, shape, strides, groups, **_):
    name = "conv_filter_grad"
    return _checked(name, x.shape, shape, dy.shape, shape, strides, groups), x.dtype


class _Taps:
    """The formulas: a sum over the taps of the filter, each a matrix product per group."""

    def __init__(self, sizes, window, places, strides, dilation, before, groups):
        spatial = (sizes, window, places, strides, dilation, before)
        self.padded = tuple(
            max((p - 1) * s + (r - 1) * d + 1, a + h)
            for h, r, p, s, d, a in zip(*spatial, strict=True)
        )
        self.inside = tuple(slice(a, a + h) for h, a in zip(sizes, before, strict=True))
        self.places, self.groups = places, groups
        self.steps = tuple(zip(window, places, strides, dilation, strict=True))

    def __iter__(self):
        """(tap, the values of the padded input that it meets)."""
        for tap in itertools.product(*(range(r) for r, *_ in self.steps)):
            yield (
                tap,
                tuple(
                    slice(t * d, t * d + max((p - 1) * s + 1, 0), s)
                    for t, (_, p, s, d) in zip(tap, self.steps, strict=True)
                ),
            )

    def pad(self, xp, x):
        padded = xp.zeros((x.shape[0], *self.padded, x.shape[-1]), x.dtype)
        padded[(slice(None), *self.inside)] = x
        return padded

    def rows(self, x):
        """(N, P.., C) as (groups, N P.., C / groups)."""
        count, channels = math.prod(x.shape[:-1]), x.shape[-1] // self.groups
        return x.reshape(count, self.groups, channels).swapaxes(0, 1)

    def images(self, rows, batch):
        """The inverse of `rows`."""
        channels = rows.shape[0] * rows.shape[2]
        return rows.swapaxes(0, 1).reshape(batch, *self.places, channels)

    def matrix(self, w, tap):
        """(groups, C / groups, K / groups)."""
        return w[tap].reshape(w.shape[-2], self.groups, -1).swapaxes(0, 1)


def _conv(xp, x, w, *, shape, strides, dilation, before, groups):
    taps = _Taps(x.shape[1:-1], w.shape[:-2], shape[1:-1], strides, dilation, before, groups)
    padded = taps.pad(xp, x)
    y = 0
    for tap, at in taps:
        y = y + taps.rows(padded[(slice(None), *at)]) @ taps.matrix(w, tap)
    return taps.images(y, x.shape[0])


def _input_grad(xp, dy, w, *, shape, strides, dilation, before, groups):
    taps = _Taps(shape[1:-1], w.shape[:-2], dy.shape[1:-1], strides, dilation, before, groups)
    padded = xp.zeros((shape[0], *taps.padded, shape[-1]), dy.dtype)
    rows = taps.rows(dy)
    for tap, at in taps:
        product = rows @ taps.matrix(w, tap).swapaxes(1, 2)
        padded[(slice(None), *at)] += taps.images(product, shape[0])
    return padded[(slice(None), *taps.inside)]


def _filter_grad(xp, x, dy, *, shape, strides, dilation, before, groups):
    taps = _Taps(x.shape[1:-1], shape[:-2], dy.shape[1:-1], strides, dilation, before, groups)
    padded = taps.pad(xp, x)
    dw, rows = xp.empty(shape, x.dtype), taps.rows(dy)
    for tap, at in taps:
        product = taps.rows(padded[(slice(None), *at)]).swapaxes(1, 2) @ rows
        dw[tap] = product.swapaxes(0, 1).reshape(shape[-2:])
    return dw


def _solve(name, a, b, like, attrs):
    return OPS[name](_dense(a), _dense(b), **attrs | {"shape": like.shape})


def _kernel(node):
    attrs = node.attrs
    rank = len(attrs["strides"])
    ints = [rank, attrs["groups"], *attrs["strides"], *attrs["dilation"], *attrs["before"]]
    return node.op.name, ints, []


Op(
    "conv",
    _conv_shape,
    _conv,
    lambda g, y, x, w, **attrs: [
        _solve("conv_input_grad", g, w, x, attrs),
        _solve("conv_filter_grad", x, g, w, attrs),
    ],
    kernel=_kernel,
    epilogue=True,
)
Op(
    "conv_input_grad",
    _input_grad_shape,
    _input_grad,
    lambda g, dx, dy, w, **attrs: [
        _solve("conv", g, w, dy, attrs),
        _solve("conv_filter_grad", g, dy, w, attrs),
    ],
    kernel=_kernel,
    epilogue=True,
)
Op(
    "conv_filter_grad",
    _filter_grad_shape,
    _filter_grad,
    lambda g, dw, x, dy, **attrs: [
        _solve("conv_input_grad", dy, g, x, attrs),
        _solve("conv", x, g, dy, attrs),
    ],
    kernel=_kernel,
    epilogue=True,
)
