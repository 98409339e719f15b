"""Layers that only change the shape of rows."""

import math

import numpy as np

from dlcore import ops
from dlcore.layers.base import Layer


class Flatten(Layer):
    """(batch, ...) -> (batch, product of the rest).

    Parameters
    ----------
    data_format : str, optional
        "channels_last" (the order in memory) or "channels_first" (channels become the last axis
        first).
    **kwargs
        See `Layer`.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        if data_format not in (None, "channels_last", "channels_first"):
            raise ValueError(
                f"{self.name}: expected data_format 'channels_last' or 'channels_first',"
                f" got {data_format!r}"
            )
        self.data_format = data_format

    def call(self, inputs):
        x = inputs
        if self.data_format == "channels_first" and len(x.shape) > 2:
            x = ops.transpose(x, (0, *range(2, len(x.shape)), 1))
        return ops.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


class Reshape(Layer):
    """Gives every row another shape.

    Parameters
    ----------
    target_shape : tuple of int
        Without the batch; one size may be -1.
    **kwargs
        See `Layer`.
    """

    def __init__(self, target_shape, **kwargs):
        super().__init__(**kwargs)
        sizes = target_shape if isinstance(target_shape, (tuple, list)) else (target_shape,)
        ok = all(isinstance(n, (int, np.integer)) and (n > 0 or n == -1) for n in sizes)
        if not ok or list(sizes).count(-1) > 1:
            raise ValueError(
                f"{self.name}: expected target_shape of positive ints and at most one -1,"
                f" got {target_shape!r}"
            )
        self.target_shape = tuple(int(n) for n in sizes)

    def call(self, inputs):
        size = math.prod(inputs.shape[1:])
        known = math.prod(n for n in self.target_shape if n != -1)
        fits = size % known == 0 if -1 in self.target_shape else size == known
        if not fits:
            raise ValueError(
                f"{self.name}: expected rows that reshape to {self.target_shape},"
                f" got {tuple(inputs.shape[1:])}"
            )
        shape = tuple(size // known if n == -1 else n for n in self.target_shape)
        return ops.reshape(inputs, (inputs.shape[0], *shape))
