"""What one step of training, evaluation and prediction is, and the programs made of such steps.

One training step (forward, loss, gradients, optimizer, metrics) is traced into one program.
Everything that changes lies in Variables, so that Python may stop between any two runs.
"""

import numpy as np

from dlcore import config, losses, ops, optimizers
from dlcore.data.batches import Stream
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.models import arrays
from dlcore.models.compiled import Compiled
from dlcore.models.runner import Runner
from dlcore.models.streaming import StreamRunner
from dlcore.program import BatchProgram, function, gradients, layout, pack

_MOST_PROGRAMS = 30  # of other batch sizes and data, per model


class Steps(Layer):
    """A layer with a loss, an optimizer and metrics, and the programs made of them."""

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls, *args, **kwargs)
        self.optimizer = None
        self.loss = None
        self.stop_training = False
        self._compiled = None
        self._compile_config = None
        self._forget_programs()
        self._packed = self._optimized = None
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
        loss_weights : float, optional
            Factor of the loss.
        metrics : list of str, function or Metric, optional
        weighted_metrics : list, optional
            Metrics that take `sample_weight` and `class_weight` into account.
        run_eagerly, steps_per_execution, jit_compile, auto_scale_loss
            Accepted for Keras' sake: steps are always compiled, and many run per call.
        """
        if loss_weights is not None and not isinstance(loss_weights, (int, float)):
            raise ValueError(
                f"compile: expected loss_weights as one number, got {loss_weights!r};"
                " the model has one output"
            )
        optimizer = optimizers.get(optimizer)
        scale = 1 if loss_weights is None else loss_weights
        self._compiled = Compiled(loss, metrics, weighted_metrics, scale)
        self.optimizer, self.loss = optimizer, loss
        self._compile_config = {
            "loss": loss, "loss_weights": loss_weights, "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }  # fmt: skip
        self._optimized = None
        self._forget_programs()

    @property
    def compiled(self):
        return self._compiled is not None

    @property
    def metrics(self):
        """The metrics of `compile`, that of the loss first."""
        return self._compiled.metrics if self.compiled else []

    @property
    def metrics_names(self):
        return [m.name for m in self.metrics]

    def reset_metrics(self):
        """Start all metrics anew."""
        self._check_compiled("reset_metrics")
        self._compiled.reset()

    def _check_compiled(self, who):
        if not self.compiled:
            raise RuntimeError(f"{who}: expected a compiled model; call compile() first")

    # -- steps, which subclasses may replace

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The scalar to minimize: the loss of `compile` and the penalties in `losses`."""
        total = None
        if self._compiled.loss is not None:
            if y is None:
                raise ValueError(f"{self.name}: expected y for the loss, got None")
            total = self._compiled.value(y, y_pred, sample_weight)
        for penalty in self.losses:
            penalty = ops.sum(penalty) if penalty.shape != () else penalty
            total = penalty if total is None else total + penalty
        if total is None:
            raise ValueError(f"{self.name}: expected a loss in compile() or add_loss(), got none")
        return total

    def train_step(self, data):
        """One step on (x, y, sample_weight) in tensors; state changes by assignment to
        Variables.
        """
        x, y, sample_weight = data
        y_pred = self(x, training=True)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
        variables = self.trainable_variables
        self.optimizer.apply(gradients(loss, variables), variables)
        self._update_metrics(loss, x, y, y_pred, sample_weight)

    def test_step(self, data):
        """The step of `evaluate`."""
        x, y, sample_weight = data
        y_pred = self(x, training=False)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        self._update_metrics(loss, x, y, y_pred, sample_weight)

    def predict_step(self, data):
        """The step of `predict`."""
        return self(data[0], training=False)

    def _update_metrics(self, loss, x, y, y_pred, sample_weight):
        rows = spec.leaves(x)[0].shape[0]
        self._compiled.update(loss, y, y_pred, sample_weight, rows)
        self._clear_losses()

    # -- programs

    def _forget_programs(self):
        self._eager = {}
        self._programs = {}
        self._functions = {}
        self._fast_predict = {}
        self._fast_on_batch = {}

    def _single_input(self):
        """Whether x is one array, so that a list is data and not several inputs."""
        return False

    def _check_rows(self, data):
        """Refuse inputs of a wrong shape, by the name of the layer that gets them."""

    def _input_dtypes(self, data):
        """What batches of the inputs are cast to while they are gathered."""
        return [None] * data.inputs

    def _output_specs(self, data):
        """Nested specs of the output for such inputs; builds the model."""
        key = ("outputs", data.key())
        if key not in self._functions:
            self._functions[key] = spec.output_spec(self, data.input_specs())
        return self._functions[key]

    def _prepare(self, data, train=False):
        """Build the model for such data and, to train, the optimizer; weights then lie side by
        side.
        """
        self._check_rows(data)
        outputs = self._output_specs(data)
        variables = self.trainable_variables
        self._pack_weights(variables)
        if data.targets is not None and self.compiled:
            self._compiled.resolve((None, *data.targets.shape[1:]), _single(outputs).shape)
        if train:
            self._build_optimizer(data.who, variables)
        return outputs

    def _pack_weights(self, variables):
        """Put the trainable weights into one buffer, unless they lie there."""
        if not _same(self._packed, variables):
            pack(variables)
            self._packed = variables

    def _build_optimizer(self, who, variables):
        """Make the optimizer's state for the trainable weights, unless it is there."""
        if _same(self._optimized, variables):
            return
        if not variables:
            raise ValueError(f"{who}: expected trainable weights, got a model with none")
        self._forget_programs()
        self.optimizer.build(variables)
        pack([v for v in self.optimizer.variables if v.ndim > 0])
        self._optimized = variables

    def _prepare_targets(self, data, class_weight=None):
        """Check and convert labels, once for the whole call; needs the resolved loss."""
        if class_weight is not None:
            if data.targets is None:
                raise ValueError(f"{data.who}: expected y for class_weight, got None")
            data.scale_weights(losses.class_weights_to_sample_weights(data.targets, class_weight))
        labels = data.targets
        if labels is None:
            return
        classes = self._compiled.classes(_single(self._output_specs(data)).shape)
        if classes is not None:
            arrays.check_labels(classes[0], labels, *classes[1:])
            if labels.dtype not in (np.int32, np.int64):
                data.replace_targets(labels.astype(np.int32))
        elif labels.dtype.kind != "f" and not self._compiled.wants_integers():
            data.replace_targets(labels.astype(config.floatx()))

    def _program(self, kind, data, batch, indexed):
        rows = data.rows if indexed else None
        key = (kind, data.key(), batch, rows, layout())
        program = self._programs.get(key)
        if program is None:
            kept = [(k, p) for k, p in self._programs.items() if k[-1] == layout()]
            self._programs = dict(kept[-_MOST_PROGRAMS:])
            split = data.unpack()
            step = {"train": self.train_step, "test": self.test_step}.get(kind)

            def f(*tensors):
                if step is None:
                    return tuple(spec.leaves(self.predict_step(split(tensors))))
                step(split(tensors))

            cast = self._input_dtypes(data) + [None] * (len(data.arrays) - data.inputs)
            program = self._programs[key] = BatchProgram(
                f, data.specs(), batch, indexed, cast, output_rows=step is None
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


def _single(outputs):
    """The spec of the output that the loss is for."""
    return spec.leaves(outputs)[0]


def _same(known, variables):
    """Whether these are the very variables (`==` would compare their values)."""
    return known is not None and list(map(id, known)) == list(map(id, variables))
