"""Layers that merge several inputs into one.

Add, Multiply, ...   y = x_1 op x_2 op ...            shapes that broadcast; y has the largest rank
Concatenate          y = x_1, x_2, ... along `axis`
Dot                  y[n, i, j] = sum over k of a[n, i, k] b[n, j, k]
"""

import math

import numpy as np

from dlcore import ops
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.layers.masks import merged


class Merge(Layer):
    """Base of layers that join their inputs element by element with `_join(a, b)`."""

    supports_masking = True
    most = None  # inputs

    def compute_mask(self, inputs, mask=None):
        return merged(mask, ops.logical_or)

    def call(self, inputs):
        inputs = _several(self, inputs, self.most or 1, self.most)
        rank = max(len(x.shape) for x in inputs)
        inputs = [_with_rank(x, rank) for x in inputs]
        try:
            np.broadcast_shapes(*(tuple(x.shape) for x in inputs))
        except ValueError:
            raise ValueError(
                f"{self.name}: expected shapes that broadcast together, got {_shapes(inputs)}"
            ) from None
        return self._merge(inputs)

    def _merge(self, inputs):
        result = inputs[0]
        for x in inputs[1:]:
            result = self._join(result, x)
        return result


def _several(layer, inputs, least, most=None):
    """The inputs as a list of a right length."""
    count = len(inputs) if isinstance(inputs, (list, tuple)) else 1
    if count == 1 and not isinstance(inputs, (list, tuple)):
        got = f"one of shape {tuple(inputs.shape)}" if hasattr(inputs, "shape") else inputs
    elif count < least or (most is not None and count > most):
        got = count
    else:
        return list(inputs)
    expected = f"a list of {least}" + ("" if most == least else " or more")
    raise ValueError(f"{layer.name}: expected {expected} inputs, got {got}")


def _shapes(inputs):
    return " and ".join(str(tuple(x.shape)) for x in inputs)


def _with_rank(x, rank):
    """x with new axes after the batch."""
    missing = rank - len(x.shape)
    return ops.reshape(x, (x.shape[0], *(1,) * missing, *x.shape[1:])) if missing else x


class Add(Merge):
    """Sum of its inputs.

    Parameters
    ----------
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.Add()([np.ones((1, 2), "float32"), np.ones((1, 2), "float32")])
    array([[2., 2.]], dtype=float32)
    """

    _join = staticmethod(ops.add)


class Subtract(Merge):
    """The first of two inputs minus the second."""

    most = 2
    _join = staticmethod(ops.subtract)


class Multiply(Merge):
    """Product of its inputs, element by element."""

    _join = staticmethod(ops.multiply)


class Average(Merge):
    """Mean of its inputs, element by element."""

    _join = staticmethod(ops.add)

    def _merge(self, inputs):
        return super()._merge(inputs) * (1.0 / len(inputs))


class Maximum(Merge):
    """Largest of its inputs, element by element."""

    _join = staticmethod(ops.maximum)


class Minimum(Merge):
    """Smallest of its inputs, element by element."""

    _join = staticmethod(ops.minimum)


def _one_after_the_other(a, b):
    return ops.concatenate([a, b], axis=1)


class Concatenate(Layer):
    """Its inputs one after the other along an axis.

    Parameters
    ----------
    axis : int, default -1
        1 is the first after the batch.
    **kwargs
        See `Layer`.
    """

    supports_masking = True

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = spec.check_axis(self.name, axis)

    def compute_mask(self, inputs, mask=None):
        steps = self.axis % len(inputs[0].shape) == 1
        return merged(mask, _one_after_the_other if steps else ops.logical_or)

    def call(self, inputs):
        inputs = _several(self, inputs, 1)
        ranks = {len(x.shape) for x in inputs}
        rank = ranks.pop()
        ok = not ranks and -rank <= self.axis < rank
        others = {
            tuple(n for i, n in enumerate(x.shape) if i != self.axis % rank) if ok else None
            for x in inputs
        }
        if not ok or len(others) > 1:
            raise ValueError(
                f"{self.name}: expected shapes that differ on axis {self.axis} only,"
                f" got {_shapes(inputs)}"
            )
        return ops.concatenate(inputs, axis=self.axis)


class Dot(Layer):
    """Sum of products of two inputs along an axis of each, row by row of the batch.

    Parameters
    ----------
    axes : int or (int, int)
        Axes of the two inputs; 1 is the first after the batch.
    normalize : bool, default False
        Whether vectors along the axes are divided by their length first, so that the result is the
        cosine of the angle between them.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x = np.array([[3.0, 4.0]], "float32")
    >>> dlcore.layers.Dot(axes=1)([x, x])
    array([[25.]], dtype=float32)
    """

    supports_masking = None  # steps of the inputs are no steps of the output

    def __init__(self, axes, normalize=False, **kwargs):
        super().__init__(**kwargs)
        pair = axes if isinstance(axes, (list, tuple)) else (axes, axes)
        if len(pair) != 2:
            raise ValueError(f"{self.name}: expected axes as an int or a pair, got {axes!r}")
        pair = [spec.check_axis(self.name, a) for a in pair]
        self.axes = list(pair) if isinstance(axes, (list, tuple)) else pair[0]
        self.normalize = bool(normalize)
        self._pair = pair

    def call(self, inputs):
        a, b = _several(self, inputs, 2, 2)
        axes = [self._axis(x, axis) for x, axis in zip((a, b), self._pair, strict=True)]
        if a.shape[axes[0]] != b.shape[axes[1]]:
            raise ValueError(
                f"{self.name}: expected inputs of one size along the axes {tuple(self._pair)},"
                f" got {_shapes((a, b))}"
            )
        if self.normalize:
            a, b = (ops.normalize(x, axis) for x, axis in zip((a, b), axes, strict=True))
        if len(a.shape) == len(b.shape) == 2:
            return ops.sum(a * b, axis=-1, keepdims=True)
        a, b = ops.moveaxis(a, axes[0], -1), ops.moveaxis(b, axes[1], 1)
        rows, columns, k = a.shape[1:-1], b.shape[2:], b.shape[1]
        product = ops.matmul(
            ops.reshape(a, (a.shape[0], math.prod(rows), k)),
            ops.reshape(b, (b.shape[0], k, math.prod(columns))),
        )
        return ops.reshape(product, (a.shape[0], *rows, *columns))

    def _axis(self, x, axis):
        rank = len(x.shape)
        if not -rank <= axis < rank or axis % rank == 0:
            raise ValueError(
                f"{self.name}: expected an axis after the batch, got axis {axis} of"
                f" {tuple(x.shape)}"
            )
        return axis % rank


def add(inputs, **kwargs):
    """`Add` as a function of a list of inputs."""
    return Add(**kwargs)(inputs)


def subtract(inputs, **kwargs):
    """`Subtract` as a function of a list of two inputs."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs, **kwargs):
    """`Multiply` as a function of a list of inputs."""
    return Multiply(**kwargs)(inputs)


def average(inputs, **kwargs):
    """`Average` as a function of a list of inputs."""
    return Average(**kwargs)(inputs)


def maximum(inputs, **kwargs):
    """`Maximum` as a function of a list of inputs."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs, **kwargs):
    """`Minimum` as a function of a list of inputs."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs, axis=-1, **kwargs):
    """`Concatenate` as a function of a list of inputs."""
    return Concatenate(axis, **kwargs)(inputs)


def dot(inputs, axes=-1, **kwargs):
    """`Dot` as a function of a list of two inputs."""
    return Dot(axes, **kwargs)(inputs)
