"""Automatic names of layers, dense, dense_1, dense_2, ..., and the paths of their weights."""

import threading
from contextlib import contextmanager

_counts = {}  # snake-case class name -> how many layers took a name from it


def next_number(prefix):
    """0, 1, 2, ... for each prefix."""
    n = _counts[prefix] = _counts.get(prefix, -1) + 1
    return n


def automatic_name(prefix):
    """dense, dense_1, dense_2, ..."""
    n = next_number(prefix)
    return f"{prefix}_{n}" if n else prefix


class _Open(threading.local):
    layers = ()  # whose `build` or `call` runs, the outermost first
    calling = None  # the innermost, where that is its `call`


_open = _Open()


def calling():
    """The layer whose `call` runs, or None, as while one builds."""
    return _open.calling


@contextmanager
def inside(layer, calls=False):
    """Weights made meanwhile lie in `layer`, as their paths tell; `calls`: its `call` runs."""
    outer = _open.layers, _open.calling
    if _open.layers[-1:] != (layer,):  # `call` may build
        _open.layers = (*_open.layers, layer)
    _open.calling = layer if calls else None
    try:
        yield
    finally:
        _open.layers, _open.calling = outer


def path_in(layer, name):
    """model/block/dense/kernel: the layers within which `layer` is being built, and `name`."""
    with inside(layer):
        return "/".join([*(x.name for x in _open.layers), name])


def reset_names():
    """Start automatic names anew (`utils.clear_session`)."""
    _counts.clear()
