"""Ops on images, with the names of `keras.ops.image`."""

import numpy as np

from dlcore.ops.op import cast_to, to_tensor, traceable
from dlcore.ops.resizing import resize  # noqa: F401 (ops.image.resize)
from dlcore.ops.sampling import affine_sample
from dlcore.ops.shaping import broadcast_to, expand_dims, squeeze
from dlcore.ops.spatial import channels_last, check_data_format, from_channels_last
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
