"""Activation functions that are layers of their own, as they have parameters."""

from dlcore import activations, ops
from dlcore.layers import spec
from dlcore.layers.base import Layer


def _check_number(name, what, value):
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    if not ok:
        raise ValueError(f"{name}: expected {what} as a number >= 0, got {value!r}")
    return float(value)


class ReLU(Layer):
    """max_value at x >= max_value; x at threshold <= x < max_value; negative_slope (x - threshold)
    below.

    Parameters
    ----------
    max_value : float, optional
    negative_slope : float, default 0
    threshold : float, default 0
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> print(ReLU()(np.array([[-1.0, 2.0]], "float32")))
    [[0. 2.]]
    """

    supports_masking = True

    def __init__(self, max_value=None, negative_slope=0.0, threshold=0.0, **kwargs):
        super().__init__(**kwargs)
        self.max_value = (
            None if max_value is None else _check_number(self.name, "max_value", max_value)
        )
        self.negative_slope = _check_number(self.name, "negative_slope", negative_slope or 0)
        self.threshold = _check_number(self.name, "threshold", threshold or 0)

    def call(self, inputs):
        return activations.relu(
            self._as_float(inputs),
            negative_slope=self.negative_slope,
            max_value=self.max_value,
            threshold=self.threshold,
        )


class LeakyReLU(Layer):
    """x at x >= 0, else negative_slope x.

    Parameters
    ----------
    negative_slope : float, default 0.3
        Also `alpha`, its old name.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> print(LeakyReLU(0.1)(np.array([[-1.0, 2.0]], "float32")))
    [[-0.1  2. ]]
    """

    supports_masking = True

    def __init__(self, negative_slope=0.3, alpha=None, **kwargs):
        super().__init__(**kwargs)
        slope = negative_slope if alpha is None else alpha
        self.negative_slope = _check_number(self.name, "negative_slope", slope)

    def get_config(self):
        return {k: v for k, v in super().get_config().items() if k != "alpha"}

    def call(self, inputs):
        return activations.leaky_relu(self._as_float(inputs), negative_slope=self.negative_slope)


class PReLU(Layer):
    """x at x >= 0, else alpha x, with a learned alpha for every input feature.

    Parameters
    ----------
    alpha_initializer : default "zeros"
    alpha_regularizer, alpha_constraint : optional
    shared_axes : list of int, optional
        Axes (1 is the first after the batch) along which alpha is the same.
    **kwargs
        See `Layer`.

    References
    ----------
    He et al. 2015, https://arxiv.org/abs/1502.01852

    Examples
    --------
    >>> import numpy as np
    >>> print(PReLU("ones")(np.array([[-1.0, 2.0]], "float32")))
    [[-1.  2.]]
    """

    supports_masking = True

    def __init__(
        self,
        alpha_initializer="zeros",
        alpha_regularizer=None,
        alpha_constraint=None,
        shared_axes=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._describe_weight("alpha", alpha_initializer, alpha_regularizer, alpha_constraint)
        if shared_axes is not None and not isinstance(shared_axes, (list, tuple)):
            shared_axes = [shared_axes]
        self.shared_axes = None if shared_axes is None else list(shared_axes)

    def build(self, input_shape):
        shape = list(input_shape[1:])
        for axis in self.shared_axes or ():
            if not 1 <= axis <= len(shape):
                raise ValueError(
                    f"{self.name}: expected shared_axes in 1..{len(shape)}, got {self.shared_axes}"
                )
            shape[axis - 1] = 1
        self.alpha = self._add_described("alpha", tuple(shape))

    def call(self, inputs):
        x = self._as_float(inputs)
        expected = self.alpha.shape
        fits = len(x.shape) == len(expected) + 1 and all(
            a in (1, n) for a, n in zip(expected, x.shape[1:], strict=True)
        )
        if not fits:
            raise ValueError(
                f"{self.name}: expected input {spec.shown(expected)}, got {tuple(x.shape)}"
            )
        return ops.relu(x) - self.alpha * ops.relu(-x)


class ELU(Layer):
    """x at x > 0, else alpha (exp(x) - 1).

    Parameters
    ----------
    alpha : float, default 1
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> print(ELU()(np.array([[-1.0, 2.0]], "float32")))
    [[-0.63212055  2.        ]]
    """

    supports_masking = True

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = _check_number(self.name, "alpha", alpha)

    def call(self, inputs):
        return activations.elu(self._as_float(inputs), alpha=self.alpha)


class Softmax(Layer):
    """exp(x) / sum(exp(x)) over `axis`; a `mask` of the shape of x leaves out what it names False.

    Parameters
    ----------
    axis : int or tuple of int, default -1
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> print(Softmax()(np.array([[3.0, 3.0]], "float32")))
    [[0.5 0.5]]
    """

    supports_masking = True

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs, mask=None):
        x = self._as_float(inputs)
        if mask is None or len(mask.shape) != len(x.shape):  # one of steps
            return activations.softmax(x, axis=self.axis)
        mask = ops.cast(mask, "bool")
        return ops.where(mask, activations.softmax(ops.where(mask, x, -1e9), axis=self.axis), 0.0)
