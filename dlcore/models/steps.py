"""What one step of training, evaluation and prediction is.

One training step (forward, loss, gradients, optimizer, metrics) is traced into one program.
Everything that changes lies in Variables, so that Python may stop between any two runs.
"""

from dlcore import lookup, ops, optimizers
from dlcore.data.batches import pack_batch, unpack
from dlcore.layers import spec
from dlcore.layers.signatures import names_of
from dlcore.metrics.metric import Result
from dlcore.models.compiled import Compiled
from dlcore.models.logs import Logs, called, plain
from dlcore.models.programs import Programs
from dlcore.program import gradients, tracing
from dlcore.program.graph import suspended

_UNKNOWN = None, None, None


class Steps(Programs):
    """A layer with a loss, an optimizer and metrics, and the programs made of them."""

    supports_masking = None  # the layers inside make the masks of the outputs

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls, *args, **kwargs)
        self.optimizer = None
        self.loss = None
        self.run_eagerly, self.jit_compile, self.steps_per_execution = False, True, 1
        self.stop_training = False
        self._compiled = None
        self._compile_config = None
        self._logs = {"train": Logs(), "test": Logs()}
        self._kind = "train"
        self._forget_programs()
        self._optimized, self._trained = None, _UNKNOWN
        return self

    # -- compile

    @lookup.checked
    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
    ):
        """Choose how to train.

        Parameters
        ----------
        optimizer : str or Optimizer, default "rmsprop"
        loss : str, function (y_true, y_pred) -> values, or Loss
            For a model with several outputs one for all, or a list or dictionary (by the name of
            the output) with one for each; an output without a loss has None or is left out.
        loss_weights : float, or a list or dictionary of floats, optional
            Factors of the losses.
        metrics : list of str, function or Metric, optional
            For several outputs a list or dictionary of lists.
        weighted_metrics : list, optional
            Metrics that take `sample_weight` and `class_weight` into account.
        auto_scale_loss : bool, default True
            Whether `LossScaleOptimizer` is put around the optimizer of a model with the policy
            "mixed_float16".
        run_eagerly, steps_per_execution, jit_compile
            Kept for Keras' sake: steps are always compiled, and many run per call.
        """
        optimizer = optimizers.get(optimizer)
        compiled = Compiled(loss, loss_weights, metrics, weighted_metrics)
        if self._output_form() is not None:
            compiled.set_outputs(self._output_form())
        self._compiled = compiled
        scales = auto_scale_loss and self.dtype_policy.name == "mixed_float16"
        if scales and not isinstance(optimizer, optimizers.LossScaleOptimizer):
            optimizer = optimizers.LossScaleOptimizer(optimizer)
        self.optimizer, self.loss = optimizer, loss
        self.run_eagerly, self.jit_compile = bool(run_eagerly), jit_compile
        self.steps_per_execution = steps_per_execution
        self._compile_config = {
            "loss": loss, "loss_weights": loss_weights, "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }  # fmt: skip
        self._optimized, self._trained = None, _UNKNOWN
        self._forget_programs()
        if self.built:
            self._trained_variables()

    def get_compile_config(self):
        """What `compile_from_config` needs to compile a loaded model in the same way."""
        from dlcore.io.saving import compile_config

        return compile_config(self)

    def compile_from_config(self, config):
        """Compile as `get_compile_config` says."""
        from dlcore.io.saving import compile_from_config

        compile_from_config(self, config)

    def __reduce__(self):
        from dlcore.io.saving import compiled_state

        return *super().__reduce__(), compiled_state(self)

    def __setstate__(self, state):
        from dlcore.io.saving import restore_compiled

        restore_compiled(self, state)

    @property
    def compiled(self):
        return self._compiled is not None

    @property
    def metrics(self):
        """The metrics of `compile`, that of the loss first, and those of layers."""
        return self._compiled.metrics if self.compiled else super().metrics

    @property
    def metrics_names(self):
        """Of what `evaluate` lists."""
        return self._listed(self._compiled.results()) if self.compiled else []

    def _listed(self, names):
        """The names in order: the losses, the metrics as they were given, and those that have got
        other names than their own, as metrics of one of several outputs have.
        """
        given = [m.name for m in self.metrics if m.name in names]
        return list(dict.fromkeys([*given, *sorted(names)]))

    def reset_metrics(self):
        """Start all metrics anew."""
        self._check_compiled("reset_metrics")
        for m in dict.fromkeys([*self._compiled.metrics, *self.metrics]):
            m.reset_state()

    def get_metrics_result(self):
        """{name: value} of all metrics; inside a step stand-ins, to be returned from it."""
        if type(self).metrics is not Steps.metrics:
            with suspended():
                found = {m.name: m.result() for m in self.metrics}
            read = {k: v for k, v in found.items() if not isinstance(v, dict)}
            for v in found.values():
                read |= v if isinstance(v, dict) else {}
        else:
            with suspended():
                read = self._compiled.results()
        if not tracing():
            return {name: plain(value) for name, value in read.items()}
        return {name: Result(lambda name=name: self.get_metrics_result()[name]) for name in read}

    def _check_compiled(self, who):
        if not self.compiled:
            raise RuntimeError(f"{who}: expected a compiled model; call compile() first")

    # -- steps, which subclasses may replace

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The scalar to minimize: the loss of `compile` and the penalties in `losses`."""
        total = self._compiled.value(y, y_pred, sample_weight)
        for penalty in self.losses:
            penalty = ops.sum(penalty) if penalty.shape != () else penalty
            total = penalty if total is None else total + penalty
        if total is None:
            raise ValueError(f"{self.name}: expected a loss in compile() or add_loss(), got none")
        return total

    def _step_loss(self, x, y, y_pred, sample_weight, training):
        """`compute_loss`, of which a subclass's may do without `training`."""
        given = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": sample_weight}
        if "training" in names_of(self.compute_loss):
            given["training"] = training
        return self.compute_loss(**given)

    def train_step(self, data):
        """One step on a batch of tensors: x, (x, y) or (x, y, sample_weight); see
        `utils.unpack_x_y_sample_weight`.

        State changes by assignment to Variables, gradients are those of `dlcore.gradients`, and
        optimizers take them with `apply`.

        Returns
        -------
        dict of str to tensor or result of a metric
            What `fit` reports: of metrics the result over the epoch, of tensors the last value.
        """
        x, y, sample_weight = unpack("train_step", data)
        y_pred = self(x, training=True)
        loss = self._step_loss(x, y, y_pred, sample_weight, training=True)
        variables = self._trained_variables()
        scaled = self.optimizer.scale_loss(loss)
        self.optimizer.apply(gradients(scaled, variables, required=True), variables)
        return self._update_metrics(loss, x, y, y_pred, sample_weight)

    def test_step(self, data):
        """The step of `evaluate`."""
        x, y, sample_weight = unpack("test_step", data)
        y_pred = self(x, training=False)
        loss = self._step_loss(x, y, y_pred, sample_weight, training=False)
        return self._update_metrics(loss, x, y, y_pred, sample_weight)

    def predict_step(self, data):
        """The step of `predict`."""
        return self(unpack("predict_step", data)[0], training=False)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Add a batch to the metrics of `compile`; returns `get_metrics_result()`."""
        rows = spec.leaves(y_pred)[0].shape[0]
        self._compiled.update(None, y, y_pred, sample_weight, rows)
        return self.get_metrics_result() if self._reports() else None

    def _update_metrics(self, loss, x, y, y_pred, sample_weight):
        rows = spec.leaves(x)[0].shape[0]
        self._compiled.tracker.update_state(loss, sample_weight=float(rows))
        logs = self.compute_metrics(x, y, y_pred, sample_weight)
        for layer in self._layers_within():
            for name, value in layer._call_metrics:
                self._compiled.add_value(name, value, rows)
        self._clear_losses()
        return logs

    def _replaces(self, *names):
        """Whether a subclass has written one of these methods."""
        own = type(self)
        for name in names:  # noqa: SIM110  (every single step asks: a loop is quicker)
            if getattr(own, name) is not getattr(Steps, name):
                return True
        return False

    def _reports(self):
        """Whether what steps return counts; else it is what the metrics of `compile` say."""
        return self._replaces("train_step", "test_step", "compute_metrics")

    def _run_step(self, kind, data):
        """One step inside a trace, on (x, y, sample_weight)."""
        step = {"train": self.train_step, "test": self.test_step}[kind]
        if not self._reports():
            step(pack_batch(*data))
            return
        logs = called(f"{kind}_step", step, pack_batch(*data))
        if logs is not None and self._replaces(f"{kind}_step", "compute_metrics"):
            self._logs[kind].record(f"{kind}_step", logs)

    def _begin(self, kind):
        """Steps of a kind begin: metrics start anew."""
        self._kind = kind
        self._compiled.reset()
        if self._replaces("reset_metrics", "metrics"):
            self.reset_metrics()

    def _results(self):
        """{name: value} of the steps since `_begin`, in the order of the names."""
        logs = self._logs[self._kind]
        if logs.entries:
            results = logs.results()
        elif self._replaces("metrics", "get_metrics_result"):
            results = self.get_metrics_result()
        else:
            results = self._compiled.results()
        return dict(sorted(results.items()))
