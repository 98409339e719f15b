"""Models in files, and the names by which files know the classes of users, as in `keras.saving`.

Files hold names and numbers only: a class is found by its name, among dlcore's own, those that
`register_keras_serializable` has made known and those of `custom_object_scope`.
"""

from typing import TYPE_CHECKING

import numpy as np

from dlcore import lookup
from dlcore.lookup import (
    custom_object_scope,
    get_custom_objects,
    get_registered_name,
    register_keras_serializable,
)
from dlcore.models import load_model, save_model

__all__ = [
    "CustomObjectScope", "custom_object_scope", "deserialize_keras_object", "get_custom_objects",
    "get_registered_name", "get_registered_object", "load_model", "load_weights",
    "register_keras_serializable", "save_model", "save_weights", "serialize_keras_object",
]  # fmt: skip

CustomObjectScope = custom_object_scope
_FAMILIES = (
    "losses", "metrics", "optimizers.schedules", "optimizers", "initializers", "regularizers",
    "constraints", "activations", "dtype_policies",
)  # fmt: skip


def load_weights(model, filepath, skip_mismatch=False):
    """`model.load_weights(filepath, skip_mismatch)`."""
    model.load_weights(filepath, skip_mismatch)


def save_weights(model, filepath, overwrite=True):
    """`model.save_weights(filepath)`."""
    model.save_weights(filepath, overwrite)


def get_registered_object(name, custom_objects=None, module_objects=None):
    """The class or function that `register_keras_serializable` has called `name`, or None.

    Parameters
    ----------
    name : str
    custom_objects, module_objects : dict, optional
        Further names.
    """
    for objects in (custom_objects, {name: lookup.custom_object(name)}, module_objects):
        if objects and objects.get(name) is not None:
            return objects[name]
    return None


def serialize_keras_object(obj):
    """A layer, loss, optimizer, ... function, array or nested lists and dictionaries of them, as
    JSON can hold it.

    Examples
    --------
    >>> import dlcore as keras
    >>> config = keras.saving.serialize_keras_object(keras.layers.ReLU(name="a"))
    >>> config["class_name"], keras.saving.deserialize_keras_object(config).name
    ('ReLU', 'a')
    """
    from dlcore import layers

    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, (list, tuple)):
        return [serialize_keras_object(x) for x in obj]
    if isinstance(obj, dict):
        return {k: serialize_keras_object(x) for k, x in obj.items()}
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, np.ndarray):
        config = {"value": obj.tolist(), "dtype": obj.dtype.name}
        return {"class_name": "__numpy__", "config": config}
    if isinstance(obj, layers.Layer):
        return layers.serialize(obj)
    serialized = lookup.serialize(obj)
    if isinstance(serialized, dict):
        family = next((f for f in _FAMILIES if type(obj).__module__.startswith(f"dlcore.{f}")), "")
        return {"module": f"dlcore.{family}", **serialized} if family else serialized
    if serialized == "<lambda>":
        raise ValueError("serialize_keras_object: expected a function with a name, got a lambda")
    return {"class_name": "function", "config": serialized}


def deserialize_keras_object(config, custom_objects=None, safe_mode=True, **kwargs):
    """What `serialize_keras_object` wrote, alive again.

    Parameters
    ----------
    config : dict, or nested lists and dictionaries
    custom_objects : dict of str to class or function, optional
    safe_mode
        Accepted for Keras' sake: files hold no code.

    Raises
    ------
    ValueError
        If a name in it is not known.
    """
    with lookup.custom_object_scope(custom_objects or {}):
        return _revived(config)


def _revived(config):
    from dlcore import layers

    if isinstance(config, list):
        return [_revived(x) for x in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config:
        return {k: _revived(x) for k, x in config.items()}
    name, inner = config["class_name"], config.get("config")
    if name == "__numpy__":
        return np.array(inner["value"], inner["dtype"])
    custom = lookup.custom_object(name)
    if layers.is_layer_config(config) or (custom is None and layers._find(name) is not None):
        return layers.deserialize(config)
    if name == "function":
        return lookup.lookup("function", _table(_FAMILIES), inner)
    families = [f for f in _FAMILIES if config.get("module") in (f"dlcore.{f}", None)]
    return lookup.deserialize("object", _table(families), config)


def _table(families):
    """Names of the built-in objects of some families; the first one wins."""
    import importlib

    known = {}
    for family in families:
        known = getattr(importlib.import_module(f"dlcore.{family}"), "_TABLE", {}) | known
    return known


if not TYPE_CHECKING:  # checkers of types know what is there
    __getattr__ = lookup.refusing(__name__)
