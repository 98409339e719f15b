"""Callbacks: what happens around epochs and batches, with the names and arguments of
`keras.callbacks`.

A callback that replaces no `on_*_batch_*` method costs nothing per batch: `fit` then runs many
steps per native call.
"""

import math
import os
import sys
import time

import numpy as np

__all__ = [
    "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History", "LambdaCallback",
    "LearningRateScheduler", "ModelCheckpoint", "ProgbarLogger", "ReduceLROnPlateau",
    "TerminateOnNaN",
]  # fmt: skip

_REFRESH_SECONDS = 0.1  # of the progress bar
_BAR_WIDTH = 20


class Callback:
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

    def on_train_begin(self, logs=None):
        """Before the first epoch."""

    def on_train_end(self, logs=None):
        """After the last epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        """Before epoch number `epoch`, from 0."""

    def on_epoch_end(self, epoch, logs=None):
        """After an epoch; `logs` has the loss and the metrics, those of validation with "val_"."""

    def on_train_batch_begin(self, batch, logs=None):
        """Before a training step."""

    def on_train_batch_end(self, batch, logs=None):
        """After a training step; `logs` has the loss and the metrics of the epoch so far."""

    def on_batch_begin(self, batch, logs=None):
        """`on_train_batch_begin`, by its old name."""

    def on_batch_end(self, batch, logs=None):
        """`on_train_batch_end`, by its old name."""

    def on_test_begin(self, logs=None):
        """Before an evaluation."""

    def on_test_end(self, logs=None):
        """After an evaluation."""

    def on_test_batch_begin(self, batch, logs=None):
        """Before a step of an evaluation."""

    def on_test_batch_end(self, batch, logs=None):
        """After a step of an evaluation."""

    def on_predict_begin(self, logs=None):
        """Before a prediction."""

    def on_predict_end(self, logs=None):
        """After a prediction."""

    def on_predict_batch_begin(self, batch, logs=None):
        """Before a step of a prediction."""

    def on_predict_batch_end(self, batch, logs=None):
        """After a step of a prediction; `logs` has the "outputs"."""


def _replaces(callback, *names):
    return any(getattr(type(callback), n, None) is not getattr(Callback, n) for n in names)


class CallbackList:
    """Calls the methods of several callbacks.

    Parameters
    ----------
    callbacks : Callback, list of Callback or None
    add_history : bool
        Whether to end with a `History`, as ``.history``.
    model : Model, optional
    **params
        verbose, epochs, steps; `evaluating` where there is no epoch.
    """

    def __init__(self, callbacks=None, add_history=False, model=None, evaluating=False, **params):
        given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        self.callbacks = [c for c in given if c is not None]
        for c in self.callbacks:
            if not isinstance(c, Callback):
                raise TypeError(f"callbacks: expected Callback objects, got {c!r}")
        self.history = None
        if add_history:
            known = [c for c in self.callbacks if isinstance(c, History)]
            self.history = known[0] if known else History()
            if not known:
                self.callbacks.append(self.history)
        self._watchers = [c for c in self.callbacks if isinstance(c, TerminateOnNaN)]
        self._bar = None
        if params.get("verbose", 0):
            self._bar = ProgbarLogger(params["verbose"], evaluating)
        self.model, self.params = model, params
        for c in self._all():
            c.set_params(params)
            c.set_model(model)

    def _all(self):
        return self.callbacks if self._bar is None else [self._bar, *self.callbacks]

    def append(self, callback):
        """Add a callback."""
        callback.set_params(self.params)
        callback.set_model(self.model)
        self.callbacks.append(callback)

    def for_validation(self):
        """The same callbacks without the progress bar, for the evaluation inside `fit`."""
        other = object.__new__(CallbackList)
        other.__dict__.update(self.__dict__, _bar=None, _watchers=[])
        return other

    def wants_batches(self, kind):
        """Whether a callback replaces a batch method of "train", "test" or "predict"."""
        names = [f"on_{kind}_batch_begin", f"on_{kind}_batch_end"]
        if kind == "train":
            names += ["on_batch_begin", "on_batch_end"]
        return any(_replaces(c, *names) for c in self.callbacks)

    def on_progress(self, step):
        """`step` steps are done: the progress bar may move."""
        if self._bar is not None:
            self._bar.show(step)
        for c in self._watchers:
            c._on_progress()

    def on_train_begin(self, logs=None):
        for c in self._all():
            c.on_train_begin(logs)

    def on_train_end(self, logs=None):
        for c in self._all():
            c.on_train_end(logs)

    def on_epoch_begin(self, epoch, logs=None):
        for c in self._all():
            c.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        for c in self.callbacks:
            c.on_epoch_end(epoch, logs)
        if self._bar is not None:  # last: it prints what the others add to the logs
            self._bar.on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        for c in self.callbacks:
            c.on_train_batch_begin(batch, logs)
            c.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        for c in self.callbacks:
            c.on_train_batch_end(batch, logs)
            c.on_batch_end(batch, logs)

    def on_test_begin(self, logs=None):
        for c in self._all():
            c.on_test_begin(logs)

    def on_test_end(self, logs=None):
        for c in self._all():
            c.on_test_end(logs)

    def on_test_batch_begin(self, batch, logs=None):
        for c in self.callbacks:
            c.on_test_batch_begin(batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        for c in self.callbacks:
            c.on_test_batch_end(batch, logs)

    def on_predict_begin(self, logs=None):
        for c in self._all():
            c.on_predict_begin(logs)

    def on_predict_end(self, logs=None):
        for c in self._all():
            c.on_predict_end(logs)

    def on_predict_batch_begin(self, batch, logs=None):
        for c in self.callbacks:
            c.on_predict_batch_begin(batch, logs)

    def on_predict_batch_end(self, batch, logs=None):
        for c in self.callbacks:
            c.on_predict_batch_end(batch, logs)

    def close(self):
        """Leave the terminal in order, also after Ctrl-C."""
        if self._bar is not None:
            self._bar.close()


class History(Callback):
    """What `fit` returns.

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


