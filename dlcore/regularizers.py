"""Regularizers: penalties on weights or outputs that are added to the loss.

A regularizer is called with a Variable or a Tensor and returns a scalar.
"""

import math

from dlcore import lookup, ops
from dlcore.config import epsilon


class Regularizer(lookup.Configurable):
    """Base class; subclasses define __call__(x) with `dlcore.ops`."""

    def __call__(self, x):
        raise NotImplementedError(
            f"{type(self).__name__}: expected a subclass that defines __call__"
        )


def _strength(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return float(value)


class L1L2(Regularizer):
    """l1 sum |x| + l2 sum x^2.

    Parameters
    ----------
    l1, l2 : float, default 0

    Examples
    --------
    >>> import numpy as np
    >>> round(float(L1L2(0.1, 0.01)(np.array([1.0, -2.0]))), 4)
    0.35
    """

    def __init__(self, l1=0.0, l2=0.0):
        self.l1 = _strength("L1L2", 0.0 if l1 is None else l1)
        self.l2 = _strength("L1L2", 0.0 if l2 is None else l2)

    def __call__(self, x):
        if self.l1 and self.l2:
            return ops.sum(self.l1 * ops.abs(x) + self.l2 * ops.square(x))
        if self.l1:
            return self.l1 * ops.sum(ops.abs(x))
        return self.l2 * ops.sum(ops.square(x))


class L1(Regularizer):
    """l1 sum |x|.

    Parameters
    ----------
    l1 : float, default 0.01

    Examples
    --------
    >>> import numpy as np
    >>> round(float(L1(0.1)(np.array([1.0, -2.0]))), 4)
    0.3
    """

    def __init__(self, l1=0.01):
        self.l1 = _strength("L1", 0.01 if l1 is None else l1)

    def __call__(self, x):
        return self.l1 * ops.sum(ops.abs(x))


class L2(Regularizer):
    """l2 sum x^2.

    Parameters
    ----------
    l2 : float, default 0.01

    Examples
    --------
    >>> import numpy as np
    >>> round(float(L2(0.1)(np.array([1.0, -2.0]))), 4)
    0.5
    """

    def __init__(self, l2=0.01):
        self.l2 = _strength("L2", 0.01 if l2 is None else l2)

    def __call__(self, x):
        return self.l2 * ops.sum(ops.square(x))


class OrthogonalRegularizer(Regularizer):
    """Mean absolute cosine between different rows (or columns) of a matrix, times `factor`.

    Parameters
    ----------
    factor : float, default 0.01
    mode : "rows" or "columns"
    """

    def __init__(self, factor=0.01, mode="rows"):
        if mode not in ("rows", "columns"):
            raise ValueError(
                f"OrthogonalRegularizer: expected mode 'rows' or 'columns', got {mode!r}"
            )
        self.factor = _strength("OrthogonalRegularizer", factor)
        self.mode = mode

    def __call__(self, x):
        if len(x.shape) != 2:
            raise ValueError(
                f"OrthogonalRegularizer: expected a matrix, got shape {tuple(x.shape)}"
            )
        rows = x if self.mode == "rows" else ops.transpose(x)
        size = rows.shape[0]
        if size < 2:
            return 0.0 * ops.sum(rows)
        squares = ops.sum(ops.square(rows), axis=1, keepdims=True)
        unit = rows * ops.rsqrt(ops.maximum(squares, epsilon() ** 2))
        cosines = ops.matmul(unit, ops.transpose(unit))
        others = ops.abs(cosines * (1.0 - ops.eye(size, dtype=rows.dtype)))
        return self.factor / (size * (size - 1)) * ops.sum(others)


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer

_TABLE = lookup.table_of(
    [Regularizer, L1, L2, L1L2, OrthogonalRegularizer],
    {"l1_l2": L1L2, "orthogonal": OrthogonalRegularizer},
)


def get(identifier):
    """The regularizer that None, a name, a dictionary or a callable stands for."""
    return lookup.get("regularizer", _TABLE, identifier)


def serialize(regularizer):
    """{"class_name": ..., "config": {...}} of a regularizer."""
    return lookup.serialize(regularizer)


def deserialize(config, custom_objects=None):
    """The regularizer that `serialize` wrote."""
    return lookup.deserialize("regularizer", _TABLE, config, custom_objects)
