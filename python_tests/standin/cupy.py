"""CuPy without a GPU, for tests of what is done with it: NumPy's arrays under CuPy's rules.

Arrays of the two kinds do not mix, nothing becomes a NumPy array but by `get()`, reductions give
arrays of no axes, and there are only the functions that the library uses, all of which CuPy has.
`moved` counts the copies between the sides and their bytes.
"""

import math
import sys
import types

import numpy as np

__version__ = "stand-in"
inf = np.inf
moved = {"to_device": 0, "to_host": 0, "bytes": 0}


def _count(way, array):
    moved[way] += 1
    moved["bytes"] += array.nbytes


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array "on the device"."""

    __array_priority__ = 100

    def __init__(self, array):
        self._a = array

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method != "__call__":
            return NotImplemented
        if out is not None:
            kwargs["out"] = tuple(_inner(x) for x in out)
        return _outer(ufunc(*_inner(inputs), **kwargs))

    @property
    def __cuda_array_interface__(self):
        interface = self._a.__array_interface__
        return {key: interface[key] for key in ("shape", "typestr", "data", "strides")} | {
            "version": 3,
            "stream": 1,
        }

    def get(self, out=None):
        _count("to_host", self._a)
        if out is None:
            return self._a.copy(order="C")
        out[...] = self._a
        return out

    def set(self, array):
        if not isinstance(array, np.ndarray) or array.shape != self.shape:
            raise TypeError("Only NumPy arrays of the same shape can be set to an array")
        _count("to_device", array)
        self._a[...] = array

    def __getitem__(self, index):
        return _outer(self._a[_inner(index)])

    def __setitem__(self, index, value):
        self._a[_inner(index)] = _inner(value)

    def __iter__(self):
        return (_outer(x) for x in self._a)

    def __len__(self):
        return len(self._a)

    def __bool__(self):
        return bool(self._a)

    def __int__(self):
        return int(self._a)

    def __float__(self):
        return float(self._a)

    def __repr__(self):
        return repr(self._a)

    __hash__ = None


def _inner(x):
    """What NumPy computes with in place of x; its own arrays are refused."""
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    return type(x)(map(_inner, x)) if isinstance(x, (list, tuple)) else x


def _outer(y):
    if isinstance(y, (np.ndarray, np.generic)):
        return ndarray(np.asarray(y))
    return type(y)(map(_outer, y)) if isinstance(y, (list, tuple)) else y


def _method(name):
    def method(self, *args, **kwargs):
        return _outer(getattr(self._a, name)(*_inner(args), **_inner_values(kwargs)))

    return method


def _inner_values(kwargs):
    return {key: _inner(value) for key, value in kwargs.items()}


def _attribute(name):
    return property(lambda self: getattr(self._a, name))


for _name in ("astype", "copy", "ravel", "reshape", "squeeze", "swapaxes", "transpose", "max",
              "mean", "min", "sum", "any", "all"):  # fmt: skip
    setattr(ndarray, _name, _method(_name))
for _name in ("dtype", "flags", "itemsize", "nbytes", "ndim", "shape", "size", "strides"):
    setattr(ndarray, _name, _attribute(_name))
ndarray.T = property(lambda self: ndarray(self._a.T))
ndarray.device = property(lambda self: types.SimpleNamespace(id=0))
ndarray.item = lambda self: self._a.item()


def _function(name):
    f = getattr(np, name)

    def function(*args, **kwargs):
        return _outer(f(*_inner(args), **_inner_values(kwargs)))

    function.__name__ = name
    return function


for _name in (
    "abs", "arange", "argmax", "argmin", "broadcast_to", "ceil", "clip", "concatenate", "cos",
    "cumsum", "empty", "empty_like", "exp", "expand_dims", "expm1", "floor", "floor_divide", "full",
    "full_like",
    "isfinite", "isinf", "isnan", "log", "log1p", "logical_and", "logical_not", "logical_or",
    "matmul", "max", "maximum", "mean", "min", "minimum", "mod", "ones", "power", "prod", "repeat",
    "copysign", "frexp", "ldexp", "reshape", "rint", "sign", "sin", "sort", "sqrt", "stack", "sum",
    "swapaxes",
    "take_along_axis", "tanh", "transpose", "trunc", "unique", "zeros",
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argpartition",
    "bincount", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "cbrt", "correlate",
    "gcd", "histogram", "hypot", "isin", "lcm", "left_shift", "logaddexp", "multiply", "nonzero",
    "right_shift", "searchsorted", "cumprod", "take",
):  # fmt: skip
    globals()[_name] = _function(_name)


def where(condition, x, y):
    if not isinstance(condition, ndarray):
        raise TypeError(f"where: expected an array, got {type(condition)}")
    return _function("where")(condition, x, y)


def argsort(a, axis=-1, kind=None):
    if kind not in (None, "stable"):
        raise ValueError("argsort: expected kind None or 'stable'")
    return _function("argsort")(a, axis, kind="stable")


class _Add:
    """Only what is needed of the ufunc."""

    @staticmethod
    def at(a, indices, b):
        np.add.at(_inner(a), _inner(indices), _inner(b))


add = _Add()


def array(x, dtype=None, copy=True, order="C"):
    """From the host or from the device: always a copy."""
    if isinstance(x, np.ndarray):
        _count("to_device", x)
    inner = x if isinstance(x, np.ndarray) else _inner(x)
    return ndarray(np.array(inner, dtype, copy=True, order=order))


def asarray(x, dtype=None, order=None):
    if isinstance(x, ndarray) and dtype in (None, x.dtype):
        return x
    if hasattr(x, "__cuda_array_interface__") and not isinstance(x, ndarray):
        interface = {k: v for k, v in x.__cuda_array_interface__.items() if k != "stream"}
        holder = types.SimpleNamespace(__array_interface__=interface, owner=x)
        return ndarray(np.asarray(holder, dtype))
    return array(x, dtype, order="K")


def ascontiguousarray(x, dtype=None):
    y = asarray(x, dtype)
    return y if y._a.flags.c_contiguous else ndarray(np.ascontiguousarray(y._a))


def from_dlpack(x):
    return ndarray(np.from_dlpack(types.SimpleNamespace(
        __dlpack__=lambda **_: x.__dlpack__(), __dlpack_device__=lambda: (1, 0)
    )))  # fmt: skip


def fuse(kernel_name):
    return lambda f: f


def copyto(target, source):
    target._a[...] = source._a


def get_default_memory_pool():
    return types.SimpleNamespace(free_bytes=lambda: 0)


MEMORY = [1 << 30, 2 << 30]  # free and all bytes of the device

_runtime = types.SimpleNamespace(
    getDeviceCount=lambda: 1,
    getDevice=lambda: 0,
    memGetInfo=lambda: tuple(MEMORY),
    getDeviceProperties=lambda _: {
        "name": b"Stand-in", "major": 9, "minor": 0, "multiProcessorCount": 1,
    },
    driverGetVersion=lambda: 13000,
    runtimeGetVersion=lambda: 13000,
)  # fmt: skip
cuda = types.SimpleNamespace(
    runtime=_runtime,
    is_available=lambda: True,
    get_current_stream=lambda: types.SimpleNamespace(ptr=0, synchronize=lambda: None),
)

_special = types.ModuleType("cupyx.scipy.special")
_scipy = types.ModuleType("cupyx.scipy")
_cupyx = types.ModuleType("cupyx")
_cupyx.scipy, _scipy.special = _scipy, _special
sys.modules.update({m.__name__: m for m in (_cupyx, _scipy, _special)})


def _of_elements(f):
    return lambda x: _outer(np.vectorize(f, otypes=[x.dtype])(x._a) if x.size else x._a.copy())


def _erfinv(x):
    from dlcore.ops import elementary

    return _outer(elementary._special("erfinv", np, x._a).astype(x.dtype))


_special.erf, _special.erfc, _special.erfinv = *map(_of_elements, (math.erf, math.erfc)), _erfinv
