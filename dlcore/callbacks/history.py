"""The figures of every epoch."""

import numpy as np

from dlcore.callbacks.base import Callback


class History(Callback):
    """What `fit` returns, also as `model.history`, where it is found after Ctrl-C.

    Attributes
    ----------
    history : dict of str to list of float
        One value per epoch of the loss and of every metric.
    epoch : list of int
    """

    def __init__(self):
        super().__init__()
        self.history = {}
        self.epoch = []

    def set_model(self, model):
        super().set_model(model)
        model.history = self

    def on_train_begin(self, logs=None):
        self.history, self.epoch = {}, []

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def plot(self, path=None):
        """Draw every figure over the epochs, training and validation together.

        Parameters
        ----------
        path : str or Path, optional
            Where to write the picture; otherwise it is shown.

        Returns
        -------
        matplotlib.figure.Figure
        """
        try:
            from matplotlib import pyplot
        except ImportError:
            raise ImportError(
                "History.plot: expected matplotlib, found none; pip install dlcore[plot]"
            ) from None
        names = [
            n for n in self.history if not n.startswith("val_") and np.ndim(self.history[n]) == 1
        ]
        figure, axes = pyplot.subplots(
            1, max(1, len(names)), figsize=(5 * max(1, len(names)), 3.5), squeeze=False
        )
        epochs = [e + 1 for e in self.epoch]
        for axis, name in zip(axes[0], names, strict=False):
            for key, label in ((name, "training"), (f"val_{name}", "validation")):
                values = self.history.get(key, [])
                if values:
                    axis.plot(epochs[-len(values) :], values, label=label)
            axis.set_xlabel("epoch")
            axis.set_ylabel(name)
            axis.legend()
        figure.tight_layout()
        if path is None:
            pyplot.show()
        else:
            figure.savefig(path)
            pyplot.close(figure)
        return figure
