"""Weights that are the optimizer's moving averages while a model is looked at."""

from dlcore.callbacks.base import Callback
from dlcore.optimizers.averaging import AVERAGE


class SwapEMAWeights(Callback):
    """Evaluate, predict and save with the averages of an optimizer that has `use_ema`.

    Around each evaluation and prediction the weights and their averages change places.

    Parameters
    ----------
    swap_on_epoch : bool, default False
        Whether they do so at the end of each epoch already, for callbacks that save the model
        then (this one comes before them), and back at the beginning of the next.

    Examples
    --------
    >>> import numpy as np, dlcore as keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
    >>> averages = keras.callbacks.SwapEMAWeights()
    >>> history = model.fit(np.ones((8, 2)), np.ones(8), callbacks=[averages], verbose=0)
    """

    def __init__(self, swap_on_epoch=False):
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self._swapped = False

    def _averages(self):
        """{weight: its average}."""
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if not optimizer.use_ema:
            raise ValueError(
                f"SwapEMAWeights: expected an optimizer with use_ema=True, got {optimizer.name}"
            )
        return optimizer._slots.get(AVERAGE, {})

    def _swap(self, swapped):
        if swapped != self._swapped:
            for w, average in self._averages().items():
                value = w.numpy()
                w.assign(average)
                average.assign(value)
            self._swapped = swapped

    def on_epoch_begin(self, epoch, logs=None):
        if self.swap_on_epoch:
            self._swap(False)

    def on_epoch_end(self, epoch, logs=None):
        if self.swap_on_epoch:
            self._swap(True)
            last = epoch == self.params["epochs"] - 1 or self.model.stop_training
            if last:  # `fit` ends by giving weights their averages
                for w, average in self._averages().items():
                    average.assign(w)

    def on_test_begin(self, logs=None):
        self._swap(True)

    def on_test_end(self, logs=None):
        self._swap(False)

    def on_predict_begin(self, logs=None):
        self._swap(True)

    def on_predict_end(self, logs=None):
        self._swap(False)
