"""Losses of real-valued predictions p and targets y, and of distributions."""

import math

from dlcore import ops
from dlcore.config import epsilon
from dlcore.losses.loss import LossFunctionWrapper, mean_of_last, pair


def mean_squared_error(y_true, y_pred):
    """Mean of (p - y)^2 over the last axis.

    Parameters
    ----------
    y_true, y_pred : (N, ..., D) float

    Returns
    -------
    (N, ...) float

    Examples
    --------
    >>> print(mean_squared_error([[1.0, 2.0]], [[2.0, 4.0]]).round(4))
    [2.5]
    """
    y, p = pair("mean_squared_error", y_true, y_pred)
    return mean_of_last(ops.square(p - y))


def mean_absolute_error(y_true, y_pred):
    """Mean of |p - y| over the last axis.

    Examples
    --------
    >>> print(mean_absolute_error([[1.0, 2.0]], [[2.0, 4.0]]).round(4))
    [1.5]
    """
    y, p = pair("mean_absolute_error", y_true, y_pred)
    return mean_of_last(ops.abs(p - y))


def mean_absolute_percentage_error(y_true, y_pred):
    """Mean of 100 |p - y| / max(|y|, epsilon) over the last axis.

    Examples
    --------
    >>> print(mean_absolute_percentage_error([[1.0, 2.0]], [[2.0, 3.0]]).round(4))
    [75.]
    """
    y, p = pair("mean_absolute_percentage_error", y_true, y_pred)
    return mean_of_last(100.0 * ops.abs((y - p) / ops.maximum(ops.abs(y), epsilon())))


def mean_squared_logarithmic_error(y_true, y_pred):
    """Mean of (log(1 + p) - log(1 + y))^2 over the last axis, with p and y at least epsilon.

    Examples
    --------
    >>> print(mean_squared_logarithmic_error([[1.0, 2.0]], [[2.0, 3.0]]).round(4))
    [0.1236]
    """
    y, p = pair("mean_squared_logarithmic_error", y_true, y_pred)
    log_y = ops.log1p(ops.maximum(y, epsilon()))
    return mean_of_last(ops.square(ops.log1p(ops.maximum(p, epsilon())) - log_y))


def huber(y_true, y_pred, delta=1.0):
    """Mean of e^2 / 2 where |e| <= delta, else delta |e| - delta^2 / 2, with e = p - y.

    Source: Huber 1964, https://doi.org/10.1214/aoms/1177703732

    Examples
    --------
    >>> print(huber([[0.0, 1.0]], [[0.5, 3.0]]).round(4))
    [0.8125]
    """
    y, p = pair("huber", y_true, y_pred)
    error = ops.abs(p - y)
    far = delta * error - 0.5 * delta * delta
    return mean_of_last(ops.where(ops.less_equal(error, delta), 0.5 * ops.square(error), far))


def log_cosh(y_true, y_pred):
    """Mean of log(cosh(p - y)) over the last axis.

    As |e| + log(1 + (exp(-2 |e|) - 1) / 2): it does not overflow, nor cancel near 0 as the form
    with log 2 does.

    Examples
    --------
    >>> print(log_cosh([[0.0, 1.0]], [[0.5, 3.0]]).round(4))
    [0.7226]
    """
    y, p = pair("log_cosh", y_true, y_pred)
    error = ops.abs(p - y)
    return mean_of_last(error + ops.log1p(0.5 * ops.expm1(-2.0 * error)))


def poisson(y_true, y_pred):
    """Mean of p - y log(p + epsilon) over the last axis.

    The negative log-likelihood of Poisson's distribution, but for log(y!).

    Examples
    --------
    >>> print(poisson([[1.0, 2.0]], [[1.5, 2.5]]).round(4))
    [0.881]
    """
    y, p = pair("poisson", y_true, y_pred)
    return mean_of_last(p - y * ops.log(p + epsilon()))


def kl_divergence(y_true, y_pred):
    """Sum of y log(y / p) over the last axis, with y and p limited to epsilon..1.

    Source: Kullback and Leibler 1951, https://doi.org/10.1214/aoms/1177729694

    Examples
    --------
    >>> print(kl_divergence([[0.5, 0.5]], [[0.9, 0.1]]).round(4))
    [0.5108]
    """
    y, p = pair("kl_divergence", y_true, y_pred)
    y, p = ops.clip(y, epsilon(), 1.0), ops.clip(p, epsilon(), 1.0)
    return ops.sum(y * (ops.log(y) - ops.log(p)), axis=-1)


def cosine_similarity(y_true, y_pred, axis=-1):
    """Minus the cosine of the angle between y and p along `axis`: -1 for the same direction."""
    y, p = pair("cosine_similarity", y_true, y_pred)
    return -ops.sum(_unit(y, axis) * _unit(p, axis), axis=axis)


