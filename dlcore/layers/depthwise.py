"""Convolutions of every channel by itself.

DepthwiseConv   w (R.., C, depth_multiplier)      every channel has filters of its own
SeparableConv   depthwise, then a Conv of size 1  no bias and activation between
"""

from dlcore.layers import spec
from dlcore.layers.convolution import Convolution
from dlcore.ops import convolution


class DepthwiseConv2D(Convolution):
    """Convolution over two axes of every channel with `depth_multiplier` filters of its own.

    Parameters
    ----------
    kernel_size : int or tuple of int
    strides : int or tuple of int, default 1
    padding : {"valid", "same"} or a pair (before, after) per axis
    depth_multiplier : int, default 1
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    dilation_rate : int or tuple of int, default 1
    activation : str, callable or Layer, optional
    use_bias : bool, default True
    depthwise_initializer : default "glorot_uniform"
    bias_initializer : default "zeros"
    depthwise_regularizer, bias_regularizer, activity_regularizer : optional
    depthwise_constraint, bias_constraint : optional
    **kwargs
        See `Layer`.
    """

    def __init__(
        self,
        kernel_size,
        strides=1,
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.depth_multiplier = spec.check_positive_int(
            self.name, "depth_multiplier", depth_multiplier
        )
        self._set_results(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)
        self._describe_weight(
            "depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint
        )

    def build(self, input_shape):
        self._channels = self._check_input(input_shape)
        self.kernel = self._add_described(
            "depthwise", (*self.kernel_size, self._channels, self.depth_multiplier), "kernel"
        )
        self._add_bias(self._channels * self.depth_multiplier)

    def convolve(self, x):
        return convolution.convolve_depthwise(
            self.name, x, self.kernel, self.strides, self.padding, self.dilation_rate
        )


class DepthwiseConv1D(DepthwiseConv2D):
    """Convolution over one axis of every channel by itself. See `DepthwiseConv2D`."""

    rank = 1
    paddings = ("valid", "same", "causal")


class SeparableConv2D(Convolution):
    """Convolution of every channel by itself, then one of size 1 that mixes channels.

    Parameters
    ----------
    filters : int
        Number K of channels of the output.
    kernel_size : int or tuple of int
    strides : int or tuple of int, default 1
    padding : {"valid", "same"} or a pair (before, after) per axis
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    dilation_rate : int or tuple of int, default 1
    depth_multiplier : int, default 1
        Filters of each channel in the first convolution.
    activation : str, callable or Layer, optional
    use_bias : bool, default True
    depthwise_initializer, pointwise_initializer : default "glorot_uniform"
    bias_initializer : default "zeros"
    depthwise_regularizer, pointwise_regularizer, bias_regularizer, activity_regularizer : optional
    depthwise_constraint, pointwise_constraint, bias_constraint : optional
    **kwargs
        See `Layer`.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = spec.check_positive_int(self.name, "filters", filters)
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.depth_multiplier = spec.check_positive_int(
            self.name, "depth_multiplier", depth_multiplier
        )
        self._set_results(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)
        self._describe_weight(
            "depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint
        )
        self._describe_weight(
            "pointwise", pointwise_initializer, pointwise_regularizer, pointwise_constraint
        )

    def build(self, input_shape):
        self._channels = self._check_input(input_shape)
        self.depthwise_kernel = self._add_described(
            "depthwise",
            (*self.kernel_size, self._channels, self.depth_multiplier),
            "depthwise_kernel",
        )
        self.pointwise_kernel = self._add_described(
            "pointwise",
            (*(1,) * self.rank, self._channels * self.depth_multiplier, self.filters),
            "pointwise_kernel",
        )
        self._add_bias(self.filters)

    def convolve(self, x):
        return convolution.convolve_separable(
            self.name,
            x,
            self.depthwise_kernel,
            self.pointwise_kernel,
            self.strides,
            self.padding,
            self.dilation_rate,
        )


class SeparableConv1D(SeparableConv2D):
    """Depthwise convolution over one axis, then one of size 1. See `SeparableConv2D`."""

    rank = 1
    paddings = ("valid", "same", "causal")


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
