"""Layers that make one value of a window, or of all positions, for each channel.

Inputs are (batch, steps, channels) in 1D, (batch, height, width, channels) in 2D and (batch, depth,
height, width, channels) in 3D, or have the channels first.
"""

from dlcore import ops
from dlcore.layers.base import Layer
from dlcore.ops import pooling
from dlcore.ops.spatial import check_data_format, check_padding, check_sizes


def check_rank(layer, shape, rank):
    """Refuse inputs that have not `rank` spatial axes."""
    if len(shape) != rank + 2:
        axes = {1: "steps", 2: "height, width", 3: "depth, height, width"}[rank]
        first = layer.data_format == "channels_first"
        expected = f"batch, channels, {axes}" if first else f"batch, {axes}, channels"
        raise ValueError(f"{layer.name}: expected input ({expected}), got {tuple(shape)}")


class MaxPooling2D(Layer):
    """The largest value of each window; NaN passes on.

    Parameters
    ----------
    pool_size : int or tuple of int, default 2
    strides : int or tuple of int, default `pool_size`
    padding : {"valid", "same"}
        Windows lie inside the input; or there are size / strides of them, rounded up.
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.MaxPooling2D(2)
    >>> layer(np.arange(16, dtype="float32").reshape(1, 4, 4, 1)).ravel()
    array([ 5.,  7., 13., 15.], dtype=float32)
    """

    rank = 2

    def __init__(self, pool_size=2, strides=None, padding="valid", data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = check_sizes(self.name, "pool_size", pool_size, self.rank)
        strides = self.pool_size if strides is None else strides
        self.strides = check_sizes(self.name, "strides", strides, self.rank)
        self.padding = check_padding(self.name, padding, self.rank)
        self.data_format = check_data_format(self.name, data_format)

    def call(self, inputs):
        check_rank(self, inputs.shape, self.rank)
        return self.pool(
            self.name, inputs, self.pool_size, self.strides, self.padding, self.data_format
        )

    @staticmethod
    def pool(*args):
        return pooling.pool_max(*args)[0]


class MaxPooling1D(MaxPooling2D):
    """The largest value of each window over steps; see `MaxPooling2D`."""

    rank = 1


class MaxPooling3D(MaxPooling2D):
    """The largest value of each window over three axes; see `MaxPooling2D`."""

    rank = 3


class AveragePooling2D(MaxPooling2D):
    """The mean of each window, where padding does not count; see `MaxPooling2D`."""

    pool = staticmethod(pooling.pool_average)


class AveragePooling1D(AveragePooling2D):
    """The mean of each window over steps; see `MaxPooling2D`."""

    rank = 1


class AveragePooling3D(AveragePooling2D):
    """The mean of each window over three axes; see `MaxPooling2D`."""

    rank = 3


class GlobalAveragePooling2D(Layer):
    """The mean of each channel over all positions.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    keepdims : bool, default False
        Whether spatial axes of size 1 remain.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.GlobalAveragePooling2D()(np.ones((1, 4, 4, 3), "float32"))
    array([[1., 1., 1.]], dtype=float32)
    """

    rank = 2
    reduce = staticmethod(ops.mean)

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.data_format = check_data_format(self.name, data_format)
        self.keepdims = bool(keepdims)

    def call(self, inputs):
        check_rank(self, inputs.shape, self.rank)
        first = 2 if self.data_format == "channels_first" else 1
        axes = tuple(range(first, first + self.rank))
        if 0 in inputs.shape[first : first + self.rank]:
            raise ValueError(f"{self.name}: expected at least one position, got {inputs.shape}")
        return self.reduce(self._as_float(inputs), axes, self.keepdims)


class GlobalAveragePooling1D(GlobalAveragePooling2D):
    """The mean of each channel over all steps that no mask leaves out; see
    `GlobalAveragePooling2D`.
    """

    supports_masking = True
    rank = 1

    def call(self, inputs, mask=None):
        if mask is None:
            return super().call(inputs)
        first = self.data_format == "channels_first"
        weight = ops.expand_dims(ops.cast(mask, self.compute_dtype), 1 if first else 2)
        axis = 2 if first else 1
        total = ops.sum(self._as_float(inputs) * weight, axis, self.keepdims)
        return total / ops.maximum(ops.sum(weight, axis, self.keepdims), 1.0)

    def compute_mask(self, inputs, mask=None):
        return None


class GlobalAveragePooling3D(GlobalAveragePooling2D):
    """The mean of each channel over three axes; see `GlobalAveragePooling2D`."""

    rank = 3


class GlobalMaxPooling2D(GlobalAveragePooling2D):
    """The largest value of each channel; see `GlobalAveragePooling2D`."""

    reduce = staticmethod(ops.max)


class GlobalMaxPooling1D(GlobalMaxPooling2D):
    """The largest value of each channel over all steps; see `GlobalAveragePooling2D`."""

    rank = 1


class GlobalMaxPooling3D(GlobalMaxPooling2D):
    """The largest value of each channel over three axes; see `GlobalAveragePooling2D`."""

    rank = 3


class AdaptiveAveragePooling2D(Layer):
    """The means of windows that divide the image into so many places.

    Parameters
    ----------
    output_size : int or tuple of int
        Places along each spatial axis.
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.AdaptiveAveragePooling2D(2)
    >>> layer(np.arange(16, dtype="float32").reshape(1, 4, 4, 1)).ravel()
    array([ 2.5,  4.5, 10.5, 12.5], dtype=float32)
    """

    rank = 2
    pool = "adaptive_average_pool"

    def __init__(self, output_size, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.output_size = check_sizes(self.name, "output_size", output_size, self.rank)
        self.data_format = check_data_format(self.name, data_format)

    def call(self, inputs):
        check_rank(self, inputs.shape, self.rank)
        return getattr(ops, self.pool)(inputs, self.output_size, self.data_format)


class AdaptiveAveragePooling1D(AdaptiveAveragePooling2D):
    """The means of windows that divide the steps; see `AdaptiveAveragePooling2D`."""

    rank = 1


class AdaptiveAveragePooling3D(AdaptiveAveragePooling2D):
    """The means of windows that divide three axes; see `AdaptiveAveragePooling2D`."""

    rank = 3


class AdaptiveMaxPooling2D(AdaptiveAveragePooling2D):
    """The largest values of windows that divide the image; see `AdaptiveAveragePooling2D`."""

    pool = "adaptive_max_pool"


class AdaptiveMaxPooling1D(AdaptiveMaxPooling2D):
    """The largest values of windows that divide the steps; see `AdaptiveAveragePooling2D`."""

    rank = 1


class AdaptiveMaxPooling3D(AdaptiveMaxPooling2D):
    """The largest values of windows that divide three axes; see `AdaptiveAveragePooling2D`."""

    rank = 3


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D = GlobalMaxPooling1D, GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
