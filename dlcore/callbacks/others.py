"""Callbacks from functions, logs in files, and a guard against NaN."""

import math
import os

import numpy as np

from dlcore.callbacks.base import Callback


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


class CSVLogger(Callback):
    """Write a line of figures per epoch to a file, with NA for those that an epoch has not.

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
            names = sorted(logs or {})
            if not any(name.startswith("val_") for name in names):
                names += [f"val_{name}" for name in names]  # validation may come in later epochs
            self._names = ["epoch", *names]
            self._file.write(self.sep.join(self._names) + "\n")
        self._file.write(self.sep.join(_cell(row.get(name, "NA")) for name in self._names) + "\n")
        self._file.flush()

    def on_train_end(self, logs=None):
        self._file.close()
        self._file = None


def _cell(value):
    return str(value) if np.ndim(value) == 0 else '"' + str(np.asarray(value).tolist()) + '"'


class TerminateOnNaN(Callback):
    """Stop training when the loss is NaN or infinite (looked at after every native call), and say
    which layers have weights that are no numbers any more.

    Parameters
    ----------
    raise_error : bool, default False
        Whether to raise a RuntimeError instead, so that nothing goes on with such weights.
    """

    def __init__(self, raise_error=False):
        super().__init__()
        self.raise_error = raise_error

    def on_progress(self, step):
        # NaN stays in the mean of the epoch, so that it is enough to look after each native call.
        loss = self.model._results().get("loss", 0.0)
        if math.isfinite(loss) or self.model.stop_training:
            return
        where = _not_finite(self.model)
        if self.raise_error:
            raise RuntimeError(f"fit: expected a finite loss, got {loss} by step {step}; {where}")
        print(f"The loss is {loss}, training stops; {where}")
        self.model.stop_training = True


def _not_finite(model):
    """What `TerminateOnNaN` says of the layers."""
    names = [
        layer.name
        for layer in model._layers_within()
        if not all(np.isfinite(v.numpy()).all() for v in layer._parts()[0])
    ]
    return f"weights of {', '.join(names)} are not finite" if names else "all weights are finite"
