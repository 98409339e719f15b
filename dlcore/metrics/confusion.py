"""Metrics of counts: true and false positives, precision, recall, F1, confusion matrix."""

import numpy as np

from dlcore import ops
from dlcore.losses.loss import pair, weights_like
from dlcore.metrics.metric import Metric, add_to, ratio

KINDS = ("true_positives", "false_positives", "true_negatives", "false_negatives")


def counts_above(y, p, weight, thresholds):
    """Weighted true positives, false positives, true negatives and false negatives.

    Parameters
    ----------
    y, p : (L, M) float
        Targets (0 or not) and predictions; a prediction above the threshold is positive.
    weight : (L, M) float or None
    thresholds : (T,) array

    Returns
    -------
    four arrays (L, T)
    """
    dtype = str(p.dtype)
    positive = hits = ops.cast(ops.not_equal(y, 0.0), dtype)
    limits = np.asarray(thresholds, dtype).reshape(-1, 1)
    above = ops.cast(ops.greater(ops.expand_dims(p, 1), limits), dtype)
    total = float(p.shape[1])
    if weight is not None:
        positive = positive * weight
        above = above * ops.expand_dims(weight, 1)
        total = ops.sum(weight, axis=-1, keepdims=True)
    tp = ops.sum(above * ops.expand_dims(hits, 1), axis=-1)
    fp = ops.sum(above, axis=-1) - tp
    positives = ops.sum(positive, axis=-1, keepdims=True)
    fn = positives - tp
    tn = total - positives - fp
    return tp, fp, tn, fn


def keep_top_k(p, k):
    """Predictions (..., C), all but the k largest of a row at -inf; of equals the first stays."""
    a, b = ops.expand_dims(p, -1), ops.expand_dims(p, -2)  # a: itself, b: the others
    earlier = np.tri(p.shape[-1], k=-1, dtype=bool)
    ahead = ops.logical_or(ops.greater(b, a), ops.logical_and(ops.equal(b, a), earlier))
    rank = ops.sum(ops.cast(ahead, "int32"), axis=-1)
    return ops.where(ops.less(rank, k), p, -np.inf)


def standard_thresholds(name, thresholds, top_k=None):
    """Thresholds as a list; by default one half, or none with `top_k`."""
    if thresholds is None:
        return [0.5 if top_k is None else -np.inf]
    values = [float(t) for t in np.ravel(thresholds)]
    if not values or not all(0 <= t <= 1 for t in values):
        raise ValueError(f"{name}: expected thresholds in 0..1, got {thresholds}")
    return values


