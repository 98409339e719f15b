"""Layers that change images by filters and shears; see augmentation.py."""

import numpy as np

from dlcore import ops, random
from dlcore.layers import spec
from dlcore.layers.augmentation import _RandomImages, _RandomPlaces, _range, _value_range
from dlcore.layers.base import Layer
from dlcore.layers.colors import _Partly
from dlcore.layers.images import ImageLayer


class AutoContrast(ImageLayer):
    """Stretches the values of each channel of each image to all of `value_range`.

    Parameters
    ----------
    value_range : (float, float)
        Least and most value of a pixel.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x = np.array([[[10.0], [20.0]]], "float32")
    >>> dlcore.layers.AutoContrast()(x).ravel().tolist()
    [0.0, 255.0]
    """

    def __init__(self, value_range=(0, 255), **kwargs):
        super().__init__(**kwargs)
        self.value_range = _value_range(self.name, value_range)

    def call(self, inputs):
        return self.on_batch(self.transform, self._as_float(inputs))

    def transform(self, x):
        low, high = self.value_range
        least, most = (f(x, axis=(1, 2), keepdims=True) for f in (ops.min, ops.max))
        span = most - least
        y = (x - least) * ((high - low) / ops.where(span > 0.0, span, 1.0)) + low
        return ops.where(span > 0.0, ops.clip(y, low, high), x)


class RandomColorDegeneration(_Partly):
    """While training, blends each image with its grey version.

    Parameters
    ----------
    factor : float or (float, float), in 0..1
        Share of the grey version, drawn for each image.
    value_range : (float, float)
        Least and most value of a pixel.
    data_format : {"channels_last", "channels_first"}, optional
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    def transform(self, x):
        grey = ops.image.rgb_to_grayscale(x, "channels_last")
        return ops.clip(x + self._drawn(x) * (grey - x), *self.value_range)


class RandomSharpness(_Partly):
    """While training, makes each image sharper or less sharp: y = x + (1 - 2 f) (blurred(x) - x).

    Parameters
    ----------
    factor : float or (float, float), in 0..1
        f, drawn for each image: 0.5 leaves it as it is, 1 is the sharpest.
    value_range : (float, float)
        Least and most value of a pixel.
    data_format : {"channels_last", "channels_first"}, optional
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    def transform(self, x):
        kernel = np.full((3, 3, 1, 1), 1 / 13, self.dtype)
        kernel[1, 1] = 5 / 13
        kernel = np.repeat(kernel, x.shape[-1], 2)
        blurred = ops.depthwise_conv(x, kernel, 1, "same", data_format="channels_last")
        return ops.clip(x + (1.0 - 2.0 * self._drawn(x)) * (blurred - x), *self.value_range)


class RandomGaussianBlur(_RandomImages):
    """While training, blurs some of the images by a bell of random width.

    Parameters
    ----------
    factor : float or (float, float), in 0..1
        The probability is drawn from it for each image.
    kernel_size : int or (int, int), default 3
        Pixels of the filter.
    sigma : float or (float, float)
        Width of the bell, drawn from 0..sigma or from the pair, for all images of a batch.
    value_range : (float, float)
        Least and most value of a pixel.
    data_format : {"channels_last", "channels_first"}, optional
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, factor=1.0, kernel_size=3, sigma=1.0, value_range=(0, 255), data_format=None,
        seed=None, **kwargs,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.factor, self._factor = factor, _range(self.name, "factor", factor, 0, 1, False)
        self.sigma, self._sigma = sigma, _range(self.name, "sigma", sigma, 0, 1e6, False)
        sizes = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * 2
        for size in sizes:
            spec.check_positive_int(self.name, "kernel_size", size)
        self.kernel_size = tuple(sizes)
        self.value_range = _value_range(self.name, value_range)

    def transform(self, x):
        shape = x.shape[0], 1, 1, 1
        chosen = self._uniform(shape) < self._uniform(shape, *self._factor)
        sigma = self._uniform((2,), *self._sigma) + 1e-6
        y = self._filtered(self._filtered(x, sigma[0], 0), sigma[1], 1)
        return ops.clip(ops.where(chosen, y, x), *self.value_range)

    def _filtered(self, x, sigma, axis):
        """Blurred along the rows (axis 0) or columns."""
        size = self.kernel_size[axis]
        places = (np.arange(size) - (size - 1) / 2).astype(self.dtype)
        bell = ops.softmax(-0.5 * ops.square(places / sigma))
        bell = ops.reshape(bell, (size, 1, 1, 1) if axis == 0 else (1, size, 1, 1))
        kernel = ops.repeat(bell, x.shape[-1], axis=2)
        return ops.depthwise_conv(x, kernel, 1, "same", data_format="channels_last")


class RandomShear(_RandomPlaces):
    """While training, shears each image by random factors.

    Parameters
    ----------
    x_factor, y_factor : float or (float, float), in 0..1
        From which the slopes along the two axes are drawn, both with one random sign.
    interpolation, fill_mode, fill_value, data_format, seed
        See `RandomTranslation`.
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, x_factor=0.0, y_factor=0.0, interpolation="bilinear", fill_mode="reflect",
        fill_value=0.0, data_format=None, seed=None, **kwargs,
    ):  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.x_factor, self.y_factor = x_factor, y_factor
        self._x, self._y = (
            _range(self.name, what, getattr(self, what), 0, 1, symmetric=False)
            for what in ("x_factor", "y_factor")
        )

    def entries(self, n, h, w):
        sign = 1.0 - 2.0 * random.bernoulli((n,), 0.5, self.dtype, self.seed_generator)
        x, y = (sign * self._uniform((n,), *factor) for factor in (self._x, self._y))
        return 1, x, 0, y, 1, 0


class Pipeline(Layer):
    """Layers, one after the other.

    Parameters
    ----------
    layers : list of Layer
    name : str, optional

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> from dlcore import layers
    >>> both = layers.Pipeline([layers.Rescaling(2.0), layers.Rescaling(1.0, offset=1.0)])
    >>> both(np.array([3.0], "float32")).tolist()
    [7.0]
    """

    def __init__(self, layers, name=None):
        super().__init__(name=name)
        self.layers = list(layers)
        self.autocast = False

    def call(self, inputs, training=True):
        for layer in self.layers:
            inputs = layer(inputs, training=training)
        return inputs
