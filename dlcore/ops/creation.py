"""Tensors from shapes, numbers and arrays, and what a tensor is: its shape, size and type."""

import math

import numpy as np

from dlcore import backends
from dlcore.ops.calling import traceable
from dlcore.ops.op import cast_to, to_array, to_tensor
from dlcore.ops.shaping import _ints, broadcast_to
from dlcore.program import dtypes
from dlcore.program.graph import Tensor, current_trace
from dlcore.program.symbol import Symbol
from dlcore.program.variable import Variable


def full(shape, fill_value, dtype=None):
    """A tensor of `shape` filled with `fill_value`."""
    shape = _ints("full", shape)
    if any(s < 0 for s in shape):
        raise ValueError(f"full: expected sizes of at least 0, got {shape}")
    dtype = dtypes.standardize(dtype, "full", halves=True)
    if current_trace() is None:
        return np.full(shape, fill_value, dtypes.array_type(dtype))
    value = cast_to(to_tensor(fill_value, dtype), dtype)
    return broadcast_to(value, shape)


def zeros(shape, dtype=None):
    """A tensor of `shape` filled with 0."""
    return full(shape, 0, dtype)


def ones(shape, dtype=None):
    """A tensor of `shape` filled with 1."""
    return full(shape, 1, dtype)


@traceable()
def full_like(x, fill_value, dtype=None):
    """A tensor of the shape of x filled with `fill_value`."""
    x = to_tensor(x)
    return full(x.shape, fill_value, dtype or x.dtype)


@traceable()
def zeros_like(x, dtype=None):
    """A tensor of the shape of x filled with 0."""
    return full_like(x, 0, dtype)


@traceable()
def ones_like(x, dtype=None):
    """A tensor of the shape of x filled with 1."""
    return full_like(x, 1, dtype)


def arange(start, stop=None, step=None, dtype=None):
    """start, start + step, ... below stop; one argument means 0..start."""
    start, stop = (0, start) if stop is None else (start, stop)
    if step is not None and step == 0:
        raise ValueError("arange: expected a step other than 0, got 0")
    values = np.arange(start, stop, step)
    if dtype is None:
        dtype = "int32" if values.dtype.kind == "i" else None
    array = values.astype(dtypes.standardize(dtype, "arange"))
    return array if current_trace() is None else to_tensor(array)


def eye(N, M=None, k=0, dtype=None):
    """An N x M matrix with ones on diagonal k."""
    array = np.eye(N, M, k, dtype=dtypes.standardize(dtype, "eye"))
    return array if current_trace() is None else to_tensor(array)


def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """`num` evenly spaced numbers from start to stop; with `retstep` also the distance. As integers
    they are rounded down."""
    values, step = np.linspace(start, stop, num, endpoint, retstep=True, axis=axis)
    dtype = dtypes.standardize(dtype, "linspace")
    array = (values if dtypes.is_float(dtype) else np.floor(values)).astype(dtype)
    array = array if current_trace() is None else to_tensor(array)
    return (array, step) if retstep else array


def shape(x):
    """The shape of x as a tuple of ints."""
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def ndim(x):
    """The number of axes of x."""
    return len(shape(x))


def size(x):
    """The number of elements of x."""
    return math.prod(shape(x))


def dtype(x):
    """The name of the type of x."""
    return str(x.dtype) if hasattr(x, "dtype") else np.asarray(x).dtype.name


def is_tensor(x):
    """Whether x is an array, or stands for one."""
    return isinstance(x, (np.ndarray, Tensor, Symbol)) or backends.is_device_array(x)


def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """x as an array, or in a trace as a symbolic tensor, of `dtype`; there are no sparse ones."""
    from dlcore.ops.pointwise import cast

    if current_trace() is None:
        if isinstance(x, Variable):
            x = x.numpy()  # what the variable holds now
        x = x if isinstance(x, Symbol) or backends.is_device_array(x) else to_array(x)
        return x if dtype is None else cast(x, dtype)
    x, who = to_tensor(x), "convert_to_tensor"
    return x if dtype is None else cast_to(x, dtypes.standardize(dtype, who, halves=True))


def convert_to_numpy(x):
    """x as a NumPy array."""
    return np.asarray(backends.to_host(x))
