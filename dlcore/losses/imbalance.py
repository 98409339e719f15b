"""Losses of classes that are rare or small, or whose labels are noisy: focal cross-entropies,
overlaps, and the generalized cross-entropy.

Dice's and Tversky's losses come from the overlap of whole arrays (or, with `axis`, of parts): they
are one number, or one for each entry of the other axes.
"""

from dlcore import ops
from dlcore.config import epsilon
from dlcore.losses.classification import _class_axis, _labels, _smoothing
from dlcore.losses.loss import LossFunctionWrapper, as_float, pair


def binary_focal_crossentropy(
    y_true, y_pred, apply_class_balancing=False, alpha=0.25, gamma=2.0, from_logits=False,
    label_smoothing=0.0, axis=-1,
):  # fmt: skip
    """Mean of (1 - q)^gamma * binary cross-entropy over `axis`, q = y p + (1 - y)(1 - p).

    Parameters
    ----------
    y_true : (N, ..., D), 0..1
    y_pred : (N, ..., D), probabilities or logits
    apply_class_balancing : bool
        Whether class 1 also weighs alpha, and class 0 1 - alpha.
    alpha : float, 0..1
    gamma : float >= 0
        How little weight well predicted samples have.
    from_logits : bool
    label_smoothing : float, 0..1
        s: targets become y (1 - s) + s / 2.
    axis : int, default -1

    Returns
    -------
    (N, ...) float

    Source: Lin et al. 2018, https://arxiv.org/abs/1708.02002
    """
    y, p = pair("binary_focal_crossentropy", y_true, y_pred)
    if label_smoothing:
        y = y * (1.0 - label_smoothing) + 0.5 * label_smoothing
    p = ops.sigmoid(p) if from_logits else p
    limited = ops.clip(p, epsilon(), 1.0 - epsilon())
    values = -(y * ops.log(limited) + (1.0 - y) * ops.log(1.0 - limited))
    values = values * ops.power(1.0 - (y * p + (1.0 - y) * (1.0 - p)), gamma)
    if apply_class_balancing:
        values = values * (y * alpha + (1.0 - y) * (1.0 - alpha))
    return ops.mean(values, axis=axis)


def categorical_focal_crossentropy(
    y_true, y_pred, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1
):
    """-sum alpha (1 - p)^gamma y log p over `axis`; probabilities are scaled to sum to 1.

    Parameters
    ----------
    y_true : (N, ..., C), one-hot or probabilities
    y_pred : (N, ..., C), probabilities or logits
    alpha : float, or array of a float per class
    gamma : float >= 0
        How little weight well predicted samples have.
    from_logits : bool
    label_smoothing : float, 0..1
        s: targets become y (1 - s) + s / C.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    (N, ...) float

    Source: Lin et al. 2018, https://arxiv.org/abs/1708.02002
    """
    name = "categorical_focal_crossentropy"
    y, p = pair(name, y_true, y_pred)
    axis = _class_axis(name, p, axis)
    if label_smoothing:
        y = y * (1.0 - label_smoothing) + label_smoothing / p.shape[axis]
    p = ops.softmax(p, axis=axis) if from_logits else p
    p = ops.clip(p / ops.sum(p, axis=axis, keepdims=True), epsilon(), 1.0 - epsilon())
    weight = ops.power(1.0 - p, gamma) * ops.cast(alpha, str(p.dtype))
    return -ops.sum(weight * y * ops.log(p), axis=axis)


def dice(y_true, y_pred, axis=None):
    """1 - 2 sum(y p) / (sum y + sum p), over `axis` (None: everything).

    Parameters
    ----------
    y_true, y_pred : arrays of one shape, 0..1
    axis : int or tuple of int, optional

    Returns
    -------
    float, or an array of the other axes
    """
    y, p = pair("dice", y_true, y_pred)
    total = ops.sum(y, axis=axis) + ops.sum(p, axis=axis)
    return 1.0 - 2.0 * ops.sum(y * p, axis=axis) / (total + epsilon())


def tversky(y_true, y_pred, alpha=0.5, beta=0.5, axis=None):
    """1 - sum(y p) / (sum(y p) + alpha sum(y (1 - p)) + beta sum((1 - y) p)), over `axis`.

    Parameters
    ----------
    y_true, y_pred : arrays of one shape, 0..1
    alpha, beta : float
        Weights of what is missed, and of what is found by mistake.
    axis : int or tuple of int, optional
        By default everything.

    Returns
    -------
    float, or an array of the other axes

    Source: Salehi et al. 2017, https://arxiv.org/abs/1706.05721
    """
    y, p = pair("tversky", y_true, y_pred)
    both = ops.sum(y * p, axis=axis)
    missed, mistaken = ops.sum(y * (1.0 - p), axis=axis), ops.sum((1.0 - y) * p, axis=axis)
    return 1.0 - both / (both + alpha * missed + beta * mistaken + epsilon())


