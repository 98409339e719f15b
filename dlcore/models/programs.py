"""The programs of a model's steps, and what they need: data that is checked, a model and an
optimizer that are built for it.

A program is made for one batch size, once, and kept; it is forgotten where variables move.
"""

import warnings

import numpy as np

from dlcore import backends, config, losses
from dlcore.data.batches import Stream, pack_batch
from dlcore.layers import spec
from dlcore.layers.base import Layer, _call
from dlcore.models.arrays import Data, WholeBatch
from dlcore.models.form import Form
from dlcore.models.runner import Runner
from dlcore.models.streaming import StreamRunner
from dlcore.program import BatchProgram, function, layout, pack, variables_made
from dlcore.program.graph import Trace, current_trace, suspended

_MOST_PROGRAMS = 30  # of other batch sizes and data, per model


class Programs(Layer):
    """A layer and the programs of its steps, which subclasses define."""

    _changes = 0  # how often the programs were forgotten
    _input_checks = ()  # (place of an input, what looks at its values)

    def _forget_programs(self):
        self._changes += 1
        self._eager = {}
        self._programs = {}
        self._functions = {}
        self._fast_predict = {}
        self._fast_on_batch = {}
        self._fast_steps = {}

    def _forget_calls(self):
        Programs._forget_programs(self)

    def _input_form(self):
        """`Form` of the inputs, or None where `call` alone knows."""
        return None

    def _output_form(self):
        """`Form` of the outputs, or None where it shows only when the model is called."""
        return None

    def _fixed_rows(self):
        """The one batch size that the model was made for, or None."""
        return None

    def _check_rows(self, data):
        """Refuse inputs of a wrong shape, by the name of the layer that gets them."""

    def _check_values(self, inputs):
        """Refuse arrays of wrong values, such as token ids; the model is built."""
        for place, check in self._input_checks:
            check(inputs[place])

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
            self._functions[key] = self._specs_of(step, data, kind), self._input_checks
        specs, self._input_checks = self._functions[key]
        return specs

    def _specs_of(self, f, data, kind):
        built, self._input_checks = self.built, ()

        def call(*inputs):
            outputs = f(*inputs)
            self._input_checks = current_trace().checks
            return outputs

        try:
            rows = self._fixed_rows()
            specs = spec.output_spec(self, data.input_specs(rows), call=call)
            if rows is None:
                return specs
            return spec.map_leaves(lambda y: spec.Spec((None, *y.shape[1:]), y.dtype), specs)
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
        data = self._inputs(who, kind, x)
        outputs = self._output_specs(data, kind)
        if not self._replaces(f"{kind}_step"):
            self._check_values(data.inputs)
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

    def _whole_batch(self, who, kind, batch):
        """A batch of a source whose arrays have rows of different numbers."""
        data = WholeBatch(who, batch)
        self._trained_variables()
        if not self.built:
            self._try_step(kind, data, None)
        return data

    def _inputs(self, who, kind, x):
        """What the caller gave as x, fitted to what the model takes."""
        try:
            data = Data(who, x, self._input_form())
            self._check_rows(data)
        except ValueError:
            if not self._replaces(f"{kind}_step"):
                raise
            data = Data(who, x)  # such a step may make inputs of anything
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
        free = self._replaces(f"{kind}_step", "compute_loss")
        if free and y is not None and not form.fits(y):
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
            output = outputs[i].shape
            head.check(labels, output)
            if head.classes(output) is not None:
                labels = backends.to_host(labels)
                known = labels.dtype in (np.int32, np.int64)
                data.targets[i] = labels if known else labels.astype(np.int32)
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

            f = self._noted(f)
            cast = self._input_dtypes(data)
            cast = cast + [None] * (len(data.arrays) - len(cast))
            program = self._programs[key] = BatchProgram(
                f, data.specs(), batch, indexed, cast, output_rows=kind == "predict"
            )
        return program

    def _function(self, key, f):
        if key not in self._functions:
            self._functions[key] = function(self._noted(f))
        return self._functions[key]

    def _noted(self, f):
        """`f`, and the layers that it calls know whose programs they are in."""

        def step(*args):
            outer, _call.compiled = _call.compiled, self
            self._note_caller(self)
            try:
                return f(*args)
            finally:
                _call.compiled = outer

        return step

    def _runner(self, kind, data, batch, indexed=False):
        if isinstance(data, Stream):
            return StreamRunner(self, kind, data)
        return Runner(
            lambda rows: self._program(kind, data, rows, indexed),
            data,
            batch,
            lambda: self._changes,
        )


def _same(known, variables):
    """Whether these are the very variables (`==` would compare their values)."""
    if known is variables:
        return True
    return known is not None and list(map(id, known)) == list(map(id, variables))
