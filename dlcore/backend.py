"""`keras.backend`: settings, and, as older scripts call them (`from keras import backend as K`),
the functions of `dlcore.ops`."""

import numpy as np

from dlcore import ops
from dlcore.config import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
)
from dlcore.program.dtypes import is_float, promote
from dlcore.program.variable import Variable as variable
from dlcore.utils import clear_session, is_keras_tensor, standardize_dtype

__all__ = [
    "backend", "clear_session", "epsilon", "floatx", "get_uid", "get_value", "image_data_format",
    "is_float_dtype", "is_int_dtype", "is_keras_tensor", "result_type", "set_epsilon",
    "set_floatx", "set_image_data_format", "set_value", "standardize_dtype", "variable",
]  # fmt: skip

_OLD_NAMES = {
    "constant": "convert_to_tensor",
    "flatten": "ravel",
    "int_shape": "shape",
    "permute_dimensions": "transpose",
    "pow": "power",
}


def __getattr__(name):
    if not name.startswith("_"):
        value = getattr(ops, _OLD_NAMES.get(name, name), None)
        if value is not None:
            return value
    raise AttributeError(f"dlcore.backend: expected a name of backend or ops, got {name!r}")


def is_float_dtype(dtype):
    """Whether a type is one of floats."""
    return is_float(standardize_dtype(dtype))


def is_int_dtype(dtype):
    """Whether a type is one of integers."""
    return standardize_dtype(dtype).startswith(("int", "uint"))


def result_type(*dtypes):
    """The type of what is computed from values of these types.

    Examples
    --------
    >>> result_type("int32", "float32")
    'float32'
    """
    return promote(*(None if d is float else standardize_dtype(d) for d in dtypes))


def get_uid(prefix=""):
    """1, 2, 3, ... for each prefix, anew after `clear_session`."""
    from dlcore.layers.names import next_number

    return next_number(f"uid of {prefix}") + 1


def get_value(x):
    """A copy of what a variable, or an array, holds."""
    return x.numpy() if isinstance(x, variable) else np.array(x)


def set_value(x, value):
    """Give a variable a value."""
    x.assign(np.asarray(value, x.dtype))
