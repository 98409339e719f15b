"""Layers that add, remove or repeat positions of spatial axes.

Inputs are (batch, steps, channels) in 1D, (batch, height, width, channels) in 2D and (batch, depth,
height, width, channels) in 3D, or have the channels first.
"""

import numpy as np

from dlcore import ops
from dlcore.layers.base import Layer
from dlcore.layers.images import check_name
from dlcore.layers.pooling import check_rank
from dlcore.ops.pooling import repeat_pixels
from dlcore.ops.resizing import INTERPOLATIONS
from dlcore.ops.spatial import channels_last, check_data_format, check_sizes, from_channels_last


def _is_size(n):
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0


def _pairs(layer, what, value, rank):
    """((before, after), ...) for one number, one per axis, or a pair per axis."""
    values = value if isinstance(value, (tuple, list)) else (value,) * (2 if rank == 1 else rank)
    if rank == 1 and len(values) == 2 and all(map(_is_size, values)):
        values = (tuple(values),)
    pairs = tuple(tuple(v) if isinstance(v, (tuple, list)) else (v, v) for v in values)
    if len(pairs) != rank or any(len(p) != 2 or not all(map(_is_size, p)) for p in pairs):
        raise ValueError(
            f"{layer.name}: expected {what} as an int of at least 0, or such an int or pair for "
            f"each of {rank} axes, got {value!r}"
        )
    return tuple((int(a), int(b)) for a, b in pairs)


class _Border(Layer):
    """A border of `rank` axes."""

    rank = 2

    def _on_axes(self, shape, pairs):
        """`pairs` of the spatial axes, among none for the others."""
        check_rank(self, shape, self.rank)
        first = 2 if self.data_format == "channels_first" else 1
        return [(0, 0)] * first + list(pairs) + [(0, 0)] * (len(shape) - first - self.rank)


class ZeroPadding2D(_Border):
    """Rows and columns of zeros around images.

    Parameters
    ----------
    padding : int, (rows, columns) or ((top, bottom), (left, right)), default 1
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.ZeroPadding2D(((0, 1), (2, 2)))(np.zeros((1, 4, 4, 3), "float32")).shape
    (1, 5, 8, 3)
    """

    def __init__(self, padding=1, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = check_data_format(self.name, data_format)
        self.padding = _pairs(self, "padding", padding, self.rank)

    def call(self, inputs):
        return ops.pad(inputs, self._on_axes(inputs.shape, self.padding))


class ZeroPadding1D(ZeroPadding2D):
    """Zeros before and after the steps; padding is an int or (before, after). See
    `ZeroPadding2D`."""

    rank = 1


class ZeroPadding3D(ZeroPadding2D):
    """Zeros around volumes; see `ZeroPadding2D`."""

    rank = 3


class Cropping2D(_Border):
    """Removes rows and columns at the border of images.

    Parameters
    ----------
    cropping : int, (rows, columns) or ((top, bottom), (left, right)), default 0
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    **kwargs
        See `Layer`.
    """

    def __init__(self, cropping=0, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = check_data_format(self.name, data_format)
        self.cropping = _pairs(self, "cropping", cropping, self.rank)

    def call(self, inputs):
        pairs = self._on_axes(inputs.shape, self.cropping)
        if any(a + b >= n for n, (a, b) in zip(inputs.shape[1:], pairs[1:], strict=True)):
            raise ValueError(
                f"{self.name}: expected input larger than cropping {self.cropping}, got "
                f"{tuple(inputs.shape)}"
            )
        cuts = (slice(a, n - b) for n, (a, b) in zip(inputs.shape, pairs, strict=True))
        return ops.get_item(inputs, tuple(cuts))


class Cropping1D(Cropping2D):
    """Removes the first and last steps; cropping is an int or (before, after). See `Cropping2D`."""

    rank = 1

    def __init__(self, cropping=1, data_format=None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(Cropping2D):
    """Removes the border of volumes; see `Cropping2D`."""

    rank = 3

    def __init__(self, cropping=1, data_format=None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


class UpSampling2D(Layer):
    """Enlarges images.

    Parameters
    ----------
    size : int or (rows, columns), default 2
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"}
        Every pixel repeated, or weighted means of four.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.UpSampling2D((1, 2))(np.array([[[[1.0], [2.0]]]], "float32")).ravel()
    array([1., 1., 2., 2.], dtype=float32)
    """

    rank = 2

    def __init__(self, size=2, data_format=None, interpolation="nearest", **kwargs):
        super().__init__(**kwargs)
        self._set_size(size, data_format)
        self.interpolation = check_name(self, "interpolation", interpolation, INTERPOLATIONS)

    def _set_size(self, size, data_format):
        self.size = check_sizes(self.name, "size", size, self.rank)
        self.data_format = check_data_format(self.name, data_format)

    def call(self, inputs):
        check_rank(self, inputs.shape, self.rank)
        x = channels_last(self._as_float(inputs), self.data_format)
        if self.interpolation == "nearest":
            y = repeat_pixels(x, self.size)
        else:
            sizes = [n * s for n, s in zip(x.shape[1:], self.size, strict=False)]
            y = ops.image.resize(x, sizes, self.interpolation, data_format="channels_last")
        return from_channels_last(y, self.data_format)


class UpSampling1D(UpSampling2D):
    """Repeats every step `size` times.

    Parameters
    ----------
    size : int, default 2
    **kwargs
        See `Layer`.
    """

    rank = 1
    interpolation = "nearest"
    _fixed_arguments = ("data_format", "interpolation")

    def __init__(self, size=2, **kwargs):
        Layer.__init__(self, **kwargs)
        self._set_size(size, "channels_last")


class UpSampling3D(UpSampling2D):
    """Repeats every value of volumes along each axis.

    Parameters
    ----------
    size : int or (depth, height, width), default 2
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    **kwargs
        See `Layer`.
    """

    rank = 3
    interpolation = "nearest"
    _fixed_arguments = ("interpolation",)

    def __init__(self, size=2, data_format=None, **kwargs):
        Layer.__init__(self, **kwargs)
        self._set_size(size, data_format)
