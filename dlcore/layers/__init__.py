"""Layers, with the names, arguments and defaults of `keras.layers`."""

from dlcore import lookup
from dlcore.layers.activations import ELU, LeakyReLU, PReLU, ReLU, Softmax
from dlcore.layers.base import Layer
from dlcore.layers.core import (
    Activation,
    Dense,
    Dropout,
    Identity,
    Input,
    InputLayer,
    Lambda,
    Maxout,
)
from dlcore.layers.reshaping import Flatten, Reshape

__all__ = [
    "ELU", "Activation", "Dense", "Dropout", "Flatten", "Identity", "Input", "InputLayer",
    "Lambda", "Layer", "LeakyReLU", "Maxout", "PReLU", "ReLU", "Reshape", "Softmax",
    "deserialize", "serialize",
]  # fmt: skip

# Classes that configurations may name; dlcore.models adds its own.
_TABLE = {
    cls.__name__: cls
    for cls in (
        ELU, Activation, Dense, Dropout, Flatten, Identity, InputLayer, Lambda, LeakyReLU, Maxout,
        PReLU, ReLU, Reshape, Softmax,
    )
}  # fmt: skip


def serialize(layer):
    """{"class_name": ..., "name": ..., "config": {...}} of a layer or model."""
    return {
        "class_name": type(layer).__name__,
        "name": layer.name,
        "config": layer.get_config(),
    }


def deserialize(config, custom_objects=None):
    """The layer that `serialize` described, with new weights.

    Parameters
    ----------
    config : dict
    custom_objects : dict of str to class or function, optional
        Names of your own.
    """
    if custom_objects:
        with lookup.custom_object_scope(custom_objects):
            return deserialize(config)
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ValueError(f"layer: expected a dictionary with class_name and config, got {config!r}")
    name = config.get("class_name")
    cls = lookup.get_custom_objects().get(name) or _TABLE.get(name)
    if cls is None:
        raise ValueError(f"layer: expected a built-in class or one in custom_objects, got {name!r}")
    layer = cls.from_config(config["config"])
    if isinstance(config.get("name"), str):
        layer._name = config["name"]
    return layer


def is_layer_config(value):
    """Whether `value` is what `serialize` returns."""
    return isinstance(value, dict) and set(value) == {"class_name", "name", "config"}