def categorical_generalized_cross_entropy(y_true, y_pred, q):
    """(1 - p[y]^q) / q: between cross-entropy (q near 0) and 1 - p[y] (q = 1), for noisy labels.

    Parameters
    ----------
    y_true : (N, ...) or (N, ..., 1), classes
    y_pred : (N, ..., C), probabilities
    q : float, 0..1

    Returns
    -------
    (N, ...) float

    Source: Zhang and Sabuncu 2018, https://arxiv.org/abs/1805.07836
    """
    name, p = "categorical_generalized_cross_entropy", as_float(y_pred)
    labels = _labels(name, y_true, tuple(p.shape[:-1]), tuple(p.shape), None)
    hot = ops.one_hot(labels, p.shape[-1], dtype=str(p.dtype))
    return (1.0 - ops.power(ops.sum(hot * p, axis=-1), q)) / q


categorical_focal_crossentropy.over_classes = True
categorical_generalized_cross_entropy.integer_targets = True


class BinaryFocalCrossentropy(LossFunctionWrapper):
    """`binary_focal_crossentropy`, reduced.

    Parameters
    ----------
    apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis
        As in the function.
    reduction, name, dtype
        As in `Loss`.
    """

    def __init__(
        self, apply_class_balancing=False, alpha=0.25, gamma=2.0, from_logits=False,
        label_smoothing=0.0, axis=-1, reduction="sum_over_batch_size",
        name="binary_focal_crossentropy", dtype=None,
    ):  # fmt: skip
        _keep(
            self, binary_focal_crossentropy, reduction, name, dtype,
            apply_class_balancing=apply_class_balancing, alpha=alpha, gamma=gamma,
            from_logits=from_logits, label_smoothing=_smoothing(name, label_smoothing), axis=axis,
        )  # fmt: skip


class CategoricalFocalCrossentropy(LossFunctionWrapper):
    """`categorical_focal_crossentropy`, reduced.

    Parameters
    ----------
    alpha, gamma, from_logits, label_smoothing, axis
        As in the function.
    reduction, name, dtype
        As in `Loss`.
    """

    def __init__(
        self, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1,
        reduction="sum_over_batch_size", name="categorical_focal_crossentropy", dtype=None,
    ):  # fmt: skip
        _keep(
            self, categorical_focal_crossentropy, reduction, name, dtype, alpha=alpha, gamma=gamma,
            from_logits=from_logits, label_smoothing=_smoothing(name, label_smoothing), axis=axis,
        )  # fmt: skip


class Dice(LossFunctionWrapper):
    """`dice`, reduced.

    Parameters
    ----------
    reduction, name
        As in `Loss`.
    axis : int or tuple of int, optional
        By default everything.
    dtype
        As in `Loss`.
    """

    def __init__(self, reduction="sum_over_batch_size", name="dice", axis=None, dtype=None):
        _keep(self, dice, reduction, name, dtype, axis=axis)


class Tversky(LossFunctionWrapper):
    """`tversky`, reduced.

    Parameters
    ----------
    alpha, beta : float
        Weights of what is missed, and of what is found by mistake.
    reduction, name
        As in `Loss`.
    axis : int or tuple of int, optional
        By default everything.
    dtype
        As in `Loss`.
    """

    def __init__(
        self, alpha=0.5, beta=0.5, reduction="sum_over_batch_size", name="tversky", axis=None,
        dtype=None,
    ):  # fmt: skip
        _keep(self, tversky, reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)


class CategoricalGeneralizedCrossEntropy(LossFunctionWrapper):
    """`categorical_generalized_cross_entropy`, reduced.

    Parameters
    ----------
    q : float, between 0 and 1
    reduction, name, dtype
        As in `Loss`.
    """

    def __init__(
        self, q=0.5, reduction="sum_over_batch_size",
        name="categorical_generalized_cross_entropy", dtype=None,
    ):  # fmt: skip
        if not 0 < q < 1:
            raise ValueError(f"{name}: expected q between 0 and 1, got {q!r}")
        _keep(self, categorical_generalized_cross_entropy, reduction, name, dtype, q=q)


def _keep(loss, function, reduction, name, dtype, **arguments):
    """Make the loss, with the function's arguments as attributes."""
    vars(loss).update(arguments)
    LossFunctionWrapper.__init__(loss, function, reduction, name, dtype, **arguments)
