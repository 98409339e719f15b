"""Images with another number of pixels.

Along each axis, with centres of pixels at halves, output pixel i lies at s = (i + 1/2) H / P - 1/2
and is the mean of the input pixels h weighted by f((h - s) / width), f the interpolation's filter.
Where pixels are many times finer than the result, width = H / P takes the mean of all that an
output pixel covers (antialias), else width = 1.

"nearest" and "bilinear" without antialiasing read single places (`affine_sample`); all others are
two products with a matrix of weights each, so their gradient is that of a product.

References
----------
Keys 1981, "Cubic convolution interpolation for digital image processing" (a = -1/2); Lanczos'
windowed sinc as in Turkowski 1990, "Filters for common resampling tasks".
"""

import numpy as np

from dlcore.ops.calling import traceable
from dlcore.ops.linalg import matmul
from dlcore.ops.op import cast_to, to_tensor
from dlcore.ops.pointwise import clip, round
from dlcore.ops.sampling import affine_sample, stack_matrix
from dlcore.ops.shaping import expand_dims, pad, reshape, squeeze
from dlcore.ops.spatial import channels_last, check_data_format, check_sizes, from_channels_last
from dlcore.program import dtypes


def _triangle(t):
    return np.maximum(1 - t, 0)


def _cubic(t):
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0))


def _lanczos(lobes):
    return lambda t: np.where(t < lobes, np.sinc(t) * np.sinc(t / lobes), 0)


_FILTERS = {
    "bilinear": _triangle,
    "bicubic": _cubic,
    "lanczos3": _lanczos(3),
    "lanczos5": _lanczos(5),
}
INTERPOLATIONS = ("nearest", *_FILTERS)


def _weights(filter, new, old, antialias, dtype):
    """The matrix (new, old) whose row i holds the weights of output pixel i."""
    scale = old / new
    places = (np.arange(new) + 0.5) * scale - 0.5
    width = max(scale, 1) if antialias else 1
    w = filter(np.abs(np.arange(old) - places[:, None]) / width)
    return (w / w.sum(1, keepdims=True)).astype(dtype)


def middle_window(h, w, height, width):
    """(top, left, height, width) of the largest window shaped as (height, width) in the middle of
    (h, w).
    """
    high = min(h, max(w * height // width, 1))
    wide = min(w, max(h * width // height, 1))
    return (h - high) // 2, (w - wide) // 2, high, wide


def _in_proportion(x, height, width, crop, fill_value):
    """x (N, H, W, C) cut or filled up to the proportions of (height, width)."""
    h, w = x.shape[1:3]
    if crop:
        top, left, high, wide = middle_window(h, w, height, width)
        return x[:, top : top + high, left : left + wide, :]
    more = max(w * height // width, h) - h, max(h * width // height, w) - w
    around = ((0, 0), *((n // 2, n - n // 2) for n in more), (0, 0))
    return pad(x, around, constant_values=fill_value)


def _resized(x, height, width, interpolation, antialias):
    n, h, w, c = x.shape
    if (h, w) == (height, width):
        return x
    if interpolation == "nearest" or (interpolation == "bilinear" and not antialias):
        down, across = h / height, w / width
        entries = (across, 0.0, 0.5 * across - 0.5, 0.0, down, 0.5 * down - 0.5)
        matrix = stack_matrix(entries, n, x.dtype)
        return affine_sample(x, matrix, (height, width), interpolation, "nearest")
    f = _FILTERS[interpolation]
    if h != height:
        down = _weights(f, height, h, antialias, x.dtype)
        x = reshape(matmul(down, reshape(x, (n, h, w * c))), (n, height, w, c))
    return x if w == width else matmul(_weights(f, width, w, antialias, x.dtype), x)


def check_how(name, interpolation, crop_to_aspect_ratio, pad_to_aspect_ratio, fill_mode):
    """Refuse unknown ways to resize."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"{name}: expected interpolation as one of {', '.join(INTERPOLATIONS)}, "
            f"got {interpolation!r}"
        )
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError(f"{name}: expected crop_to_aspect_ratio or pad_to_aspect_ratio, got both")
    if fill_mode != "constant":
        raise ValueError(f"{name}: expected fill_mode 'constant', got {fill_mode!r}")


def _as(y, dtype):
    if dtypes.is_float(dtype) or dtype == "bool":
        return cast_to(y, dtype)
    return cast_to(clip(round(y), *_range(dtype)), dtype)


def _range(dtype):
    """The least and the largest integer of `dtype` that a float32 holds too."""
    known = np.iinfo(dtype)
    return known.min, known.max & -(2 ** max(known.bits - 25, 0))


@traceable()
def resize(
    images, size, interpolation="bilinear", antialias=False, crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False, fill_mode="constant", fill_value=0.0, data_format=None,
):  # fmt: skip
    """Images with another number of pixels, as `keras.ops.image.resize`.

    Parameters
    ----------
    images : array_like (N, H, W, C) or (H, W, C)
        Or with the channels first.
    size : (height, width)
    interpolation : {"bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"}
    antialias : bool
        Whether a pixel of a smaller result is the mean of all that it covers; "nearest" ignores it.
    crop_to_aspect_ratio : bool
        Whether to cut off what is too much instead of changing the proportions.
    pad_to_aspect_ratio : bool
        Whether to fill up what is too little instead.
    fill_mode : {"constant"}
    fill_value : float
        What to fill with.
    data_format : {"channels_last", "channels_first"}, optional

    Returns
    -------
    array (N, height, width, C), of the dtype of `images`; integers are rounded and stay within
    their range

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x = np.array([0.0, 4.0], "float32").reshape(1, 1, 2, 1)
    >>> dlcore.ops.image.resize(x, (1, 4)).ravel()
    array([0., 1., 3., 4.], dtype=float32)
    """
    name = "resize"
    check_how(name, interpolation, crop_to_aspect_ratio, pad_to_aspect_ratio, fill_mode)
    data_format, images = check_data_format(name, data_format), to_tensor(images)
    if images.ndim not in (3, 4):
        raise ValueError(f"{name}: expected images of 3 or 4 axes, got {images.shape}")
    height, width = check_sizes(name, "size", size, 2)
    x = images if images.ndim == 4 else expand_dims(images, 0)
    x = channels_last(cast_to(x, dtypes.array_type(dtypes.as_float(x.dtype))), data_format)
    if 0 in x.shape[1:3]:
        raise ValueError(f"{name}: expected images with pixels, got {images.shape}")
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        x = _in_proportion(x, height, width, crop_to_aspect_ratio, fill_value)
    y = _resized(x, height, width, interpolation, antialias)
    y = from_channels_last(_as(y, images.dtype), data_format)
    return y if images.ndim == 4 else squeeze(y, 0)
