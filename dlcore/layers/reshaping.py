"""Layers that only change the shape of rows."""

import math

import numpy as np

from dlcore import ops
from dlcore.layers import spec
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

    Examples
    --------
    >>> Flatten()(np.ones((5, 4, 3), "float32")).shape
    (5, 12)
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

    Examples
    --------
    >>> Reshape((6, -1))(np.ones((5, 4, 3), "float32")).shape
    (5, 6, 2)
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


class Permute(Layer):
    """Gives the axes of every row another order.

    Parameters
    ----------
    dims : tuple of int
        Axis dims[i] of the input becomes axis i + 1 of the output; the batch is axis 0 and stays.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.Permute((2, 1))(np.zeros((5, 3, 4), "float32")).shape
    (5, 4, 3)
    """

    def __init__(self, dims, **kwargs):
        super().__init__(**kwargs)
        self.dims = tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)
        if sorted(self.dims, key=str) != sorted(range(1, len(self.dims) + 1), key=str):
            raise ValueError(
                f"{self.name}: expected dims as a permutation of 1..{len(self.dims)}, got {dims!r}"
            )

    def call(self, inputs):
        if len(inputs.shape) != len(self.dims) + 1:
            raise ValueError(
                f"{self.name}: expected input of {len(self.dims) + 1} axes, got "
                f"{tuple(inputs.shape)}"
            )
        return ops.transpose(inputs, (0, *self.dims))


class RepeatVector(Layer):
    """(batch, features) -> (batch, n, features).

    Parameters
    ----------
    n : int
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> RepeatVector(3)(np.ones((5, 4), "float32")).shape
    (5, 3, 4)
    """

    def __init__(self, n, **kwargs):
        super().__init__(**kwargs)
        self.n = spec.check_positive_int(self.name, "n", n)

    def call(self, inputs):
        if len(inputs.shape) != 2:
            raise ValueError(
                f"{self.name}: expected input (batch, features), got {tuple(inputs.shape)}"
            )
        batch, features = inputs.shape
        return ops.broadcast_to(ops.expand_dims(inputs, 1), (batch, self.n, features))
