"""Layers that slide filters over 1 to 3 spatial axes: y = activation(conv(x, w) + b).

Conv            w (R.., C / groups, filters)      every filter sees the channels of its group
ConvTranspose   w (R.., filters, C)               what the gradient of Conv computes

Shapes are those of "channels_last", x (N, H.., C); inside all is computed in that order.
"""

from dlcore import activations, ops
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.ops import convolution
from dlcore.ops.spatial import (
    channels_last,
    check_data_format,
    check_padding,
    check_sizes,
    from_channels_last,
)

_AXES = {1: ("steps",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class Convolution(Layer):
    """What all of them share; subclasses set `rank` and define `build` and `convolve`."""

    rank = 2
    paddings = ("valid", "same")

    def _set_window(self, kernel_size, strides, padding, data_format, dilation_rate):
        self.kernel_size = check_sizes(self.name, "kernel_size", kernel_size, self.rank)
        self.strides = check_sizes(self.name, "strides", strides, self.rank)
        self.padding = check_padding(self.name, padding, self.rank, self.paddings)
        self.data_format = check_data_format(self.name, data_format)
        self.dilation_rate = check_sizes(self.name, "dilation_rate", dilation_rate, self.rank)

    def _set_results(self, activation, use_bias, *bias):
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._describe_weight("bias", *bias)

    def _check_input(self, shape, channels=None):
        """The number of channels of inputs of `shape`."""
        first = self.data_format == "channels_first"
        found = shape[1 if first else -1] if len(shape) == self.rank + 2 else None
        if not found or (channels is not None and found != channels):
            axes, shown = _AXES[self.rank], "channels" if channels is None else str(channels)
            expected = ("batch", shown, *axes) if first else ("batch", *axes, shown)
            flat = len(shape) == self.rank + 1 and not first
            hint = "; x[..., None] has one channel" if flat else ""
            raise ValueError(
                f"{self.name}: expected input ({', '.join(expected)}), got {tuple(shape)}{hint}"
            )
        return int(found)

    def _add_bias(self, size):
        if self.use_bias:
            self.bias = self._add_described("bias", (size,))

    def call(self, inputs):
        self._check_input(inputs.shape, self._channels)
        y = self.convolve(channels_last(self._as_float(inputs), self.data_format))
        if self.use_bias:
            y = ops.add(y, self.bias)
        return activations.get(self.activation)(from_channels_last(y, self.data_format))


class Conv2D(Convolution):
    """Convolution over two axes: y = activation(conv(x, w) + b).

    Parameters
    ----------
    filters : int
        Number K of filters: the channels of the output.
    kernel_size : int or tuple of int
    strides : int or tuple of int, default 1
    padding : {"valid", "same"} or a pair (before, after) per axis
        No zeros around the input; as many that the output has size / strides values, rounded up; or
        as many as given.
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    dilation_rate : int or tuple of int, default 1
        Distance between the values that neighbouring weights of a filter see.
    groups : int, default 1
        Channels and filters fall into that many groups that do not see each other.
    activation : str, callable or Layer, optional
    use_bias : bool, default True
    kernel_initializer : default "glorot_uniform"
    bias_initializer : default "zeros"
    kernel_regularizer, bias_regularizer, activity_regularizer : optional
    kernel_constraint, bias_constraint : optional
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.Conv2D(16, 3, padding="same", activation="relu")
    >>> layer(np.zeros((1, 28, 28, 1), "float32")).shape
    (1, 28, 28, 16)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = spec.check_positive_int(self.name, "filters", filters)
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.groups = spec.check_positive_int(self.name, "groups", groups)
        if self.filters % self.groups:
            raise ValueError(
                f"{self.name}: expected groups that divide {self.filters} filters, got {groups}"
            )
        self._set_results(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)
        self._describe_weight("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)

    def build(self, input_shape):
        self._channels = self._check_input(input_shape)
        if self._channels % self.groups:
            raise ValueError(
                f"{self.name}: expected channels in {self.groups} groups, got {tuple(input_shape)}"
            )
        self.kernel = self._add_described(
            "kernel", (*self.kernel_size, self._channels // self.groups, self.filters)
        )
        self._add_bias(self.filters)

    def convolution_op(self, inputs, kernel):
        """The convolution with a kernel, in the layer's data format; subclasses may replace it."""
        y = self._convolve(channels_last(inputs, self.data_format), kernel)
        return from_channels_last(y, self.data_format)

    def convolve(self, x):
        if type(self).convolution_op is Conv2D.convolution_op:
            return self._convolve(x, self.kernel)
        x = from_channels_last(x, self.data_format)
        return channels_last(self.convolution_op(x, self.kernel), self.data_format)

    def _convolve(self, x, kernel):
        return convolution.convolve(
            self.name, x, kernel, self.strides, self.padding, self.dilation_rate
        )


class Conv1D(Conv2D):
    """Convolution over one axis. See `Conv2D`.

    With padding "causal", a value of the output depends on no later value of the input.
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class Conv3D(Conv2D):
    """Convolution over three axes. See `Conv2D`."""

    rank = 3


class Conv2DTranspose(Convolution):
    """Transposed convolution over two axes: every value of x adds its multiple of the filters.

    Parameters
    ----------
    filters : int
        Number K of channels of the output.
    kernel_size : int or tuple of int
    strides : int or tuple of int, default 1
        Distance in the output of what neighbouring values of the input add.
    padding : {"valid", "same"} or a pair (before, after) per axis
        Keep all of the output; only size * strides values; or cut off as many as given.
    output_padding : int or tuple of int, optional
        How many values the output is longer than (size - 1) * strides + span of the filter, or than
        (size - 1) * strides + span % 2 for "same".
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    dilation_rate : int or tuple of int, default 1
    activation : str, callable or Layer, optional
    use_bias : bool, default True
    kernel_initializer : default "glorot_uniform"
    bias_initializer : default "zeros"
    kernel_regularizer, bias_regularizer, activity_regularizer : optional
    kernel_constraint, bias_constraint : optional
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.Conv2DTranspose(3, 3, strides=2, padding="same")
    >>> layer(np.zeros((1, 7, 7, 16), "float32")).shape
    (1, 14, 14, 3)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        output_padding=None,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = spec.check_positive_int(self.name, "filters", filters)
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        if output_padding is not None:
            output_padding = check_sizes(
                self.name, "output_padding", output_padding, self.rank, least=0
            )
        self.output_padding = output_padding
        self._set_results(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)
        self._describe_weight("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)

    def build(self, input_shape):
        self._channels = self._check_input(input_shape)
        self.kernel = self._add_described(
            "kernel", (*self.kernel_size, self.filters, self._channels)
        )
        self._add_bias(self.filters)

    def convolve(self, x):
        return convolution.convolve_transposed(
            self.name,
            x,
            self.kernel,
            self.strides,
            self.padding,
            self.output_padding,
            self.dilation_rate,
        )


class Conv1DTranspose(Conv2DTranspose):
    """Transposed convolution over one axis. See `Conv2DTranspose`."""

    rank = 1


class Conv3DTranspose(Conv2DTranspose):
    """Transposed convolution over three axes. See `Conv2DTranspose`, but for the places of
    `data_format` and `output_padding`.
    """

    rank = 3

    def __init__(
        self, filters, kernel_size, strides=1, padding="valid", data_format=None,
        output_padding=None, *args, **kwargs,
    ):  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, output_padding, data_format, *args, **kwargs
        )


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose = Conv1DTranspose, Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
