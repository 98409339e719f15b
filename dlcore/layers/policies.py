"""Layers that even out the values of images, and that apply several random changes; see
augmentation.py."""

import numpy as np

from dlcore import ops, random
from dlcore.layers import spec
from dlcore.layers.augmentation import (
    RandomBrightness,
    RandomContrast,
    RandomRotation,
    RandomTranslation,
    _RandomImages,
    _range,
    _value_range,
)
from dlcore.layers.colors import RandomPosterization, Solarization
from dlcore.layers.filters import (
    AutoContrast,
    RandomColorDegeneration,
    RandomSharpness,
    RandomShear,
)
from dlcore.layers.images import ImageLayer


class Equalization(ImageLayer):
    """While training, spreads the values of each channel of each image evenly: y is the part of the
    channel's pixels whose values are at most x's, of those above the least value.

    Parameters
    ----------
    value_range : (float, float)
        Least and most value of a pixel.
    bins : int, default 256
        How many values are told apart.
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.

    Notes
    -----
    Keras counts the values of all images of a batch together; here what becomes of an image does
    not depend on its neighbours.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x = np.array([[[10.0], [20.0], [20.0], [90.0]]], "float32")
    >>> dlcore.layers.Equalization()(x, training=True).ravel().tolist()
    [0.0, 170.0, 170.0, 255.0]
    """

    def __init__(self, value_range=(0, 255), bins=256, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.value_range = _value_range(self.name, value_range)
        self.bins = spec.check_positive_int(self.name, "bins", bins, least=2)

    def call(self, inputs, training=True):
        x = self._as_float(inputs)
        return self.on_batch(self.transform, x) if training else x

    def transform(self, x):
        low, high = self.value_range
        n, h, w, c = x.shape
        scaled = (x - low) * (255.0 / (high - low))
        of = ops.cast(ops.clip(scaled * (self.bins - 1) / 255.0, 0, self.bins - 1), "int32")
        of = of + self.bins * np.arange(n * c, dtype="int32").reshape(n, 1, 1, c)
        of = ops.reshape(of, (-1,))
        ones = np.ones(n * h * w * c, self.compute_dtype)
        counts = ops.reshape(ops.segment_sum(ones, of, n * c * self.bins), (n * c, self.bins))
        up_to = ops.cumsum(counts, axis=1)
        total = float(h * w)
        least = ops.min(ops.where(up_to > 0.0, up_to, total), axis=1, keepdims=True)
        flat = least == total  # one value only: there is nothing to spread
        table = (up_to - least) * 255.0 / ops.where(flat, 1.0, total - least)
        table = ops.clip(ops.round(table), 0.0, 255.0)
        y = ops.reshape(ops.take(ops.reshape(table, (-1,)), of), x.shape)
        y = ops.where(ops.reshape(flat, (n, 1, 1, c)), scaled, y)
        return y * ((high - low) / 255.0) + low


class RandAugment(_RandomImages):
    """While training, changes each image by a few of eleven layers, picked at random: RandomShear,
    RandomTranslation, RandomRotation, RandomBrightness, RandomColorDegeneration, RandomContrast,
    RandomSharpness, RandomPosterization, Solarization, AutoContrast and Equalization.

    Parameters
    ----------
    value_range : (float, float)
        Least and most value of a pixel.
    num_ops : int, default 2
        Changes one after the other.
    factor : float or (float, float), in 0..1
        How strong they are: the factor of the layers.
    interpolation : {"bilinear", "nearest"}
    seed : int, optional
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.

    References
    ----------
    Cubuk et al. 2019, https://arxiv.org/abs/1909.13719
    """

    def __init__(
        self, value_range=(0, 255), num_ops=2, factor=0.5, interpolation="bilinear", seed=None,
        data_format=None, **kwargs,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.value_range = _value_range(self.name, value_range)
        self.num_ops = spec.check_positive_int(self.name, "num_ops", num_ops)
        self.factor, self.interpolation = factor, interpolation
        part = _range(self.name, "factor", factor, 0, 1, symmetric=False)
        options = {"seed": seed, "dtype": self.dtype_policy, "data_format": "channels_last"}
        place = {"interpolation": interpolation, **options}
        color = {"value_range": self.value_range, **options}
        fixed = {k: v for k, v in color.items() if k != "seed"}
        self._steps = [
            RandomShear(part, part, **place),
            RandomTranslation(part, part, **place),
            RandomRotation(part, **place),
            RandomBrightness(part, **color),
            RandomColorDegeneration(part, **color),
            RandomContrast(part, **color),
            RandomSharpness(part, **color),
            RandomPosterization(max(1, int(8 * part[1])), **color),
            Solarization(part, part, **color),
            AutoContrast(**fixed),
            Equalization(**fixed),
        ]

    def transform(self, x):
        for _ in range(self.num_ops):
            shape, most = (x.shape[0], 1, 1, 1), len(self._steps)
            chosen = random.randint(shape, 0, most, "int32", self.seed_generator)
            y = x
            for i, step in enumerate(self._steps):
                y = ops.where(chosen == i, step.transform(x), y)
            x = y
        return x
