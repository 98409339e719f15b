"""Metrics that are means of a loss, and those of regression: RMSE and R2."""

import numpy as np

from dlcore import losses, ops
from dlcore.config import epsilon
from dlcore.losses.loss import match_samples, match_shapes, pair, weights_like
from dlcore.metrics.metric import Mean, MeanMetricWrapper, Metric, add_to, ratio


def cosine_similarity(y_true, y_pred, axis=-1):
    """Cosine of the angle between y_true and y_pred along `axis`: 1 for the same direction."""
    return -losses.cosine_similarity(y_true, y_pred, axis)


def pearson_correlation(y_true, y_pred, axis=-1):
    """Covariance of y_true and y_pred along `axis` over the product of their deviations."""
    a, b = (_centred(x, axis) for x in pair("pearson_correlation", y_true, y_pred))
    sizes = [ops.sqrt(ops.mean(ops.square(x), axis=axis)) for x in (a, b)]
    return ops.mean(a * b, axis=axis) / (sizes[0] * sizes[1])


def concordance_correlation(y_true, y_pred, axis=-1):
    """2 cov / (var y + var p + (mean y - mean p)^2) along `axis`: 1 where they are equal.

    Source: Lin 1989, https://doi.org/10.2307/2532051
    """
    y, p = pair("concordance_correlation", y_true, y_pred)
    a, b = _centred(y, axis), _centred(p, axis)
    spread = ops.mean(ops.square(a), axis=axis) + ops.mean(ops.square(b), axis=axis)
    shift = ops.square(ops.mean(y, axis=axis) - ops.mean(p, axis=axis))
    return 2.0 * ops.mean(a * b, axis=axis) / (spread + shift + epsilon())


def _centred(x, axis):
    return x - ops.mean(x, axis=axis, keepdims=True)


for _f in (cosine_similarity, pearson_correlation, concordance_correlation):
    _f.over_classes = True


def _loss_metric(class_name, fn, name=None):
    """A metric class that averages the loss function `fn` and takes no arguments of its own."""

    def __init__(self, name=name or fn.__name__, dtype=None):
        MeanMetricWrapper.__init__(self, fn, name, dtype)

    doc = f"""Weighted mean of `losses.{fn.__name__}`.

    Parameters
    ----------
    name : str
    dtype : str, optional
    """
    body = {"__init__": __init__, "__doc__": doc, "__module__": __name__}
    return type(class_name, (MeanMetricWrapper,), body)


MeanSquaredError = _loss_metric("MeanSquaredError", losses.mean_squared_error)
MeanAbsoluteError = _loss_metric("MeanAbsoluteError", losses.mean_absolute_error)
MeanAbsolutePercentageError = _loss_metric(
    "MeanAbsolutePercentageError", losses.mean_absolute_percentage_error
)
MeanSquaredLogarithmicError = _loss_metric(
    "MeanSquaredLogarithmicError", losses.mean_squared_logarithmic_error
)
LogCoshError = _loss_metric("LogCoshError", losses.log_cosh, "logcosh")
Poisson = _loss_metric("Poisson", losses.poisson)
KLDivergence = _loss_metric("KLDivergence", losses.kl_divergence)
Hinge = _loss_metric("Hinge", losses.hinge)
SquaredHinge = _loss_metric("SquaredHinge", losses.squared_hinge)
CategoricalHinge = _loss_metric("CategoricalHinge", losses.categorical_hinge)


class CosineSimilarity(MeanMetricWrapper):
    """Weighted mean of the cosine between targets and predictions.

    Parameters
    ----------
    name : str
    dtype : str, optional
    axis : int, default -1
    """

    def __init__(self, name="cosine_similarity", dtype=None, axis=-1):
        super().__init__(cosine_similarity, name, dtype, axis=axis)
        self.axis = axis


class PearsonCorrelation(MeanMetricWrapper):
    """Weighted mean of `pearson_correlation`.

    Parameters
    ----------
    name : str
    dtype : str, optional
    axis : int, default -1
    """

    def __init__(self, name="pearson_correlation", dtype=None, axis=-1):
        super().__init__(pearson_correlation, name, dtype, axis=axis)
        self.axis = axis


class ConcordanceCorrelation(MeanMetricWrapper):
    """Weighted mean of `concordance_correlation`.

    Parameters
    ----------
    name : str
    dtype : str, optional
    axis : int, default -1
    """

    def __init__(self, name="concordance_correlation", dtype=None, axis=-1):
        super().__init__(concordance_correlation, name, dtype, axis=axis)
        self.axis = axis


class BinaryCrossentropy(MeanMetricWrapper):
    """Weighted mean of `losses.binary_crossentropy`.

    Parameters
    ----------
    name : str
    dtype : str, optional
    from_logits : bool
    label_smoothing : float, 0..1
    """

    def __init__(
        self, name="binary_crossentropy", dtype=None, from_logits=False, label_smoothing=0
    ):
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing}
        super().__init__(losses.binary_crossentropy, name, dtype, **options)
        self.from_logits, self.label_smoothing = from_logits, label_smoothing


