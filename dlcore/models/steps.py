"""What one step of training, evaluation and prediction is, and the programs made of such steps.

One training step (forward, loss, gradients, optimizer, metrics) is traced into one program.
Everything that changes lies in Variables, so that Python may stop between any two runs.
"""

import warnings

import numpy as np

from dlcore import backends, config, losses, ops, optimizers
from dlcore.data.batches import Stream, pack_batch, unpack
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.metrics.metric import Result
from dlcore.models import arrays
from dlcore.models.arrays import Data
from dlcore.models.compiled import Compiled
from dlcore.models.form import Form
from dlcore.models.logs import Logs, called, plain
from dlcore.models.runner import Runner
from dlcore.models.streaming import StreamRunner
from dlcore.program import (
    BatchProgram,
    function,
    gradients,
    layout,
    pack,
    tracing,
    variables_made,
)
from dlcore.program.graph import Trace, suspended

_UNKNOWN = None, None, None
_MOST_PROGRAMS = 30  # of other batch sizes and data, per model


class Steps(Layer):
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
        return list(self._compiled.results()) if self.compiled else []

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
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
        variables = self._trained_variables()
        scaled = self.optimizer.scale_loss(loss)
        self.optimizer.apply(gradients(scaled, variables), variables)
        return self._update_metrics(loss, x, y, y_pred, sample_weight)

    def test_step(self, data):
        """The step of `evaluate`."""
        x, y, sample_weight = unpack("test_step", data)
        y_pred = self(x, training=False)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
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
        """{name: value} of the steps since `_begin`."""
        logs = self._logs[self._kind]
        if logs.entries:
            return logs.results()
        own = self._replaces("metrics", "get_metrics_result")
        return self.get_metrics_result() if own else self._compiled.results()

    # -- programs

    def _forget_programs(self):
        self._eager = {}
        self._programs = {}
        self._functions = {}
        self._fast_predict = {}
        self._fast_on_batch = {}

    def _input_form(self):
        """`Form` of the inputs, or None where `call` alone knows."""
        return None

    def _output_form(self):
        """`Form` of the outputs, or None where it shows only when the model is called."""
        return None

    def _check_rows(self, data):
        """Refuse inputs of a wrong shape, by the name of the layer that gets them."""

    def _input_dtypes(self, data):
        """What batches of the inputs are cast to while they are gathered."""
        return [None] * len(data.inputs)

    def _output_specs(self, data, kind="train"):
        """Nested specs of the output for such inputs; builds the model. None where there is no
        `call`, but only steps.
        """
        own = kind == "predict" and self._replaces("predict_step")
        if self._has_steps_only() and not own:
            return None
        key = ("outputs", own, data.key())
        if key not in self._functions:
            step = (lambda x: self.predict_step(pack_batch(x))) if own else self
            self._functions[key] = self._specs_of(step, data, kind)
        return self._functions[key]

    def _specs_of(self, f, data, kind):
        built = self.built
        try:
            return spec.output_spec(self, data.input_specs(), call=f)
        except Exception:
            # Steps of a subclass may call the model on something else than they are given.
            if kind == "predict" or not self._replaces(f"{kind}_step"):
                raise
            self.built = built
            return None

    def _has_steps_only(self):
        """Whether a subclass has written steps, but no formula."""
        return False

    def _data(self, who, kind, x, y=None, sample_weight=None, class_weight=None, rows=None):
        """What a caller gave to "train", "test" or "predict", checked, and the model (to train,
        the optimizer too) built for it, by batches of `rows` where there are steps only.
        """
        data = Data(who, x, self._input_form())
        self._check_rows(data)
        outputs = self._output_specs(data, kind)
        variables = self._trained_variables()  # which packs them
        if kind != "predict":
            as_outputs = self._add_targets(kind, data, y, sample_weight, outputs)
            if outputs is not None and as_outputs:
                self._check_targets(data, spec.leaves(outputs))
                if class_weight is not None:
                    self._weigh_classes(data, class_weight)
        if outputs is None and not self.built:
            self._try_step(kind, data, rows)
        elif kind == "train" and outputs is not None:
            self._build_optimizer(who, variables)
        return data

    def _try_step(self, kind, data, rows):
        """Build everything that a step uses, in a trace that is thrown away."""
        rows = min(rows or data.rows, data.rows)
        with suspended(), Trace() as trace:
            tensors = [trace.input((rows, *shape), dtype) for shape, dtype in data.specs()]
            self._run_step(kind, data.unpack()(tensors))
        self._clear_losses()
        self.built = True
        self._trained_variables()

    def _trained_variables(self):
        """What was trainable at `compile` (or when the weights were made, if that came later):
        layers that are frozen or released afterwards wait for the next `compile`.

        The weights lie side by side, but for those that another model has put into a buffer:
        moving them would make all its programs anew.
        """
        made, weights, variables = self._trained
        if made == variables_made():
            return variables
        if not _same(weights, self.weights):
            weights, variables = self.weights, self.trainable_variables
        loose = [v for v in variables if not v.packed]
        if loose:
            pack(loose)
        self._trained = variables_made(), weights, variables
        return variables

    def _build_optimizer(self, who, variables):
        """Make the optimizer's state for the trainable weights, unless it is there."""
        if _same(self._optimized, variables):
            return
        if not variables:
            warnings.warn(f"{who}: expected trainable weights, got a model with none", stacklevel=4)
        self._forget_programs()
        self.optimizer.build(variables)
        pack([v for v in self.optimizer.variables if v.ndim > 0])
        self._optimized = variables

    def _finish_training(self):
        """The end of `fit`."""
        if self.optimizer.built:
            self.optimizer.finalize_variable_values(self._trained_variables())

    def _add_targets(self, kind, data, y, sample_weight, outputs):
        """Add the targets; returns whether there is one for each output, as a step of the user's
        alone may do without.
        """
        if outputs is None:
            outputs = spec.Spec(() if isinstance(y, (tuple, dict)) else np.shape(y), None)
        form = self._output_form() or Form(self.name, "output", outputs)
        compiled = self._compiled
        if compiled.held is None:
            compiled.held = super().metrics
        own = self._replaces("train_step", "test_step", "compute_loss", "compute_metrics")
        if self._replaces(f"{kind}_step") and y is not None and not form.fits(y):
            form = Form(self.name, "target", spec.map_leaves(np.asarray, y))
            data.add_targets(y, sample_weight, form, [True] * len(form))
            return False
        compiled.set_outputs(form)
        needed = [own or h.needs_targets for h in compiled.heads]
        data.add_targets(y, sample_weight, form, needed)
        for head, target, output in zip(
            compiled.heads, data.targets, spec.leaves(outputs), strict=True
        ):
            if target is not None:
                head.resolve((None, *target.shape[1:]), output.shape)
        return True

    def _weigh_classes(self, data, class_weight):
        """Multiply the sample weights by those of the classes in y."""
        n = len(data.targets)
        if n > 1 or data.targets[0] is None:
            got = f"{n} outputs" if n > 1 else "None"
            raise ValueError(f"{data.who}: expected y of one output for class_weight, got {got}")
        data.scale_weights(losses.class_weights_to_sample_weights(data.targets[0], class_weight))

    def _check_targets(self, data, outputs):
        """Check and convert labels, once for the whole call; needs the resolved losses."""
        for i, (head, labels) in enumerate(zip(self._compiled.heads, data.targets, strict=True)):
            if labels is None:
                continue
            classes = head.classes(outputs[i].shape)
            if classes is not None:
                labels = data.targets[i] = backends.to_host(labels)
                arrays.check_labels(classes[0], labels, *classes[1:])
                if labels.dtype not in (np.int32, np.int64):
                    data.targets[i] = labels.astype(np.int32)
            elif labels.dtype.kind != "f" and not head.wants_integers():
                data.targets[i] = labels.astype(config.floatx())

    def _program(self, kind, data, batch, indexed):
        rows = data.rows if indexed else None
        key = (kind, data.key(), batch, rows, layout())
        program = self._programs.get(key)
        if program is None:
            kept = [(k, p) for k, p in self._programs.items() if k[-1] == layout()]
            self._programs = dict(kept[-_MOST_PROGRAMS:])
            split = data.unpack()

            def f(*tensors):
                if kind == "predict":
                    x = split(tensors)[0]
                    return tuple(spec.leaves(self.predict_step(pack_batch(x))))
                self._run_step(kind, split(tensors))

            cast = self._input_dtypes(data)
            cast = cast + [None] * (len(data.arrays) - len(cast))
            program = self._programs[key] = BatchProgram(
                f, data.specs(), batch, indexed, cast, output_rows=kind == "predict"
            )
        return program

    def _function(self, key, f):
        if key not in self._functions:
            self._functions[key] = function(f)
        return self._functions[key]

    def _runner(self, kind, data, batch, indexed=False):
        if isinstance(data, Stream):
            return StreamRunner(self, kind, data)
        return Runner(lambda rows: self._program(kind, data, rows, indexed), data, batch)


def _same(known, variables):
    """Whether these are the very variables (`==` would compare their values)."""
    if known is variables:
        return True
    return known is not None and list(map(id, known)) == list(map(id, variables))
