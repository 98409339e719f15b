"""compile, fit, evaluate and predict.

One training step (forward, loss, gradients, optimizer, metrics) is traced into one program; an
epoch is a few native calls of many steps each. Everything that changes lies in Variables, so that
Python may stop between any two calls.
"""

import numpy as np

from dlcore import config, losses, ops, optimizers, random
from dlcore.callbacks import CallbackList
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.models import arrays
from dlcore.models.arrays import Data
from dlcore.models.compiled import Compiled
from dlcore.models.runner import Runner
from dlcore.program import BatchProgram, dtypes, function, gradients, layout, pack
from dlcore.program.function import flatten, unflatten

_BATCH = 32  # Keras' default


class Trainer(Layer):
    """A layer that can be trained: the base of `Model`."""

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
        self._pack_weights()
        if data.targets is not None and self.compiled:
            self._compiled.resolve((None, *data.targets.shape[1:]), _single(outputs).shape)
        if train:
            self._build_optimizer(data.who)
        return outputs

    def _pack_weights(self):
        """Put the trainable weights into one buffer, unless they lie there."""
        variables = self.trainable_variables
        identity = tuple(map(id, variables))
        if self._packed != identity:
            pack(variables)
            self._packed = identity

    def _build_optimizer(self, who):
        """Make the optimizer's state for the trainable weights, unless it is there."""
        variables = self.trainable_variables
        identity = tuple(map(id, variables))
        if self._optimized == identity:
            return
        if not variables:
            raise ValueError(f"{who}: expected trainable weights, got a model with none")
        self._forget_programs()
        self.optimizer.build(variables)
        pack([v for v in self.optimizer.variables if v.ndim > 0])
        self._optimized = identity

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
        key = (kind, data.key(), batch, indexed, layout())
        program = self._programs.get(key)
        if program is None:
            self._programs = {k: p for k, p in self._programs.items() if k[-1] == layout()}
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

    def _runner(self, kind, data, batch, indexed=False):
        return Runner(lambda rows: self._program(kind, data, rows, indexed), data, batch)

    # -- fit

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        """Train.

        Parameters
        ----------
        x, y : array_like
            Inputs and targets, one row per sample.
        batch_size : int, default 32
        epochs : int
            Number of the last epoch.
        verbose : "auto", 0, 1 or 2
            Nothing (0), a progress bar (1, "auto"), a line per epoch (2, and where there is no
            terminal).
        callbacks : list of Callback, optional
        validation_split : float, 0..1
            The last rows validate, and are not trained on.
        validation_data : (x, y) or (x, y, sample_weight), optional
        shuffle : bool, default True
            Whether every epoch takes the rows in a new random order.
        class_weight : dict of int to float, optional
        sample_weight : array_like, optional
        initial_epoch : int
            Epochs counted as done.
        steps_per_epoch, validation_steps : int, optional
            Most batches per epoch.
        validation_batch_size : int, optional
        validation_freq : int or list of int
            Epochs between validations, or the epochs (from 1) to validate after.

        Returns
        -------
        History
            Its `history` is a dict of lists, one value per epoch.

        Raises
        ------
        ValueError, TypeError
            If the arrays do not fit together, or not the model.
        """
        self._check_compiled("fit")
        batch = (
            _BATCH
            if batch_size is None
            else spec.check_positive_int("fit", "batch_size", batch_size)
        )
        data = Data("fit", x, y, sample_weight, self._single_input())
        self._prepare(data, train=True)
        self._prepare_targets(data, class_weight)
        validation = None
        if validation_data is not None:
            validation = self._validation_data(validation_data)
        elif validation_split:
            data, validation = arrays.split_off(data, validation_split)
        steps = -(-data.rows // batch)
        limit = steps if steps_per_epoch is None else min(int(steps_per_epoch), steps)
        callback_list = CallbackList(
            callbacks, add_history=True, model=self, verbose=verbose, epochs=epochs, steps=limit
        )
        loop = _Fit(self, data, batch, shuffle, limit, callback_list)
        if validation is not None:
            size = batch if validation_batch_size is None else int(validation_batch_size)
            loop.validate(validation, size, validation_steps, validation_freq)
        return loop.run(initial_epoch, epochs)

    def _validation_data(self, given):
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError("fit: expected validation_data as (x, y) or (x, y, sample_weight)")
        data = Data("fit validation_data", *given, single=self._single_input())
        self._prepare(data)
        self._prepare_targets(data)
        return data

    # -- evaluate

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
    ):
        """Loss and metrics over the rows of `x`.

        Parameters
        ----------
        x, y, sample_weight : array_like
        batch_size : int, default 32
        verbose : "auto", 0, 1 or 2
        steps : int, optional
            Most batches.
        callbacks : list of Callback, optional
        return_dict : bool
            Whether to return {name: value}.

        Returns
        -------
        float, list of float or dict
            The loss alone when there are no metrics.
        """
        self._check_compiled("evaluate")
        batch = _BATCH
        if batch_size is not None:
            batch = spec.check_positive_int("evaluate", "batch_size", batch_size)
        data = Data("evaluate", x, y, sample_weight, self._single_input())
        self._prepare(data)
        self._prepare_targets(data)
        steps_all = -(-data.rows // batch)
        callback_list = CallbackList(
            callbacks, model=self, verbose=verbose, epochs=1, steps=steps_all, evaluating=True
        )
        logs = self._evaluate(self._runner("test", data, batch), callback_list, steps)
        return logs if return_dict else self._in_order(logs)

    def _evaluate(self, runner, callback_list, limit=None):
        self._compiled.reset()
        callback_list.on_test_begin()
        before = after = None
        if callback_list.wants_batches("test"):
            before = callback_list.on_test_batch_begin

            def after(step):
                callback_list.on_test_batch_end(step, self._compiled.results())

        runner.run(limit=limit, before=before, after=after, progress=callback_list.on_progress)
        logs = self._compiled.results()
        callback_list.on_test_end(logs)
        return logs

    @staticmethod
    def _in_order(logs):
        values = list(logs.values())
        return values[0] if len(values) == 1 else values

    # -- predict

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """Outputs for the rows of `x`.

        Parameters
        ----------
        x : array_like
        batch_size : int, default 32
            Does not change the result.
        verbose : "auto", 0, 1 or 2
        steps : int, optional
            Most batches.
        callbacks : list of Callback, optional

        Returns
        -------
        ndarray
            One row per row of `x`, or nested ndarrays as `call` returns them.
        """
        if batch_size is None and callbacks is None and steps is None:
            try:
                call, at = self._fast_predict[x.shape, x.dtype]
                if at == layout():
                    return call(x)
            except (KeyError, AttributeError, TypeError):
                pass
        return self._predict(x, batch_size, verbose, steps, callbacks)

    def predict_on_batch(self, x):
        """Outputs for one batch."""
        try:
            call, at = self._fast_on_batch[x.shape, x.dtype]
            if at == layout():
                return call(x)
        except (KeyError, AttributeError, TypeError):
            pass
        data = Data("predict_on_batch", x, single=self._single_input())
        return self._predict_small(x, data, self._fast_on_batch)

    def _predict(self, x, batch_size, verbose, steps, callbacks):
        batch = _BATCH
        if batch_size is not None:
            batch = spec.check_positive_int("predict", "batch_size", batch_size)
        data = Data("predict", x, single=self._single_input())
        if callbacks is None and data.rows <= batch:
            return self._predict_small(x, data, self._fast_predict if batch <= _BATCH else {})
        if steps is not None:
            data = data.part(0, min(data.rows, batch * int(steps)))
        specs, structure = flatten(self._prepare(data))
        outputs = [np.empty((data.rows, *s.shape[1:]), s.dtype) for s in specs]
        runner = self._runner("predict", data, batch)
        callback_list = CallbackList(
            callbacks, model=self, verbose=0, epochs=1, steps=runner.steps, evaluating=True
        )
        callback_list.on_predict_begin()
        before = after = None
        if callback_list.wants_batches("predict"):
            before = callback_list.on_predict_batch_begin

            def after(step):
                rows = slice(step * batch, (step + 1) * batch)
                callback_list.on_predict_batch_end(step, {"outputs": [y[rows] for y in outputs]})

        runner.run(before=before, after=after, outputs=outputs)
        callback_list.on_predict_end()
        return outputs[0] if structure is None else unflatten(structure, outputs)

    def _predict_small(self, x, data, cache):
        """All rows in one program; `cache` then knows it by the shape and dtype of `x`."""
        self._prepare(data)
        run = self._function("predict", lambda inputs: self(inputs, training=False))
        result = run(data.unpack()(data.arrays)[0])
        plain = isinstance(x, np.ndarray) and isinstance(result, np.ndarray)
        if plain and x.dtype.isnative and x.dtype.name in dtypes.CODES:
            cache[x.shape, x.dtype] = _one_result(run.compiled(x)), layout()
        return result

    def _function(self, key, f):
        if key not in self._functions:
            self._functions[key] = function(f)
        return self._functions[key]

    # -- single batches

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """One training step on one batch.

        Returns
        -------
        float, list of float or dict
            Loss and metrics since the last `reset_metrics`, as in Keras.
        """
        self._check_compiled("train_on_batch")
        data = Data("train_on_batch", x, y, sample_weight, self._single_input())
        self._prepare(data, train=True)
        self._prepare_targets(data, class_weight)
        return self._one_step("train", self.train_step, data, return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Loss and metrics of one batch, and of those before it since the last `reset_metrics`."""
        self._check_compiled("test_on_batch")
        data = Data("test_on_batch", x, y, sample_weight, self._single_input())
        self._prepare(data)
        self._prepare_targets(data)
        return self._one_step("test", self.test_step, data, return_dict)

    def _one_step(self, kind, step, data, return_dict):
        key = (kind, data.key())
        if key not in self._functions:
            split = data.unpack()
            self._functions[key] = function(lambda *tensors: step(split(tensors)))
        self._functions[key](*data.arrays)
        logs = self._compiled.results()
        return logs if return_dict else self._in_order(logs)


def _one_result(program):
    """A program with one result as a callable that returns it, without Python where that can be."""
    return getattr(program, "native", None) or (lambda x: program(x)[0])


def _single(outputs):
    """The spec of the output that the loss is for."""
    return spec.leaves(outputs)[0]


class _Fit:
    """One call of `fit`: the epochs."""

    def __init__(self, model, data, batch, shuffle, limit, callbacks):
        self.model, self.data, self.batch = model, data, batch
        self.shuffle, self.limit, self.callbacks = bool(shuffle), limit, callbacks
        self.validation = None
        self._bind()

    def _bind(self):
        """Programs for where the weights lie now."""
        self.layout = layout()
        self.runner = self.model._runner("train", self.data, self.batch, self.shuffle)

    def validate(self, data, batch, steps, frequency):
        self.validation = (data, batch, steps, frequency)

    def run(self, initial_epoch, epochs):
        model, callbacks = self.model, self.callbacks
        model.stop_training = False
        logs = {}
        callbacks.on_train_begin()
        try:
            for epoch in range(initial_epoch, epochs):
                model._compiled.reset()
                callbacks.on_epoch_begin(epoch)
                self._epoch(epoch)
                logs = model._compiled.results()
                if self._validates(epoch):
                    logs |= {f"val_{k}": v for k, v in self._validate().items()}
                callbacks.on_epoch_end(epoch, logs)
                if model.stop_training:
                    break
            callbacks.on_train_end(logs)
        finally:
            callbacks.close()
        return callbacks.history

    def _epoch(self, epoch):
        model, callbacks = self.model, self.callbacks
        if layout() != self.layout:  # a callback made or moved weights
            self._bind()
        index = random.global_rng().permutation(self.data.rows) if self.shuffle else None
        before = after = None
        if callbacks.wants_batches("train"):
            before = callbacks.on_train_batch_begin

            def after(step):
                callbacks.on_train_batch_end(step, model._compiled.results())
                return model.stop_training

        def progress(step):
            if config.check_numerics():
                self._check_loss(epoch, step)
            callbacks.on_progress(step)
            return model.stop_training

        self.runner.run(index, self.limit, before, after, progress)

    def _check_loss(self, epoch, step):
        loss = self.model._compiled.results()["loss"]
        if not np.isfinite(loss):
            raise ValueError(
                f"fit: expected a finite loss, got {loss} in epoch {epoch + 1} by step {step}"
            )

    def _validates(self, epoch):
        if self.validation is None:
            return False
        frequency = self.validation[3]
        if isinstance(frequency, int):
            return (epoch + 1) % frequency == 0
        return epoch + 1 in frequency

    def _validate(self):
        data, batch, steps, _ = self.validation
        runner = self.model._runner("test", data, batch)
        return self.model._evaluate(runner, self.callbacks.for_validation(), steps)
