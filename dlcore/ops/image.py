"""Ops on images, with the names of `keras.ops.image`."""

from typing import TYPE_CHECKING

import numpy as np

from dlcore import lookup
from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.convolution import depthwise_conv
from dlcore.ops.indexing import take
from dlcore.ops.op import as_float, cast_to, to_tensor
from dlcore.ops.patches import extract_patches, extract_patches_3d  # noqa: F401 (ops.image's)
from dlcore.ops.reduction import mean
from dlcore.ops.resizing import resize  # noqa: F401 (ops.image.resize)
from dlcore.ops.sampling import affine_sample
from dlcore.ops.shaping import (
    broadcast_to,
    concatenate,
    expand_dims,
    moveaxis,
    pad,
    ravel,
    reshape,
    squeeze,
)
from dlcore.ops.spatial import channels_last, check_data_format, check_sizes, from_channels_last
from dlcore.program import dtypes
from dlcore.program.graph import Tensor
from dlcore.program.variable import Variable


def affine_transform(
    images, transform, interpolation="bilinear", fill_mode="constant", fill_value=0,
    data_format=None,
):  # fmt: skip
    """Images moved, rotated, scaled or sheared: pixel (x, y) of the result is read at
    (a0 x + a1 y + a2, b0 x + b1 y + b2).

    Parameters
    ----------
    images : array_like (N, H, W, C) or (H, W, C)
        Or with the channels first.
    transform : array_like (N, 8) or (8,)
        [a0, a1, a2, b0, b1, b2, c0, c1] for each image or for all; c0 and c1, which would bend
        lines, must be 0.
    interpolation, fill_mode, fill_value
        See `affine_sample`.
    data_format : {"channels_last", "channels_first"}, optional

    Returns
    -------
    array of the shape and dtype of `images`
    """
    if not isinstance(transform, (Tensor, Variable)) and np.any(np.asarray(transform)[..., 6:]):
        raise ValueError("affine_transform: expected c0 and c1 of 0 in transform, got others")
    return _affine_transform(
        images, transform, interpolation, fill_mode, float(fill_value), data_format
    )


@traceable(2)
def _affine_transform(images, transform, interpolation, fill_mode, fill_value, data_format):
    name = "affine_transform"
    data_format = check_data_format(name, data_format)
    images, transform = to_tensor(images), to_tensor(transform)
    if images.ndim not in (3, 4):
        raise ValueError(f"{name}: expected images of 3 or 4 axes, got {images.shape}")
    if transform.ndim not in (1, 2) or transform.shape[-1] != 8:
        raise ValueError(f"{name}: expected transform (N, 8) or (8,), got {transform.shape}")
    x = images if images.ndim == 4 else expand_dims(images, 0)
    x = channels_last(cast_to(x, dtypes.array_type(dtypes.as_float(x.dtype))), data_format)
    matrix = transform[..., :6]
    matrix = broadcast_to(matrix, (x.shape[0], 6)) if matrix.ndim == 1 else matrix
    y = affine_sample(x, matrix, None, interpolation, fill_mode, fill_value)
    y = cast_to(from_channels_last(y, data_format), images.dtype)
    return y if images.ndim == 4 else squeeze(y, 0)


def _images(name, images, data_format):
    """(images with the channels last, their number of axes, data_format)."""
    data_format = check_data_format(name, data_format)
    x = to_tensor(images)
    if x.ndim not in (3, 4):
        raise ValueError(f"{name}: expected images of 3 or 4 axes, got {x.shape}")
    return channels_last(x if x.ndim == 4 else expand_dims(x, 0), data_format), x.ndim, data_format


def _as_given(y, ndim, data_format):
    y = from_channels_last(y, data_format)
    return y if ndim == 4 else squeeze(y, 0)


# Colours


def _colours(name, x):
    if x.shape[-1] != 3:
        raise ValueError(f"{name}: expected 3 channels, got {x.shape[-1]}")
    return [x[..., i : i + 1] for i in range(3)]


@traceable()
def rgb_to_grayscale(images, data_format=None):
    """0.2989 red + 0.587 green + 0.114 blue (ITU-R BT.601), as one channel."""
    x, ndim, data_format = _images("rgb_to_grayscale", images, data_format)
    if x.shape[-1] == 1:
        return _as_given(x, ndim, data_format)
    r, g, b = _colours("rgb_to_grayscale", as_float(x))
    y = cast_to(0.2989 * r + 0.587 * g + 0.114 * b, x.dtype)
    return _as_given(y, ndim, data_format)


