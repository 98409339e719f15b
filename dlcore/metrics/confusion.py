"""Metrics of counts: true and false positives and negatives, precision, recall, F1, AUC, the confusion matrix."""

import numpy as np

from dlcore import ops
from dlcore.losses.loss import pair, weights_like
from dlcore.metrics.metric import Metric, add_to, ratio

_KINDS = ("true_positives", "false_positives", "true_negatives", "false_negatives")


def counts_above(y, p, weight, thresholds):
    """Weighted (true positives, false positives, true negatives, false negatives) for every threshold.

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
    rows, columns = p.shape
    weight = ops.ones((rows, columns), dtype) if weight is None else weight
    positive = weight * ops.cast(ops.not_equal(y, 0.0), dtype)
    limits = np.asarray(thresholds, dtype).reshape(-1, 1)
    above = ops.cast(ops.greater(ops.expand_dims(p, 1), limits), dtype)
    tp = ops.sum(above * ops.expand_dims(positive, 1), axis=-1)
    fp = ops.sum(above * ops.expand_dims(weight, 1), axis=-1) - tp
    positives = ops.sum(positive, axis=-1, keepdims=True)
    fn = positives - tp
    tn = ops.sum(weight, axis=-1, keepdims=True) - positives - fp
    return tp, fp, tn, fn


def keep_top_k(p, k):
    """Predictions (..., C), with all but the k largest of a row at -inf; the first of equals is kept."""
    a, b = ops.expand_dims(p, -1), ops.expand_dims(p, -2)  # a: itself, b: the others
    earlier = np.tri(p.shape[-1], k=-1, dtype=bool)
    ahead = ops.logical_or(
        ops.greater(b, a), ops.logical_and(ops.equal(b, a), earlier)
    )
    rank = ops.sum(ops.cast(ahead, "int32"), axis=-1)
    return ops.where(ops.less(rank, k), p, -np.inf)


def _standard_thresholds(name, thresholds, top_k):
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
        self._limits = _standard_thresholds(self.name, thresholds, top_k)
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
        for kind, count in zip(_KINDS, counts, strict=True):
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
    """Weighted number of positive samples that are predicted positive."""

    kinds = ("true_positives",)


class FalsePositives(_OneCount):
    """Weighted number of negative samples that are predicted positive."""

    kinds = ("false_positives",)


class TrueNegatives(_OneCount):
    """Weighted number of negative samples that are predicted negative."""

    kinds = ("true_negatives",)


class FalseNegatives(_OneCount):
    """Weighted number of positive samples that are predicted negative."""

    kinds = ("false_negatives",)


class Precision(_Counts):
    """Share of positive predictions that are right: TP / (TP + FP).

    Parameters
    ----------
    thresholds : float or list of float in 0..1, optional
        A prediction above is positive; default 0.5. Several give an array of results.
    top_k : int, optional
        Only the k largest predictions of a sample can be positive (then without a threshold by default).
    class_id : int, optional
        Only this class counts.
    name : str
    dtype : str, optional
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
        None: one score per class; micro: of the counts of all classes together; macro: the mean; weighted: the mean
        weighted by the number of samples of each class.
    beta : float > 0
    threshold : float, optional
        A prediction above is positive. By default the largest prediction of a sample is; with a single output, one
        above 0.5.
    name : str
    dtype : str, optional
    """

    def __init__(
        self, average=None, beta=1.0, threshold=None, name="fbeta_score", dtype=None
    ):
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
        for total, count in zip(self.counts, (y * hot, (1.0 - y) * hot, y * (1.0 - hot)), strict=True):
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
        return scores if np.ndim(scores) else float(scores)


class F1Score(FBetaScore):
    """2 P R / (P + R) of precision P and recall R, per class.

    Parameters
    ----------
    average, threshold, name, dtype
        As in `FBetaScore`.
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
    """

    def __init__(self, num_classes, name="confusion_matrix", dtype=None):
        if num_classes < 2:
            raise ValueError(f"{name}: expected num_classes >= 2, got {num_classes}")
        super().__init__(dtype, name)
        self.num_classes = num_classes
        self.matrix = self.add_variable((num_classes, num_classes), name="matrix")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add classes (N,) or one-hot targets (N, C), and probabilities (N, C), or (N, 1) of class 1, or classes."""
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
        """Classes (N,): the largest of C values, 1 above one half for one float, an integer as it is."""
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


