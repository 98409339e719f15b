"""Sequential: layers one after the other."""

from dlcore import lookup
from dlcore.layers import deserialize, serialize, sharing, spec
from dlcore.layers.base import Layer
from dlcore.layers.inputs import InputLayer
from dlcore.layers.names import inside
from dlcore.layers.symbolic import KerasTensor
from dlcore.models.form import Form
from dlcore.models.graph import LayerGraph
from dlcore.models.model import Model


class Sequential(Model):
    """A stack of layers: y = layer_n(... layer_1(x)).

    Inputs are cast to the dtype of the `Input` (by default `config.floatx()`). The weights are
    made as soon as the shape of the input is known: from an `Input`, from `input_shape=` of the
    first layer, or from data.

    Parameters
    ----------
    layers : list of Layer, optional
    trainable : bool, default True
    name : str, optional

    Examples
    --------
    >>> import numpy as np, dlcore as keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> model.predict(np.zeros((1, 2)))
    array([[0., 0., 0.]], dtype=float32)
    """

    def __init__(self, layers=None, trainable=True, name=None):
        super().__init__(trainable=trainable, name=name)
        self._stack = []
        self._symbols = []  # the input and every layer's output, as far as known
        self._input, self._inferred = None, False
        self._known_graph = None
        if isinstance(layers, (Layer, KerasTensor)):
            raise TypeError(f"{self.name}: expected a list of layers, got {layers!r} alone")
        for layer in layers or ():
            self.add(layer)

    @property
    def _graph(self):
        if self._known_graph is None and self._symbols:
            takers = [self._stack[0].name] if self._stack else None
            graph = LayerGraph(self.name, self._symbols[0], self._symbols[-1], takers)
            self._known_graph = graph
        return self._known_graph

    @property
    def layers(self):
        return list(self._stack)

    @property
    def operations(self):
        return list(self._stack)

    def _has_steps_only(self):
        return False

    def add(self, layer, rebuild=True):
        """Put a layer on top."""
        if isinstance(layer, KerasTensor) and isinstance(layer.connection.layer, InputLayer):
            layer = layer.connection.layer
        if not isinstance(layer, Layer):
            call = f"; call it: {layer.__name__}(...)" if isinstance(layer, type) else ""
            raise TypeError(f"{self.name}: expected a Layer, got {layer!r}{call}")
        if isinstance(layer, InputLayer):
            if self._input is not None or self._stack:
                raise ValueError(f"{self.name}: expected Input as the first entry only")
            self._input = layer
            self._start(layer)
            return
        if any(layer.name == other.name for other in self._stack):
            raise ValueError(
                f"{self.name}: expected layers of different names, got {layer.name!r} twice"
            )
        shape = self._known_row_shape(layer) if not self._stack and not self._symbols else None
        self._stack.append(layer)
        try:
            if shape is not None:
                self._start(InputLayer(shape, dtype=self.dtype))
            elif self._symbols:
                self._extend(layer)
        except Exception:
            self._stack.pop()
            raise
        self._forget_programs()

    @staticmethod
    def _known_row_shape(layer):
        if isinstance(layer, Model) and layer._graph is not None and layer._graph.input_form.single:
            return layer.input_shape[1:]
        return getattr(layer, "_row_shape", None)

    def pop(self, rebuild=True):
        """Remove the top layer and return it."""
        if not self._stack:
            raise ValueError(f"{self.name}: expected a layer to pop, got an empty model")
        layer = self._stack.pop()
        if self._symbols:
            layer._connections.remove(spec.leaves(self._symbols.pop())[0].connection)
        self._forget_programs()
        return layer

    def _start(self, input_layer):
        """The input is known: build all layers."""
        self._symbols = [input_layer.output]
        try:
            for layer in self._stack:
                self._extend(layer)
        except Exception:
            self._symbols = []
            raise
        self.built = True
        self._build_specs = spec.batch_specs(self._symbols[0])

    def _extend(self, layer):
        with spec.suspended(), inside(self):
            self._symbols.append(layer(self._symbols[-1]))

    def _forget_programs(self):
        super()._forget_programs()
        self._known_graph = None

    def build(self, input_shape=None):
        """Make the weights for inputs (None, ...)."""
        if self._symbols:
            known = self.input_shape[1:]
            if input_shape is not None and not spec.fits(tuple(input_shape)[1:], known):
                raise ValueError(
                    f"{self.name}: expected input shape {self.input_shape},"
                    f" got {tuple(input_shape)}"
                )
            return
        if input_shape is None:
            raise ValueError(f"{self.name}: expected an input shape, got None")
        shape = spec.check_row_shape(self.name, tuple(input_shape)[1:] or (1,))
        self._inferred = True
        self._start(InputLayer(shape, dtype=self.dtype))

    def call(self, inputs):
        """The output of the last layer."""
        self._admit(getattr(inputs, "shape", ())[1:])
        return super().call(inputs)

    def _check_rows(self, data):
        self._admit(data.inputs[0].shape[1:])
        super()._check_rows(data)

    def _admit(self, shape):
        """Let a model whose input shape was that of the first data take other sizes, where the
        layers do.
        """
        known = self._symbols[0].shape[1:] if self._symbols and self._inferred else shape
        if len(shape) != len(known) or spec.fits(shape, known):
            return
        old = self._symbols
        calls = [(layer, list(layer._connections)) for layer in self._stack]
        for layer, symbol in zip(self._stack, old[1:], strict=True):
            layer._connections.remove(spec.leaves(symbol)[0].connection)
        sizes = [a if a == b else None for a, b in zip(shape, known, strict=True)]
        try:
            self._start(InputLayer(sizes, dtype=old[0].dtype))
        except (ValueError, TypeError):  # the sizes matter, which is found where they are used
            self._symbols = old
            for layer, connections in calls:
                layer._connections[:] = connections
        self._known_graph = None

    def _input_form(self):
        return super()._input_form() or Form(self.name, "input", spec.Spec((), None))

    def get_config(self):
        config = {"name": self.name, "trainable": self._trainable}
        with sharing.writing(self):
            config["layers"] = [serialize(layer) for layer in self._stack]
        if self._symbols:
            config["build_input_shape"] = list(self._symbols[0].shape)
            config["input_dtype"] = self._symbols[0].dtype
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        if custom_objects:
            with lookup.custom_object_scope(custom_objects):
                return cls.from_config(config)
        model = cls(name=config.get("name"))
        shape = config.get("build_input_shape")
        if shape is not None:
            dtype = config.get("input_dtype")
            model.add(InputLayer(tuple(shape[1:]), dtype=dtype))
        with sharing.reading():
            for layer in config.get("layers", ()):
                model.add(deserialize(layer))
        model._trainable = bool(config.get("trainable", True))
        return model
