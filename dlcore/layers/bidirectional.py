"""A recurrent layer run both ways."""

from dlcore import ops
from dlcore.layers import spec
from dlcore.layers.base import Layer

_MERGES = {
    "sum": ops.add,
    "mul": ops.multiply,
    "ave": lambda a, b: (a + b) * 0.5,
    "concat": lambda a, b: ops.concatenate([a, b], axis=-1),
}


class Bidirectional(Layer):
    """Runs a recurrent layer forwards and a copy of it backwards, and merges their outputs.

    Where all steps are returned, those that are masked are 0.

    Parameters
    ----------
    layer : RNN
        `LSTM`, `GRU`, `SimpleRNN` or `RNN`.
    merge_mode : {"concat", "sum", "mul", "ave", None}, default "concat"
        None returns both outputs.
    backward_layer : RNN, optional
        Instead of the copy; it must go backwards.
    **kwargs
        See `Layer`.

    References
    ----------
    Schuster and Paliwal 1997, "Bidirectional recurrent neural networks"

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.Bidirectional(dlcore.layers.LSTM(4))
    >>> layer(np.zeros((2, 5, 3), "float32")).shape
    (2, 8)
    """

    def __init__(self, layer, merge_mode="concat", weights=None, backward_layer=None, **kwargs):
        super().__init__(**kwargs)
        layer, backward_layer = spec.revive(layer), spec.revive(backward_layer)
        if not hasattr(layer, "go_backwards"):
            raise ValueError(f"{self.name}: expected a recurrent layer, got {layer!r}")
        if merge_mode is not None and merge_mode not in _MERGES:
            raise ValueError(
                f"{self.name}: expected merge_mode concat, sum, mul, ave or None, "
                f"got {merge_mode!r}"
            )
        self.merge_mode = merge_mode
        self.layer = self.forward_layer = layer
        if backward_layer is None:
            config = layer.get_config()
            config.update(go_backwards=not layer.go_backwards, name=f"backward_{layer.name}")
            backward_layer = type(layer).from_config(config)
            layer._name = f"forward_{layer.name}"
        elif backward_layer.go_backwards == layer.go_backwards:
            raise ValueError(
                f"{self.name}: expected layers that go opposite ways, got go_backwards="
                f"{layer.go_backwards} twice"
            )
        for name in ("return_sequences", "return_state", "stateful"):
            if getattr(layer, name) != getattr(backward_layer, name):
                raise ValueError(
                    f"{self.name}: expected layers of equal {name}, got {getattr(layer, name)} and "
                    f"{getattr(backward_layer, name)}"
                )
        for way in (layer, backward_layer):
            way.zero_output_for_mask = way.return_sequences
        self.backward_layer = backward_layer
        self.return_sequences, self.return_state = layer.return_sequences, layer.return_state
        self.supports_masking = True

    def build(self, input_shape):
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(input_shape)

    def call(self, inputs, initial_state=None, mask=None, training=False):
        states = None, None
        if initial_state is not None:
            half = len(initial_state) // 2
            states = list(initial_state[:half]), list(initial_state[half:])
        results = [
            layer(inputs, initial_state=state, mask=mask, training=training)
            for layer, state in zip((self.forward_layer, self.backward_layer), states, strict=True)
        ]
        last = []
        if self.return_state:
            last = [x for _, *given in results for x in given]
            results = [y for y, *_ in results]
        a, b = results
        if self.return_sequences:  # both in the order of time
            b = ops.flip(b, axis=1)
        y = [a, b] if self.merge_mode is None else _MERGES[self.merge_mode](a, b)
        if not self.return_state:
            return y
        return [*y, *last] if self.merge_mode is None else [y, *last]

    def compute_mask(self, inputs, mask=None):
        """The mask of the outputs: the inputs' own where all steps are returned."""
        output = mask if self.return_sequences else None
        if self.merge_mode is None:
            output = [output, output]
        if not self.return_state:
            return output
        states = [None] * (2 * len(self.forward_layer.compute_mask(None, None)) - 2)
        return [*(output if isinstance(output, list) else [output]), *states]

    def reset_states(self):
        """Forget the states of stateful layers."""
        self.forward_layer.reset_states()
        self.backward_layer.reset_states()

    reset_state = reset_states