class _Counts(Metric):
    """Keeps some of the four counts for every threshold."""

    kinds = ()

    def __init__(self, thresholds=None, top_k=None, class_id=None, name=None, dtype=None):
        super().__init__(dtype, name)
        self.thresholds, self.top_k, self.class_id = thresholds, top_k, class_id
        self._limits = standard_thresholds(self.name, thresholds, top_k)
        for kind in self.kinds:
            setattr(self, kind, self.add_variable((len(self._limits),), name=kind))

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add targets (0 or 1) and predictions (0..1) of one shape."""
        y, p = pair(self.name, y_true, y_pred)
        weight = None
        if sample_weight is not None:
            weight = weights_like(self.name, p, sample_weight)
            weight = ops.broadcast_to(weight, tuple(p.shape))
        if self.top_k is not None:
            p = keep_top_k(p, self.top_k)
        arrays = [y, p] if weight is None else [y, p, weight]
        if self.class_id is not None:
            arrays = [x[..., self.class_id] for x in arrays]
        y, p, *weight = (ops.reshape(x, (1, -1)) for x in arrays)
        counts = counts_above(y, p, weight[0] if weight else None, self._limits)
        for kind, count in zip(KINDS, counts, strict=True):
            if kind in self.kinds:
                add_to(getattr(self, kind), count[0])

    def _figure(self, values):
        return float(values[0]) if len(values) == 1 else values


class _OneCount(_Counts):
    def __init__(self, thresholds=None, name=None, dtype=None):
        super().__init__(thresholds, name=name, dtype=dtype)

    def result(self):
        return self._figure(getattr(self, self.kinds[0]).numpy())


class TruePositives(_OneCount):
    """Weighted number of positive samples that are predicted positive.

    Examples
    --------
    >>> m = TruePositives()
    >>> m.update_state([0, 1, 1, 1], [0.2, 0.7, 0.4, 0.9])
    >>> round(float(m.result()), 4)
    2.0
    """

    kinds = ("true_positives",)


class FalsePositives(_OneCount):
    """Weighted number of negative samples that are predicted positive.

    Examples
    --------
    >>> m = FalsePositives()
    >>> m.update_state([0, 1, 1, 1], [0.2, 0.7, 0.4, 0.9])
    >>> round(float(m.result()), 4)
    0.0
    """

    kinds = ("false_positives",)


class TrueNegatives(_OneCount):
    """Weighted number of negative samples that are predicted negative.

    Examples
    --------
    >>> m = TrueNegatives()
    >>> m.update_state([0, 1, 1, 1], [0.2, 0.7, 0.4, 0.9])
    >>> round(float(m.result()), 4)
    1.0
    """

    kinds = ("true_negatives",)


class FalseNegatives(_OneCount):
    """Weighted number of positive samples that are predicted negative.

    Examples
    --------
    >>> m = FalseNegatives()
    >>> m.update_state([0, 1, 1, 1], [0.2, 0.7, 0.4, 0.9])
    >>> round(float(m.result()), 4)
    1.0
    """

    kinds = ("false_negatives",)


class Precision(_Counts):
    """Share of positive predictions that are right: TP / (TP + FP).

    Parameters
    ----------
    thresholds : float or list of float in 0..1, optional
        A prediction above is positive; default 0.5. Several give an array of results.
    top_k : int, optional
        Only the k largest predictions of a sample can be positive (then without a threshold by
        default).
    class_id : int, optional
        Only this class counts.
    name : str
    dtype : str, optional

    Examples
    --------
    >>> m = Precision()
    >>> m.update_state([0, 1, 1, 1], [0.2, 0.7, 0.4, 0.9])
    >>> round(float(m.result()), 4)
    1.0
    """

    kinds = ("true_positives", "false_positives")

    def result(self):
        tp, fp = self.true_positives.value, self.false_positives.value
        return self._figure(ratio(tp, tp + fp))


class Recall(_Counts):
    """Share of positive samples that are found: TP / (TP + FN).

    Parameters
    ----------
    thresholds, top_k, class_id, name, dtype
        As in `Precision`.

    Examples
    --------
    >>> m = Recall()
    >>> m.update_state([0, 1, 1, 1], [0.2, 0.7, 0.4, 0.9])
    >>> round(float(m.result()), 4)
    0.6667
    """

    kinds = ("true_positives", "false_negatives")

    def result(self):
        tp, fn = self.true_positives.value, self.false_negatives.value
        return self._figure(ratio(tp, tp + fn))


class FBetaScore(Metric):
    """(1 + b^2) P R / (b^2 P + R) of precision P and recall R, per class.

    Parameters
    ----------
    average : None, "micro", "macro" or "weighted"
        None: one score per class; micro: of the counts of all classes together; macro: the mean;
        weighted: the mean weighted by the number of samples of each class.
    beta : float > 0
    threshold : float, optional
        A prediction above is positive. By default the largest prediction of a sample is; with a
        single output, one above 0.5.
    name : str
    dtype : str, optional

    Examples
    --------
    >>> m = FBetaScore(average="micro", beta=2.0, threshold=0.5)
    >>> m.update_state([[1], [0], [1]], [[0.9], [0.6], [0.8]])
    >>> round(float(m.result()), 4)
    0.9091
    """

    def __init__(self, average=None, beta=1.0, threshold=None, name="fbeta_score", dtype=None):
        averages = (None, "micro", "macro", "weighted")
        if average not in averages:
            raise ValueError(f"{name}: expected average in {averages}, got {average!r}")
        if not beta > 0:
            raise ValueError(f"{name}: expected beta > 0, got {beta}")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(f"{name}: expected threshold in 0..1, got {threshold}")
        super().__init__(dtype, name)
        self.average, self.beta, self.threshold = average, beta, threshold
        self.counts = None  # true positives, false positives, false negatives per class

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add one-hot targets (N, C), or classes (N,), and predictions (N, C)."""
        p = ops.convert_to_tensor(y_pred)
        if len(p.shape) == 1:
            p = ops.reshape(p, (-1, 1))
        if len(p.shape) != 2:
            raise ValueError(f"{self.name}: expected y_pred (N, C), got shape {tuple(p.shape)}")
        n, num_classes = p.shape
        y = ops.convert_to_tensor(y_true)
        if num_classes > 1 and tuple(y.shape) in ((n,), (n, 1)):
            y = ops.one_hot(ops.cast(ops.reshape(y, (n,)), "int32"), num_classes)
        y, p = pair(self.name, y, p)
        dtype = str(p.dtype)
        if self.threshold is None and num_classes > 1:
            hot = ops.one_hot(ops.argmax(p, axis=-1), num_classes, dtype=dtype)
        else:
            hot = ops.cast(ops.greater(p, self.threshold or 0.5), dtype)
        y = ops.cast(ops.not_equal(y, 0.0), dtype)
        weight = 1.0
        if sample_weight is not None:
            weight = weights_like(self.name, p, sample_weight)
        if self.counts is None:
            names = ("true_positives", "false_positives", "false_negatives")
            self.counts = tuple(self.add_variable((num_classes,), name=k) for k in names)
        counts = (y * hot, (1.0 - y) * hot, y * (1.0 - hot))
        for total, count in zip(self.counts, counts, strict=True):
            add_to(total, ops.sum(count * weight, axis=0))

    def result(self):
        if self.counts is None:
            return 0.0
        counts = [c.numpy() for c in self.counts]
        tp, fp, fn = (c.sum() for c in counts) if self.average == "micro" else counts
        scores = ratio((1 + self.beta**2) * tp, (1 + self.beta**2) * tp + self.beta**2 * fn + fp)
        if self.average == "macro":
            scores = scores.mean()
        elif self.average == "weighted":
            scores = ratio((scores * (tp + fn)).sum(), (tp + fn).sum())
        return scores if np.size(scores) > 1 else float(np.sum(scores))


