"""InputSpec: what a layer expects of its input; checked at every call that is traced."""

from dlcore import lookup
from dlcore.layers import spec


class InputSpec(lookup.Checked):
    """Rank, shape and type that an input must have; what is None may be anything.

    Parameters
    ----------
    dtype : str, optional
    shape : tuple, optional
        With the batch; None stands for any size.
    ndim, max_ndim, min_ndim : int, optional
        Number of axes.
    axes : dict of int to int, optional
        Sizes of some axes.
    allow_last_axis_squeeze : bool
        Whether a last axis of size 1 may be there or not.
    name : str, optional
        Of the input, in dictionaries.
    optional : bool
        Whether the input may be None.

    Examples
    --------
    >>> import numpy as np, dlcore as keras
    >>> class Twice(keras.layers.Layer):
    ...     input_spec = keras.InputSpec(ndim=2, axes={-1: 3})
    ...     def call(self, x):
    ...         return 2 * x
    >>> Twice(name="twice")(np.ones((1, 4), "float32"))
    Traceback (most recent call last):
    ValueError: twice: expected an input with 3 at axis -1, got (1, 4)
    """

    def __init__(
        self, dtype=None, shape=None, ndim=None, max_ndim=None, min_ndim=None, axes=None,
        allow_last_axis_squeeze=False, name=None, optional=False,
    ):  # fmt: skip
        self.dtype, self.max_ndim, self.min_ndim = dtype, max_ndim, min_ndim
        self.shape = None if shape is None else tuple(shape)
        self.ndim = ndim if shape is None else len(self.shape)
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        self.name, self.optional = name, optional
        rank = self.ndim if self.ndim is not None else max_ndim
        if rank is not None and any(axis >= rank for axis in self.axes):
            raise ValueError(f"InputSpec: expected axes below {rank}, got {max(self.axes)}")

    def get_config(self):
        return vars(self).copy()

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        given = ((k, v) for k, v in vars(self).items() if v not in (None, {}, False))
        return f"InputSpec({', '.join(f'{k}={v!r}' for k, v in given)})"

    def check(self, who, x):
        """Refuse an input that is none of this."""
        if x is None and self.optional:
            return
        shape = tuple(x.shape)
        expected = self._trouble(shape, str(x.dtype))
        if expected:
            got = str(x.dtype) if expected.startswith("of type") else shape
            raise ValueError(f"{who}: expected an input {expected}, got {got}")

    def _trouble(self, shape, dtype):
        """What is not so, or None."""
        squeezable = self.allow_last_axis_squeeze and self.shape
        if squeezable and len(shape) == len(self.shape) + 1 and shape[-1] == 1:
            shape = shape[:-1]
        elif squeezable and len(shape) == len(self.shape) - 1 and self.shape[-1] == 1:
            shape = (*shape, 1)
        ndim = len(shape)
        if self.ndim is not None and ndim != self.ndim:
            return f"of {self.ndim} axes"
        if self.max_ndim is not None and ndim > self.max_ndim:
            return f"of at most {self.max_ndim} axes"
        if self.min_ndim is not None and ndim < self.min_ndim:
            return f"of at least {self.min_ndim} axes"
        if self.dtype is not None and dtype != self.dtype:
            return f"of type {self.dtype}"
        for axis, size in self.axes.items():
            if size is not None and shape[axis] not in (size, None):
                return f"with {size} at axis {axis}"
        if self.shape is not None and not spec.fits(shape, self.shape):
            return f"of shape {self.shape}"
        return None


def check(layer, inputs):
    """Refuse inputs that do not fit `layer.input_spec`."""
    specs = layer.input_spec
    if isinstance(specs, dict):
        for name, one in specs.items():
            one.check(layer.name, inputs[name])
        return
    specs = list(specs) if isinstance(specs, (list, tuple)) else [specs]
    xs = spec.leaves(inputs)
    if len(xs) != len(specs):
        raise ValueError(f"{layer.name}: expected {len(specs)} inputs, got {len(xs)}")
    for one, x in zip(specs, xs, strict=True):
        if one is not None:
            one.check(layer.name, x)
