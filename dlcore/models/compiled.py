"""What `compile` is given, as objects: a loss and metrics for each output of the model.

total loss = sum over the outputs of weight * loss(y, y_pred)
"""

from dlcore import backends, lookup, losses, metrics, ops
from dlcore.models.arrays import check_labels
from dlcore.models.form import Form
from dlcore.models.logs import plain
from dlcore.program.graph import suspended


class Head:
    """Loss and metrics of one output, made when the shapes are known.

    Parameters
    ----------
    loss : str, function, Loss or None
    scale : float
        The loss weight.
    given, weighted : list
        Metrics, and those that take the sample weights.
    """

    def __init__(self, loss, scale, given, weighted):
        self.identifier, self.scale = loss, scale
        self.given, self.given_weighted = given, weighted
        self.loss = None if _needs_shapes(loss) else losses.resolve(loss)
        self.tracker = None  # of the loss, where there are several
        self.plain, self.weighted = [], []
        self.resolved = False
        if not any(_needs_shapes(m) for m in (loss, *given, *weighted)):
            self.resolve(None, None)

    def resolve(self, target_shape, output_shape):
        """Make the objects for targets and outputs of these shapes; the first call decides."""
        if self.resolved:
            return
        shapes = target_shape, output_shape
        if _needs_shapes(self.identifier):
            self.loss = losses.resolve(self.identifier, *shapes)
        self.plain = [metrics.resolve(m, *shapes) for m in self.given]
        self.weighted = [metrics.resolve(m, *shapes) for m in self.given_weighted]
        self.resolved = True

    def _resolve_for(self, y, y_pred):
        """Where targets are made in a step of the user's, they are seen here first."""
        if not self.resolved:
            with suspended():
                self.resolve(*((None, *x.shape[1:]) for x in (y, y_pred)))

    @property
    def needs_targets(self):
        return self.identifier is not None or bool(self.given or self.given_weighted)

    def value(self, y, y_pred, sample_weight):
        """The loss as a scalar tensor, times its weight."""
        self._resolve_for(y, y_pred)
        loss = self.loss(y, y_pred, sample_weight)
        if loss.shape != ():
            loss = ops.mean(loss)
        if self.tracker is not None:
            self.tracker.update_state(loss, sample_weight=float(y_pred.shape[0]))
        return loss if self.scale == 1 else loss * self.scale

    def update(self, y, y_pred, sample_weight):
        """Add one batch to the state of the metrics."""
        self._resolve_for(y, y_pred)
        for m in self.plain:
            m.update_state(y, y_pred)
        for m in self.weighted:
            m.update_state(y, y_pred, sample_weight=sample_weight)

    def classes(self, output_shape):
        """(name, number of classes, ignored class) when the targets are class labels, else None."""
        if not getattr(self.loss, "integer_targets", False) or len(output_shape) < 2:
            return None
        ignored = getattr(self.loss, "ignore_class", None)
        ignored = (
            getattr(self.loss, "fn_kwargs", {}).get("ignore_class") if ignored is None else ignored
        )
        return self.loss.name, output_shape[-1], ignored

    def check(self, labels, output_shape):
        """Refuse labels that are none of the classes."""
        classes = self.classes(output_shape)
        if classes is None and labels.dtype.kind != "f" and not self.wants_integers():
            classes = (self.loss.name, 2) if self.takes_bits() else None
        if classes is not None:
            check_labels(classes[0], backends.to_host(labels), *classes[1:])

    def takes_bits(self):
        """Whether targets that are integers can be 0 and 1 only."""
        binary = losses.binary_crossentropy, losses.binary_focal_crossentropy
        return getattr(self.loss, "fn", None) in binary

    def wants_integers(self):
        """Whether integer targets stay integers: for class labels, and for functions that may
        count on them.
        """
        if self.loss is None:
            return True
        own = type(self.loss).__module__.startswith("dlcore.")
        function = getattr(getattr(self.loss, "fn", None), "__module__", "dlcore.")
        return self.loss.integer_targets or not own or not function.startswith("dlcore.")


