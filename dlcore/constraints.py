"""Constraints: where a weight must stay. An optimizer applies them after each of its steps.

A constraint is called with a Variable or a Tensor and returns the nearest allowed value.
"""

from dlcore import lookup, ops
from dlcore.config import epsilon


class Constraint(lookup.Configurable):
    """Base class; subclasses define __call__(w) with `dlcore.ops`."""

    def __call__(self, w):
        raise NotImplementedError(
            f"{type(self).__name__}: expected a subclass that defines __call__"
        )


class MinMaxNorm(Constraint):
    """Vectors along `axis` are scaled towards lengths from `min_value` to `max_value`.

    Parameters
    ----------
    min_value : float, default 0
    max_value : float, default 1
    rate : float, default 1
        Which part of the way a step takes, in 0 < rate <= 1.
    axis : int or tuple of int, default 0
        0: the weights that lead to each unit of a Dense layer; (0, 1, 2): those of each filter of a
        Conv2D.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.constraints.MinMaxNorm(max_value=1.0)(np.array([[3.0], [4.0]], "float32")).round(4)
    array([[0.6],
           [0.8]], dtype=float32)
    """

    def __init__(self, min_value=0.0, max_value=1.0, rate=1.0, axis=0):
        name = type(self).__name__
        if not 0 <= min_value <= max_value:
            raise ValueError(
                f"{name}: expected 0 <= min_value <= max_value, got {min_value!r}, {max_value!r}"
            )
        if not 0 < rate <= 1:
            raise ValueError(f"{name}: expected 0 < rate <= 1, got {rate!r}")
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w):
        axis = tuple(self.axis) if isinstance(self.axis, (list, tuple)) else self.axis
        length = ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))
        wanted = ops.clip(length, self.min_value, self.max_value)
        if self.rate < 1:
            wanted = self.rate * wanted + (1 - self.rate) * length
        return w * (wanted / (length + epsilon()))


class MaxNorm(MinMaxNorm):
    """Vectors along `axis` are at most `max_value` long.

    Parameters
    ----------
    max_value : float, default 2
    axis : int or tuple of int, default 0

    References
    ----------
    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting"
    """

    def __init__(self, max_value=2, axis=0):
        super().__init__(0.0, max_value, 1.0, axis)


class UnitNorm(MinMaxNorm):
    """Vectors along `axis` have the length 1.

    Parameters
    ----------
    axis : int or tuple of int, default 0
    """

    def __init__(self, axis=0):
        super().__init__(1.0, 1.0, 1.0, axis)


class NonNeg(Constraint):
    """No weight is negative."""

    def __call__(self, w):
        return ops.relu(w)


max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm

_TABLE = lookup.table_of([Constraint, MaxNorm, MinMaxNorm, NonNeg, UnitNorm])


def get(identifier):
    """The constraint that None, a name, a dictionary or a callable stands for."""
    return lookup.get("constraint", _TABLE, identifier)


def serialize(constraint):
    """{"class_name": ..., "config": {...}} of a constraint."""
    return lookup.serialize(constraint)


def deserialize(config, custom_objects=None):
    """The constraint that `serialize` wrote."""
    return lookup.deserialize("constraint", _TABLE, config, custom_objects)