for _f in (kl_divergence, cosine_similarity):
    _f.over_classes = True


def _unit(x, axis):
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, epsilon() ** 2))


class MeanSquaredError(LossFunctionWrapper):
    """`mean_squared_error`, reduced.

    Parameters
    ----------
    reduction, name, dtype
        As in `Loss`.

    Examples
    --------
    >>> from dlcore import losses
    >>> float(losses.MeanSquaredError()([[0.0], [1.0]], [[1.0], [1.0]]))
    0.5
    """

    def __init__(self, reduction="sum_over_batch_size", name="mean_squared_error", dtype=None):
        super().__init__(mean_squared_error, reduction, name, dtype)


class MeanAbsoluteError(LossFunctionWrapper):
    """`mean_absolute_error`, reduced.

    Examples
    --------
    >>> round(float(MeanAbsoluteError()([[1.0, 2.0]], [[2.0, 4.0]])), 4)
    1.5
    """

    def __init__(self, reduction="sum_over_batch_size", name="mean_absolute_error", dtype=None):
        super().__init__(mean_absolute_error, reduction, name, dtype)


class MeanAbsolutePercentageError(LossFunctionWrapper):
    """`mean_absolute_percentage_error`, reduced.

    Examples
    --------
    >>> round(float(MeanAbsolutePercentageError()([[1.0, 2.0]], [[2.0, 3.0]])), 4)
    75.0
    """

    def __init__(
        self, reduction="sum_over_batch_size", name="mean_absolute_percentage_error", dtype=None
    ):
        super().__init__(mean_absolute_percentage_error, reduction, name, dtype)


class MeanSquaredLogarithmicError(LossFunctionWrapper):
    """`mean_squared_logarithmic_error`, reduced.

    Examples
    --------
    >>> round(float(MeanSquaredLogarithmicError()([[1.0, 2.0]], [[2.0, 3.0]])), 4)
    0.1236
    """

    def __init__(
        self, reduction="sum_over_batch_size", name="mean_squared_logarithmic_error", dtype=None
    ):
        super().__init__(mean_squared_logarithmic_error, reduction, name, dtype)


class Huber(LossFunctionWrapper):
    """`huber`, reduced.

    Parameters
    ----------
    delta : float > 0, default 1
        Where the square turns into a line.
    reduction, name, dtype
        As in `Loss`.

    Examples
    --------
    >>> round(float(Huber()([[0.0, 1.0]], [[0.5, 3.0]])), 4)
    0.8125
    """

    def __init__(self, delta=1.0, reduction="sum_over_batch_size", name="huber_loss", dtype=None):
        if not 0 < delta < math.inf:
            raise ValueError(f"{name}: expected delta > 0, got {delta}")
        super().__init__(huber, reduction, name, dtype, delta=delta)
        self.delta = delta


class LogCosh(LossFunctionWrapper):
    """`log_cosh`, reduced.

    Examples
    --------
    >>> round(float(LogCosh()([[0.0, 1.0]], [[0.5, 3.0]])), 4)
    0.7226
    """

    def __init__(self, reduction="sum_over_batch_size", name="log_cosh", dtype=None):
        super().__init__(log_cosh, reduction, name, dtype)


class Poisson(LossFunctionWrapper):
    """`poisson`, reduced.

    Examples
    --------
    >>> round(float(Poisson()([[1.0, 2.0]], [[1.5, 2.5]])), 4)
    0.881
    """

    def __init__(self, reduction="sum_over_batch_size", name="poisson", dtype=None):
        super().__init__(poisson, reduction, name, dtype)


class KLDivergence(LossFunctionWrapper):
    """`kl_divergence`, reduced.

    Examples
    --------
    >>> round(float(KLDivergence()([[0.5, 0.5]], [[0.9, 0.1]])), 4)
    0.5108
    """

    def __init__(self, reduction="sum_over_batch_size", name="kl_divergence", dtype=None):
        super().__init__(kl_divergence, reduction, name, dtype)


class CosineSimilarity(LossFunctionWrapper):
    """`cosine_similarity`, reduced.

    Parameters
    ----------
    axis : int, default -1
        Axis of the vectors.
    reduction, name, dtype
        As in `Loss`.

    Examples
    --------
    >>> round(float(CosineSimilarity()([[3.0, 4.0]], [[4.0, 3.0]])), 4)
    -0.96
    """

    def __init__(
        self, axis=-1, reduction="sum_over_batch_size", name="cosine_similarity", dtype=None
    ):
        super().__init__(cosine_similarity, reduction, name, dtype, axis=axis)
        self.axis = axis