class Compiled:
    """The losses and metrics of one `compile`, as given until the outputs are known.

    Parameters
    ----------
    loss, loss_weights, given, weighted
        The arguments of `compile`: one for all outputs, or nested like them, or by name.
    """

    def __init__(self, loss, loss_weights, given, weighted):
        self._given = {
            "loss": loss, "loss_weights": loss_weights, "metrics": given,
            "weighted_metrics": weighted,
        }  # fmt: skip
        for x in _identifiers(loss):  # unknown names are refused here
            if not _needs_shapes(x):
                losses.resolve(x)
        for name in ("metrics", "weighted_metrics"):
            for m in _identifiers(_checked_metrics(name, self._given[name])):
                if not _needs_shapes(m):
                    metrics.get(m)
        self.tracker = metrics.Mean(name="loss")
        self.form = None
        self.heads = []
        self.added = {}  # means of `add_metric`, by name
        self.held = None  # metrics that layers hold, once the model is built

    def set_outputs(self, form):
        """The outputs are known: give each its loss and metrics; the first call decides."""
        if self.form is not None:
            return
        loss = self._given["loss"]
        several = isinstance(loss, (list, tuple)) or lookup.is_nest(loss)
        chosen = form.flatten(loss, "loss") if several else [loss] * len(form)
        weights = _loss_weights(self._given["loss_weights"], form)
        plain = _metrics_by_output("metrics", self._given["metrics"], form)
        weighted = _metrics_by_output("weighted_metrics", self._given["weighted_metrics"], form)
        self.heads = [Head(*x) for x in zip(chosen, weights, plain, weighted, strict=True)]
        with_loss = [(n, h) for n, h in zip(form.names, self.heads, strict=True) if h.identifier]
        if len(with_loss) > 1:
            for name, head in with_loss:
                head.tracker = metrics.Mean(name=f"{name}_loss")
        self.form = form

    @property
    def has_loss(self):
        return any(_identifiers(self._given["loss"]))

    @property
    def metrics(self):
        """The metric of the loss, those of the outputs' losses, of the outputs, of layers."""
        trackers = [h.tracker for h in self.heads if h.tracker is not None]
        of_outputs = [m for h in self.heads for m in (*h.plain, *h.weighted)]
        return [self.tracker, *trackers, *of_outputs, *self._of_layers()]

    def _of_layers(self):
        return [*self.added.values(), *(self.held or ())]

    def add_value(self, name, value, rows):
        """Add what a layer gave to `add_metric` in a batch."""
        if name not in self.added:
            with suspended():
                self.added[name] = metrics.Mean(name=name)
        mean = ops.mean(value) if value.shape != () else value
        self.added[name].update_state(mean, sample_weight=float(rows))

    def value(self, y, y_pred, sample_weight):
        """The loss as a scalar tensor, or None where `compile` was given none."""
        total = None
        for name, head, target, output, weight in self._entries(y, y_pred, sample_weight):
            if head.identifier is None:
                continue
            if target is None:
                raise ValueError(f"{self.form.who}: expected y for the loss{name}, got None")
            loss = head.value(target, output, weight)
            total = loss if total is None else total + loss
        return total

    def update(self, loss, y, y_pred, sample_weight, rows):
        """Add one batch to the state of the metrics, and the loss unless it is None."""
        if loss is not None:
            self.tracker.update_state(loss, sample_weight=float(rows))
        for name, head, target, output, weight in self._entries(y, y_pred, sample_weight):
            if target is None and (head.plain or head.weighted):
                raise ValueError(f"{self.form.who}: expected y for the metrics{name}, got None")
            head.update(target, output, weight)

    def _entries(self, y, y_pred, sample_weight):
        """(for messages, head, target, output, weight) of every output."""
        form = self.form
        if y_pred is not None and (form is None or not form.fits(y_pred)):
            # A step compares something else than what `call` returns.
            form, self.form = Form(form.who if form else "model", "output", y_pred), None
            with suspended():
                self.set_outputs(form)
        if form is None:
            return []
        nothing = [None] * len(form)
        looked_at = y is not None and any(h.needs_targets for h in self.heads)
        targets = form.flatten(y) if looked_at else nothing
        weights = nothing if sample_weight is None else form.flatten(sample_weight)
        names = [""] if len(form) == 1 else [f" of {name}" for name in form.names]
        return zip(names, self.heads, targets, form.flatten(y_pred), weights, strict=True)

    def reset(self):
        for m in self.metrics:
            m.reset_state()

    def results(self):
        """{name: value} since the last reset: floats, or arrays of metrics with several values."""
        values = {}
        for m in (self.tracker, *(h.tracker for h in self.heads if h.tracker is not None)):
            values[m.name] = plain(m.result())
        names = self.form.names if len(self.heads) > 1 else [""]
        for name, head in zip(names, self.heads, strict=False):
            for kind in ("plain", "weighted"):
                for m in getattr(head, kind):
                    _add_result(values, f"{name}_" if name else "", m, kind)
        for m in self._of_layers():
            _add_result(values, "", m, "plain")
        return values


def _add_result(values, prefix, metric, kind):
    result = metric.result()
    for name, value in (result if isinstance(result, dict) else {metric.name: result}).items():
        names = [prefix + name] + [f"{prefix}weighted_{name}"] * (kind == "weighted")
        names += [f"{names[-1]}_{i}" for i in range(1, len(values) + 1)]
        values[next(n for n in names if n not in values)] = plain(value)


def _identifiers(given):
    """All that is named in nested lists and dictionaries."""
    if isinstance(given, (list, tuple)) or lookup.is_nest(given):
        parts = given.values() if isinstance(given, dict) else given
        return [x for part in parts for x in _identifiers(part)]
    return [] if given is None else [given]


def _needs_shapes(identifier):
    """Whether the name stands for different things by the shapes of targets and outputs."""
    names = ("accuracy", "acc", "crossentropy", "ce")
    return isinstance(identifier, str) and identifier.lower() in names


def _checked_metrics(name, given):
    if given is not None and not isinstance(given, (list, tuple, dict)):
        raise ValueError(f"compile: expected {name} as a list, [{given!r}], got {given!r}")
    return given


def _metrics_by_output(name, given, form):
    """A flat list of metrics for every output."""
    if given is None:
        return [[] for _ in form.names]
    if len(form) == 1 and not isinstance(given, dict):
        return [_identifiers(given)]
    return [_identifiers(m) for m in form.flatten(given, name)]


def _loss_weights(given, form):
    if given is None:
        return [1] * len(form)
    if isinstance(given, (int, float)) and len(form) == 1:
        return [given]
    weights = form.flatten(given, "loss_weights") if isinstance(given, (list, tuple, dict)) else []
    ok = [w is None or (isinstance(w, (int, float)) and not isinstance(w, bool)) for w in weights]
    if not weights or not all(ok):
        what = "one number" if len(form) == 1 else f"numbers for {', '.join(form.names)}"
        texts = isinstance(given, (str, list, tuple)) and all(isinstance(g, str) for g in given)
        hint = f"; for metrics write metrics={given!r}" if texts else ""
        raise ValueError(f"compile: expected loss_weights as {what}, got {given!r}{hint}")
    return [1 if w is None else w for w in weights]
