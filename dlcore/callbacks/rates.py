"""The learning rate, epoch by epoch."""

import math

import numpy as np

from dlcore.callbacks.base import Callback


def learning_rate(model):
    """The current learning rate as a float."""
    return float(np.asarray(model.optimizer.learning_rate))


class LearningRateScheduler(Callback):
    """Set the learning rate before every epoch.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, learning_rate) -> learning rate`` (or ``schedule(epoch)``).
    verbose : int, default 0
    """

    def __init__(self, schedule, verbose=0):
        super().__init__()
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch, logs=None):
        try:
            rate = self.schedule(epoch, learning_rate(self.model))
        except TypeError:
            rate = self.schedule(epoch)
        if not isinstance(rate, (int, float, np.number)) or not math.isfinite(rate):
            raise ValueError(f"LearningRateScheduler: expected a finite number, got {rate!r}")
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate becomes {rate:g}")

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = learning_rate(self.model)
