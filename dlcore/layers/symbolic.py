"""Layers called on symbols: the graph that `Model(inputs, outputs)` is made of.

`Input` returns a symbol; a layer (or an op of `dlcore.ops`) that is called on symbols notes a
`Connection` and returns new symbols. Nothing is computed: a model plays the connections back, in
order, whenever it is traced.
"""

from dlcore.layers import spec
from dlcore.program import tracing
from dlcore.program.function import flatten, unflatten
from dlcore.program.symbol import Symbol


class KerasTensor(Symbol):
    """What `Input` and layers called on such symbols return.

    Attributes
    ----------
    shape : tuple
        The batch is None.
    dtype : str
    name : str
        Of the layer that makes it.
    connection : Connection
        The call that makes it.
    index : int
        Which of the results of that call it is.
    mask : Spec
        Shape and dtype of its mask, or None.
    """

    __slots__ = ("connection", "dtype", "index", "mask", "name", "shape")

    def __init__(self, spec, connection, index):
        self.shape, self.dtype, self.mask = spec.shape, spec.dtype, spec.mask
        self.connection, self.index = connection, index
        self.name = connection.layer.name

    @property
    def _keras_mask(self):
        """The mask as a symbol, or None."""
        from dlcore.layers.masks import mask_of

        return None if self.mask is None else self.record(mask_of, (self,), {})

    def record(self, op, args, kwargs):
        from dlcore.layers.operation import Operation

        if tracing():
            self.__array__()  # which refuses
        return Operation(op)(*args, **kwargs)

    def __repr__(self):
        return f"<KerasTensor {self.dtype}{list(self.shape)} of {self.name}>"


class Connection:
    """One call of a layer on symbols.

    Parameters
    ----------
    layer : Layer
    args, kwargs
        Of the call; symbols stand for arrays in them.
    specs : nested Spec
        What the call returns.
    """

    def __init__(self, layer, args, kwargs, specs):
        self.layer, self.args, self.kwargs = layer, args, kwargs
        leaves, structure = flatten(specs)
        self.inputs = [x for x in spec.leaves((args, kwargs)) if isinstance(x, KerasTensor)]
        self.outputs = [KerasTensor(s, self, i) for i, s in enumerate(leaves)]
        self.output = unflatten(structure, self.outputs)
        self.number = len(layer._connections)
        layer._connections.append(self)

    @property
    def input(self):
        """The symbol, or the symbols, that the layer was called on."""
        return self.inputs[0] if len(self.inputs) == 1 else self.inputs

    def play(self, values, layer=None):
        """Call the layer (or another in its place) on `values`, a dictionary from symbols, and add
        the results to it.
        """
        flat, structure = flatten((self.args, self.kwargs))
        flat = [values[x] if isinstance(x, KerasTensor) else x for x in flat]
        args, kwargs = unflatten(structure, flat)
        outputs = spec.leaves((layer or self.layer)(*args, **kwargs))
        values.update(zip(self.outputs, outputs, strict=True))


def has_symbols(*values):
    """Whether there are symbols in nested values."""
    return any(isinstance(x, Symbol) for x in spec.leaves(values))


def connect(layer, args, kwargs):
    """Note a call of `layer` on symbols; symbols for what it returns."""
    specs = layer._symbols_of(spec.output_spec(layer, *args, **kwargs))
    return Connection(layer, args, kwargs, specs).output
