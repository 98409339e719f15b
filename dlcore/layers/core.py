"""Layers with a matrix, and layers that only apply a function.

Dense    y = activation(x w + b)                    x (..., D)  w (D, U)    b (U)     y (..., U)
Maxout   y = max over j of (x w_j + b_j)            x (..., D)  w (D, k U)  b (k U)   y (..., U)
"""

import numpy as np

from dlcore import activations, lookup, ops, random
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.layers.signatures import names_of


def _check_width(layer, x, width):
    if len(x.shape) < 2 or x.shape[-1] != width:
        inner = "" if len(x.shape) <= 2 else "..., "
        raise ValueError(
            f"{layer.name}: expected input (batch, {inner}{width}), got {tuple(x.shape)}"
        )


def _check_vectors(layer, input_shape):
    """The width D of inputs (batch, ..., D)."""
    if len(input_shape) < 2:
        raise ValueError(
            f"{layer.name}: expected input (batch, features), got {tuple(input_shape)};"
            " reshape(-1, 1) makes a column"
        )
    if not input_shape[-1]:
        raise ValueError(
            f"{layer.name}: expected a known number of features, got {tuple(input_shape)}"
        )
    return int(input_shape[-1])


class Dense(Layer):
    """Fully connected layer: y = activation(x w + b).

    Parameters
    ----------
    units : int
        Width U of the output.
    activation : str, callable or Layer, optional
    use_bias : bool, default True
    kernel_initializer : default "glorot_uniform"
    bias_initializer : default "zeros"
    kernel_regularizer, bias_regularizer, activity_regularizer : optional
        Penalties on w, b and y.
    kernel_constraint, bias_constraint : optional
        Where w and b stay.
    **kwargs
        See `Layer` (name, dtype, trainable, input_shape).

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.Dense(2, "relu", kernel_initializer="ones")
    >>> layer(np.array([[1.0, 2.0]], "float32"))
    array([[3., 3.]], dtype=float32)
    """

    supports_masking = True

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = spec.check_positive_int(self.name, "units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._describe_weight("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._describe_weight("bias", bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape):
        width = _check_vectors(self, input_shape)
        self.kernel = self._add_described("kernel", (width, self.units))
        if self.use_bias:
            self.bias = self._add_described("bias", (self.units,))

    def call(self, inputs):
        _check_width(self, inputs, self.kernel.shape[0])
        y = ops.matmul(self._as_float(inputs), self.kernel)
        if self.use_bias:
            y = ops.add(y, self.bias)
        return activations.get(self.activation)(y)


class Maxout(Layer):
    """The largest of k linear pieces: y = max over j of (x w_j + b_j).

    All pieces are one matrix product; each piece is initialized as a matrix of its own.

    Parameters
    ----------
    units : int
        Width U of the output.
    k : int, default 2
        Number of pieces.
    use_bias : bool, default True
    kernel_initializer : default "glorot_uniform"
    bias_initializer : default "zeros"
    kernel_regularizer, bias_regularizer, activity_regularizer : optional
    kernel_constraint, bias_constraint : optional
    **kwargs
        See `Layer`.

    References
    ----------
    Goodfellow et al. 2013, "Maxout Networks", https://arxiv.org/abs/1302.4389

    Examples
    --------
    >>> Maxout(3, 2)(np.ones((5, 4), "float32")).shape
    (5, 3)
    """

    supports_masking = True

    def __init__(
        self,
        units,
        k=2,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = spec.check_positive_int(self.name, "units", units)
        self.k = spec.check_positive_int(self.name, "k", k)
        self.use_bias = use_bias
        self._describe_weight("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._describe_weight("bias", bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape):
        width = _check_vectors(self, input_shape)
        columns = self.k * self.units
        self.kernel = self._add_described("kernel", (width, columns), initializer=self._pieces)
        if self.use_bias:
            self.bias = self._add_described("bias", (columns,))

    def _pieces(self, shape, dtype):
        """k initial matrices side by side, each with a seed of its own: one seed repeats itself."""
        width, columns = shape
        initializer = self.kernel_initializer
        if hasattr(initializer, "clone") and getattr(initializer, "seed", None) is not None:
            pieces = [self._clone(initializer, j) for j in range(self.k)]
        else:
            pieces = [initializer] * self.k
        return np.concatenate([p((width, columns // self.k), dtype=dtype) for p in pieces], axis=1)

    @staticmethod
    def _clone(initializer, j):
        if not isinstance(initializer.seed, int):
            return initializer
        piece = initializer.clone()
        piece.seed = initializer.seed + j
        return piece

    def call(self, inputs):
        _check_width(self, inputs, self.kernel.shape[0])
        y = ops.matmul(self._as_float(inputs), self.kernel)
        if self.use_bias:
            y = ops.add(y, self.bias)
        # The pieces lie apart, so that the maximum is taken of whole vectors of units.
        return ops.max(ops.reshape(y, (*y.shape[:-1], self.k, self.units)), axis=-2)


class Activation(Layer):
    """An activation function as a layer.

    Parameters
    ----------
    activation : str or callable
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> print(Activation("relu")(np.array([[-1.0, 2.0]], "float32")))
    [[0. 2.]]
    """

    supports_masking = True

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs):
        return activations.get(self.activation)(self._as_float(inputs))


class Dropout(Layer):
    """While training, sets a random fraction of the inputs to 0, and divides the rest by 1 - rate.

    Parameters
    ----------
    rate : float, 0 <= rate <= 1
    noise_shape : tuple, optional
        Shape of the random mask; sizes of 1 share it along an axis, None is the input's size.
    seed : int, optional
    **kwargs
        See `Layer`.

    References
    ----------
    Srivastava et al. 2014, "Dropout", JMLR 15

    Examples
    --------
    >>> x = np.ones((1, 4), "float32")
    >>> print(Dropout(0.5)(x))
    [[1. 1. 1. 1.]]
    >>> y = Dropout(0.5, seed=1)(x, training=True)  # kept with probability 1 / 2, and doubled
    >>> set(y.ravel().tolist()) <= {0.0, 2.0}
    True
    """

    supports_masking = True

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
            raise ValueError(f"{self.name}: expected rate between 0 and 1, got {rate!r}")
        self.rate, self.seed = rate, seed
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.seed_generator = random.SeedGenerator(seed) if rate > 0 else None

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return ops.zeros_like(inputs)
        shape = self.noise_shape
        if shape is not None:
            shape = [n if s is None else s for n, s in zip(inputs.shape, shape, strict=True)]
        return random.dropout(inputs, self.rate, shape, self.seed_generator)


class Lambda(Layer):
    """Any function written with `dlcore.ops` as a layer, without weights. Files name the function,
    which has to be registered to load them, or given as one of `custom_objects`.

    Parameters
    ----------
    function : callable
        ``function(inputs, **arguments)``, also with `mask` or `training` where it takes these.
    mask : callable (inputs, mask) -> mask, or a tensor, optional
        Mask of the output; none by default.
    arguments : dict, optional
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.Lambda(lambda x: x * x)(np.array([[3.0]], "float32"))
    array([[9.]], dtype=float32)
    """

    def __init__(self, function, output_shape=None, mask=None, arguments=None, **kwargs):
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(f"{self.name}: expected a function, got {function!r}")
        self.function = function
        self.arguments = arguments or {}
        self.mask, self.supports_masking = mask, mask is not None

    def compute_mask(self, inputs, mask=None):
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def call(self, inputs, mask=None, training=None):
        more = {"mask": mask, "training": training}
        taken = {k: v for k, v in more.items() if k in names_of(self.function, 0)}
        return self.function(inputs, **(taken | self.arguments))

    @classmethod
    def from_config(cls, config):
        name = config.get("function")
        if isinstance(name, str):
            function = lookup.custom_object(name)
            if function is None:
                raise ValueError(
                    f"{config.get('name', 'lambda')}: expected its function in custom_objects,"
                    f" or registered, got none called {name!r}"
                )
            config = config | {"function": function}
        return super().from_config(config)


class Identity(Layer):
    """Returns its input."""

    supports_masking = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs):
        return inputs


class ActivityRegularization(Layer):
    """Returns its input, and adds l1 sum |x| + l2 sum x^2 to the loss.

    Parameters
    ----------
    l1, l2 : float, default 0
    **kwargs
        See `Layer`.
    """

    supports_masking = True

    def __init__(self, l1=0.0, l2=0.0, **kwargs):
        from dlcore import regularizers

        super().__init__(activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def call(self, inputs):
        return inputs

    def get_config(self):
        config = super().get_config()
        config.pop("activity_regularizer", None)
        return config
