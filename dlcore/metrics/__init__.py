"""Metrics, as classes that sum over batches and as functions, with the names of Keras."""

from dlcore import lookup
from dlcore import losses as _losses
from dlcore.losses import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from dlcore.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from dlcore.metrics.auc import AUC
from dlcore.metrics.confusion import (
    ConfusionMatrix,
    F1Score,
    FalseNegatives,
    FalsePositives,
    FBetaScore,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
)
from dlcore.metrics.metric import Mean, MeanMetricWrapper, Metric, Sum
from dlcore.metrics.operating import (
    PrecisionAtRecall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
)
from dlcore.metrics.overlap import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU
from dlcore.metrics.regression import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    ConcordanceCorrelation,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    PearsonCorrelation,
    Poisson,
    R2Score,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    concordance_correlation,
    cosine_similarity,
    pearson_correlation,
)

_CLASSES = [
    AUC, Accuracy, BinaryAccuracy, BinaryCrossentropy, BinaryIoU, CategoricalAccuracy,
    CategoricalCrossentropy, CategoricalHinge, ConcordanceCorrelation, ConfusionMatrix,
    CosineSimilarity, F1Score, FBetaScore, FalseNegatives, FalsePositives, Hinge, IoU,
    KLDivergence, LogCoshError, Mean, MeanAbsoluteError, MeanAbsolutePercentageError, MeanIoU,
    MeanMetricWrapper, MeanSquaredError, MeanSquaredLogarithmicError, Metric, OneHotIoU,
    OneHotMeanIoU, PearsonCorrelation, Poisson, Precision, PrecisionAtRecall, R2Score, Recall,
    RecallAtPrecision, RootMeanSquaredError, SensitivityAtSpecificity, SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy, SparseTopKCategoricalAccuracy, SpecificityAtSensitivity,
    SquaredHinge, Sum, TopKCategoricalAccuracy, TrueNegatives, TruePositives,
]  # fmt: skip
_FUNCTIONS = [
    accuracy, binary_accuracy, binary_crossentropy, binary_focal_crossentropy,
    categorical_accuracy, categorical_crossentropy, categorical_focal_crossentropy,
    categorical_hinge, concordance_correlation, cosine_similarity, hinge, huber, kl_divergence,
    log_cosh, mean_absolute_error, mean_absolute_percentage_error, mean_squared_error,
    mean_squared_logarithmic_error, pearson_correlation, poisson, sparse_categorical_accuracy,
    sparse_categorical_crossentropy, sparse_top_k_categorical_accuracy, squared_hinge,
    top_k_categorical_accuracy,
]  # fmt: skip
_SHORT = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "rmse": RootMeanSquaredError,
    "bce": BinaryCrossentropy,
    "kld": KLDivergence,
}
LogCosh = LogCoshError
_TABLE = lookup.table_of(
    _CLASSES,
    {
        **_SHORT,
        **{name.upper(): c for name, c in _SHORT.items()},
        "LogCosh": LogCoshError,
        "log_cosh": LogCoshError,
        "logcosh": LogCoshError,
        "r2": R2Score,
        "f1": F1Score,
        "cosine": CosineSimilarity,
        "top_k_accuracy": TopKCategoricalAccuracy,
    },
)
_BY_SHAPE = {
    "accuracy": {
        "binary": BinaryAccuracy,
        "sparse": SparseCategoricalAccuracy,
        "categorical": CategoricalAccuracy,
    },
    "crossentropy": {
        "binary": BinaryCrossentropy,
        "sparse": SparseCategoricalCrossentropy,
        "categorical": CategoricalCrossentropy,
    },
}
_BY_SHAPE.update(acc=_BY_SHAPE["accuracy"], ce=_BY_SHAPE["crossentropy"])


def __getattr__(name):
    if name.lower() in _losses._SHORT:  # mse, MSE, ...: old spellings, of the functions
        return getattr(_losses, name)
    raise lookup.no_attribute("dlcore.metrics", name, __all__)


def get(identifier):
    """The metric that None, a name, a dictionary, a class, a function or a `Metric` stands for.

    Examples
    --------
    >>> from dlcore import metrics
    >>> metrics.get("mae").name
    'mean_absolute_error'
    """
    return lookup.get("metric", _TABLE, identifier)


def function_of(name):
    """The metric or loss function called `name`, or one of the user's."""
    functions = {**_losses._TABLE, **{f.__name__: f for f in _FUNCTIONS}}
    return lookup.lookup("metric", functions, name)


def resolve(identifier, y_true_shape=None, y_pred_shape=None, y_true_dtype=None):
    """A `Metric` object for what a user gave to `compile`, called as the user called it.

    Parameters
    ----------
    identifier : str, dict, class, function or Metric
        "accuracy" ("acc") and "crossentropy" ("ce") pick the binary, sparse or categorical form by
        the shapes.
    y_true_shape, y_pred_shape : tuple of int
        Of a batch; needed for those names only.
    y_true_dtype : str, optional
        Not needed: float labels of classes count as classes, as in Keras.
    """
    if isinstance(identifier, str) and identifier.lower() in _BY_SHAPE:
        kind = _losses.target_kind(y_true_shape, y_pred_shape)
        return _BY_SHAPE[identifier.lower()][kind](name=identifier)
    metric = get(identifier)
    if metric is None:
        return None
    if not isinstance(metric, Metric):
        metric = MeanMetricWrapper(metric)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric


def serialize(metric):
    """A metric function's name, or {"class_name": ..., "config": {...}} of a `Metric`."""
    return lookup.serialize(metric)


def deserialize(config, custom_objects=None):
    """The metric that `serialize` wrote; `custom_objects` maps names to your own."""
    return lookup.deserialize("metric", _TABLE, config, custom_objects)


__all__ = [
    *(c.__name__ for c in _CLASSES), *(f.__name__ for f in _FUNCTIONS), "LogCosh", "deserialize",
    "get", "resolve", "serialize",
]  # fmt: skip
