"""Losses of classes: cross-entropies.

Where the predictions come from a softmax or a sigmoid in the same trace, the loss is computed from
its input: exact where probabilities round to 0 or 1, and one fused op. Probabilities of any other
origin are limited to epsilon..1 - epsilon, as in Keras.
"""

import math
import warnings

import numpy as np

from dlcore import ops
from dlcore.config import epsilon
from dlcore.losses.loss import (
    LossFunctionWrapper,
    advice,
    as_float,
    check_labels,
    mean_of_last,
    pair,
)


def binary_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """Mean of -(y log p + (1 - y) log(1 - p)) over `axis`.

    From logits x: max(x, 0) - x y + log(1 + exp(-|x|)), which is the same and never overflows.

    Parameters
    ----------
    y_true : (N, ..., D), 0..1
    y_pred : (N, ..., D), probabilities or logits
    from_logits : bool
    label_smoothing : float, 0..1
        s: targets become y (1 - s) + s / 2.
    axis : int, default -1

    Returns
    -------
    (N, ...) float

    Examples
    --------
    >>> print(np.round(binary_crossentropy([[0, 1]], [[0.2, 0.7]]), 4))
    [0.2899]
    """
    y, p = pair("binary_crossentropy", y_true, y_pred)
    if label_smoothing:
        y = y * (1.0 - label_smoothing) + 0.5 * label_smoothing
    x = p if from_logits else ops.logits_of(p, "sigmoid")
    if x is not None:
        values = ops.maximum(x, 0.0) - x * y + ops.log1p(ops.exp(ops.minimum(-x, x)))
    else:
        p = ops.clip(p, epsilon(), 1.0 - epsilon())
        values = -(y * ops.log(p) + (1.0 - y) * ops.log(1.0 - p))
    return mean_of_last(values) if axis == -1 else ops.mean(values, axis=axis)


def categorical_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """-sum(y log p) over `axis`; probabilities that do not sum to 1 are scaled first.

    Parameters
    ----------
    y_true : (N, ..., C), one-hot or probabilities
    y_pred : (N, ..., C), probabilities or logits
    from_logits : bool
    label_smoothing : float, 0..1
        s: targets become y (1 - s) + s / C.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    (N, ...) float

    Examples
    --------
    >>> print(np.round(categorical_crossentropy([[0, 1, 0]], [[0.1, 0.8, 0.1]]), 4))
    [0.2231]
    """
    y, p = pair("categorical_crossentropy", y_true, y_pred)
    axis = _class_axis("categorical_crossentropy", p, axis)
    if p.shape[axis] == 1:
        warnings.warn(
            f"categorical_crossentropy: expected y_pred of several classes, got {tuple(p.shape)},"
            " whose loss is always 0; binary_crossentropy is for one output",
            stacklevel=2,
        )
    if label_smoothing:
        y = y * (1.0 - label_smoothing) + label_smoothing / p.shape[axis]
    last = axis == len(p.shape) - 1
    x = p if from_logits else (ops.logits_of(p) if last else None)
    if x is None:
        return -ops.sum(y * _log_probabilities(p, axis), axis=axis)
    x, y = _classes_last(x, axis), _classes_last(y, axis)
    rows = (-1, x.shape[-1])
    if len(x.shape) != 2:
        values = ops.softmax_cross_entropy(ops.reshape(x, rows), ops.reshape(y, rows))
        return ops.reshape(values, tuple(x.shape[:-1]))
    return ops.softmax_cross_entropy(x, y)


def sparse_categorical_crossentropy(y_true, y_pred, from_logits=False, ignore_class=None, axis=-1):
    """-log p[y]: cross-entropy with classes 0..C - 1 as integers.

    Parameters
    ----------
    y_true : (N, ...) or (N, ..., 1), classes
        One outside raises in a concrete array, and makes the loss NaN inside a program.
    y_pred : (N, ..., C), probabilities or logits
    from_logits : bool
    ignore_class : int, optional
        Samples of this class give 0.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    (N, ...) float

    Examples
    --------
    >>> print(np.round(sparse_categorical_crossentropy([1], [[0.1, 0.8, 0.1]]), 4))
    [0.2231]
    """
    name = "sparse_categorical_crossentropy"
    p = as_float(y_pred)
    axis = _class_axis(name, p, axis)
    p_shape = tuple(p.shape)
    labels = _labels(name, y_true, p_shape[:axis] + p_shape[axis + 1 :], p_shape, ignore_class)
    last = axis == len(p_shape) - 1
    x = p if from_logits else (ops.logits_of(p) if last else None)
    if ignore_class is not None:
        kept = ops.not_equal(labels, ignore_class)
        labels = ops.where(kept, labels, 0)
    if x is None:
        values = -ops.log(_probability_of(labels, _classes_last(p, axis)))
    else:
        values = _sparse_rows(_classes_last(x, axis), labels)
    return values if ignore_class is None else ops.where(kept, values, 0.0)


