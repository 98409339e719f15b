"""Model: a layer that is trained, described, saved and loaded."""

from dlcore.layers import spec
from dlcore.models.trainer import Trainer


class Model(Trainer):
    """Base of models: define the layers in the constructor and the formula in `call`.

    Parameters
    ----------
    name : str, optional
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore as keras
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

    def __init__(self, *graph, **kwargs):
        if graph or "inputs" in kwargs or "outputs" in kwargs:
            raise TypeError(
                "Model: expected a subclass that defines call, got inputs and outputs;"
                " stack layers with Sequential or subclass Model"
            )
        super().__init__(**kwargs)

    @property
    def layers(self):
        """The layers of the model (not those inside them)."""
        return self._parts()[1]

    def get_layer(self, name=None, index=None):
        """The layer of that name or at that place."""
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"get_layer: expected an index below {len(layers)}, got {index}")
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        known = ", ".join(x.name for x in layers)
        raise ValueError(f"get_layer: expected one of {known}, got {name!r}")

    def build(self, input_shape):
        """Make all weights for inputs of this shape, whose batch is None."""
        if not self.built:
            self.built = True  # `call` builds the layers
            spec.output_shape(self, input_shape)

    def _build_for(self, inputs):
        if type(self).build is not Model.build:
            return super()._build_for(inputs)
        self.built = True
        self._build_specs = spec.batch_specs(inputs)

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

    def save(self, filepath, overwrite=True):
        """Write architecture, weights, `compile` arguments and the optimizer's state to one file.

        Parameters
        ----------
        filepath : str or Path
            The old file survives until the new one is complete.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        ValueError
            If a layer holds a Python function without a name.
        """
        from dlcore.io import save_model

        save_model(self, filepath, overwrite)

    def save_weights(self, filepath, overwrite=True):
        """Write the weights alone."""
        from dlcore.io import save_weights

        save_weights(self, filepath, overwrite)

    def load_weights(self, filepath):
        """Set the weights from a file of `save_weights` or `save`.

        Raises
        ------
        ValueError
            If the file is damaged or its weights have other shapes.
        """
        from dlcore.io import load_weights

        load_weights(self, filepath)

    def to_json(self, **kwargs):
        """The architecture as JSON text, for `models.model_from_json`."""
        import json

        from dlcore.layers import serialize

        return json.dumps(serialize(self), **kwargs)
