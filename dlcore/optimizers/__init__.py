"""Optimizers and their learning-rate schedules, with the names of Keras."""

from typing import TYPE_CHECKING

from dlcore import lookup
from dlcore.optimizers import schedules
from dlcore.optimizers.adam import Adam, Adamax, AdamW, Lamb, Nadam
from dlcore.optimizers.further_rules import Adafactor, Ftrl, Lion
from dlcore.optimizers.loss_scale import LossScaleOptimizer
from dlcore.optimizers.muon import Muon
from dlcore.optimizers.optimizer import Optimizer
from dlcore.optimizers.rules import SGD, Adadelta, Adagrad, RMSprop

_CLASSES = [
    SGD, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Ftrl, Lamb, Lion, LossScaleOptimizer,
    Muon, Nadam, Optimizer, RMSprop,
]  # fmt: skip
_TABLE = {name: c for c in _CLASSES for name in (c.__name__, c.__name__.lower())}


def get(identifier):
    """The optimizer that a name (in any case), a dictionary, a class or an `Optimizer` stands for.

    Examples
    --------
    >>> from dlcore import optimizers
    >>> optimizers.get("adam").name
    'adam'
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, (str, dict)):
        found = deserialize(identifier)
        found = found() if isinstance(found, type) else found
    else:
        found = identifier() if isinstance(identifier, type) else identifier
    if not isinstance(found, Optimizer):
        raise TypeError(
            f"optimizer: expected a name, a dictionary or an Optimizer, got {identifier!r}"
        )
    return found


def serialize(optimizer):
    """{"class_name": ..., "config": {...}} of an optimizer."""
    return lookup.serialize(optimizer)


def deserialize(config, custom_objects=None):
    """The optimizer that `serialize` wrote, or the class of a name."""
    if isinstance(config, str) and lookup.custom_object(config) is None:
        config = config.lower()
    return lookup.deserialize("optimizer", _TABLE, config, custom_objects)


__all__ = [*(c.__name__ for c in _CLASSES), "deserialize", "get", "schedules", "serialize"]

if not TYPE_CHECKING:  # checkers of types know what is there
    __getattr__ = lookup.refusing(__name__)
