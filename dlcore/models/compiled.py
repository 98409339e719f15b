"""What `compile` is given, as objects: the loss and the metrics, made when the shapes are known."""

import numpy as np

from dlcore import losses, metrics, ops


class Compiled:
    """The loss and the metrics of one `compile`.

    Parameters
    ----------
    loss : str, function, Loss or None
    given, weighted : list
        Metrics, and those that take the sample weights.
    scale : float
        The loss weight.
    """

    def __init__(self, loss, given, weighted, scale):
        self.identifier, self.scale = loss, scale
        self.given = _as_list("metrics", given)
        self.given_weighted = _as_list("weighted_metrics", weighted)
        self.loss = None if _needs_shapes(loss) else losses.resolve(loss)
        for m in (*self.given, *self.given_weighted):  # unknown names are refused here
            if not _needs_shapes(m):
                metrics.get(m)
        self.tracker = metrics.Mean(name="loss")
        self.plain, self.weighted = [], []
        self.resolved = False

    def resolve(self, target_shape, output_shape):
        """Make the objects for targets and outputs of these shapes; the first call decides."""
        if self.resolved:
            return
        if _needs_shapes(self.identifier):
            self.loss = losses.resolve(self.identifier, target_shape, output_shape)
        self.plain = [metrics.resolve(m, target_shape, output_shape) for m in self.given]
        self.weighted = [
            metrics.resolve(m, target_shape, output_shape) for m in self.given_weighted
        ]
        self.resolved = True

    @property
    def metrics(self):
        return [self.tracker, *self.plain, *self.weighted]

    def variables(self):
        """State of the metrics."""
        return [v for m in self.metrics for v in m.variables]

    def value(self, y, y_pred, sample_weight):
        """The loss as a scalar tensor."""
        loss = self.loss(y, y_pred, sample_weight)
        if loss.shape != ():
            loss = ops.mean(loss)
        return loss if self.scale == 1 else loss * self.scale

    def update(self, loss, y, y_pred, sample_weight, rows):
        """Add one batch to the state of the metrics."""
        self.tracker.update_state(loss, sample_weight=float(rows))
        for m in self.plain:
            m.update_state(y, y_pred)
        for m in self.weighted:
            m.update_state(y, y_pred, sample_weight=sample_weight)

    def reset(self):
        for m in self.metrics:
            m.reset_state()

    def results(self):
        """{name: value} since the last reset: floats, or arrays of metrics with several values."""
        values = {}
        for m in self.metrics:
            result = m.result()
            named = result if isinstance(result, dict) else {m.name: result}
            values.update({name: _plain(value) for name, value in named.items()})
        return values

    def classes(self, output_shape):
        """(name, number of classes, ignored class) when the targets are class labels, else None."""
        if not getattr(self.loss, "integer_targets", False) or len(output_shape) < 2:
            return None
        ignored = getattr(self.loss, "ignore_class", None)
        ignored = (
            getattr(self.loss, "fn_kwargs", {}).get("ignore_class") if ignored is None else ignored
        )
        return self.loss.name, output_shape[-1], ignored

    def wants_integers(self):
        """Whether integer targets stay integers: for class labels, and for functions that may
        count on them.
        """
        if self.loss is None:
            return True
        own = type(self.loss).__module__.startswith("dlcore.")
        function = getattr(getattr(self.loss, "fn", None), "__module__", "dlcore.")
        return self.loss.integer_targets or not own or not function.startswith("dlcore.")


def _needs_shapes(identifier):
    """Whether the name stands for different things by the shapes of targets and outputs."""
    names = ("accuracy", "acc", "crossentropy", "ce")
    return isinstance(identifier, str) and identifier.lower() in names


def _plain(value):
    value = np.asarray(value)
    return value.item() if value.size == 1 else value


def _as_list(name, given):
    """A flat list of metrics; lists per output of a single output are taken too."""
    if given is None:
        return []
    if isinstance(given, (str, bytes)) or not isinstance(given, (list, tuple)):
        raise ValueError(f"compile: expected {name} as a list, got {given!r}")
    flat = []
    for m in given:
        flat += _as_list(name, m) if isinstance(m, (list, tuple)) else [m]
    return flat
