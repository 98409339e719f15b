"""Layers about the steps of a sequence.

Masking           y = x, with steps that hold one value only masked
TimeDistributed   y[:, t] = layer(x[:, t])
"""

from dlcore import ops
from dlcore.layers import spec
from dlcore.layers.base import Layer


class Masking(Layer):
    """Masks the steps in which every feature equals `mask_value`, and sets them to 0.

    Later layers skip such steps: recurrent layers keep their state, attention does not look at
    them, losses and metrics leave them out.

    Parameters
    ----------
    mask_value : float, default 0
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x = np.array([[[1.0, 2.0], [9.0, 9.0]]], "float32")
    >>> dlcore.layers.Masking(mask_value=9.0)(x)
    array([[[1., 2.],
            [0., 0.]]], dtype=float32)
    """

    supports_masking = True

    def __init__(self, mask_value=0.0, **kwargs):
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs):
        if len(inputs.shape) < 2:
            raise ValueError(
                f"{self.name}: expected input (batch, steps, ...), got {tuple(inputs.shape)}"
            )
        kept = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        return inputs * ops.cast(kept, inputs.dtype)


class Wrapper(Layer):
    """Base of layers around another: `build` builds that one, as `self.layer`.

    Parameters
    ----------
    layer : Layer
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> class Twice(dlcore.layers.Wrapper):
    ...     def call(self, x):
    ...         return 2 * self.layer(x)
    >>> Twice(dlcore.layers.Dense(1, kernel_initializer="ones"))(np.ones((1, 3), "float32"))
    array([[6.]], dtype=float32)
    """

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.name}: expected a Layer, got {layer!r}")
        self.layer = layer

    def build(self, input_shape=None):
        if not self.layer.built:
            self.layer.build(input_shape)


class TimeDistributed(Wrapper):
    """Applies a layer to every step: all steps become rows of one batch, unless the layer learns
    from each of its calls, as `BatchNormalization` does while training.

    Parameters
    ----------
    layer : Layer
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.TimeDistributed(dlcore.layers.Dense(3))
    >>> layer(np.ones((2, 5, 4), "float32")).shape
    (2, 5, 3)
    """

    supports_masking = True

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        self.autocast = False

    def build(self, input_shape=None):
        """The layer is built by its first call, for a step."""

    def call(self, inputs, training=None, mask=None):
        shape = tuple(inputs.shape)
        if len(shape) < 3:
            raise ValueError(f"{self.name}: expected input (batch, steps, ...), got {shape}")
        mask = mask if mask is not None and len(mask.shape) > 2 else None
        if not self.layer.built:
            spec.output_spec(self.layer, spec.Spec((None, *shape[2:]), str(inputs.dtype)))
        if training and any(map(_learns_from_calls, self.layer._layers_within())):
            return self._step_by_step(inputs, mask)
        x = ops.reshape(inputs, (shape[0] * shape[1], *shape[2:]))
        if mask is not None:
            x.mask = ops.reshape(mask, x.shape[: len(mask.shape) - 1])
        y = self.layer(x)
        return spec.map_leaves(lambda z: ops.reshape(z, (*shape[:2], *z.shape[1:])), y)

    def _step_by_step(self, inputs, mask):
        ys = []
        for t in range(inputs.shape[1]):
            x = inputs[:, t]
            if mask is not None:
                x.mask = mask[:, t]
            ys.append(self.layer(x))
        columns = zip(*map(spec.leaves, ys), strict=True)
        return spec.map_leaves(lambda _: ops.stack(next(columns), axis=1), ys[0])


def _learns_from_calls(layer):
    """Whether a layer has weights that are not trained: calls change those."""
    return layer.trainable and not all(v.trainable for v in layer._parts()[0])