class ProgbarLogger(Callback):
    """The progress bar with rate and remaining time, or one line per epoch where there is no
    terminal.

    Parameters
    ----------
    verbose : 1, 2 or "auto"
        2 is always one line per epoch.
    evaluating : bool
        Whether the figures come at the end of an evaluation, not of epochs.
    """

    def __init__(self, verbose="auto", evaluating=False):
        super().__init__()
        if verbose not in (1, 2, "auto", True):
            raise ValueError(f"verbose: expected 0, 1, 2 or 'auto', got {verbose!r}")
        self._live = verbose != 2 and _is_terminal()
        self._evaluating = evaluating
        self._shown = 0  # characters of the live line
        self._begin = self._last = 0.0
        self._title = ""

    def _start(self, title):
        self._title = title
        self._begin = self._last = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._start(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_test_begin(self, logs=None):
        if self._evaluating:
            self._start("Evaluate")

    def show(self, step):
        """`step` steps are done."""
        now = time.perf_counter()
        if not self._live or now - self._last < _REFRESH_SECONDS:
            return
        self._last = now
        steps = self.params["steps"]
        done = step / steps
        seconds = now - self._begin
        filled = int(_BAR_WIDTH * done)
        bar = "=" * filled + "." * (_BAR_WIDTH - filled)
        left = _duration(seconds / done * (1 - done))
        logs = _figures(self.model._compiled.results())
        rate = f"{step / seconds:.4g} steps/s"
        self._write(f"{self._title} [{bar}] {step}/{steps}, {rate}, {left} left, {logs}")

    def _write(self, line):
        line = line[: _terminal_width() - 1]
        sys.stdout.write("\r" + line.ljust(self._shown))
        sys.stdout.flush()
        self._shown = len(line)

    def on_epoch_end(self, epoch, logs=None):
        self._finish(logs)

    def on_test_end(self, logs=None):
        if self._evaluating:
            self._finish(logs)

    def _finish(self, logs):
        seconds = time.perf_counter() - self._begin
        steps = self.params["steps"]
        line = (
            f"{self._title}: {steps} steps in {_duration(seconds)},"
            f" {_duration(seconds / max(steps, 1))} per step, {_figures(logs)}"
        )
        if self._shown:
            sys.stdout.write("\r" + line.ljust(self._shown) + "\n")
        else:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
        self._shown = 0

    def close(self):
        """End a line that was left unfinished."""
        if self._shown:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._shown = 0


def _is_terminal():
    return bool(getattr(sys.stdout, "isatty", None)) and sys.stdout.isatty()


def _terminal_width():
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def _duration(seconds):
    if seconds >= 90:
        minutes, seconds = divmod(round(seconds), 60)
        return (
            f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m{seconds:02d}s"
        )
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"


def _figures(logs):
    return " - ".join(f"{k}: {_number(v)}" for k, v in (logs or {}).items() if np.ndim(v) == 0)


def _number(value):
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4e}"


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
        May hold {epoch} and names of figures: "best-{epoch:02d}-{val_loss:.2f}.dlcore".
    monitor : str, default "val_loss"
    verbose : int, default 0
    save_best_only : bool, default False
        Whether to save only when the figure improves.
    save_weights_only : bool, default False
    mode : "auto", "min" or "max"
    save_freq : "epoch" or int
        Every epoch, or every so many batches.
    initial_value_threshold : float, optional
        The figure to be better than at first.
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
        return super().__new__(_BatchCheckpoint if by_batch and cls is ModelCheckpoint else cls)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch":
            self._save(epoch, logs)

    def _save(self, epoch, logs):
        logs = logs or {}
        if self.save_best_only:
            value = self._value(logs)
            if value is None or not self._better(value, self.best):
                return
            self.best = value
        try:
            path = self.filepath.format(epoch=epoch + 1, **logs)
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: expected names in {', '.join(['epoch', *logs])},"
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
            self._save(self._epoch, logs)


