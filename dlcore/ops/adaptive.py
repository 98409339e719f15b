"""Pooling to a given size: window i of P over H values reaches from floor(i H / P) to below
ceil((i + 1) H / P), so windows differ by one value at most and may share one.

The average is a product with a matrix of weights for each axis; the maximum is taken over an axis
of indices, the last of short windows twice.
"""

import numpy as np

from dlcore.ops.calling import traceable
from dlcore.ops.indexing import take
from dlcore.ops.op import as_float, to_tensor
from dlcore.ops.products import tensordot
from dlcore.ops.reduction import max as max_
from dlcore.ops.shaping import moveaxis
from dlcore.ops.spatial import channels_last, check_data_format, check_sizes, from_channels_last
from dlcore.program import dtypes


def _windows(places, size):
    """(first, past the last) of each window."""
    i = np.arange(places)
    return i * size // places, -(-(i + 1) * size // places)


def _adaptive(name, x, output_size, data_format, along):
    data_format = check_data_format(name, data_format)
    if x.ndim < 3 or 0 in x.shape[1:]:
        raise ValueError(f"{name}: expected inputs (N, size.., C), got {x.shape}")
    sizes = check_sizes(name, "output_size", output_size, x.ndim - 2)
    x = channels_last(x, data_format)
    for axis, places in enumerate(sizes, 1):
        if places != x.shape[axis]:
            x = along(x, axis, *_windows(places, x.shape[axis]))
    return from_channels_last(x, data_format)


@traceable()
def adaptive_average_pool(inputs, output_size, data_format=None):
    """Means of windows that divide inputs (N, H.., C) into `output_size` places."""

    def along(x, axis, first, end):
        at = np.arange(x.shape[axis])
        inside = (at >= first[:, None]) & (at < end[:, None])
        weights = (inside / (end - first)[:, None]).astype(dtypes.array_type(x.dtype))
        return moveaxis(tensordot(x, weights, ((axis,), (1,))), -1, axis)

    return _adaptive("adaptive_average_pool", as_float(inputs), output_size, data_format, along)


@traceable()
def adaptive_max_pool(inputs, output_size, data_format=None):
    """Largest elements of windows that divide inputs (N, H.., C) into `output_size` places."""

    def along(x, axis, first, end):
        longest = np.arange((end - first).max())
        at = np.minimum(first[:, None] + longest, end[:, None] - 1)
        return max_(take(x, at.astype("int32"), axis), axis + 1)

    return _adaptive("adaptive_max_pool", to_tensor(inputs), output_size, data_format, along)
