"""The epochs of one call of `fit`: a few native calls of many steps each."""

import warnings

import numpy as np

from dlcore import config, random
from dlcore.data.batches import OutOfData, Stream
from dlcore.program import layout


class Fitting:
    """One call of `fit`: the epochs."""

    def __init__(self, model, data, batch, shuffle, limit, callbacks):
        self.model, self.data, self.batch = model, data, batch
        self.shuffle, self.limit, self.callbacks = bool(shuffle), limit, callbacks
        self.validation = None
        self.begun = 0, None  # of arrays: batches done, and the order of the rows
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
        model._initial_epoch = 0
        logs = {}
        callbacks.on_train_begin()
        initial_epoch = max(initial_epoch, model._initial_epoch)  # a callback may have restored
        try:
            for epoch in range(initial_epoch, epochs):
                model._begin("train")
                callbacks.on_epoch_begin(epoch)
                try:
                    self._epoch(epoch)
                except OutOfData as end:
                    if epoch == initial_epoch:
                        raise
                    warnings.warn(f"{end}; training stops", stacklevel=3)
                    break
                logs = model._results()
                if self._validates(epoch):
                    logs |= {f"val_{k}": v for k, v in self._validate().items()}
                callbacks.on_epoch_end(epoch, logs)
                if model.stop_training:
                    break
            model._finish_training()
            callbacks.on_train_end(logs)
        finally:
            callbacks.close()
        return callbacks.history

    def _epoch(self, epoch):
        model, callbacks = self.model, self.callbacks
        if layout() != self.layout:  # a callback made or moved weights
            self._bind()
        before = after = None
        if callbacks.wants_batches("train"):
            before = callbacks.on_train_batch_begin

            def after(step):
                callbacks.on_train_batch_end(step, model._results())
                return model.stop_training

        def progress(step):
            if config.check_numerics():
                self._check_loss(epoch, step)
            callbacks.on_progress(step)
            return model.stop_training

        if isinstance(self.data, Stream):
            self.runner.run(None, self.limit, before, after, progress)
        else:
            self._part(before, after, progress)

    def _part(self, before, after, progress):
        """`limit` batches of arrays, from where the epoch before ended; after the last batch, in a
        new order from the first."""
        first, index = self.begun
        if first == 0 and self.shuffle:
            index = random.global_rng().permutation(self.data.rows)
        self.runner.run(index, self.limit, before, after, progress, first=first)
        done, steps = first + self.limit, self.runner.steps
        if done > steps:
            warnings.warn(
                f"fit: expected {self.limit} steps per epoch, got {steps - first} before the end"
                " of the data; the next epoch begins anew",
                stacklevel=4,
            )
        self.begun = (done, index) if done < steps else (0, None)

    def _check_loss(self, epoch, step):
        loss = self.model._results().get("loss", 0.0)
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
