"""Layers that disturb their input while training, and return it unchanged otherwise.

SpatialDropout    whole channels of an image are 0
GaussianNoise     x + stddev n                              n is standard normal
GaussianDropout   x (1 + sqrt(rate / (1 - rate)) n)         of the same variance as dropout's
AlphaDropout      keeps mean and variance of what selu makes
"""

import math

from dlcore import ops, random
from dlcore.layers.base import Layer
from dlcore.layers.core import Dropout
from dlcore.layers.pooling import check_rank
from dlcore.ops.spatial import check_data_format

_SELU_FLOOR = -1.6732632423543772 * 1.0507009873554805  # selu of -infinity


class SpatialDropout2D(Dropout):
    """While training, sets random channels of images to 0, and divides the rest by 1 - rate.

    Parameters
    ----------
    rate : float, 0 <= rate <= 1
    data_format : {"channels_last", "channels_first"}, default `config.image_data_format()`
    seed : int, optional
    **kwargs
        See `Layer`.

    References
    ----------
    Tompson et al. 2015, https://arxiv.org/abs/1411.4280
    """

    rank = 2

    def __init__(self, rate, data_format=None, seed=None, **kwargs):
        super().__init__(rate, seed=seed, **kwargs)
        self._set_mask(data_format)

    def _set_mask(self, data_format):
        self.data_format = check_data_format(self.name, data_format)
        spatial = (1,) * self.rank
        first = self.data_format == "channels_first"
        self.noise_shape = (None, None, *spatial) if first else (None, *spatial, None)

    def call(self, inputs, training=False):
        check_rank(self, inputs.shape, self.rank)
        return super().call(inputs, training)


class SpatialDropout1D(SpatialDropout2D):
    """While training, sets random channels of sequences to 0; see `SpatialDropout2D`.

    Parameters
    ----------
    rate : float, 0 <= rate <= 1
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    rank = 1
    _fixed_arguments = ("data_format",)

    def __init__(self, rate, seed=None, **kwargs):
        Dropout.__init__(self, rate, seed=seed, **kwargs)
        self._set_mask("channels_last")


class SpatialDropout3D(SpatialDropout2D):
    """While training, sets random channels of volumes to 0; see `SpatialDropout2D`."""

    rank = 3


class GaussianNoise(Layer):
    """While training, adds normally distributed numbers.

    Parameters
    ----------
    stddev : float, at least 0
    seed : int, optional
    **kwargs
        See `Layer`.
    """

    supports_masking = True

    def __init__(self, stddev, seed=None, **kwargs):
        super().__init__(**kwargs)
        if isinstance(stddev, bool) or not isinstance(stddev, (int, float)) or not stddev >= 0:
            raise ValueError(f"{self.name}: expected stddev of at least 0, got {stddev!r}")
        self.stddev, self.seed = stddev, seed
        self.seed_generator = random.SeedGenerator(seed) if stddev > 0 else None

    def call(self, inputs, training=False):
        if not training or self.stddev == 0:
            return inputs
        x = self._as_float(inputs)
        return x + random.normal(x.shape, 0.0, self.stddev, x.dtype, self.seed_generator)


class _Multiplicative(Layer):
    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise ValueError(f"{self.name}: expected 0 <= rate < 1, got {rate!r}")
        self.rate, self.seed = rate, seed
        self.seed_generator = random.SeedGenerator(seed) if rate > 0 else None

    supports_masking = True


class GaussianDropout(_Multiplicative):
    """While training, multiplies by normally distributed numbers around 1.

    Parameters
    ----------
    rate : float, 0 <= rate < 1
        Of the dropout that has the same variance: the deviation is sqrt(rate / (1 - rate)).
    seed : int, optional
    **kwargs
        See `Layer`.

    References
    ----------
    Srivastava et al. 2014, "Dropout", JMLR 15, section 10
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        x, deviation = self._as_float(inputs), math.sqrt(self.rate / (1 - self.rate))
        return x * random.normal(x.shape, 1.0, deviation, x.dtype, self.seed_generator)


class AlphaDropout(_Multiplicative):
    """While training, sets random values to what selu makes of -infinity, then scales and shifts
    all so that mean and variance remain.

    Parameters
    ----------
    rate : float, 0 <= rate < 1
    noise_shape : tuple, optional
        Shape of the random mask; sizes of 1 share it along an axis, None is the input's size.
    seed : int, optional
    **kwargs
        See `Layer`.

    References
    ----------
    Klambauer et al. 2017, "Self-Normalizing Neural Networks", https://arxiv.org/abs/1706.02515
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        x, rate = self._as_float(inputs), self.rate
        shape = x.shape
        if self.noise_shape is not None:
            pairs = zip(x.shape, self.noise_shape, strict=True)
            shape = tuple(n if s is None else s for n, s in pairs)
        kept = random.bernoulli(shape, 1 - rate, "bool", self.seed_generator)
        scale = 1 / math.sqrt((1 - rate) * (1 + rate * _SELU_FLOOR**2))
        return ops.where(kept, x, _SELU_FLOOR) * scale - scale * _SELU_FLOOR * rate