class CategoricalCrossentropy(MeanMetricWrapper):
    """Weighted mean of `losses.categorical_crossentropy`.

    Parameters
    ----------
    name : str
    dtype : str, optional
    from_logits : bool
    label_smoothing : float, 0..1
    axis : int, default -1
    """

    def __init__(
        self,
        name="categorical_crossentropy",
        dtype=None,
        from_logits=False,
        label_smoothing=0,
        axis=-1,
    ):
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(losses.categorical_crossentropy, name, dtype, **options)
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """Weighted mean of `losses.sparse_categorical_crossentropy`.

    Parameters
    ----------
    name : str
    dtype : str, optional
    from_logits : bool
    ignore_class : int, optional
        Samples of this class do not count.
    axis : int, default -1
    """

    def __init__(
        self,
        name="sparse_categorical_crossentropy",
        dtype=None,
        from_logits=False,
        ignore_class=None,
        axis=-1,
    ):
        options = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(losses.sparse_categorical_crossentropy, name, dtype, **options)
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis


class RootMeanSquaredError(Mean):
    """Square root of the weighted mean of (y_pred - y_true)^2.

    Parameters
    ----------
    name : str
    dtype : str, optional

    Examples
    --------
    >>> m = RootMeanSquaredError()
    >>> m.update_state([[1.0], [2.0], [4.0]], [[1.5], [2.0], [3.0]])
    >>> round(float(m.result()), 4)
    0.6455
    """

    def __init__(self, name="root_mean_squared_error", dtype=None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y, p = match_samples(None, *pair(self.name, y_true, y_pred))
        super().update_state(ops.square(p - y), sample_weight)

    def result(self):
        return float(np.sqrt(super().result()))


class R2Score(Metric):
    """Share of the targets' variance that the predictions explain.

    1 - sum w (y - p)^2 / sum w (y - mean y)^2.

    Parameters
    ----------
    class_aggregation : "uniform_average", "variance_weighted_average" or None
        How the scores of several outputs are combined; None returns all.
    num_regressors : int, default 0
        Number of inputs for the adjusted score, or 0.
    name : str
    dtype : str, optional

    Examples
    --------
    >>> m = R2Score()
    >>> m.update_state([[1.0], [2.0], [4.0]], [[1.5], [2.0], [3.0]])
    >>> round(float(m.result()), 4)
    0.7321
    """

    def __init__(
        self,
        class_aggregation="uniform_average",
        num_regressors=0,
        name="r2_score",
        dtype=None,
    ):
        known = ("uniform_average", "variance_weighted_average", None)
        if class_aggregation not in known:
            raise ValueError(
                f"{name}: expected class_aggregation in {known}, got {class_aggregation!r}"
            )
        if num_regressors < 0:
            raise ValueError(f"{name}: expected num_regressors >= 0, got {num_regressors}")
        super().__init__(dtype, name)
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        self.num_samples = self.add_variable(name="num_samples")
        self.sums = None  # y, y^2 and squared residuals, once the number of outputs is known

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add targets and predictions (N, D), or (N,)."""
        y, p = match_shapes(self.name, y_true, y_pred)
        if len(y.shape) not in (1, 2):
            raise ValueError(f"{self.name}: expected y_true (N, D), got shape {tuple(y.shape)}")
        shape = (y.shape[0], y.shape[1] if len(y.shape) == 2 else 1)
        # In float64: y^2 is subtracted from, and float32 would lose targets far from 0.
        y, p = (ops.cast(ops.reshape(x, shape), "float64") for x in (y, p))
        if self.sums is None:
            self.sums = tuple(
                self.add_variable((shape[1],), name=n) for n in ("y", "y_squared", "residual")
            )
        weight = 1.0
        if sample_weight is not None:
            weight = weights_like(self.name, y[:, 0], sample_weight)
            weight = ops.reshape(ops.broadcast_to(weight, (shape[0],)), (shape[0], 1))
        for total, values in zip(self.sums, (y, ops.square(y), ops.square(y - p)), strict=True):
            add_to(total, ops.sum(values * weight, axis=0))
        add_to(self.num_samples, float(shape[0]) if sample_weight is None else ops.sum(weight))

    def result(self):
        if self.sums is None:
            return 0.0
        n = float(self.num_samples.value)
        y, squared, residual = (v.value for v in self.sums)
        variation = squared - ratio(y * y, n)
        score = np.where(variation > 0, 1 - ratio(residual, variation), 0.0)
        if self.class_aggregation == "uniform_average":
            score = score.mean()
        elif self.class_aggregation == "variance_weighted_average":
            score = ratio((score * variation).sum(), variation.sum())
        if self.num_regressors and n > self.num_regressors + 1:
            score = 1 - (1 - score) * (n - 1) / (n - self.num_regressors - 1)
        return score if np.ndim(score) else float(score)
