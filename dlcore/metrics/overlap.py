"""Intersection over union, class by class: TP / (TP + FP + FN), from a confusion matrix."""

import numpy as np

from dlcore import ops
from dlcore.losses.loss import as_float
from dlcore.metrics.metric import Metric, add_to, ratio


class IoU(Metric):
    """Mean over some classes of TP / (TP + FP + FN); classes that never occur are left out.

    Parameters
    ----------
    num_classes : int
    target_class_ids : sequence of int
        The classes to take the mean over.
    name : str
    dtype : str, optional
    ignore_class : int, optional
        Samples of this class do not count; nor do those of classes outside 0..num_classes - 1.
    sparse_y_true, sparse_y_pred : bool
        Whether targets and predictions are classes, or a number for each class.
    axis : int, default -1
        That of the classes, where there is one.

    Examples
    --------
    >>> from dlcore import metrics
    >>> metrics.IoU(num_classes=2, target_class_ids=[0])([0, 0, 1, 1], [0, 1, 0, 1])
    0.3333333333333333
    """

    def __init__(
        self, num_classes, target_class_ids, name=None, dtype=None, ignore_class=None,
        sparse_y_true=True, sparse_y_pred=True, axis=-1,
    ):  # fmt: skip
        super().__init__(dtype, name)
        self.num_classes, self.target_class_ids = num_classes, list(target_class_ids)
        if not all(0 <= i < num_classes for i in self.target_class_ids):
            raise ValueError(
                f"{self.name}: expected target_class_ids in 0..{num_classes - 1},"
                f" got {self.target_class_ids}"
            )
        self.ignore_class, self.axis = ignore_class, axis
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        shape = (num_classes, num_classes)
        self.total_cm = self.add_variable(shape, name="total_confusion_matrix")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch; weights are one for each class that is compared, or a scalar."""
        true = self._classes(y_true, self.sparse_y_true)
        pred = self._classes(y_pred, self.sparse_y_pred)
        if tuple(true.shape) != tuple(pred.shape):
            raise ValueError(
                f"{self.name}: expected as many targets as predictions, got "
                f"{tuple(true.shape)} and {tuple(pred.shape)}"
            )
        hot = ops.one_hot(true, self.num_classes)  # a class outside gives zeros
        if self.ignore_class is not None:
            kept = ops.cast(ops.not_equal(true, self.ignore_class), str(hot.dtype))
            hot = hot * ops.expand_dims(kept, -1)
        if sample_weight is not None:
            weight = ops.reshape(as_float(sample_weight, str(hot.dtype)), (-1, 1))
            hot = hot * weight
        add_to(self.total_cm, ops.matmul(ops.transpose(hot), ops.one_hot(pred, self.num_classes)))

    def _classes(self, y, sparse):
        y = ops.convert_to_tensor(y)
        y = y if sparse else ops.argmax(y, axis=self.axis)
        return ops.cast(ops.reshape(y, (-1,)), "int32")

    def result(self):
        matrix = self.total_cm.numpy()
        both = np.diag(matrix)
        either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
        chosen = self.target_class_ids
        occurs = (either[chosen] > 0).sum()
        return float(ratio(ratio(both, either)[chosen].sum(), occurs))


class BinaryIoU(IoU):
    """`IoU` of predictions 0..1, which are class 1 from the threshold on.

    Parameters
    ----------
    target_class_ids : sequence of int, default (0, 1)
    threshold : float, default 0.5
    name : str
    dtype : str, optional
    """

    def __init__(self, target_class_ids=(0, 1), threshold=0.5, name=None, dtype=None):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.greater_equal(as_float(y_pred), self.threshold)
        super().update_state(y_true, y_pred, sample_weight)


class MeanIoU(IoU):
    """`IoU` of all classes.

    Parameters
    ----------
    num_classes : int
    name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis
        As in `IoU`.
    """

    def __init__(
        self, num_classes, name=None, dtype=None, ignore_class=None, sparse_y_true=True,
        sparse_y_pred=True, axis=-1,
    ):  # fmt: skip
        super().__init__(
            num_classes, range(num_classes), name, dtype, ignore_class, sparse_y_true,
            sparse_y_pred, axis,
        )  # fmt: skip


class OneHotIoU(IoU):
    """`IoU` of one-hot targets and, by default, predictions with a number for each class.

    Parameters
    ----------
    num_classes : int
    target_class_ids : sequence of int
    name, dtype, ignore_class, sparse_y_pred, axis
        As in `IoU`.
    """

    def __init__(
        self, num_classes, target_class_ids, name=None, dtype=None, ignore_class=None,
        sparse_y_pred=False, axis=-1,
    ):  # fmt: skip
        super().__init__(
            num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis
        )


class OneHotMeanIoU(MeanIoU):
    """`OneHotIoU` of all classes.

    Parameters
    ----------
    num_classes : int
    name, dtype, ignore_class, sparse_y_pred, axis
        As in `IoU`.
    """

    def __init__(
        self, num_classes, name=None, dtype=None, ignore_class=None, sparse_y_pred=False, axis=-1
    ):
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)
