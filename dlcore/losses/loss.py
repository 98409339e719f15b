"""Base of losses: loss = reduce(sample_weight * values(y_true, y_pred)).

`values` has one number per sample (the last axis is averaged or summed away); the reduction makes
it a scalar. Shapes are compared before anything is computed: a silent broadcast of (N, 1) against
(N,) would give N x N differences and a network that learns nothing.
"""

import math

import numpy as np

from dlcore import lookup, ops
from dlcore.config import floatx

_REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)
_FLOATS = ("float32", "float64")


def as_float(x, dtype=None):
    """`x` as floats: of `dtype`, else of its own float type (halves as float32), else of
    `floatx()`."""
    x = ops.convert_to_tensor(x)
    current = str(x.dtype)
    dtype = dtype or (current if current in _FLOATS else floatx())
    return x if current == dtype else ops.cast(x, dtype)


def differs_by_last_one(a, b):
    return (*a, 1) == b or a == (*b, 1)


def match_shapes(name, y_true, y_pred):
    """Targets and predictions as arrays of one shape; a trailing axis of size 1 may be missing.

    Raises
    ------
    ValueError
        If the shapes differ otherwise.
    """
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    true, pred = tuple(y_true.shape), tuple(y_pred.shape)
    if true == pred:
        return y_true, y_pred
    if not differs_by_last_one(true, pred):
        raise ValueError(
            f"{name}: expected y_true of shape {pred} like y_pred, got {true}"
            f"{advice(name, true, pred)}"
        )
    if len(pred) == 1:
        return y_true, ops.reshape(y_pred, true)
    return ops.reshape(y_true, pred), y_pred


def advice(name, true, pred):
    """The end of a sentence about targets whose shape is not that of predictions."""
    if name.startswith("categorical") and differs_by_last_one(true, (*pred[:-1], 1)):
        return "; use sparse_categorical_crossentropy for integer labels"
    one_each = true[1:] in ((), (1,)) and true[:1] == pred[:1]
    if one_each and len(pred) > 2:
        return (
            "; Flatten(), global pooling or return_sequences=False before the last layer leaves one"
            " prediction per sample"
        )
    if one_each and len(pred) == 2:
        return "; a last layer of 1 unit predicts one number per sample"
    return ""


def pair(name, y_true, y_pred):
    """Targets and predictions of one shape, as floats of the predictions' type."""
    y_true, y_pred = match_shapes(name, y_true, y_pred)
    y_pred = as_float(y_pred)
    return as_float(y_true, str(y_pred.dtype)), y_pred


def match_samples(fn, y_true, y_pred):
    """Targets and predictions with the same axes, and with one axis after that of the samples.

    What differs by a trailing axis of size 1 gets the shape of the predictions: a function that
    subtracts (N,) from (N, 1) would broadcast to (N, N). Two of shape (N,) become (N, 1), or the
    mean over the last axis would be over the samples; not where the last axis is that of classes:
    predictions (N, C, 1) of targets (N, C) lose theirs.
    """
    true, pred = tuple(y_true.shape), tuple(y_pred.shape)
    over_classes = getattr(fn, "over_classes", False)
    lacks = len(pred) == 1 and true == (*pred, 1)
    if lacks or (over_classes and len(true) > 1 and (*true, 1) == pred):
        y_pred, pred = ops.reshape(y_pred, true), true
    if differs_by_last_one(true, pred):
        y_true = ops.reshape(y_true, pred)
    if len(pred) == 1 and tuple(y_true.shape) == pred and not over_classes:
        y_true, y_pred = ops.reshape(y_true, (*pred, 1)), ops.reshape(y_pred, (*pred, 1))
    return y_true, y_pred


def mean_of_last(x):
    """Mean over the last axis; a scalar stays, and an axis of size 1 is only dropped."""
    if not x.shape:
        return x
    if x.shape[-1] == 1:
        return ops.reshape(x, tuple(x.shape[:-1]))
    return ops.mean(x, axis=-1)


def weights_like(name, values, sample_weight):
    """Weights in a shape that multiplies `values`; they have its first axes, or one of them is a
    scalar.

    Raises
    ------
    ValueError
        If the shape is none of these.
    """
    weight = as_float(sample_weight, str(values.dtype))
    shape, given = tuple(values.shape), tuple(weight.shape)
    if given in ((), shape) or not shape:
        return weight
    if given[-1] == 1 and len(given) == len(shape) + 1:
        given = given[:-1]
    if given != shape[: len(given)] and not (
        len(given) == len(shape) and given[-1] == 1 and given[:-1] == shape[:-1]
    ):
        raise ValueError(
            f"{name}: expected sample_weight of shape {shape} or of its first axes, got {given}"
        )
    return ops.reshape(weight, given + (1,) * (len(shape) - len(given)))


def apply_mask(name, values, sample_weight, mask, reduction):
    """The sample weights, or ones, with 0 where `mask` is False.

    Where the reduction divides by the number of values, what is left weighs so much more that it
    is the mean over what the mask keeps.
    """
    if mask is None or tuple(values.shape) == ():  # a loss that has reduced its values itself
        return sample_weight
    weight = as_float(mask, str(values.dtype))
    if reduction in ("sum_over_batch_size", "mean"):
        weight = weight * (math.prod(weight.shape) / ops.maximum(ops.sum(weight), 1.0))
    if len(weight.shape) > len(values.shape):
        raise ValueError(
            f"{name}: expected a mask of the first axes of {tuple(values.shape)},"
            f" got {tuple(weight.shape)}"
        )
    if sample_weight is None:
        return weight
    weights = weights_like(name, values, sample_weight), weights_like(name, values, weight)
    return weights[0] * weights[1]


