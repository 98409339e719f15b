"""Layers that change the colours of images at random while training; see augmentation.py.

A factor is a number f, for 0..f where nothing else is said, or a pair (least, most).
"""

from dlcore import ops, random
from dlcore.config import epsilon
from dlcore.layers.augmentation import (
    RandomBrightness,
    RandomContrast,
    _RandomImages,
    _range,
    _value_range,
)


class _Coloring(_RandomImages):
    """Base: one draw from `self._factor` for each image, values in `value_range`."""

    def __init__(self, factor, bounds, symmetric, value_range, seed, data_format, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        self.factor = factor
        self._factor = _range(self.name, "factor", factor, *bounds, symmetric=symmetric)
        self.value_range = _value_range(self.name, value_range)

    def _drawn(self, x):
        return self._uniform((x.shape[0], 1, 1, 1), *self._factor)

    def _scaled(self, x, most):
        """Values of `value_range` as 0..most."""
        low, high = self.value_range
        return (x - low) * (most / (high - low))

    def _unscaled(self, x, most):
        low, high = self.value_range
        return x * ((high - low) / most) + low

    def _in_hsv(self, x, change):
        """`change(hue, saturation, value)` of the colours."""
        hsv = ops.image.rgb_to_hsv(ops.clip(self._scaled(x, 1.0), 0.0, 1.0), "channels_last")
        parts = change(*(hsv[..., i : i + 1] for i in range(3)))
        y = ops.image.hsv_to_rgb(ops.concatenate(parts, axis=-1), "channels_last")
        return self._unscaled(y, 1.0)


class _Partly(_Coloring):
    """Base of colorings by a part of 0..1."""

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        super().__init__(factor, (0, 1), False, value_range, seed, data_format, **kwargs)


class RandomGrayscale(_RandomImages):
    """While training, takes the colours from some of the images.

    Parameters
    ----------
    factor : float, 0..1
        Probability.
    data_format : {"channels_last", "channels_first"}, optional
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    def __init__(self, factor=0.5, data_format=None, seed=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 <= factor <= 1:
            raise ValueError(f"{self.name}: expected factor in 0..1, got {factor!r}")
        self.factor = factor

    def transform(self, x):
        chosen = self._uniform((x.shape[0], 1, 1, 1)) < self.factor
        return ops.where(chosen, ops.image.rgb_to_grayscale(x, "channels_last"), x)


class RandomInvert(_Coloring):
    """While training, turns some of the images into negatives: the largest value less the pixel's.

    Parameters
    ----------
    factor : float or (float, float), in 0..1
        The probability is drawn from it for each image.
    value_range : (float, float)
        Least and most value of a pixel.
    seed : int, optional
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.
    """

    def __init__(self, factor=1.0, value_range=(0, 255), seed=None, data_format=None, **kwargs):
        super().__init__(factor, (0, 1), False, value_range, seed, data_format, **kwargs)

    def transform(self, x):
        chosen = self._uniform((x.shape[0], 1, 1, 1)) < self._drawn(x)
        return ops.where(chosen, self.value_range[1] - x, x)


class Solarization(_RandomImages):
    """While training, adds a random number to the pixels, and inverts those that are then not below
    a random threshold (all where it is 0).

    Parameters
    ----------
    addition_factor, threshold_factor : float or (float, float), in 0..1
        From which the two are drawn for each image, as parts of the range of values.
    value_range : (float, float)
        Least and most value of a pixel.
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, addition_factor=0.0, threshold_factor=0.0, value_range=(0, 255), seed=None, **kwargs
    ):
        super().__init__(seed, **kwargs)
        self.addition_factor, self.threshold_factor = addition_factor, threshold_factor
        self._addition, self._threshold = (
            _range(self.name, what, getattr(self, what), 0, 1, symmetric=False)
            for what in ("addition_factor", "threshold_factor")
        )
        self.value_range = _value_range(self.name, value_range)

    def transform(self, x):
        low, high = self.value_range
        shape, span = (x.shape[0], 1, 1, 1), high - low
        y = ops.clip(x + self._uniform(shape, *self._addition) * span, low, high)
        threshold = self._uniform(shape, *self._threshold) * span + low
        return ops.where(y < threshold, y, low + high - y)


