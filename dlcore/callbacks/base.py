"""What a callback is.

A callback that replaces no `on_*_batch_*` method costs nothing per batch: `fit` then runs many
steps per native call.
"""

from typing import Any

from dlcore import lookup


class Callback(lookup.Checked):
    """Base of callbacks: replace the methods you need.

    Attributes
    ----------
    model : Model
        Setting ``model.stop_training = True`` ends `fit` after the running epoch (or batch, from
        `on_train_batch_end`).
    params : dict
        "verbose", "epochs" and "steps" of the call.
    """

    def __init__(self):
        self.model = None
        self.params = {}

    def set_model(self, model):
        self.model = model

    def set_params(self, params):
        self.params = params

    def on_train_begin(self, logs: Any = None):
        """Before the first epoch."""

    def on_train_end(self, logs: Any = None):
        """After the last epoch."""

    def on_epoch_begin(self, epoch, logs: Any = None):
        """Before epoch number `epoch`, from 0."""

    def on_epoch_end(self, epoch, logs: Any = None):
        """After an epoch; `logs` has the loss and the metrics, those of validation with "val_"."""

    def on_train_batch_begin(self, batch, logs: Any = None):
        """Before a training step."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs: Any = None):
        """After a training step; `logs` has the loss and the metrics of the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch, logs: Any = None):
        """`on_train_batch_begin`, by its old name."""

    def on_batch_end(self, batch, logs: Any = None):
        """`on_train_batch_end`, by its old name."""

    def on_test_begin(self, logs: Any = None):
        """Before an evaluation."""

    def on_test_end(self, logs: Any = None):
        """After an evaluation."""

    def on_test_batch_begin(self, batch, logs: Any = None):
        """Before a step of an evaluation."""

    def on_test_batch_end(self, batch, logs: Any = None):
        """After a step of an evaluation."""

    def on_predict_begin(self, logs: Any = None):
        """Before a prediction."""

    def on_predict_end(self, logs: Any = None):
        """After a prediction."""

    def on_predict_batch_begin(self, batch, logs: Any = None):
        """Before a step of a prediction."""

    def on_predict_batch_end(self, batch, logs: Any = None):
        """After a step of a prediction; `logs` has the "outputs"."""
