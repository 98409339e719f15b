"""Area under a curve of thresholds, from the counts of every threshold."""

import numpy as np

from dlcore import ops
from dlcore.losses.loss import pair, weights_like
from dlcore.metrics.confusion import KINDS, counts_above, standard_thresholds
from dlcore.metrics.metric import Metric, add_to, ratio


class AUC(Metric):
    """Area under the ROC curve (recall against false positive rate) or the precision-recall curve.

    The curve is a line through `num_thresholds` points; Davis and Goadrich 2006,
    https://doi.org/10.1145/1143844.1143874, for the interpolation of precision.

    Parameters
    ----------
    num_thresholds : int > 1, default 200
        Equidistant in 0..1, with one just below and one just above.
    curve : "ROC" or "PR"
    summation_method : "interpolation", "minoring" or "majoring"
        Trapezoids, or rectangles of the lower or the higher end.
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

    Examples
    --------
    >>> m = AUC()
    >>> m.update_state([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> round(float(m.result()), 4)
    0.75
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
            inner = sorted(standard_thresholds(self.name, self.thresholds))
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
            self._counts = tuple(self.add_variable(shape, name=kind) for kind in KINDS)
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
            x, y = ratio(fp, fp + tn), ratio(tp, tp + fn)
            if self.curve == "PR":
                x, y = y, ratio(tp, tp + fp)
            left, right = y[:, :-1], y[:, 1:]
            heights = {
                "interpolation": (left + right) / 2,
                "minoring": np.minimum(left, right),
                "majoring": np.maximum(left, right),
            }[self.summation_method]
            areas = ((x[:, :-1] - x[:, 1:]) * heights).sum(axis=1)
        return float(np.average(areas, weights=self.label_weights))


def _interpolated_precision(tp, fp, fn):
    """Area under precision against recall, with TP linear in P = TP + FP between points.

    With TP = a + s P on a segment, its area is the integral of (s + a / P) s dP, over TP + FN.
    """
    predicted = tp + fp
    high, low = predicted[:, :-1], predicted[:, 1:]
    rise = tp[:, :-1] - tp[:, 1:]
    slope = ratio(rise, high - low)
    offset = tp[:, 1:] - slope * low
    logarithm = np.log(np.where((high > 0) & (low > 0), ratio(high, low), 1.0))
    return ratio(slope * (rise + offset * logarithm), tp[:, 1:] + fn[:, 1:]).sum(axis=1)