def values_of(name, values):
    """What a function of the user returned, as a tensor."""
    if values is None:
        raise TypeError(f"{name}: expected a function's values, got None; does it lack return?")
    return values if hasattr(values, "shape") else ops.convert_to_tensor(values)


def reduce_values(name, values, sample_weight, reduction):
    """Weigh `values` and reduce them as `reduction` says."""
    if sample_weight is not None:
        weight = weights_like(name, values, sample_weight)
        values = values * weight
    if reduction in ("none", None) or tuple(values.shape) == ():
        return values
    total = ops.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        weight = ops.sum(ops.broadcast_to(weight, tuple(values.shape)))
        nothing = ops.equal(weight, 0.0)
        return ops.where(nothing, 0.0, total / ops.where(nothing, 1.0, weight))
    return total * (1.0 / max(1, math.prod(values.shape)))


class Loss(lookup.Configurable):
    """Base class of losses; subclasses define `call(y_true, y_pred)` with `dlcore.ops`.

    Parameters
    ----------
    name : str, optional
    reduction : str or None
        "sum_over_batch_size" (or "mean"): the sum divided by the number of values; "sum"; "none"
        (or None): no reduction; "mean_with_sample_weight": the sum divided by that of the weights.
    dtype : str, optional
        Float type to compute in; by default that of the predictions.
    """

    integer_targets = False  # y_true holds classes and is not cast to the dtype of y_pred
    fn = None

    def __init__(self, name=None, reduction="sum_over_batch_size", dtype=None):
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"{name or type(self).__name__}: expected a reduction in {_REDUCTIONS}, "
                f"got {reduction!r}"
            )
        self.name = name or lookup.snake_case(type(self).__name__)
        self.reduction, self.dtype = reduction, dtype

    def __call__(self, y_true, y_pred, sample_weight=None):
        """The loss of targets and predictions, with one weight per sample or none.

        Returns
        -------
        scalar, or one value per sample without a reduction
        """
        mask = getattr(y_pred, "_keras_mask", None)
        y_pred = as_float(y_pred, self.dtype)
        if self.integer_targets:
            y_true = ops.convert_to_tensor(y_true)
        else:
            y_true = as_float(y_true, str(y_pred.dtype))
        values = values_of(self.name, self.call(*match_samples(self.fn, y_true, y_pred)))
        mask = self._counted(y_true, mask, values)
        sample_weight = apply_mask(self.name, values, sample_weight, mask, self.reduction)
        return reduce_values(self.name, values, sample_weight, self.reduction)

    def _counted(self, y_true, mask, values):
        """The mask of the values that count, in their shape; None for all."""
        return mask

    def call(self, y_true, y_pred):
        """One value per sample."""
        raise NotImplementedError(f"{type(self).__name__}: expected a subclass that defines call")


class LossFunctionWrapper(Loss):
    """A loss from a function.

    Parameters
    ----------
    fn : callable
        fn(y_true, y_pred, **kwargs) returns one value per sample.
    reduction, name, dtype
        As in `Loss`.
    """

    _any_arguments = True  # those of fn

    def __init__(self, fn, reduction="sum_over_batch_size", name=None, dtype=None, **kwargs):
        super().__init__(name or getattr(fn, "__name__", None), reduction, dtype)
        self.fn, self.fn_kwargs = fn, kwargs
        self.integer_targets = getattr(fn, "integer_targets", False)

    def call(self, y_true, y_pred):
        return self.fn(y_true, y_pred, **self.fn_kwargs)

    def get_config(self):
        config = super().get_config()
        if "fn" in config:
            config = {**config, **self.fn_kwargs, "fn": lookup.serialize(self.fn)}
        return config

    @classmethod
    def from_config(cls, config):
        if isinstance(config.get("fn"), str):
            from dlcore import losses

            config = {**config, "fn": losses.deserialize(config["fn"])}
        return cls(**config)


def check_labels(name, labels, num_classes, ignore_class=None):
    """Refuse class labels outside 0..num_classes - 1 in a concrete array.

    Raises
    ------
    ValueError
        Naming the first label outside.
    """
    labels = np.asarray(labels)
    bad = ~((labels >= 0) & (labels < num_classes))
    if ignore_class is not None:
        bad &= labels != ignore_class
    if bad.any():
        raise ValueError(
            f"{name}: expected labels in 0..{num_classes - 1}, got {labels[bad].flat[0]}"
        )


def class_weights_to_sample_weights(y, class_weight):
    """One weight per sample from one weight per class.

    Parameters
    ----------
    y : array (N,) or (N, 1) of classes, or (N, C) one-hot
    class_weight : dict of int to float
        Classes that are not in it weigh 1.

    Returns
    -------
    (N,) float array
    """
    if not isinstance(class_weight, dict):
        raise ValueError(
            f"class_weight: expected a dict from class to weight, as {{0: 1.0, 1: 5.0}},"
            f" got {class_weight!r}"
        )
    y = np.asarray(y)
    if y.ndim > 2:
        raise ValueError(f"class_weight: expected labels (N,) or (N, C), got shape {y.shape}")
    classes = y.argmax(-1) if y.ndim == 2 and y.shape[1] > 1 else np.rint(y.reshape(-1)).astype(int)
    weights = np.ones(len(classes), floatx())
    for label, weight in class_weight.items():
        if isinstance(label, bool) or not isinstance(label, (int, float, np.number)):
            raise ValueError(f"class_weight: expected classes as ints, got {label!r}")
        if not math.isfinite(weight) or weight < 0:
            raise ValueError(f"class_weight: expected weights >= 0, got {weight} for class {label}")
        weights[classes == int(label)] = weight
    return weights
