"""Layers that are in several models at once: written once in a configuration, and one layer again
when it is read.
"""

import threading
from contextlib import contextmanager

from dlcore import lookup


class _Scope(threading.local):
    numbers = None  # of the layers that are in several places, while a configuration is written
    written = None  # those that have been
    known = None  # layers by number, while a configuration is read


_scope = _Scope()


@contextmanager
def writing(layer):
    """The configuration of `layer` and of all inside it is written; the outermost call decides."""
    if _scope.numbers is not None:
        yield
        return
    holders = {}
    for holder in layer._layers_within():
        for inner in holder._parts()[1]:
            holders.setdefault(inner, []).append(holder)
    several = [x for x, found in holders.items() if len(found) > 1]
    _scope.numbers, _scope.written = {x: n for n, x in enumerate(several)}, set()
    try:
        yield
    finally:
        _scope.numbers = _scope.written = None


def described(layer):
    """What `layers.serialize` returns; within `writing`."""
    number = _scope.numbers.get(layer)
    again = layer in _scope.written
    _scope.written.add(layer)
    config = {} if again and number is not None else layer.get_config()
    name = lookup.name_of(type(layer))
    entry = {"class_name": name, "name": layer.name, "config": config}
    if config and layer.built and layer._overrides("get_build_config"):
        entry["build"] = layer.get_build_config()
    return entry if number is None else {**entry, "shared": number}


@contextmanager
def reading():
    """Layers that a configuration shares, by number; the outermost call starts anew."""
    outermost = _scope.known is None
    if outermost:
        _scope.known = {}
    try:
        yield _scope.known
    finally:
        if outermost:
            _scope.known = None