class LambdaCallback(Callback):
    """A callback from functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable (epoch, logs), optional
    on_train_begin, on_train_end : callable (logs), optional
    on_train_batch_begin, on_train_batch_end : callable (batch, logs), optional
    **kwargs
        Any other method of `Callback`.
    """

    def __new__(cls, *args, **kwargs):
        # A class of its own with just the given methods, so that absent batch methods cost nothing.
        return super().__new__(type(cls.__name__, (cls,), {}))

    def __init__(
        self,
        on_epoch_begin=None,
        on_epoch_end=None,
        on_train_begin=None,
        on_train_end=None,
        on_train_batch_begin=None,
        on_train_batch_end=None,
        **kwargs,
    ):
        super().__init__()
        given = dict(
            on_epoch_begin=on_epoch_begin, on_epoch_end=on_epoch_end, on_train_begin=on_train_begin,
            on_train_end=on_train_end, on_train_batch_begin=on_train_batch_begin,
            on_train_batch_end=on_train_batch_end, **kwargs,
        )  # fmt: skip
        for name, f in given.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise TypeError(f"LambdaCallback: expected methods of Callback, got {name!r}")
            if f is not None:
                setattr(type(self), name, staticmethod(f))


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
            logs["learning_rate"] = _learning_rate(self.model)
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
        old = _learning_rate(self.model)
        if old <= self.min_lr:
            return
        new = max(old * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = new
        self.cooldown_counter, self.wait = self.cooldown, 0
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate becomes {new:g}")


def _learning_rate(model):
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
            rate = self.schedule(epoch, _learning_rate(self.model))
        except TypeError:
            rate = self.schedule(epoch)
        if not isinstance(rate, (int, float, np.number)) or not math.isfinite(rate):
            raise ValueError(f"LearningRateScheduler: expected a finite number, got {rate!r}")
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate becomes {rate:g}")

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = _learning_rate(self.model)


class CSVLogger(Callback):
    """Write a line of figures per epoch to a file.

    Parameters
    ----------
    filename : str or Path
    separator : str, default ","
    append : bool, default False
        Whether to continue an existing file.
    """

    def __init__(self, filename, separator=",", append=False):
        super().__init__()
        self.filename, self.sep, self.append = os.fspath(filename), separator, append
        self._names = None
        self._file = None

    def on_train_begin(self, logs=None):
        continued = self.append and os.path.exists(self.filename) and os.path.getsize(self.filename)
        self._names = None
        if continued:
            with open(self.filename, encoding="utf-8") as f:
                self._names = f.readline().rstrip("\n").split(self.sep)
        self._file = open(self.filename, "a" if self.append else "w", encoding="utf-8")  # noqa: SIM115

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch, **(logs or {})}
        if self._names is None:
            self._names = ["epoch", *sorted(logs or {})]
            self._file.write(self.sep.join(self._names) + "\n")
        self._file.write(self.sep.join(_cell(row.get(name, "NA")) for name in self._names) + "\n")
        self._file.flush()

    def on_train_end(self, logs=None):
        self._file.close()
        self._file = None


def _cell(value):
    return str(value) if np.ndim(value) == 0 else '"' + str(np.asarray(value).tolist()) + '"'


class TerminateOnNaN(Callback):
    """Stop training when the loss is NaN or infinite."""

    def _on_progress(self):
        # NaN stays in the mean of the epoch, so that it is enough to look after each native call.
        loss = self.model._compiled.results()["loss"]
        if not math.isfinite(loss) and not self.model.stop_training:
            print(f"The loss is {loss}, training stops")
            self.model.stop_training = True