class RandomPosterization(_Coloring):
    """While training, keeps only the first few of the 8 bits of each value.

    Parameters
    ----------
    factor : int or (int, int), in 1..8
        Number of bits: drawn from least .. most - 1 for each image; one number b is (1, b), and a
        pair of equal numbers that one.
    value_range : (float, float)
        Least and most value of a pixel.
    data_format : {"channels_last", "channels_first"}, optional
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        super().__init__(factor, (1, 8), False, value_range, seed, data_format, **kwargs)
        self._factor = max(int(self._factor[0]), 1), int(self._factor[1])

    def transform(self, x):
        low, high = self._factor
        bits = low
        if high > low:
            bits = random.randint((x.shape[0], 1, 1, 1), low, high, "int32", self.seed_generator)
        step = ops.cast(ops.power(2.0, 8.0 - ops.cast(bits, self.dtype)), self.dtype)
        y = ops.floor(ops.clip(self._scaled(x, 255.0), 0.0, 255.0))
        return self._unscaled(ops.floor(y / step) * step, 255.0)


class RandomSaturation(_Coloring):
    """While training, multiplies the saturation of each image by f / (1 - f), within 0..1.

    Parameters
    ----------
    factor : float or (float, float), in -1..1
        From which f is drawn: 0 (and less) leaves no colour, 0.5 changes nothing, 1 makes all
        colours pure; one number is (-factor, factor).
    value_range : (float, float)
        Least and most value of a pixel.
    data_format : {"channels_last", "channels_first"}, optional
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        super().__init__(factor, (-1, 1), True, value_range, seed, data_format, **kwargs)

    def transform(self, x):
        f = self._drawn(x)
        ratio = f / (1.0 - f + epsilon())
        return self._in_hsv(x, lambda h, s, v: (h, ops.clip(s * ratio, 0.0, 1.0), v))


class RandomHue(_Partly):
    """While training, turns the colours of each image by up to half of the circle.

    Parameters
    ----------
    factor : float or (float, float), in 0..1
        Least and most part of half a circle, either way; one number is (0, factor).
    value_range : (float, float)
        Least and most value of a pixel.
    data_format : {"channels_last", "channels_first"}, optional
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    def transform(self, x):
        turn = self._drawn(x) * 0.5
        turn = ops.where(self._uniform((x.shape[0], 1, 1, 1)) > 0.5, -turn, turn)
        return self._in_hsv(x, lambda h, s, v: (ops.mod(h + turn, 1.0), s, v))


class RandomColorJitter(_RandomImages):
    """While training, `RandomBrightness`, `RandomContrast`, `RandomSaturation` and `RandomHue`, one
    after the other.

    Parameters
    ----------
    value_range : (float, float)
        Least and most value of a pixel.
    brightness_factor, contrast_factor, saturation_factor, hue_factor : optional
        The factors of those layers; without one the step is left out.
    seed : int, optional
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, value_range=(0, 255), brightness_factor=None, contrast_factor=None,
        saturation_factor=None, hue_factor=None, seed=None, data_format=None, **kwargs,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.value_range = _value_range(self.name, value_range)
        self.brightness_factor, self.contrast_factor = brightness_factor, contrast_factor
        self.saturation_factor, self.hue_factor = saturation_factor, hue_factor
        steps = (
            (RandomBrightness, brightness_factor), (RandomContrast, contrast_factor),
            (RandomSaturation, saturation_factor), (RandomHue, hue_factor),
        )  # fmt: skip
        self._steps = [
            step(factor, self.value_range, seed=seed, dtype=self.dtype_policy)
            for step, factor in steps
            if factor is not None
        ]

    def transform(self, x):
        for step in self._steps:
            x = step.transform(x)
        return x