class AUC(Metric):
    """Area under the ROC curve (recall against false positive rate) or the precision-recall curve.

    The curve is a line through `num_thresholds` points; Davis and Goadrich 2006,
    https://doi.org/10.1145/1143844.1143874, for the interpolation of precision.

    Parameters
    ----------
    num_thresholds : int > 1, default 200
        Equidistant in 0..1, with one just below and one just above.
    curve : "ROC" or "PR"
    summation_method : "interpolation" (trapezoids), "minoring" or "majoring" (the lower or the higher end)
    name : str
    dtype : str, optional
    thresholds : list of float in 0..1, optional
        Instead of equidistant ones.
    multi_label : bool
        One area per column of y (N, L), averaged.
    num_labels : int, optional
        L, for `multi_label`.
    label_weights : list of L floats, optional
    from_logits : bool
        Predictions are logits, to go through a sigmoid.
    """

    def __init__(
        self,
        num_thresholds=200,
        curve="ROC",
        summation_method="interpolation",
        name="auc",
        dtype=None,
        thresholds=None,
        multi_label=False,
        num_labels=None,
        label_weights=None,
        from_logits=False,
    ):
        methods = ("interpolation", "minoring", "majoring")
        if curve not in ("ROC", "PR"):
            raise ValueError(f"{name}: expected curve 'ROC' or 'PR', got {curve!r}")
        if summation_method not in methods:
            raise ValueError(
                f"{name}: expected summation_method in {methods}, got {summation_method!r}"
            )
        super().__init__(dtype, name)
        self.curve, self.summation_method = curve, summation_method
        self.thresholds, self.num_thresholds = thresholds, num_thresholds
        self.multi_label, self.num_labels = multi_label, num_labels
        self.label_weights, self.from_logits = label_weights, from_logits
        self._limits = self._all_thresholds()
        self._counts = None  # per label and threshold, once the number of labels is known

    def _all_thresholds(self):
        if self.thresholds is not None:
            inner = sorted(_standard_thresholds(self.name, self.thresholds, None))
        else:
            if self.num_thresholds <= 1:
                raise ValueError(
                    f"{self.name}: expected num_thresholds > 1, got {self.num_thresholds}"
                )
            steps = self.num_thresholds - 1
            inner = [i / steps for i in range(1, steps)]
        return [-1e-7, *inner, 1 + 1e-7]

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add targets (0 or 1) and predictions (0..1, or logits) of one shape."""
        y, p = pair(self.name, y_true, y_pred)
        p = ops.sigmoid(p) if self.from_logits else p
        weight = None
        if sample_weight is not None:
            weight = weights_like(self.name, p, sample_weight)
            weight = ops.broadcast_to(weight, tuple(p.shape))
        if self.multi_label and len(p.shape) != 2:
            raise ValueError(f"{self.name}: expected y_pred (N, L), got shape {tuple(p.shape)}")

        def by_label(x):
            return ops.transpose(x) if self.multi_label else ops.reshape(x, (1, -1))

        y, p = by_label(y), by_label(p)
        if self._counts is None:
            shape = (p.shape[0], len(self._limits))
            self._counts = tuple(self.add_variable(shape, name=kind) for kind in _KINDS)
        counts = counts_above(y, p, None if weight is None else by_label(weight), self._limits)
        for total, count in zip(self._counts, counts, strict=True):
            add_to(total, count)

    def result(self):
        if self._counts is None:
            return 0.0
        tp, fp, tn, fn = (c.value for c in self._counts)
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = _interpolated_precision(tp, fp, fn)
        else:
            recall = ratio(tp, tp + fn)
            x, y = (ratio(fp, fp + tn), recall) if self.curve == "ROC" else (recall, ratio(tp, tp + fp))
            left, right = y[:, :-1], y[:, 1:]
            heights = {
                "interpolation": (left + right) / 2,
                "minoring": np.minimum(left, right),
                "majoring": np.maximum(left, right),
            }[self.summation_method]
            areas = ((x[:, :-1] - x[:, 1:]) * heights).sum(axis=1)
        return float(np.average(areas, weights=self.label_weights))


def _interpolated_precision(tp, fp, fn):
    """Area under precision against recall, with TP linear in the number of positive predictions between points.

    With TP = a + s P on a segment, the area is the integral of (s + a / P) s dP over P, divided by TP + FN.
    """
    predicted = tp + fp
    high, low = predicted[:, :-1], predicted[:, 1:]
    rise = tp[:, :-1] - tp[:, 1:]
    slope = ratio(rise, high - low)
    offset = tp[:, 1:] - slope * low
    logarithm = np.log(np.where((high > 0) & (low > 0), ratio(high, low), 1.0), where=high > 0, out=np.zeros_like(high))
    return ratio(slope * (rise + offset * logarithm), tp[:, 1:] + fn[:, 1:]).sum(axis=1)