@traceable()
def rgb_to_hsv(images, data_format=None):
    """Hue, saturation and value, each 0..1, of colours 0..1 (Smith 1978)."""
    x, ndim, data_format = _images("rgb_to_hsv", images, data_format)
    if not dtypes.is_float(x.dtype):
        raise TypeError(f"rgb_to_hsv: expected floats, got {x.dtype}")
    r, g, b = _colours("rgb_to_hsv", x)
    value = pw.maximum(pw.maximum(r, g), b)
    span = value - pw.minimum(pw.minimum(r, g), b)
    grey = pw.equal(span, 0.0)
    scale = 1.0 / (6.0 * pw.where(grey, 1.0, span))
    hue = pw.where(pw.equal(value, g), (b - r) * scale + 2 / 6, (r - g) * scale + 4 / 6)
    hue = pw.where(grey, 0.0, pw.where(pw.equal(value, r), (g - b) * scale, hue))
    hue = pw.where(hue < 0.0, hue + 1.0, hue)
    saturation = pw.where(value > 0.0, span / pw.where(value > 0.0, value, 1.0), 0.0)
    return _as_given(concatenate([hue, saturation, value], -1), ndim, data_format)


@traceable()
def hsv_to_rgb(images, data_format=None):
    """The inverse of `rgb_to_hsv`."""
    x, ndim, data_format = _images("hsv_to_rgb", images, data_format)
    if not dtypes.is_float(x.dtype):
        raise TypeError(f"hsv_to_rgb: expected floats, got {x.dtype}")
    hue, saturation, value = _colours("hsv_to_rgb", x)

    def channel(n):
        k = pw.mod(6.0 * hue + float(n), 6.0)
        return value - value * saturation * pw.clip(pw.minimum(k, 4.0 - k), 0.0, 1.0)

    return _as_given(concatenate([channel(n) for n in (5, 3, 1)], -1), ndim, data_format)


# Borders


def _ends(name, size, before, after, target, sign):
    """(before, after): what is cut (sign -1) from `size` pixels or added (1) to reach `target`."""
    if (before, after, target).count(None) != 1:
        raise ValueError(
            f"{name}: expected two of the border before, after and the target size of each axis, "
            f"got {before}, {after} and {target}"
        )
    total = None if target is None else sign * (target - size)
    before = total - after if before is None else before
    after = total - before if after is None else after
    if before < 0 or after < 0 or (sign < 0 and before + after >= size):
        raise ValueError(
            f"{name}: expected borders of at least 0 that leave pixels of {size}, "
            f"got {before} and {after}"
        )
    return before, after


@traceable()
def crop_images(
    images, top_cropping=None, left_cropping=None, bottom_cropping=None, right_cropping=None,
    target_height=None, target_width=None, data_format=None,
):  # fmt: skip
    """Images without some pixels at their borders; per axis two of what is cut before, after, and
    the size that is left."""
    x, ndim, data_format = _images("crop_images", images, data_format)
    h, w = x.shape[1:3]
    top, bottom = _ends("crop_images", h, top_cropping, bottom_cropping, target_height, -1)
    left, right = _ends("crop_images", w, left_cropping, right_cropping, target_width, -1)
    return _as_given(x[:, top : h - bottom, left : w - right, :], ndim, data_format)


@traceable()
def pad_images(
    images, top_padding=None, left_padding=None, bottom_padding=None, right_padding=None,
    target_height=None, target_width=None, data_format=None,
):  # fmt: skip
    """Images with zeros around them; per axis two of how many before, after, and the size."""
    x, ndim, data_format = _images("pad_images", images, data_format)
    rows = _ends("pad_images", x.shape[1], top_padding, bottom_padding, target_height, 1)
    columns = _ends("pad_images", x.shape[2], left_padding, right_padding, target_width, 1)
    return _as_given(pad(x, ((0, 0), rows, columns, (0, 0))), ndim, data_format)


# Filters


@traceable()
def gaussian_blur(images, kernel_size=(3, 3), sigma=(1.0, 1.0), data_format=None):
    """Images filtered with exp(-(x / sigma)^2 / 2), scaled to sum 1, of `kernel_size` (height,
    width), with the sigmas of columns and rows; there is 0 around them."""
    x, ndim, data_format = _images("gaussian_blur", images, data_format)
    sizes = check_sizes("gaussian_blur", "kernel_size", kernel_size, 2)
    sigmas = sigma if isinstance(sigma, (tuple, list)) else (sigma, sigma)
    wide = as_float(x)
    dtype = dtypes.array_type(wide.dtype)
    columns, rows = (
        np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / s) ** 2)
        for n, s in zip(sizes[::-1], sigmas, strict=True)
    )
    window = np.outer(rows / rows.sum(), columns / columns.sum()).astype(dtype)
    window = np.repeat(window[:, :, None, None], x.shape[-1], axis=2)
    y = depthwise_conv(cast_to(wide, dtype), window, padding="same", data_format="channels_last")
    return _as_given(cast_to(y, x.dtype), ndim, data_format)


