"""Sequential: layers one after the other."""

from dlcore import ops
from dlcore.layers import deserialize, serialize, spec
from dlcore.layers.base import Layer
from dlcore.layers.core import InputLayer
from dlcore.layers.spec import Spec
from dlcore.models.form import Form
from dlcore.models.model import Model

_UNKNOWN = Spec((), None)  # of the one input and output of a model that is not built


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
        self._specs = []  # of the input and of every layer's output, as far as known
        self._input = None
        for layer in layers or ():
            self.add(layer)

    @property
    def layers(self):
        return list(self._stack)

    @property
    def input_shape(self):
        self._check_built("input_shape")
        return self._specs[0].shape

    @property
    def output_shape(self):
        self._check_built("output_shape")
        return self._specs[-1].shape

    def _check_built(self, what):
        if not self._specs:
            raise ValueError(
                f"{self.name}: expected a built model for {what};"
                " add an Input, call build(input_shape) or fit it"
            )

    def add(self, layer, rebuild=True):
        """Put a layer on top."""
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.name}: expected a Layer, got {layer!r}")
        if isinstance(layer, InputLayer):
            if self._input is not None or self._stack:
                raise ValueError(f"{self.name}: expected Input as the first entry only")
            self._input = layer
            self._start(layer.shape, layer.dtype)
            return
        if any(layer.name == other.name for other in self._stack):
            raise ValueError(
                f"{self.name}: expected layers of different names, got {layer.name!r} twice"
            )
        shape = self._known_row_shape(layer) if not self._stack and not self._specs else None
        self._stack.append(layer)
        try:
            if shape is not None:
                self._start(shape, self.dtype)
            elif self._specs:
                self._extend(layer)
        except Exception:
            self._stack.pop()
            raise
        self._forget_programs()

    @staticmethod
    def _known_row_shape(layer):
        if isinstance(layer, Sequential) and layer._specs:
            return layer.input_shape[1:]
        return getattr(layer, "_row_shape", None)

    def pop(self, rebuild=True):
        """Remove the top layer and return it."""
        if not self._stack:
            raise ValueError(f"{self.name}: expected a layer to pop, got an empty model")
        layer = self._stack.pop()
        if self._specs:
            self._specs.pop()
        self._forget_programs()
        return layer

    def _start(self, row_shape, dtype):
        """The input is known: build all layers."""
        self._specs = [Spec((None, *row_shape), dtype)]
        try:
            for layer in self._stack:
                self._extend(layer)
        except Exception:
            self._specs = []
            raise
        self.built = True
        self._build_specs = self._specs[0]

    def _extend(self, layer):
        self._specs.append(spec.output_spec(layer, self._specs[-1]))

    def build(self, input_shape=None):
        """Make the weights for inputs (None, ...)."""
        if self._specs:
            if input_shape is not None and tuple(input_shape[1:]) != self.input_shape[1:]:
                raise ValueError(
                    f"{self.name}: expected input shape {self.input_shape},"
                    f" got {tuple(input_shape)}"
                )
            return
        if input_shape is None:
            raise ValueError(f"{self.name}: expected an input shape, got None")
        shape = tuple(input_shape)
        self._start(spec.check_row_shape(self.name, shape[1:] or (1,)), self.dtype)

    def call(self, inputs, training=None):
        x = inputs
        shape = self._checked(tuple(x.shape))
        x = x if shape == tuple(x.shape) else ops.reshape(x, shape)
        dtype = self._specs[0].dtype
        x = x if x.dtype == dtype else ops.cast(x, dtype)
        for layer in self._stack:
            x = layer(x, training=training)
        return x

    def _checked(self, shape):
        """The shape of inputs; a missing or extra last axis of size 1 is added or dropped, as
        Keras does.
        """
        expected = self._specs[0].shape
        if len(shape) == len(expected) - 1 and expected[-1] == 1:
            shape = (*shape, 1)
        elif len(shape) == len(expected) + 1 and shape[-1] == 1:
            shape = shape[:-1]
        if shape[1:] != expected[1:]:
            who = self._stack[0].name if self._stack else self.name
            raise ValueError(f"{who}: expected input {spec.shown(expected[1:])}, got {shape}")
        return shape

    # -- for the trainer

    def _input_form(self):
        return Form(self.name, "input", self._specs[0] if self._specs else _UNKNOWN)

    def _output_form(self):
        return Form(self.name, "output", self._specs[-1] if self._specs else _UNKNOWN)

    def _check_rows(self, data):
        if self._specs:
            self._checked(data.shape())

    def _input_dtypes(self, data):
        """Inputs are cast where batches are gathered."""
        return [self._specs[0].dtype]

    def get_config(self):
        config = {"name": self.name, "trainable": self._trainable}
        config["layers"] = [serialize(layer) for layer in self._stack]
        if self._specs:
            config["build_input_shape"] = list(self._specs[0].shape)
            config["input_dtype"] = self._specs[0].dtype
        return config

    @classmethod
    def from_config(cls, config):
        model = cls(name=config.get("name"))
        shape = config.get("build_input_shape")
        if shape is not None:
            dtype = config.get("input_dtype")
            model.add(InputLayer(tuple(shape[1:]), dtype=dtype))
        for layer in config.get("layers", ()):
            model.add(deserialize(layer))
        model._trainable = bool(config.get("trainable", True))
        return model
