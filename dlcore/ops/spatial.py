"""Arguments of ops that slide a window over spatial axes: sizes, padding, data format.

A window of R values, `dilation` apart, spans E = (R - 1) dilation + 1. Over H values with `before`
and `after` zeros around them it has P = floor((H + before + after - E) / stride) + 1 places.
"""

import numpy as np

from dlcore import config
from dlcore.ops.shaping import transpose

_FORMATS = ("channels_last", "channels_first")
_LIMIT = 2**31  # the product of two such numbers fits 64 bits


def check_sizes(name, what, value, rank, least=1):
    """`value`, an int or one per spatial axis, as a tuple of `rank` ints of at least `least`."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if len(values) == 1:
        values *= rank
    ok = len(values) == rank and all(_is_size(v, least) for v in values)
    if not ok:
        raise ValueError(
            f"{name}: expected {what} as an int or {rank} ints of {least} to 2**31 - 1, "
            f"got {value!r}"
        )
    return tuple(int(v) for v in values)


def _is_size(value, least):
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    return integer and least <= value < _LIMIT


def check_data_format(name, data_format):
    """`data_format`, by default `config.image_data_format()`."""
    if data_format is None:
        return config.image_data_format()
    if data_format not in _FORMATS:
        raise ValueError(
            f"{name}: expected data_format 'channels_last' or 'channels_first', got {data_format!r}"
        )
    return data_format


def channels_last(x, data_format):
    """x (N, C, H, ..) seen as (N, H, .., C) where `data_format` is "channels_first"."""
    first = data_format == "channels_first" and x.ndim > 2
    return transpose(x, (0, *range(2, x.ndim), 1)) if first else x


def from_channels_last(x, data_format):
    """The inverse of `channels_last`."""
    last = x.ndim - 1
    return transpose(x, (0, last, *range(1, last))) if data_format == "channels_first" else x


def check_padding(name, padding, rank, kinds=("valid", "same")):
    """`padding` as one of `kinds`, or as `rank` pairs (before, after)."""
    if isinstance(padding, str) and padding.lower() in kinds:
        return padding.lower()
    pairs = padding if isinstance(padding, (tuple, list)) else ()
    ok = len(pairs) == rank and all(
        isinstance(p, (tuple, list)) and len(p) == 2 and all(_is_size(n, 0) for n in p)
        for p in pairs
    )
    if not ok:
        raise ValueError(
            f"{name}: expected padding {', '.join(map(repr, kinds))} or {rank} pairs "
            f"(before, after) of 0 to 2**31 - 1, got {padding!r}"
        )
    return tuple((int(a), int(b)) for a, b in pairs)


def find_padding(name, padding, sizes, window, strides, dilation=None):
    """((before, after), ...) for `padding`: "valid", "same", "causal" (one axis), or the pairs.

    "same" gives ceil(H / stride) places, with the odd zero at the end, as TensorFlow and Keras.

    Raises
    ------
    ValueError
        For other paddings, and where the window does not fit into the padded input.
    """
    rank = len(sizes)
    kinds = ("valid", "same", "causal") if rank == 1 else ("valid", "same")
    pairs = check_padding(name, padding, rank, kinds)
    spans = tuple((r - 1) * d + 1 for r, d in zip(window, dilation or (1,) * rank, strict=True))
    if pairs == "valid":
        pairs = ((0, 0),) * rank
    elif pairs == "causal":
        pairs = ((spans[0] - 1, 0),)
    elif pairs == "same":
        axes = zip(sizes, spans, strides, strict=True)
        totals = [max((-(-h // s) - 1) * s + e - h, 0) for h, e, s in axes]
        pairs = tuple((n // 2, n - n // 2) for n in totals)
    padded = tuple(h + a + b for h, (a, b) in zip(sizes, pairs, strict=True))
    if any(n < e for n, e in zip(padded, spans, strict=True)):
        raise ValueError(
            f"{name}: expected a window that fits into the padded input {padded}, got {spans}"
        )
    return pairs


def count_places(sizes, pairs, window, strides, dilation=None):
    """The number of places of a window that fits, per axis."""
    dilation = dilation or (1,) * len(sizes)
    return tuple(
        (h + a + b - (r - 1) * d - 1) // s + 1
        for h, (a, b), r, s, d in zip(sizes, pairs, window, strides, dilation, strict=True)
    )