@traceable()
def sobel_edges(images, data_format=None):
    """Slopes of images (N, H, W, C) down and to the right, on a new last axis of 2, by Sobel's
    3 x 3 filters; images are mirrored at their borders."""
    x, ndim, data_format = _images("sobel_edges", images, data_format)
    if ndim != 4:
        raise ValueError(f"sobel_edges: expected images of 4 axes, got {ndim}")
    smooth, slope = np.array([1.0, 2, 1]), np.array([-1.0, 0, 1])
    filters = np.stack([np.outer(slope, smooth), np.outer(smooth, slope)], -1)[:, :, None]
    window = np.repeat(filters, x.shape[-1], axis=2).astype(dtypes.array_type(x.dtype))
    around = pad(as_float(x), ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    y = depthwise_conv(around, window, data_format="channels_last")
    y = reshape(y, (*x.shape, 2))
    return moveaxis(y, 3, 1) if data_format == "channels_first" else y


def ssim(
    image1, image2, max_val=1.0, filter_size=11, filter_sigma=1.5, k1=0.01, k2=0.03,
    data_format=None,
):  # fmt: skip
    """Structural similarity of pairs of images (Wang et al. 2004), -1..1, for each image: the mean
    over Gaussian windows of `filter_size` that fit, and over channels."""
    window = filter_size, float(filter_sigma), (k1 * max_val) ** 2, (k2 * max_val) ** 2
    return _ssim(image1, image2, window, data_format)


@traceable(2)
def _ssim(image1, image2, window, data_format):
    size, sigma, c1, c2 = window
    (a, ndim, _), (b, _, _) = (_images("ssim", as_float(x), data_format) for x in (image1, image2))
    if a.shape != b.shape or min(a.shape[1:3]) < size:
        raise ValueError(
            f"ssim: expected two images of one shape, at least {size} high and wide, "
            f"got {a.shape} and {b.shape}"
        )
    line = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    square = np.outer(line, line) / line.sum() ** 2
    filters = np.repeat(square[:, :, None, None], a.shape[-1], axis=2)
    filters = filters.astype(dtypes.array_type(a.dtype))

    def blurred(x):
        return depthwise_conv(x, filters, data_format="channels_last")

    p, q = blurred(a), blurred(b)
    luminance = (2.0 * p * q + c1) / (p * p + q * q + c1)
    joint, own = blurred(a * b) - p * q, blurred(a * a + b * b) - (p * p + q * q)
    y = mean(luminance * (2.0 * joint + c2) / (own + c2), axis=(1, 2, 3))
    return y if ndim == 4 else squeeze(y, 0)


# Places


def _reflected(i, n, mode):
    """The index that stands for i outside 0..n - 1."""
    if mode in ("constant", "nearest"):
        return pw.clip(i, 0.0, n - 1.0)
    if mode == "wrap":
        return pw.mod(i, float(n))
    period = 2.0 * n if mode == "reflect" else max(2.0 * n - 2.0, 1.0)
    k = pw.mod(i, period)
    return pw.where(k < n, k, period - k - (1.0 if mode == "reflect" else 0.0))


def map_coordinates(inputs, coordinates, order, fill_mode="constant", fill_value=0):
    """Elements of `inputs` at the places coordinates[i] along its axis i: the nearest (order 0), or
    between neighbours in proportion (order 1).

    fill_mode says what lies outside: "constant", "nearest", "wrap", "mirror" (about the last
    element) or "reflect" (about its edge).
    """
    if order not in (0, 1) or fill_mode not in (
        "constant", "nearest", "wrap", "mirror", "reflect"
    ):  # fmt: skip
        raise ValueError(
            f"map_coordinates: expected order 0 or 1 and fill_mode 'constant', 'nearest', 'wrap', "
            f"'mirror' or 'reflect', got {order} and {fill_mode!r}"
        )
    return _map_coordinates(inputs, coordinates, order, fill_mode, float(fill_value))


@traceable(2)
def _map_coordinates(inputs, coordinates, order, fill_mode, fill_value):
    x, at = to_tensor(inputs), as_float(coordinates)
    if at.ndim < 2 or at.shape[0] != x.ndim:
        raise ValueError(
            f"map_coordinates: expected coordinates ({x.ndim}, ..), one for each axis of inputs, "
            f"got {at.shape}"
        )
    flat, terms = ravel(x), [(None, None, 1.0)]  # index, whether inside, weight
    for axis, n in enumerate(x.shape):
        place = at[axis]
        low = pw.floor(place) if order else pw.round(place)
        above = pw.stop_gradient(low)
        taps = [(above, 1.0)] if not order else [
            (above, 1.0 - (place - above)), (above + 1.0, place - above),
        ]  # fmt: skip
        terms = [_joined(term, i, weight, n, fill_mode) for term in terms for i, weight in taps]
    y = 0.0
    for index, inside, weight in terms:
        value = cast_to(take(flat, index), at.dtype)
        if inside is not None:
            value = pw.where(inside, value, fill_value)
        y = y + value * weight
    y = y if order or dtypes.is_float(x.dtype) else pw.round(y)
    return cast_to(y, x.dtype)


def _joined(term, i, weight, n, mode):
    index, inside, before = term
    here = pw.cast(_reflected(i, n, mode), "int32")
    if mode == "constant":
        known = pw.logical_and(i >= 0.0, i < n)
        inside = known if inside is None else pw.logical_and(inside, known)
    return here if index is None else index * n + here, inside, weight * before


if not TYPE_CHECKING:  # checkers of types know what is there
    __getattr__ = lookup.refusing(__name__)
