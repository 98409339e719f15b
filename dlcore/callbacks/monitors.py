"""Callbacks that watch one figure."""

import math
import os

from dlcore.callbacks.base import Callback
from dlcore.callbacks.rates import learning_rate


class _Monitor(Callback):
    """What watches one figure.

    Parameters
    ----------
    monitor : str
    mode : "auto", "min" or "max"
        "auto" is "max" for names with accuracy, AUC, precision, recall, F1 or R2, else "min".
    min_delta : float
        Smaller changes are no improvement.
    """

    def __init__(self, monitor, mode="auto", min_delta=0.0):
        super().__init__()
        who = type(self).__name__
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{who}: expected mode 'auto', 'min' or 'max', got {mode!r}")
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self._maximize = mode == "max" or (mode == "auto" and _larger_is_better(monitor))
        self._forget()

    def _forget(self):
        self.best = -math.inf if self._maximize else math.inf

    def _value(self, logs):
        value = (logs or {}).get(self.monitor)
        if value is None:
            import warnings

            known = ", ".join(logs or {})
            warnings.warn(
                f"{type(self).__name__}: expected one of {known} to monitor, got {self.monitor!r}",
                stacklevel=4,
            )
        return value

    def _better(self, value, than):
        if self._maximize:
            return value - self.min_delta > than
        return value + self.min_delta < than


def _larger_is_better(name):
    name = name.removeprefix("val_").lower()
    words = ("acc", "auc", "precision", "recall", "f1", "fbeta", "r2")
    return any(word in name for word in words) or name.endswith("fmeasure")


class EarlyStopping(_Monitor):
    """Stop when a figure no longer improves.

    Parameters
    ----------
    monitor : str, default "val_loss"
    min_delta : float, default 0
        Smaller changes are no improvement.
    patience : int, default 0
        Epochs without improvement before training stops.
    verbose : int, default 0
    mode : "auto", "min" or "max"
    baseline : float, optional
        Stop also unless the figure becomes better than this.
    restore_best_weights : bool, default False
        Whether the model gets back the weights of its best epoch.
    start_from_epoch : int, default 0
        Epochs to wait before watching.

    Examples
    --------
    >>> import numpy as np, dlcore as keras
    >>> model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")
    >>> stop = EarlyStopping("loss", patience=2)
    >>> x = np.ones((4, 1))
    >>> len(model.fit(x, x, epochs=9, callbacks=[stop], verbose=0).history["loss"])
    3
    """

    def __init__(
        self,
        monitor="val_loss",
        min_delta=0,
        patience=0,
        verbose=0,
        mode="auto",
        baseline=None,
        restore_best_weights=False,
        start_from_epoch=0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self._forget()
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best_weights = None

    def on_epoch_end(self, epoch, logs=None):
        value = self._value(logs) if epoch >= self.start_from_epoch else None
        if value is None:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self._better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of epoch {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(_Monitor):
    """Save the model while it trains.

    Parameters
    ----------
    filepath : str or Path
        May hold {epoch}, {batch} where batches count, and names of figures:
        "best-{epoch:02d}-{val_loss:.2f}.dlcore".
    monitor : str, default "val_loss"
    verbose : int, default 0
    save_best_only : bool, default False
        Whether to save only when the figure improves; without that figure all are saved.
    save_weights_only : bool, default False
    mode : "auto", "min" or "max"
    save_freq : "epoch" or int
        Every epoch, or every so many batches.
    initial_value_threshold : float, optional
        The figure to be better than at first.

    Examples
    --------
    >>> import numpy as np, dlcore as keras
    >>> model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")
    >>> x = np.ones((4, 1))
    >>> save = ModelCheckpoint("epoch-{epoch}.dlcore")
    >>> _ = model.fit(x, x, epochs=2, callbacks=[save], verbose=0)
    >>> keras.models.load_model("epoch-2.dlcore").output_shape
    (None, 1)
    """

    def __init__(
        self,
        filepath,
        monitor="val_loss",
        verbose=0,
        save_best_only=False,
        save_weights_only=False,
        mode="auto",
        save_freq="epoch",
        initial_value_threshold=None,
    ):
        super().__init__(monitor, mode)
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise ValueError(
                f"ModelCheckpoint: expected save_freq 'epoch' or an int, got {save_freq!r}"
            )
        self.filepath, self.verbose = os.fspath(filepath), verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.save_freq = save_freq
        if initial_value_threshold is not None:
            self.best = initial_value_threshold
        self._epoch = self._batches = 0

    def __new__(cls, *args, save_freq="epoch", **kwargs):
        # Only a checkpoint by batches asks `fit` for every batch.
        by_batch = save_freq != "epoch" or (len(args) > 6 and args[6] != "epoch")
        cls = _BatchCheckpoint if by_batch and cls is ModelCheckpoint else cls
        return super().__new__(cls, **kwargs)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def _save(self, epoch, names):
        value = self._value(names) if self.save_best_only else None
        if value is not None:
            if not self._better(value, self.best):
                return
            self.best = value
        names = {"epoch": epoch + 1, **names}
        try:
            path = self.filepath.format(**names)
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: expected names in {', '.join(names)},"
                f" got {error} in {self.filepath!r}"
            ) from None
        if self.verbose:
            print(f"Epoch {epoch + 1}: saving to {path}")
        if os.path.dirname(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)


class _BatchCheckpoint(ModelCheckpoint):
    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        if self._batches % self.save_freq == 0:
            self._save(self._epoch, {"batch": batch + 1, **(logs or {})})


class ReduceLROnPlateau(_Monitor):
    """Lower the learning rate when a figure no longer improves.

    Parameters
    ----------
    monitor : str, default "val_loss"
    factor : float, default 0.1
        Below 1; the learning rate is multiplied by it.
    patience : int, default 10
        Epochs without improvement.
    verbose : int, default 0
    mode : "auto", "min" or "max"
    min_delta : float, default 1e-4
    cooldown : int, default 0
        Epochs to wait after a change.
    min_lr : float, default 0

    Examples
    --------
    >>> import numpy as np, dlcore as keras
    >>> model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    >>> model.compile(keras.optimizers.SGD(1e-9), "mse")
    >>> lower = ReduceLROnPlateau("loss", factor=0.5, patience=1)
    >>> x = np.ones((4, 1))
    >>> _ = model.fit(x, x, epochs=3, callbacks=[lower], verbose=0)
    >>> float(model.optimizer.learning_rate)
    2.5e-10
    """

    def __init__(
        self,
        monitor="val_loss",
        factor=0.1,
        patience=10,
        verbose=0,
        mode="auto",
        min_delta=1e-4,
        cooldown=0,
        min_lr=0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        if not 0 < factor < 1:
            raise ValueError(f"ReduceLROnPlateau: expected factor between 0 and 1, got {factor!r}")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self._forget()
        self.wait = self.cooldown_counter = 0

    def on_epoch_end(self, epoch, logs=None):
        value = self._value(logs)
        if value is None:
            return
        if logs is not None:
            logs["learning_rate"] = learning_rate(self.model)
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._better(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch):
        old = learning_rate(self.model)
        if old <= self.min_lr:
            return
        new = max(old * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = new
        self.cooldown_counter, self.wait = self.cooldown, 0
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate becomes {new:g}")
