"""`with` blocks of Keras: where things run, and what they are called."""

from contextlib import contextmanager

from dlcore import backends


@contextmanager
def device(device_name):
    """Run what is inside on a device, and go back to the one before.

    Parameters
    ----------
    device_name : str
        "cpu" or "gpu", also as "gpu:0" or "/GPU:0"; "cuda" and "tpu" are no names here.

    Examples
    --------
    >>> import dlcore
    >>> with dlcore.device("cpu:0"):
    ...     dlcore.get_device()
    'cpu'
    """
    name, _, number = device_name.lower().strip("/").removeprefix("device:").partition(":")
    if number not in ("", "0"):
        raise ValueError(f"device: expected the first device of a kind, got {device_name!r}")
    outer = backends.get_device()
    backends.set_device(name)
    try:
        yield
    finally:
        backends.set_device(outer)


class name_scope:
    """A block whose variables belong together; accepted for Keras' sake, names do not change.

    Parameters
    ----------
    name : str
    **kwargs
        Accepted for Keras' sake.
    """

    def __init__(self, name, **kwargs):
        if not isinstance(name, str) or not name:
            raise ValueError(f"name_scope: expected a name, got {name!r}")
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None
