"""Layers that prepare images at random while training: moved, mirrored, recolored, erased.

Every draw is a counter's (dlcore.random), so the same seed gives the same images on every backend
and for any number of threads. Images may come alone (H, W, C), as a batch, or as the entry "images"
of a dictionary.
"""

import math

import numpy as np

from dlcore import ops, random
from dlcore.layers import spec
from dlcore.layers.images import ImageLayer, check_name, resized
from dlcore.ops.resizing import middle_window
from dlcore.ops.sampling import FILL_MODES, INTERPOLATIONS, stack_matrix


class _RandomImages(ImageLayer):
    """Base: `transform(x)` changes a batch x (N, H, W, C) while training, `infer(x)` else."""

    def __init__(self, seed=None, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed)

    def call(self, inputs, training=True):
        if isinstance(inputs, dict):
            return {**inputs, "images": self.call(inputs["images"], training)}
        return self.on_batch(self.transform if training else self.infer, self._as_float(inputs))

    def infer(self, x):
        return x

    def transform(self, x):
        raise NotImplementedError(f"{self.name}: expected a subclass that defines transform(x)")

    def _uniform(self, shape, low=0.0, high=1.0):
        return random.uniform(shape, low, high, self.dtype, self.seed_generator)

    def _sample(self, x, entries, shape=None, interpolation="nearest", mode="nearest", fill=0.0):
        """`ops.affine_sample` with a matrix of six numbers or tensors (N,)."""
        matrix = stack_matrix(entries, x.shape[0], self.dtype)
        return ops.affine_sample(x, matrix, shape, interpolation, mode, fill)


def _range(name, what, factor, least, most, symmetric=True):
    """(low, high) of a factor: two numbers, or one for -factor..factor (0..factor)."""
    pair = tuple(factor) if isinstance(factor, (tuple, list)) else (factor,)
    good = len(pair) in (1, 2) and all(
        isinstance(f, (int, float)) and not isinstance(f, bool) and least <= f <= most for f in pair
    )
    if not good:
        raise ValueError(
            f"{name}: expected {what} as one or two numbers in {least:g}..{most:g}, got {factor!r}"
        )
    if len(pair) == 2:
        return tuple(sorted(map(float, pair)))
    return (-abs(float(factor)) if symmetric else 0.0), abs(float(factor))


