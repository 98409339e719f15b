"""The best of one figure of a classifier where another is at least so much: over thresholds
equally far apart in 0..1.

sensitivity = recall = TP / (TP + FN), specificity = TN / (TN + FP), precision = TP / (TP + FP)
"""

import numpy as np

from dlcore.metrics.confusion import KINDS, _Counts
from dlcore.metrics.metric import ratio


class _AtLeast(_Counts):
    """Base: the largest `wanted(...)` over the thresholds where `bounded(...)` is large enough."""

    kinds = KINDS

    def __init__(self, bound, what, num_thresholds, class_id, name, dtype):
        several = num_thresholds != 1
        limits = np.linspace(0, 1, max(num_thresholds, 2)).tolist() if several else [0.5]
        super().__init__(limits, class_id=class_id, name=name, dtype=dtype)
        if not num_thresholds > 0:
            raise ValueError(f"{self.name}: expected num_thresholds > 0, got {num_thresholds!r}")
        if not 0 <= bound <= 1:
            raise ValueError(f"{self.name}: expected {what} in 0..1, got {bound!r}")
        setattr(self, what, bound)
        self._bound, self.num_thresholds = bound, num_thresholds

    def _figures(self):
        tp, fp, tn, fn = (getattr(self, kind).numpy() for kind in KINDS)
        return {
            "recall": ratio(tp, tp + fn), "precision": ratio(tp, tp + fp),
            "specificity": ratio(tn, tn + fp),
        }  # fmt: skip

    def _best(self, wanted, bounded):
        figures = self._figures()
        return float(np.where(figures[bounded] >= self._bound, figures[wanted], 0.0).max())


class SensitivityAtSpecificity(_AtLeast):
    """Best sensitivity where the specificity is at least so much.

    Parameters
    ----------
    specificity : float, 0..1
    num_thresholds : int, default 200
    class_id : int, optional
        Only this class counts.
    name : str
    dtype : str, optional
    """

    def __init__(self, specificity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(specificity, "specificity", num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best("recall", "specificity")


class SpecificityAtSensitivity(_AtLeast):
    """Best specificity where the sensitivity is at least so much.

    Parameters
    ----------
    sensitivity : float, 0..1
    num_thresholds, class_id, name, dtype
        As in `SensitivityAtSpecificity`.
    """

    def __init__(self, sensitivity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(sensitivity, "sensitivity", num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best("specificity", "recall")


class PrecisionAtRecall(_AtLeast):
    """Best precision where the recall is at least so much.

    Parameters
    ----------
    recall : float, 0..1
    num_thresholds, class_id, name, dtype
        As in `SensitivityAtSpecificity`.
    """

    def __init__(self, recall, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(recall, "recall", num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best("precision", "recall")


class RecallAtPrecision(_AtLeast):
    """Best recall where the precision is at least so much.

    Parameters
    ----------
    precision : float, 0..1
    num_thresholds, class_id, name, dtype
        As in `SensitivityAtSpecificity`.
    """

    def __init__(self, precision, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(precision, "precision", num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best("recall", "precision")
