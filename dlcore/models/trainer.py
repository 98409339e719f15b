"""fit, evaluate and predict: the ways to run the steps over arrays."""

from typing import Any

import numpy as np

from dlcore import backends, config, lookup
from dlcore.callbacks import CallbackList
from dlcore.data.batches import Stream, is_batches, pack_batch
from dlcore.layers import spec
from dlcore.models import arrays
from dlcore.models.fitting import Fitting
from dlcore.models.steps import Steps
from dlcore.program import dtypes, layout, variables_made
from dlcore.program.function import flatten, unflatten

_BATCH = 32  # Keras' default
_MOST_SHAPES = 30  # that the short cuts of predict and of single batches know
_UNKNOWN_STEP = None, None, None, None


class Trainer(Steps):
    """A layer that can be trained: the base of `Model`."""

    # -- fit

    @lookup.checked
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
            Inputs and targets, one row per sample. Models with several inputs or outputs take
            lists, or dictionaries by name. Without y, x may be a generator, an iterator, a
            `PyDataset` or another source of batches (x, y) or (x, y, sample_weight).
        batch_size : int, default 32
            Of arrays.
        epochs : int
            Number of the last epoch.
        verbose : "auto", 0, 1 or 2
            Nothing (0), a progress bar (1, "auto"), a line per epoch (2, and where there is no
            terminal).
        callbacks : list of Callback, optional
        validation_split : float, 0..1
            The last rows validate, and are not trained on.
        validation_data : x, (x, y), (x, y, sample_weight) or a source of batches, optional
        shuffle : bool, default True
            Whether every epoch takes the rows, or the batches of a sequence, in a new random
            order.
        class_weight : dict of int to float, optional
        sample_weight : array_like, optional
            For several outputs one for all, or one for each.
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
        RuntimeError
            If a source of batches raises.
        """
        self._check_compiled("fit")
        batch = _batch_size("fit", batch_size)
        validation = None
        if is_batches(x):
            data = _stream("fit", x, y, sample_weight, shuffle, class_weight)
            if validation_split:
                raise ValueError(
                    "fit: expected validation_split only with arrays, got a source of batches"
                )
            shuffle = False  # the stream does it
        else:
            data = self._data("fit", "train", x, y, sample_weight, None, batch)
        if validation_data is not None:
            validation = self._validation_data(validation_data)
        elif validation_split:
            data, validation = arrays.split_off(data, validation_split)
        if class_weight is not None and not is_batches(x):  # validation weighs all classes alike
            self._weigh_classes(data, class_weight)
        limit = _limit("fit", "steps_per_epoch", steps_per_epoch, data, batch)
        epochs = spec.check_positive_int("fit", "epochs", epochs, least=0)
        epochs = min(epochs, config.max_epochs() or epochs)
        callback_list = CallbackList(
            callbacks, add_history=True, model=self, verbose=verbose, epochs=epochs, steps=limit
        )
        loop = Fitting(self, data, batch, shuffle, limit, callback_list)
        if validation is not None:
            size = _batch_size("fit", validation_batch_size, batch, "validation_batch_size")
            steps = _limit("fit", "validation_steps", validation_steps, validation, size)
            loop.validate(validation, size, steps, validation_freq)
        return loop.run(initial_epoch, epochs)

    def _validation_data(self, given):
        if is_batches(given):
            return Stream("fit validation_data", given)
        if not isinstance(given, (tuple, list)):
            given = (given,)
        if len(given) not in (1, 2, 3):
            raise ValueError(
                "fit: expected validation_data as x, (x, y), (x, y, sample_weight) or a source of"
                f" batches, got {len(given)} entries"
            )
        own = self._replaces("test_step") or self._replaces("compute_loss")
        if len(given) == 1 and self._compiled.has_loss and not own:
            raise ValueError("fit validation_data: expected (x, y) for the loss, got x alone")
        return self._data("fit validation_data", "test", *given)

    # -- evaluate

    @lookup.checked
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
    ) -> Any:
        """Loss and metrics over the rows of `x`.

        Parameters
        ----------
        x, y, sample_weight : array_like
            Without y, x may be a source of batches; see `fit`.
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
        batch = _batch_size("evaluate", batch_size)
        if is_batches(x):
            data = _stream("evaluate", x, y, sample_weight)
        else:
            data = self._data("evaluate", "test", x, y, sample_weight)
        limit = _limit("evaluate", "steps", steps, data, batch)
        callback_list = CallbackList(
            callbacks, model=self, verbose=verbose, epochs=1, steps=limit, evaluating=True
        )
        logs = self._evaluate(self._runner("test", data, batch), callback_list, limit)
        return logs if return_dict else self._in_order(logs)

    def _evaluate(self, runner, callback_list, limit=None):
        self._begin("test")
        callback_list.on_test_begin()
        before = after = None
        if callback_list.wants_batches("test"):
            before = callback_list.on_test_batch_begin

            def after(step):
                callback_list.on_test_batch_end(step, self._results())

        runner.run(limit=limit, before=before, after=after, progress=callback_list.on_progress)
        logs = self._results()
        callback_list.on_test_end(logs)
        return logs

    def _in_order(self, logs):
        values = [logs[name] for name in self._listed(logs)]
        return values[0] if len(values) == 1 else values

    # -- predict

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None) -> Any:
        """Outputs for the rows of `x`.

        Parameters
        ----------
        x : array_like, or a source of batches
            Of batches (x, y) the y is left out.
        batch_size : int, default 32
            Does not change the result.
        verbose : "auto", 0, 1 or 2
        steps : int, optional
            Most batches.
        callbacks : list of Callback, optional

        Returns
        -------
        ndarray
            One row per row of `x`, or nested ndarrays as `call` returns them; on the GPU where `x`
            lies there.
        """
        if batch_size is None and callbacks is None and steps is None:
            try:
                call, at = self._fast_predict[x.shape, x.dtype]
                if at == layout():
                    return call(x)
            except (KeyError, AttributeError, TypeError):
                pass
        return self._predict(x, batch_size, verbose, steps, callbacks)

    def predict_on_batch(self, x) -> Any:
        """Outputs for one batch."""
        try:
            call, at = self._fast_on_batch[x.shape, x.dtype]
            if at == layout():
                return call(x)
        except (KeyError, AttributeError, TypeError):
            pass
        data = self._data("predict_on_batch", "predict", x)
        return self._predict_small(x, data, self._fast_on_batch)

    def _predict(self, x, batch_size, verbose, steps, callbacks):
        batch = _batch_size("predict", batch_size)
        if is_batches(x):
            return self._predict_stream(Stream("predict", x), steps, callbacks)
        data = self._data("predict", "predict", x)
        if callbacks is None and data.rows <= batch:
            return self._predict_small(x, data, self._fast_predict if batch <= _BATCH else {})
        if steps is not None:
            data = data.part(0, _at_most("predict", "steps", steps, data.rows, batch))
        specs, structure = flatten(self._output_specs(data, "predict"))
        outputs = [
            backends.empty((data.rows, *shape[1:]), dtypes.array_type(dtype), data.inputs[0])
            for shape, dtype in specs
        ]
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

    def _predict_stream(self, stream, steps, callbacks):
        limit = _limit("predict", "steps", steps, stream)
        outputs = []
        callback_list = CallbackList(
            callbacks, model=self, verbose=0, epochs=1, steps=limit, evaluating=True
        )

        def after(step):
            callback_list.on_predict_batch_end(step, {"outputs": outputs[-1]})

        callback_list.on_predict_begin()
        runner = self._runner("predict", stream, None)
        runner.run(None, limit, callback_list.on_predict_batch_begin, after, outputs=outputs)
        callback_list.on_predict_end()
        outputs = [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
        return unflatten(runner.structure, outputs)

    def _predict_small(self, x, data, cache):
        """All rows in one program; `cache` then knows it by the shape and dtype of `x`."""
        run = self._function("predict", lambda inputs: self.predict_step(pack_batch(inputs)))
        result = run(data.unpack()(data.arrays)[0])
        plain = isinstance(x, np.ndarray) and isinstance(result, np.ndarray)
        if plain and x.dtype.isnative and x.dtype.name in dtypes.ARRAYS:
            if len(cache) >= _MOST_SHAPES:
                cache.clear()
            call = _one_result(run.compiled(x))
            call = _checked(self._check_values, call) if self._input_checks else call
            cache[x.shape, x.dtype] = call, layout()
        return result

    # -- single batches

    def train_on_batch(
        self, x, y=None, sample_weight=None, class_weight=None, return_dict=False
    ) -> Any:
        """One training step on one batch.

        Returns
        -------
        float, list of float or dict
            Loss and metrics of this batch.
        """
        return self._on_batch("train", x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False) -> Any:
        """Loss and metrics of one batch."""
        return self._on_batch("test", x, y, sample_weight, None, return_dict)

    def _on_batch(self, kind, x, y, sample_weight, class_weight, return_dict):
        who = f"{kind}_on_batch"
        self._check_compiled(who)
        plain = type(x) is type(y) is np.ndarray and sample_weight is class_weight is None
        key = (kind, x.shape, x.dtype, y.shape, y.dtype) if plain else None
        run, types, check_labels, at = self._fast_steps.get(key, _UNKNOWN_STEP)
        if at == _circumstances():
            self._check_values([x])
            check_labels(y)
            given = [a if a.dtype == t else a.astype(t) for a, t in zip((x, y), types, strict=True)]
        else:
            data = self._data(who, kind, x, y, sample_weight, class_weight)
            split = data.unpack()
            step = lambda *tensors: self._run_step(kind, split(tensors)) or ()  # noqa: E731
            run = self._function((kind, data.key()), step)
            given = data.arrays
            if plain and [a.shape for a in given] == [x.shape, y.shape]:
                self._remember_step(key, run, data)
        self._begin(kind)
        run(*given)
        logs = self._results()
        return logs if return_dict else self._in_order(logs)

    def _remember_step(self, key, run, data):
        """More batches of these shapes and types need only a look at their values."""
        own = self._replaces("train_step", "test_step", "compute_loss", "compute_metrics")
        if own or config.check_numerics():
            return
        if len(self._fast_steps) >= _MOST_SHAPES:
            self._fast_steps.clear()
        output = spec.leaves(self._output_specs(data))[0].shape
        head = self._compiled.heads[0]
        types = [a.dtype for a in data.arrays]
        self._fast_steps[key] = run, types, lambda y: head.check(y, output), _circumstances()


def _circumstances():
    """What a step on arrays of known shapes and types depends on beside the model."""
    return layout(), variables_made(), config.floatx(), config.check_numerics()


def _batch_size(who, given, default=_BATCH, what="batch_size"):
    return default if given is None else spec.check_positive_int(who, what, given)


def _stream(who, x, y, sample_weight, shuffle=False, class_weight=None):
    """A source of batches, which must be all that is given."""
    for name, given in (("y", y), ("sample_weight", sample_weight)):
        if given is not None:
            raise ValueError(
                f"{who}: expected {name}=None beside a {type(x).__name__} of batches,"
                f" got {type(given).__name__}"
            )
    return Stream(who, x, shuffle, class_weight)


def _limit(who, what, count, data, batch=None):
    """The batches of one pass when `count` are asked for; None where the end is not known."""
    most = config.max_steps_per_epoch()
    if most is not None:
        count = most if count is None else min(count, most)
    if isinstance(data, Stream):
        if count is not None:
            spec.check_positive_int(who, what, count)
        return data.limit(what, count)
    return _at_most(who, what, count, -(-data.rows // batch))


def _at_most(who, what, count, limit, unit=1):
    """`limit`, or count * unit where a smaller `count` is given."""
    if count is None:
        return limit
    return min(limit, unit * spec.check_positive_int(who, what, count))


def _checked(check, call):
    def run(x):
        check([x])
        return call(x)

    return run


def _one_result(program):
    """A program with one result as a callable that returns it, without Python where that can be."""
    return getattr(program, "native", None) or (lambda x: program(x)[0])
