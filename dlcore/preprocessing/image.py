"""Image files, and images of one size."""

import numpy as np

from dlcore import ops
from dlcore.data.images import array_to_img, img_to_array, load_img, save_img

__all__ = ["array_to_img", "img_to_array", "load_img", "save_img", "smart_resize"]


def smart_resize(x, size, interpolation="bilinear", data_format="channels_last", **kwargs):
    """Images of one size: the largest window of that shape in the middle, resized.

    Parameters
    ----------
    x : array (..., H, W, C)
        One image or a batch.
    size : (height, width)
    interpolation : {"bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"}
    data_format : {"channels_last", "channels_first"}

    Returns
    -------
    array of the images' type
    """
    y = ops.image.resize(x, size, interpolation, crop_to_aspect_ratio=True, data_format=data_format)
    return y if not isinstance(x, np.ndarray) else np.asarray(y).astype(x.dtype, copy=False)
