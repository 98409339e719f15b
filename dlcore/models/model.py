"""Model: a layer that is trained, described, saved and loaded."""

from dlcore import lookup
from dlcore.layers import sharing, spec
from dlcore.layers.operation import Operation
from dlcore.layers.symbolic import has_symbols
from dlcore.models.graph import LayerGraph, alone
from dlcore.models.graph_config import graph_config, graph_from_config
from dlcore.models.trainer import Trainer


class Model(Trainer):
    """A model made of layers that are connected, or the base of models that define `call`.

    With `inputs` and `outputs` it is the graph of layers that leads from these to those. A
    subclass without them defines its layers in the constructor and the formula in `call`.

    Parameters
    ----------
    inputs : KerasTensor, or a list or dictionary of them
        What `Input` returned, or what a layer of a graph did.
    outputs : KerasTensor, or nested lists and dictionaries of them
        What layers and `dlcore.ops` called on the inputs returned.
    name : str, optional
    **kwargs
        See `Layer`.

    Raises
    ------
    ValueError
        If an output needs another input, or two layers have one name.

    Examples
    --------
    >>> import numpy as np, dlcore as keras
    >>> x = keras.Input((3,))
    >>> y = keras.layers.Dense(3, activation="relu")(x)
    >>> model = keras.Model(x, keras.layers.Dense(1)(x + y))
    >>> model.output_shape
    (None, 1)

    >>> class Net(keras.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = keras.layers.Dense(8, activation="relu")
    ...         self.out = keras.layers.Dense(1)
    ...     def call(self, x):
    ...         return self.out(self.hidden(x))
    >>> net = Net()
    >>> net.compile("sgd", "mse")
    >>> history = net.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    """

    _graph = None  # LayerGraph, where the layers are connected
    _extra_names = ()  # of the graph's extras: None for a loss, a name for a metric

    def __init__(self, inputs=None, outputs=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        if inputs is None and outputs is None:
            return
        if inputs is None or outputs is None:
            missing = "inputs" if inputs is None else "outputs"
            raise TypeError(f"{self.name}: expected inputs and outputs, got no {missing}")
        self._set_graph(LayerGraph(self.name, inputs, outputs))
        self.built = True
        self._build_specs = spec.batch_specs(self._graph.inputs)

    def _set_graph(self, graph):
        self._graph, self._operations = graph, graph.layers

    def call(self, inputs):
        """The outputs for tensors nested like the inputs, or by name."""
        if self._graph is None:
            return super().call(inputs)
        outputs, extras = self._graph.run(inputs)
        for name, value in zip(self._extra_names, extras, strict=True):
            if name is None:
                self.add_loss(value)
            else:
                self.add_metric(value, name)
        return outputs

    def _symbols_of(self, specs):
        return specs if self._graph is None else self._graph.output_form.nest(spec.leaves(specs))

    def add_loss(self, loss):
        """Add a scalar to the loss that training minimizes: one computed in `call`, or a symbol of
        the model's graph.
        """
        self._add(None, loss, super().add_loss)

    def add_metric(self, value, name=None, aggregation=None):
        """Report the mean of a tensor computed in `call`, or of a symbol of the model's graph."""
        self._add(name or self.name, value, lambda x: super(Model, self).add_metric(x, name))

    def _add(self, name, value, add):
        if not has_symbols(value):
            add(value)
        elif "_graph" not in vars(self):
            raise ValueError(
                f"{self.name}: expected a tensor computed in call, got {value!r}; only models made"
                " of inputs and outputs take symbols"
            )
        else:
            for symbol in spec.leaves(value):
                self._set_graph(self._graph.with_extra(symbol))
                self._extra_names = [*self._extra_names, name]
            self._forget_programs()

    @property
    def layers(self):
        """The layers of the model (not those inside them)."""
        return [x for x in self.operations if not isinstance(x, Operation)]

    @property
    def operations(self):
        """The layers, and the ops of `dlcore.ops` between them."""
        return self._parts()[1]

    # -- as a graph

    def _connected(self, what):
        if self._graph is None:
            raise AttributeError(
                f"{self.name}: expected a built model for {what}; make it of inputs and outputs,"
                " or add an Input, call build(input_shape) or fit it where it is a Sequential"
            )
        return self._graph

    @property
    def input(self):
        """The symbols that the model starts from, as they were given."""
        return self._connected("input").inputs

    @property
    def output(self):
        """The symbols that the model ends with, as they were given."""
        return self._connected("output").outputs

    @property
    def inputs(self):
        """List of the inputs."""
        return list(self._connected("inputs").input_list)

    @property
    def outputs(self):
        """List of the outputs."""
        return list(self._connected("outputs").output_list)

    @property
    def input_names(self):
        """Names of the inputs, by which `fit` takes them in a dictionary."""
        return list(self._connected("input_names").input_form.names)

    @property
    def output_names(self):
        """Names of the outputs, by which `compile` and `fit` take losses and targets."""
        return list(self._connected("output_names").output_form.names)

    @property
    def input_shape(self):
        """Shapes of the inputs, nested as they were given; the batch is None. A list of one is
        left out.
        """
        return spec.map_leaves(lambda x: x.shape, alone(self.input))

    @property
    def output_shape(self):
        """Shapes of the outputs, nested as a call returns them; the batch is None."""
        return spec.map_leaves(lambda x: x.shape, self._connected("output_shape").results)

    # -- for the trainer

    def _has_steps_only(self):
        no_call = self._graph is None and type(self).call is Model.call
        return no_call and self._replaces("train_step", "test_step")

    def _input_form(self):
        return None if self._graph is None else self._graph.input_form

    def _output_form(self):
        return None if self._graph is None else self._graph.output_form

    def _check_rows(self, data):
        if self._graph is not None:
            self._graph.row_shapes([x.shape for x in data.inputs])

    def _fixed_rows(self):
        return None if self._graph is None else (*self._graph.input_list[0].shape, None)[0]

    def _input_dtypes(self, data):
        if self._graph is None or data.form is None:
            return super()._input_dtypes(data)
        return [x.dtype for x in self._graph.input_list]

    # -- layers

    @lookup.checked
    def get_layer(self, name=None, index=None):
        """The layer of that name or at that place."""
        if index is not None:
            layers = self.layers
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"get_layer: expected an index below {len(layers)}, got {index}")
            return layers[index]
        for layer in self.operations:
            if layer.name == name:
                return layer
        known = ", ".join(x.name for x in self.layers)
        raise ValueError(f"get_layer: expected one of {known}, got {name!r}")

    def build(self, input_shape):
        """Make all weights for inputs of this shape, whose batch is None."""
        if not self.built:
            self.built = True  # `call` builds the layers
            spec.output_shape(self, input_shape)

    def _build_for(self, inputs, args=(), kwargs=None):
        if type(self).build is not Model.build:
            return super()._build_for(inputs, args, kwargs)
        self.built = True
        self._build_specs = spec.batch_specs(inputs)

    @lookup.checked
    def summary(
        self,
        line_length=None,
        positions=None,
        print_fn=None,
        expand_nested=False,
        show_trainable=False,
        layer_range=None,
        batch_size=32,
    ):
        """Print layers, output shapes, parameters, FLOPs per step and the planned peak memory.

        Parameters
        ----------
        line_length : int, optional
        print_fn : callable, optional
            Takes the text instead of `print`.
        expand_nested : bool
            Whether the layers of inner models get lines of their own.
        show_trainable : bool
            Whether to add a column with `trainable`.
        batch_size : int, default 32
            Of the step that FLOPs and memory are given for.
        positions, layer_range
            Accepted for Keras' sake.
        """
        from dlcore.models.summary import text

        lines = text(self, line_length, expand_nested, show_trainable, batch_size)
        (print_fn or print)(lines)

    # -- files

    @lookup.checked
    def save(self, filepath, overwrite=True, zipped=None):
        """Write architecture, weights, `compile` arguments and the optimizer's state to one file.

        Parameters
        ----------
        filepath : str or Path
            The old file survives until the new one is complete.
        overwrite : bool
            Whether an existing file may be replaced.
        zipped
            Accepted for Keras' sake: it is always one file.

        Raises
        ------
        ValueError
            If a layer holds a Python function without a name.
        """
        from dlcore.io import save_model

        save_model(self, filepath, overwrite)

    @lookup.checked
    def save_weights(self, filepath, overwrite=True):
        """Write the weights alone."""
        from dlcore.io import save_weights

        save_weights(self, filepath, overwrite)

    @lookup.checked
    def load_weights(self, filepath, skip_mismatch=False):
        """Set the weights from a file of `save_weights` or `save`.

        Parameters
        ----------
        filepath : str or Path
        skip_mismatch : bool
            Whether weights of other shapes than the file's are left as they are, with a warning.

        Raises
        ------
        ValueError
            If the file is damaged or its weights have other shapes.
        """
        from dlcore.io import load_weights

        load_weights(self, filepath, skip_mismatch)

    def get_config(self):
        """The constructor's arguments; the layers and how they are connected."""
        if self._graph is None or type(self).__init__ is not Model.__init__:
            return super().get_config()
        config = {"name": self.name, "trainable": self._trainable, "dtype": self.dtype_policy.name}
        with sharing.writing(self):
            return config | graph_config(self._graph) | {"extras": list(self._extra_names)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model that `get_config` described, with new weights; `custom_objects` are names of
        your own.
        """
        if custom_objects:
            with lookup.custom_object_scope(custom_objects):
                return cls.from_config(config)
        if "calls" not in config:
            return super().from_config(config)
        with sharing.reading():
            inputs, outputs, extras = graph_from_config(config)
        given = {k: config[k] for k in ("name", "trainable", "dtype") if k in config}
        model = cls(inputs, outputs, **given)
        for name, symbol in zip(config.get("extras", ()), extras, strict=True):
            model._add(name, symbol, None)
        return model

    def to_json(self, **kwargs):
        """The architecture as JSON text, for `models.model_from_json`."""
        import json

        from dlcore.layers import serialize

        return json.dumps(serialize(self), **kwargs)
