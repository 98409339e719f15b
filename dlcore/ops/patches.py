"""Windows of images as vectors: extract_patches (channels last), unfold and its transpose fold
(channels first, as signal processing and PyTorch lay them).

Indices of rows and columns are constants, so a patch is a `gather` along each axis; windows that
touch without overlap are a reshape.
"""

import math

import numpy as np

from dlcore.ops.calling import traceable
from dlcore.ops.indexing import take
from dlcore.ops.op import OPS, to_tensor
from dlcore.ops.shaping import expand_dims, pad, reshape, squeeze, transpose
from dlcore.ops.spatial import (
    channels_last,
    check_data_format,
    check_sizes,
    count_places,
    find_padding,
    from_channels_last,
)


def _windows(x, window, strides, dilation):
    """x (N, H.., C) as (N, P, R, .., C): R values of each of P windows per axis."""
    touch = window == strides and set(dilation) == {1}
    for i, (r, s, d) in enumerate(zip(window, strides, dilation, strict=True)):
        axis = 1 + 2 * i
        places = count_places((x.shape[axis],), ((0, 0),), (r,), (s,), (d,))[0]
        if touch and places * r == x.shape[axis]:
            x = reshape(x, (*x.shape[:axis], places, r, *x.shape[axis + 1 :]))
        else:
            at = np.arange(places)[:, None] * s + np.arange(r) * d
            x = take(x, at.astype("int32"), axis)
    return x


def _patches(name, images, rank, size, strides, dilation_rate, padding, data_format):
    x = to_tensor(images)
    data_format = check_data_format(name, data_format)
    if x.ndim not in (rank + 1, rank + 2):
        raise ValueError(f"{name}: expected {rank + 1} or {rank + 2} axes, got shape {x.shape}")
    batched = x.ndim == rank + 2
    x = channels_last(x if batched else expand_dims(x, 0), data_format)
    window = check_sizes(name, "size", size, rank)
    strides = check_sizes(name, "strides", window if strides is None else strides, rank)
    dilation = check_sizes(name, "dilation_rate", dilation_rate, rank)
    pairs = find_padding(name, padding, x.shape[1:-1], window, strides, dilation)
    if any(map(any, pairs)):
        x = pad(x, ((0, 0), *pairs, (0, 0)))
    x = _windows(x, window, strides, dilation)
    axes = range(1, 2 * rank + 1, 2)
    x = transpose(x, (0, *axes, *(a + 1 for a in axes), 2 * rank + 1))
    y = reshape(x, (*x.shape[: rank + 1], math.prod(window) * x.shape[-1]))
    y = from_channels_last(y, data_format)
    return y if batched else squeeze(y, 0)


@traceable()
def extract_patches(images, size, strides=None, dilation_rate=1, padding="valid", data_format=None):
    """The windows of images (N, H, W, C), `strides` (by default `size`) apart, as vectors:
    (N, P, Q, R S C).

    With three numbers in `size` volumes (N, D, H, W, C).
    """
    if isinstance(size, (tuple, list)) and len(size) == 3:
        return extract_patches_3d(images, size, strides, dilation_rate, padding, data_format)
    return _patches(
        "extract_patches", images, 2, size, strides, dilation_rate, padding, data_format
    )


@traceable()
def extract_patches_3d(
    volumes, size, strides=None, dilation_rate=1, padding="valid", data_format=None
):
    """The windows of volumes (N, D, H, W, C) as vectors; see `extract_patches`."""
    return _patches(
        "extract_patches_3d", volumes, 3, size, strides, dilation_rate, padding, data_format
    )


def _geometry(name, kernel_size, dilation, padding, stride):
    return (
        check_sizes(name, "kernel_size", kernel_size, 2),
        check_sizes(name, "dilation", dilation, 2),
        check_sizes(name, "padding", padding, 2, 0),
        check_sizes(name, "stride", stride, 2),
    )


@traceable()
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """The windows of images (N, C, H, W) as columns (N, C R S, P Q)."""
    x = to_tensor(x)
    if x.ndim != 4:
        raise ValueError(f"unfold: expected images of 4 axes, got shape {x.shape}")
    window, dilation, around, stride = _geometry("unfold", kernel_size, dilation, padding, stride)
    x = transpose(x, (0, 2, 3, 1))
    if any(around):
        x = pad(x, ((0, 0), *((p, p) for p in around), (0, 0)))
    find_padding("unfold", "valid", x.shape[1:3], window, stride, dilation)
    y = transpose(_windows(x, window, stride, dilation), (0, 5, 2, 4, 1, 3))
    return reshape(y, (y.shape[0], math.prod(y.shape[1:4]), math.prod(y.shape[4:])))


@traceable()
def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns (N, C R S, P Q) added up as images (N, C, H, W): the transpose of `unfold`."""
    x = to_tensor(x)
    size = check_sizes("fold", "output_size", output_size, 2)
    window, dilation, around, stride = _geometry("fold", kernel_size, dilation, padding, stride)
    high = tuple(n + 2 * p for n, p in zip(size, around, strict=True))
    p, q = count_places(size, tuple((a, a) for a in around), window, stride, dilation)
    area = math.prod(window)
    if x.ndim != 3 or x.shape[1] % area or x.shape[2] != p * q:
        raise ValueError(
            f"fold: expected columns (N, C * {area}, {p * q}) for images {size}, got {x.shape}"
        )
    n, c = x.shape[0], x.shape[1] // area
    rows, columns = (
        np.arange(r)[:, None] * d + np.arange(count) * s
        for r, d, count, s in zip(window, dilation, (p, q), stride, strict=True)
    )
    at = rows[:, None, :, None] * high[1] + columns[None, :, None, :]  # (R, S, P, Q)
    values = transpose(reshape(x, (n, c, area, p * q)), (2, 3, 0, 1))
    index = to_tensor(at.ravel().astype("int32"))
    y = OPS["scatter_add"](reshape(values, (at.size, n * c)), index, length=math.prod(high))
    y = transpose(reshape(y, (*high, n, c)), (2, 3, 0, 1))
    return y[:, :, around[0] : around[0] + size[0], around[1] : around[1] + size[1]]