categorical_crossentropy.over_classes = True
sparse_categorical_crossentropy.integer_targets = True


def _sparse_rows(x, labels):
    if len(x.shape) == 2:
        return ops.sparse_softmax_cross_entropy(x, labels)
    flat = ops.reshape(x, (-1, x.shape[-1]))
    values = ops.sparse_softmax_cross_entropy(flat, ops.reshape(labels, (-1,)))
    return ops.reshape(values, tuple(x.shape[:-1]))


def _probability_of(labels, p):
    """p[label] of every row, limited and scaled; NaN for a label outside."""
    num_classes = p.shape[-1]
    hot = ops.one_hot(labels, num_classes, dtype=str(p.dtype))
    p = ops.clip(p, epsilon(), 1.0 - epsilon())
    own = ops.sum(hot * p, axis=-1) / ops.sum(p, axis=-1)
    inside = ops.logical_and(ops.greater_equal(labels, 0), ops.less(labels, num_classes))
    return ops.where(inside, own, math.nan)


def _labels(name, y_true, shape, p_shape, ignore_class):
    """Integer labels of the given shape, checked where they are concrete."""
    if not hasattr(y_true, "node"):
        y_true = np.asarray(y_true)
        if y_true.shape in (shape, (*shape, 1)):
            num_classes = math.prod(p_shape) // max(1, math.prod(shape))
            check_labels(name, y_true, num_classes, ignore_class)
    labels = ops.convert_to_tensor(y_true)
    given = tuple(labels.shape)
    if given not in (shape, (*shape, 1)):
        one_hot = given == p_shape
        hint = "; use categorical_crossentropy for one-hot targets" if one_hot else ""
        hint = hint or advice(name, given, p_shape)
        raise ValueError(f"{name}: expected y_true of shape {shape}, got {given}{hint}")
    if given != shape:
        labels = ops.reshape(labels, shape)
    return labels if str(labels.dtype) in ("int32", "int64") else ops.cast(labels, "int32")


def _class_axis(name, p, axis):
    ndim = len(p.shape)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}: expected y_pred with an axis {axis}, got shape {tuple(p.shape)}")
    return axis % ndim


def _classes_last(x, axis):
    return x if axis == len(x.shape) - 1 else ops.moveaxis(x, axis, -1)


def _log_probabilities(p, axis):
    p = p / ops.sum(p, axis=axis, keepdims=True)
    return ops.log(ops.clip(p, epsilon(), 1.0 - epsilon()))


def _smoothing(name, value):
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected label_smoothing in 0..1, got {value}")
    return value


class BinaryCrossentropy(LossFunctionWrapper):
    """`binary_crossentropy`, reduced.

    Parameters
    ----------
    from_logits : bool
    label_smoothing : float, 0..1
    axis : int, default -1
    reduction, name, dtype
        As in `Loss`.

    Examples
    --------
    >>> round(float(BinaryCrossentropy()([[0, 1]], [[0.2, 0.7]])), 4)
    0.2899
    """

    def __init__(
        self,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="binary_crossentropy",
        dtype=None,
    ):
        self.from_logits, self.axis = from_logits, axis
        self.label_smoothing = _smoothing(name, label_smoothing)
        super().__init__(
            binary_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalCrossentropy(LossFunctionWrapper):
    """`categorical_crossentropy`, reduced.

    Parameters
    ----------
    from_logits : bool
    label_smoothing : float, 0..1
    axis : int, default -1
    reduction, name, dtype
        As in `Loss`.

    Examples
    --------
    >>> round(float(CategoricalCrossentropy()([[0, 1, 0]], [[0.1, 0.8, 0.1]])), 4)
    0.2231
    """

    def __init__(
        self,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="categorical_crossentropy",
        dtype=None,
    ):
        self.from_logits, self.axis = from_logits, axis
        self.label_smoothing = _smoothing(name, label_smoothing)
        super().__init__(
            categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """`sparse_categorical_crossentropy`, reduced; a mean leaves ignored samples out.

    Parameters
    ----------
    from_logits : bool
    ignore_class : int, optional
    axis : int, default -1
    reduction, name, dtype
        As in `Loss`.

    Examples
    --------
    >>> round(float(SparseCategoricalCrossentropy()([1, 2], [[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])), 4)
    0.367
    """

    def __init__(
        self,
        from_logits=False,
        ignore_class=None,
        reduction="sum_over_batch_size",
        axis=-1,
        name="sparse_categorical_crossentropy",
        dtype=None,
    ):
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis
        super().__init__(
            sparse_categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )

    def _counted(self, y_true, mask, values):
        if self.ignore_class is None:
            return mask
        kept = ops.reshape(ops.not_equal(y_true, self.ignore_class), tuple(values.shape))
        return kept if mask is None else ops.logical_and(mask, kept)