class F1Score(FBetaScore):
    """2 P R / (P + R) of precision P and recall R, per class.

    Parameters
    ----------
    average, threshold, name, dtype
        As in `FBetaScore`.

    Examples
    --------
    >>> m = F1Score(average="micro", threshold=0.5)
    >>> m.update_state([[1], [0], [1]], [[0.9], [0.6], [0.8]])
    >>> round(float(m.result()), 4)
    0.8
    """

    def __init__(self, average=None, threshold=None, name="f1_score", dtype=None):
        super().__init__(average, 1.0, threshold, name, dtype)


class ConfusionMatrix(Metric):
    """Weighted number of samples of class i (row) that are predicted as class j (column).

    Parameters
    ----------
    num_classes : int >= 2
    name : str
    dtype : str, optional

    Examples
    --------
    >>> m = ConfusionMatrix(2)
    >>> m.update_state([0, 1, 1], [0, 1, 0])
    >>> print(m.result())
    [[1. 0.]
     [1. 1.]]
    """

    def __init__(self, num_classes, name="confusion_matrix", dtype=None):
        if num_classes < 2:
            raise ValueError(f"{name}: expected num_classes >= 2, got {num_classes}")
        super().__init__(dtype, name)
        self.num_classes = num_classes
        self.matrix = self.add_variable((num_classes, num_classes), name="matrix")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch.

        Parameters
        ----------
        y_true : (N,) classes or (N, C) one-hot
        y_pred : (N, C) probabilities, (N, 1) probabilities of class 1, or (N,) classes
        sample_weight : (N,) float, optional
        """
        true, pred = self._classes(y_true), self._classes(y_pred)
        if tuple(true.shape) != tuple(pred.shape):
            raise ValueError(
                f"{self.name}: expected as many targets as predictions, got "
                f"{tuple(true.shape)} and {tuple(pred.shape)}"
            )
        hot = ops.one_hot(true, self.num_classes)
        if sample_weight is not None:
            hot = hot * weights_like(self.name, hot, sample_weight)
        add_to(self.matrix, ops.matmul(ops.transpose(hot), ops.one_hot(pred, self.num_classes)))

    def _classes(self, y):
        """Classes (N,): the largest of C values, 1 for a float above 0.5, or the integer itself."""
        y = ops.convert_to_tensor(y)
        shape = tuple(y.shape)
        if len(shape) == 2 and shape[1] == self.num_classes:
            return ops.argmax(y, axis=-1)
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
            raise ValueError(
                f"{self.name}: expected shape (N,), (N, 1) or (N, {self.num_classes}), got {shape}"
            )
        y = ops.reshape(y, (-1,))
        if "float" in str(y.dtype) and self.num_classes == 2:
            y = ops.greater(y, 0.5)
        return ops.cast(y, "int32")

    def result(self):
        return self.matrix.numpy()
