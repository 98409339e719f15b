"""The list that calls several callbacks."""

from dlcore.callbacks.base import Callback
from dlcore.callbacks.history import History
from dlcore.callbacks.progress import ProgbarLogger


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
        self._watchers = [c for c in self.callbacks if hasattr(c, "on_progress")]
        self._bar = None
        if params.get("verbose", 0):
            self._bar = ProgbarLogger(params["verbose"], evaluating)
        self.model, self.params = model, params
        for c in self._all():
            c.set_params(params)
            c.set_model(model)

    def _all(self):
        # The bar comes last: it prints what the others add to the logs.
        return self.callbacks if self._bar is None else [*self.callbacks, self._bar]

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
        """`step` steps are done: the progress bar may move, and a guard look."""
        if self._bar is not None:
            self._bar.show(step)
        for c in self._watchers:
            c.on_progress(step)

    def close(self):
        """Leave the terminal in order, also after Ctrl-C."""
        if self._bar is not None:
            self._bar.close()


def _forward(name):
    count = getattr(Callback, name).__code__.co_argcount - 1

    def call(self, *args, logs=None):
        args += (logs or {},) * (count - len(args))
        for c in self._all():
            getattr(c, name)(*args)

    call.__name__ = name
    call.__doc__ = f"`Callback.{name}` of every callback."
    return call


for _name in dir(Callback):
    if _name.startswith("on_"):
        setattr(CallbackList, _name, _forward(_name))