def _value_range(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not value[0] < value[1]:
        raise ValueError(f"{name}: expected value_range as (least, most), got {value!r}")
    return tuple(map(float, value))


class RandomFlip(_RandomImages):
    """While training, mirrors each image with probability 1/2 (along each axis asked for).

    Parameters
    ----------
    mode : {"horizontal_and_vertical", "horizontal", "vertical"}
    seed : int, optional
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.
    """

    _MODES = ("horizontal", "vertical", "horizontal_and_vertical")

    def __init__(self, mode="horizontal_and_vertical", seed=None, data_format=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        self.mode = check_name(self, "mode", mode, self._MODES)

    def _axis(self, x, flips, size):
        """(slope, offset) that mirror an axis of `size` pixels in half of the images."""
        if not flips:
            return 1.0, 0.0
        flip = random.bernoulli((x.shape[0],), 0.5, self.dtype, self.seed_generator)
        return 1.0 - 2.0 * flip, (size - 1.0) * flip

    def transform(self, x):
        _, h, w, _ = x.shape
        across, right = self._axis(x, self.mode != "vertical", w)
        down, bottom = self._axis(x, self.mode != "horizontal", h)
        return self._sample(x, (across, 0, right, 0, down, bottom))


class RandomCrop(_RandomImages):
    """While training, a window at a random place of each image; else the largest window of that
    shape in the centre, resized. An image that is no larger than the window is treated so always.

    Parameters
    ----------
    height, width : int
        Of the window, in pixels.
    seed : int, optional
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.
    """

    def __init__(self, height, width, seed=None, data_format=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        self.height = spec.check_positive_int(self.name, "height", height)
        self.width = spec.check_positive_int(self.name, "width", width)

    def transform(self, x):
        n, h, w, _ = x.shape
        if h < self.height or w < self.width:
            return self.infer(x)
        top = ops.floor(self._uniform((n,), 0.0, h - self.height + 1.0))
        left = ops.floor(self._uniform((n,), 0.0, w - self.width + 1.0))
        return self._sample(x, (1, 0, left, 0, 1, top), (self.height, self.width))

    def infer(self, x):
        window = middle_window(*x.shape[1:3], self.height, self.width)
        return resized(x, self.height, self.width, window)


class _RandomPlaces(_RandomImages):
    """Base of layers that read each image at places given by a matrix."""

    def __init__(self, fill_mode, interpolation, seed, fill_value, data_format, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        self.fill_mode = check_name(self, "fill_mode", fill_mode, FILL_MODES)
        self.interpolation = check_name(self, "interpolation", interpolation, INTERPOLATIONS)
        self.fill_value = float(fill_value)

    def transform(self, x):
        entries = self.entries(*x.shape[:3])
        return self._sample(x, entries, None, self.interpolation, self.fill_mode, self.fill_value)


class RandomTranslation(_RandomPlaces):
    """While training, shifts each image by a random part of its size.

    Parameters
    ----------
    height_factor, width_factor : float or (float, float), in -1..1
        Least and most part of the height (down) and width (to the right); one number f is (-f, f).
    fill_mode : {"reflect", "constant", "nearest", "wrap", "mirror"}
        What comes in from outside; see `ops.affine_sample`.
    interpolation : {"bilinear", "nearest"}
    seed : int, optional
    fill_value : float
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, height_factor, width_factor, fill_mode="reflect", interpolation="bilinear",
        seed=None, fill_value=0.0, data_format=None, **kwargs,
    ):  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor
        self._down = _range(self.name, "height_factor", height_factor, -1, 1)
        self._right = _range(self.name, "width_factor", width_factor, -1, 1)

    def entries(self, n, h, w):
        down, right = self._uniform((n,), *self._down), self._uniform((n,), *self._right)
        return 1, 0, right * -float(w), 0, 1, down * -float(h)


class RandomRotation(_RandomPlaces):
    """While training, turns each image about its centre by a random angle.

    Parameters
    ----------
    factor : float or (float, float)
        Least and most angle as a part of a full turn; one number f is (-f, f).
    fill_mode, interpolation, seed, fill_value, data_format
        See `RandomTranslation`.
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, factor, fill_mode="reflect", interpolation="bilinear", seed=None, fill_value=0.0,
        data_format=None, **kwargs,
    ):  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = factor
        self._turns = _range(self.name, "factor", factor, -1, 1)

    def entries(self, n, h, w):
        angle = self._uniform((n,), *self._turns) * (2 * math.pi)
        cos, sin = ops.cos(angle), ops.sin(angle)
        x, y = (w - 1) / 2, (h - 1) / 2
        return cos, -sin, (x + y * sin) - x * cos, sin, cos, (y - x * sin) - y * cos


class RandomZoom(_RandomPlaces):
    """While training, scales each image about its centre by a random factor.

    Parameters
    ----------
    height_factor : float or (float, float), in -1..1
        Least and most change of the height that is seen: -0.2 zooms in by a fifth, 0.2 out; one
        number f is (-f, f).
    width_factor : float or (float, float), optional
        By default that of the height, which keeps the image's proportions.
    fill_mode, interpolation, seed, fill_value, data_format
        See `RandomTranslation`.
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, height_factor, width_factor=None, fill_mode="reflect", interpolation="bilinear",
        seed=None, fill_value=0.0, data_format=None, **kwargs,
    ):  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor
        self._down = _range(self.name, "height_factor", height_factor, -1, 1)
        self._across = None
        if width_factor is not None:
            self._across = _range(self.name, "width_factor", width_factor, -1, 1)

    def entries(self, n, h, w):
        down = across = 1.0 + self._uniform((n,), *self._down)
        if self._across is not None:
            across = 1.0 + self._uniform((n,), *self._across)
        return across, 0, (1.0 - across) * ((w - 1) / 2), 0, down, (1.0 - down) * ((h - 1) / 2)


class RandomBrightness(_RandomImages):
    """While training, adds to each image a random part of the range of values, and clips.

    Parameters
    ----------
    factor : float or (float, float), in -1..1
        Least and most part; one number f is (-f, f).
    value_range : (float, float)
        Least and most value of a pixel.
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    def __init__(self, factor, value_range=(0, 255), seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.factor, self._factor = factor, _range(self.name, "factor", factor, -1, 1)
        self.value_range = _value_range(self.name, value_range)

    def transform(self, x):
        low, high = self.value_range
        part = self._uniform((x.shape[0], 1, 1, 1), *self._factor)
        return ops.clip(x + part * (high - low), low, high)


class RandomContrast(_RandomImages):
    """While training, stretches each image's distance from its mean by a random factor, and clips:
    y = (x - mean) f + mean, a mean for each channel.

    Parameters
    ----------
    factor : float or (float, float), in 0..1
        f lies between 1 - factor[0] and 1 + factor[1]; one number serves for both.
    value_range : (float, float)
        Least and most value of a pixel.
    seed : int, optional
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.
    """

    def __init__(self, factor, value_range=(0, 255), seed=None, data_format=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        self.factor = factor
        _range(self.name, "factor", factor, 0, 1)
        pair = factor if isinstance(factor, (tuple, list)) else (factor, factor)
        self._less, self._more = map(float, pair)
        self.value_range = _value_range(self.name, value_range)

    def transform(self, x):
        f = self._uniform((x.shape[0], 1, 1, 1), 1 - self._less, 1 + self._more)
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        return self._as_float(ops.clip((x - mean) * f + mean, *self.value_range))


class RandomErasing(_RandomImages):
    """While training, fills a random rectangle of each image ("cutout").

    Parameters
    ----------
    factor : float or (float, float), in 0..1
        Probability that an image is changed, or the range from which it is drawn for each image.
    scale : float or (float, float), in 0..1
        Least and most part of the area; the sides are drawn one by one.
    fill_value : float or sequence of a float per channel, optional
        By default normally distributed noise times the most value of `value_range`.
    value_range : (float, float)
        Least and most value of a pixel.
    seed : int, optional
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.

    References
    ----------
    DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout";
    Zhong et al. 2020, "Random Erasing Data Augmentation"
    """

    def __init__(
        self, factor=1.0, scale=(0.02, 0.33), fill_value=None, value_range=(0, 255), seed=None,
        data_format=None, **kwargs,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.factor, self.scale, self.fill_value = factor, scale, fill_value
        low, high = _range(self.name, "factor", factor, 0, 1, symmetric=False)
        self._probability = (low, high) if isinstance(factor, (tuple, list)) else (high, high)
        self._scale = _range(self.name, "scale", scale, 0, 1, symmetric=False)
        self.value_range = _value_range(self.name, value_range)

    def _side(self, n, size, shape):
        """Whether the pixels along an axis lie inside the rectangle."""
        length = ops.sqrt(self._uniform((n, 1, 1, 1), *self._scale)) * float(size)
        start = self._uniform((n, 1, 1, 1)) * (float(size) - length)
        at = np.arange(size).reshape(shape).astype(self.dtype)
        return ops.logical_and(at >= start, at < start + length)

    def _fill(self, shape):
        low, high = self.value_range
        if self.fill_value is not None:
            return np.clip(np.asarray(self.fill_value, self.dtype), low, high)
        noise = random.normal(shape, 0.0, high, self.dtype, self.seed_generator)
        return ops.clip(noise, low, high)

    def transform(self, x):
        n, h, w, _ = x.shape
        inside = ops.logical_and(self._side(n, h, (1, h, 1, 1)), self._side(n, w, (1, 1, w, 1)))
        changed = self._uniform((n, 1, 1, 1)) < self._uniform((n, 1, 1, 1), *self._probability)
        return ops.where(ops.logical_and(inside, changed), self._fill(x.shape), x)
