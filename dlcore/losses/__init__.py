"""Losses with the names of Keras: classes reduce to a scalar, functions give a value per sample."""

from dlcore import lookup
from dlcore.losses.classification import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)
from dlcore.losses.hinges import (
    CategoricalHinge,
    Hinge,
    SquaredHinge,
    categorical_hinge,
    hinge,
    squared_hinge,
)
from dlcore.losses.imbalance import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    Dice,
    Tversky,
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    dice,
    tversky,
)
from dlcore.losses.loss import (
    Loss,
    LossFunctionWrapper,
    check_labels,
    class_weights_to_sample_weights,
)
from dlcore.losses.matching import CTC, Circle, circle, ctc
from dlcore.losses.regression import (
    CosineSimilarity,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    cosine_similarity,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
)

_CLASSES = [
    CTC, Circle, BinaryCrossentropy, BinaryFocalCrossentropy, CategoricalCrossentropy,
    CategoricalFocalCrossentropy, CategoricalGeneralizedCrossEntropy, CategoricalHinge,
    CosineSimilarity, Dice, Hinge, Huber, KLDivergence, LogCosh, Loss, LossFunctionWrapper,
    MeanAbsoluteError, MeanAbsolutePercentageError, MeanSquaredError, MeanSquaredLogarithmicError,
    Poisson, SparseCategoricalCrossentropy, SquaredHinge, Tversky,
]  # fmt: skip
_FUNCTIONS = [
    circle, ctc, binary_crossentropy, binary_focal_crossentropy, categorical_crossentropy,
    categorical_focal_crossentropy, categorical_generalized_cross_entropy, categorical_hinge,
    cosine_similarity, dice, hinge, huber, kl_divergence, log_cosh, mean_absolute_error,
    mean_absolute_percentage_error, mean_squared_error, mean_squared_logarithmic_error, poisson,
    sparse_categorical_crossentropy, squared_hinge, tversky,
]  # fmt: skip
_SHORT = {
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "msle": mean_squared_logarithmic_error,
    "bce": binary_crossentropy,
    "kld": kl_divergence,
}
# A function's name gives the function, a class's the class with its defaults.
_TABLE = lookup.table_of(
    [*_FUNCTIONS, *_CLASSES],
    {
        **_SHORT,
        **{name.upper(): f for name, f in _SHORT.items()},
        "logcosh": log_cosh,
        "huber_loss": huber,
        "kullback_leibler_divergence": kl_divergence,
    },
)


def __getattr__(name):  # mse, MSE, ...: old spellings
    if name.lower() in _SHORT:
        return _TABLE[name]
    raise lookup.no_attribute("dlcore.losses", name, __all__)


_CROSSENTROPY = ("crossentropy", "ce")


def get(identifier):
    """The loss that None, a name, a dictionary, a class, a function or a `Loss` stands for.

    Examples
    --------
    >>> from dlcore import losses
    >>> losses.get("mse").__name__
    'mean_squared_error'
    """
    return lookup.get("loss", _TABLE, identifier)


def target_kind(y_true_shape, y_pred_shape):
    """What targets are to predictions of these shapes: "binary", "sparse" or "categorical"."""
    true, pred = tuple(y_true_shape), tuple(y_pred_shape)
    if len(pred) < 2 or pred[-1] == 1:
        return "binary"
    if len(true) < len(pred) or true[-1] == 1:
        return "sparse"
    return "categorical"


def resolve(identifier, y_true_shape=None, y_pred_shape=None):
    """A `Loss` object for what a user gave to `compile`, called as the user called it.

    Parameters
    ----------
    identifier : str, dict, class, function or Loss
        "crossentropy" picks the binary, sparse or categorical cross-entropy by the shapes.
    y_true_shape, y_pred_shape : tuple of int
        Needed for "crossentropy" only.
    """
    if isinstance(identifier, str) and identifier.lower() in _CROSSENTROPY:
        functions = {
            "binary": binary_crossentropy,
            "sparse": sparse_categorical_crossentropy,
            "categorical": categorical_crossentropy,
        }
        loss = functions[target_kind(y_true_shape, y_pred_shape)]
    else:
        loss = get(identifier)
    if loss is None or isinstance(loss, Loss):
        return loss
    name = identifier if isinstance(identifier, str) else getattr(loss, "__name__", None)
    return LossFunctionWrapper(loss, name=name)


def serialize(loss):
    """A loss function's name, or {"class_name": ..., "config": {...}} of a `Loss`."""
    return lookup.serialize(loss)


def deserialize(name, custom_objects=None):
    """The loss that `serialize` wrote; `custom_objects` maps names to your own."""
    return lookup.deserialize("loss", _TABLE, name, custom_objects)


__all__ = [
    *(c.__name__ for c in _CLASSES), *(f.__name__ for f in _FUNCTIONS), "check_labels",
    "class_weights_to_sample_weights", "deserialize", "get", "resolve", "serialize", "target_kind",
]  # fmt: skip
