"""An op of `dlcore.ops` in a graph of layers."""

from dlcore import lookup, ops
from dlcore.layers.base import Layer
from dlcore.layers.masks import mask_of
from dlcore.layers.names import automatic_name


class Operation(Layer):
    """Calls an op; made when an op is called on the symbols of `Input`.

    Parameters
    ----------
    function : str or callable
        Name in `dlcore.ops`, or a function written with `dlcore.ops`, which cannot be saved.
    name : str, optional
    """

    supports_masking = None

    def __init__(self, function, name=None):
        if isinstance(function, str):
            function = lookup.lookup("op", _ops(), function)
        super().__init__(name=name or automatic_name(function.__name__))
        self.function = function
        self.autocast = False
        self.built = True

    def _first_input(self, kwargs):
        from inspect import signature

        return kwargs.pop(next(iter(signature(self.function).parameters)), None)

    def call(self, *args, **kwargs):
        return self.function(*args, **kwargs)

    def get_config(self):
        name = self.function.__name__
        if _ops().get(name) is not self.function:
            raise ValueError(f"{self.name}: expected an op of dlcore.ops, got {self.function!r}")
        return {"function": name, "name": self.name}


def _ops():
    """The ops that take symbols, by name."""
    found = {name: getattr(ops, name) for name in ops.__all__}
    found = {name: f for name, f in found.items() if hasattr(f, "__wrapped__")}
    return {**found, "get_item": ops.get_item, "mask_of": mask_of}
