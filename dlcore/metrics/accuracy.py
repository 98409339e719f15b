"""Accuracies: the weighted share of samples whose predicted class is the true one."""

from dlcore import ops
from dlcore.config import floatx
from dlcore.losses.loss import match_shapes
from dlcore.metrics.metric import MeanMetricWrapper


def accuracy(y_true, y_pred):
    """1 where y_true equals y_pred, else 0."""
    return _matches(*match_shapes("accuracy", y_true, y_pred))


def binary_accuracy(y_true, y_pred, threshold=0.5):
    """1 where y_pred > threshold is the class in y_true, else 0."""
    y_true, y_pred = match_shapes("binary_accuracy", y_true, y_pred)
    return _matches(y_true, ops.cast(ops.greater(y_pred, threshold), str(y_true.dtype)))


def categorical_accuracy(y_true, y_pred):
    """1 where the largest of y_pred (N, ..., C) is that of the one-hot y_true, else 0."""
    y_true, y_pred = match_shapes("categorical_accuracy", y_true, y_pred)
    return _matches(ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1))


def sparse_categorical_accuracy(y_true, y_pred):
    """1 where the largest of y_pred (N, ..., C) is the class y_true (N, ...), else 0."""
    classes = ops.argmax(y_pred, axis=-1)
    return _matches(*match_shapes("sparse_categorical_accuracy", y_true, classes))


def top_k_categorical_accuracy(y_true, y_pred, k=5):
    """1 where the class of the one-hot y_true is among the k largest of y_pred, else 0."""
    y_true, y_pred = match_shapes("top_k_categorical_accuracy", y_true, y_pred)
    return _in_top_k(ops.argmax(y_true, axis=-1), y_pred, k)


def sparse_top_k_categorical_accuracy(y_true, y_pred, k=5):
    """1 where the class y_true is among the k largest of y_pred, else 0."""
    y_pred = ops.convert_to_tensor(y_pred)
    shape = tuple(y_pred.shape[:-1])
    classes = ops.convert_to_tensor(y_true)
    if tuple(classes.shape) not in (shape, (*shape, 1)):
        raise ValueError(
            f"sparse_top_k_categorical_accuracy: expected y_true of shape {shape}, "
            f"got {tuple(classes.shape)}"
        )
    return _in_top_k(ops.cast(ops.reshape(classes, shape), "int32"), y_pred, k)


for _f in (sparse_categorical_accuracy, sparse_top_k_categorical_accuracy):
    _f.integer_targets = True


for _f in (categorical_accuracy, top_k_categorical_accuracy):
    _f.over_classes = True


def _matches(a, b):
    return ops.cast(ops.equal(a, b), floatx())


def _in_top_k(classes, y_pred, k):
    shape = tuple(classes.shape)
    rows = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
    inside = ops.in_top_k(ops.reshape(classes, (-1,)), rows, k)
    return ops.reshape(ops.cast(inside, floatx()), shape)


class Accuracy(MeanMetricWrapper):
    """Share of values of y_pred that equal y_true.

    Parameters
    ----------
    name : str
    dtype : str, optional

    Examples
    --------
    >>> from dlcore import metrics
    >>> metrics.Accuracy()([[1], [2], [3], [4]], [[0], [2], [3], [4]])
    0.75
    """

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """Share of right classes, where y_pred > threshold means class 1.

    Parameters
    ----------
    name : str
    dtype : str, optional
    threshold : float, between 0 and 1

    Examples
    --------
    >>> m = BinaryAccuracy()
    >>> m.update_state([0, 1, 1, 1], [0.2, 0.7, 0.4, 0.9])
    >>> round(float(m.result()), 4)
    0.75
    """

    def __init__(self, name="binary_accuracy", dtype=None, threshold=0.5):
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"{name}: expected threshold between 0 and 1, got {threshold}")
        self.threshold = 0.5 if threshold is None else threshold
        super().__init__(binary_accuracy, name, dtype, threshold=self.threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """Share of right classes, with one-hot targets.

    Examples
    --------
    >>> m = CategoricalAccuracy()
    >>> m.update_state([[0, 1], [1, 0]], [[0.2, 0.8], [0.4, 0.6]])
    >>> round(float(m.result()), 4)
    0.5
    """

    def __init__(self, name="categorical_accuracy", dtype=None):
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """Share of right classes, with integer targets.

    Examples
    --------
    >>> m = SparseCategoricalAccuracy()
    >>> m.update_state([1, 0], [[0.2, 0.8], [0.4, 0.6]])
    >>> round(float(m.result()), 4)
    0.5
    """

    def __init__(self, name="sparse_categorical_accuracy", dtype=None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose class is among the k most likely, with one-hot targets.

    Parameters
    ----------
    k : int, default 5
    name : str
    dtype : str, optional

    Examples
    --------
    >>> m = TopKCategoricalAccuracy(k=2)
    >>> m.update_state([[0, 0, 1], [0, 1, 0]], [[0.5, 0.1, 0.4], [0.3, 0.2, 0.5]])
    >>> round(float(m.result()), 4)
    0.5
    """

    def __init__(self, k=5, name="top_k_categorical_accuracy", dtype=None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)
        self.k = k


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose class is among the k most likely, with integer targets.

    Parameters
    ----------
    k : int, default 5
    name : str
    dtype : str, optional

    Examples
    --------
    >>> m = SparseTopKCategoricalAccuracy(k=2)
    >>> m.update_state([2, 1], [[0.5, 0.1, 0.4], [0.3, 0.2, 0.5]])
    >>> round(float(m.result()), 4)
    0.5
    """

    def __init__(self, k=5, name="sparse_top_k_categorical_accuracy", dtype=None):
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k)
        self.k = k
