"""Hinges: losses of how far a prediction lies on the wrong side of a margin."""

from dlcore import ops
from dlcore.losses.loss import LossFunctionWrapper, mean_of_last, pair


def _signs(y):
    """Targets -1 and 1; where all of a batch are 0 and 1, 0 becomes -1."""
    binary = ops.all(ops.logical_or(ops.equal(y, 0.0), ops.equal(y, 1.0)))
    return ops.where(binary, 2.0 * y - 1.0, y)


def hinge(y_true, y_pred):
    """Mean of max(1 - y p, 0) over the last axis; targets are -1 and 1 (or 0 and 1).

    Examples
    --------
    >>> print(hinge([[-1, 1]], [[0.2, 0.7]]).round(4))
    [0.75]
    """
    y, p = pair("hinge", y_true, y_pred)
    return mean_of_last(ops.maximum(1.0 - _signs(y) * p, 0.0))


def squared_hinge(y_true, y_pred):
    """Mean of max(1 - y p, 0)^2 over the last axis; targets are -1 and 1 (or 0 and 1).

    Examples
    --------
    >>> print(squared_hinge([[-1, 1]], [[0.2, 0.7]]).round(4))
    [0.765]
    """
    y, p = pair("squared_hinge", y_true, y_pred)
    return mean_of_last(ops.square(ops.maximum(1.0 - _signs(y) * p, 0.0)))


def categorical_hinge(y_true, y_pred):
    """max(1 + max of the wrong classes' p - p of the right class, 0); targets are one-hot.

    Examples
    --------
    >>> print(categorical_hinge([[0, 1, 0]], [[0.1, 0.8, 0.3]]).round(4))
    [0.5]
    """
    y, p = pair("categorical_hinge", y_true, y_pred)
    right = ops.sum(y * p, axis=-1)
    wrong = ops.max((1.0 - y) * p, axis=-1)
    return ops.maximum(wrong - right + 1.0, 0.0)


categorical_hinge.over_classes = True


class Hinge(LossFunctionWrapper):
    """`hinge`, reduced.

    Examples
    --------
    >>> round(float(Hinge()([[-1, 1]], [[0.2, 0.7]])), 4)
    0.75
    """

    def __init__(self, reduction="sum_over_batch_size", name="hinge", dtype=None):
        super().__init__(hinge, reduction, name, dtype)


class SquaredHinge(LossFunctionWrapper):
    """`squared_hinge`, reduced.

    Examples
    --------
    >>> round(float(SquaredHinge()([[-1, 1]], [[0.2, 0.7]])), 4)
    0.765
    """

    def __init__(self, reduction="sum_over_batch_size", name="squared_hinge", dtype=None):
        super().__init__(squared_hinge, reduction, name, dtype)


class CategoricalHinge(LossFunctionWrapper):
    """`categorical_hinge`, reduced.

    Examples
    --------
    >>> round(float(CategoricalHinge()([[0, 1, 0]], [[0.1, 0.8, 0.3]])), 4)
    0.5
    """

    def __init__(self, reduction="sum_over_batch_size", name="categorical_hinge", dtype=None):
        super().__init__(categorical_hinge, reduction, name, dtype)
