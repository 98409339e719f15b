"""Base of metrics: sums over batches, in float64 Variables, from which `result` computes a figure.

`update_state` is written with `dlcore.ops`, so it runs on arrays and inside a training program
alike; `result` reads the sums and is plain NumPy.
"""

import functools

import numpy as np

from dlcore import lookup, ops
from dlcore.losses.loss import apply_mask, as_float, match_samples, values_of, weights_like
from dlcore.program import tracing
from dlcore.program.function import flatten, unflatten
from dlcore.program.graph import Tensor
from dlcore.program.symbol import Symbol
from dlcore.program.variable import Variable


class Result(Symbol):
    """Stands for `metric.result()` inside a trace: what `train_step` returns is read later, and so
    is what `dlcore.ops` make of it and of other numbers.
    """

    shape = ()

    def __init__(self, compute):
        self.compute = compute

    def record(self, op, args, kwargs):
        leaves, structure = flatten((args, kwargs))
        if any(isinstance(x, Tensor) for x in leaves):
            raise TypeError(
                f"{op.__name__}: expected numbers and results of metrics, which are known after"
                " the step, got a tensor of the step with them"
            )

        def later():
            known = [x.compute() if isinstance(x, Result) else x for x in leaves]
            args, kwargs = unflatten(structure, known)
            return op(*args, **kwargs)

        return Result(later)

    def __float__(self):
        raise TypeError("result: expected to be asked for a number after the step, not inside it")

    def __repr__(self):
        return "<result of a metric, known after the step>"


def _readable_later(result):
    @functools.wraps(result)
    def wrapped(self):
        return Result(self.result) if tracing() else result(self)

    return wrapped


class Metric(lookup.Configurable):
    """Base class of metrics; subclasses define `update_state` and `result`.

    Parameters
    ----------
    dtype : str, optional
        Kept for the configuration; the sums are float64.
    name : str, optional
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "result" in cls.__dict__:
            cls.result = _readable_later(cls.result)

    def __init__(self, dtype=None, name=None):
        self.dtype = dtype
        self.name = name or lookup.snake_case(type(self).__name__)
        self.variables, self._initial = [], []

    def add_variable(self, shape=(), initializer="zeros", dtype="float64", name=None):
        """A state Variable that `reset_state` sets to its initial value.

        Parameters
        ----------
        shape : tuple of int
        initializer : str or callable, default "zeros"
        dtype : str, default "float64"
        name : str, optional
        """
        from dlcore import initializers

        initial = initializers.get(initializer)
        value = np.asarray(initial(shape, dtype), dtype)
        variable = Variable(
            value, dtype=dtype, trainable=False, autocast=False, name=name or "state"
        )
        self.variables.append(variable)
        self._initial.append(value)
        return variable

    def add_weight(self, shape=(), initializer="zeros", dtype=None, name=None):
        """`add_variable`, under the name Keras also has for it."""
        return self.add_variable(shape, initializer, dtype or "float64", name)

    def reset_state(self):
        """Forget all batches."""
        for variable, value in zip(self.variables, self._initial, strict=True):
            variable.assign(value)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        raise NotImplementedError(
            f"{type(self).__name__}: expected a subclass that defines update_state"
        )

    def result(self):
        """The figure over all batches since the last reset."""
        raise NotImplementedError(f"{type(self).__name__}: expected a subclass that defines result")

    def __call__(self, *args, **kwargs):
        """Add a batch and return the result so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self):
        return f"<{type(self).__name__} {self.name}>"


def add_to(variable, value):
    """variable += value, in the variable's dtype."""
    variable.assign_add(value if isinstance(value, float) else ops.cast(value, variable.dtype))


def ratio(a, b):
    """a / b in float64, and 0 where b is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim == b.ndim == 0:  # after every batch of `train_on_batch`
        return a / b if b else np.float64(0)
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b != 0)


def per_sample(x):
    """Mean over all axes but the first."""
    return x if len(x.shape) < 2 else ops.mean(x, axis=tuple(range(1, len(x.shape))))


def weighted_samples(name, values, sample_weight):
    """(values, weights) with one number per sample; the values are multiplied by their weights.

    Returns
    -------
    weighted values (N,), weights (N,) or the number of samples
    """
    values = as_float(values)
    if sample_weight is None:
        return per_sample(values), (float(values.shape[0]) if values.shape else 1.0)
    weight = weights_like(name, values, sample_weight)
    weight = ops.broadcast_to(weight, tuple(values.shape))
    return per_sample(values * weight), per_sample(weight)


class Sum(Metric):
    """Weighted sum of all values.

    Parameters
    ----------
    name : str, default "sum"
    dtype : str, optional

    Examples
    --------
    >>> m = Sum()
    >>> m.update_state([1.0, 3.0])
    >>> round(float(m.result()), 4)
    4.0
    """

    def __init__(self, name="sum", dtype=None):
        super().__init__(dtype, name)
        self.total = self.add_variable(name="total")

    def update_state(self, values, sample_weight=None):
        """Add `values` (any shape), each times its weight."""
        values = as_float(values)
        if sample_weight is not None:
            values = values * weights_like(self.name, values, sample_weight)
        add_to(self.total, ops.sum(values))

    def result(self):
        return float(self.total.value)


class Mean(Metric):
    """Weighted mean: sum of w v over sum of w.

    Parameters
    ----------
    name : str, default "mean"
    dtype : str, optional

    Examples
    --------
    >>> m = Mean()
    >>> m.update_state([1.0, 3.0])
    >>> round(float(m.result()), 4)
    2.0
    """

    def __init__(self, name="mean", dtype=None):
        super().__init__(dtype, name)
        self.total = self.add_variable(name="total")
        self.count = self.add_variable(name="count")

    def update_state(self, values, sample_weight=None):
        """Add `values` (N, ...), averaged per sample; weights are per sample, or per value."""
        values, weight = weighted_samples(self.name, values, sample_weight)
        add_to(self.total, ops.sum(values))
        add_to(self.count, weight if isinstance(weight, float) else ops.sum(weight))

    def result(self):
        return float(ratio(self.total.value, self.count.value))


class MeanMetricWrapper(Mean):
    """Weighted mean of a function's values.

    Parameters
    ----------
    fn : callable
        fn(y_true, y_pred, **kwargs) returns one value per sample.
    name, dtype : optional
    """

    _any_arguments = True  # those of fn

    def __init__(self, fn, name=None, dtype=None, **kwargs):
        own = getattr(fn, "name", None) or getattr(fn, "__name__", "metric").strip("<>")  # lambda
        super().__init__(name or own, dtype)
        self.fn, self.fn_kwargs = fn, kwargs

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch of targets and predictions; values that a mask leaves out weigh nothing."""
        mask = getattr(y_pred, "_keras_mask", None)
        if not getattr(self.fn, "integer_targets", False):
            y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
            y_true, y_pred = match_samples(self.fn, y_true, y_pred)
        values = as_float(values_of(self.name, self.fn(y_true, y_pred, **self.fn_kwargs)))
        super().update_state(values, apply_mask(self.name, values, sample_weight, mask, "sum"))

    def get_config(self):
        config = super().get_config()
        if "fn" in config:
            config = {**config, **self.fn_kwargs, "fn": lookup.serialize(self.fn)}
        return config

    @classmethod
    def from_config(cls, config):
        if isinstance(config.get("fn"), str):
            from dlcore import metrics

            config = {**config, "fn": metrics.function_of(config["fn"])}
        return cls(**config)
