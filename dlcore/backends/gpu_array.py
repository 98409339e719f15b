"""Arrays on the GPU beside compiled programs: CuPy's once a script has imported it, else
`GpuArray`s; and the stream that both use.
"""

import math
import sys

import numpy as np

from dlcore.backends import arrays, cupy
from dlcore.program import dtypes
from dlcore.program.graph import Operators


def empty(shape, dtype):
    """An uninitialised array of the extension's own."""
    from dlcore import _cuda

    return _cuda.empty(tuple(shape), dtypes.CODES[np.dtype(dtype).name])


class GpuArray(Operators):
    """A contiguous array on the GPU, where no CuPy is at hand: shape, dtype, `get()`, arithmetic,
    parts.

    holder : anything with __cuda_array_interface__, which owns the memory.
    """

    is_on_gpu = True

    def __init__(self, holder):
        from dlcore import _cuda

        if isinstance(holder, _cuda.DeviceArray):  # its interface would say that others use it
            interface = {"shape": holder.shape, "typestr": holder.dtype}
        else:
            interface = holder.__cuda_array_interface__
        self.shape, self.dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize
        self.flags = _Flags(interface, self)
        self._holder = holder

    @property
    def __cuda_array_interface__(self):
        return self._holder.__cuda_array_interface__

    def get(self):
        """A copy as a NumPy array."""
        from dlcore import _cuda

        if hasattr(self._holder, "get"):
            return self._holder.get()
        reader = _cuda.Program(1, [], [], [], {})
        reader.bind(0, self._holder)
        return reader.read(0, 0, dtypes.CODES[self.dtype.name], self.shape)

    def set(self, array):
        """Copy a NumPy array of the same shape and dtype here."""
        self._holder.set(np.ascontiguousarray(array, self.dtype))

    def __array__(self, *_args, **_kwargs):
        raise TypeError("expected an array on the host, got one on the GPU; use .get()")

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        """Rows are the same memory; any other part is a new array."""
        if isinstance(key, slice) and key.step in (None, 1):
            return GpuArray(self._holder[key])
        from dlcore.ops.indexing import get_item
        from dlcore.program.function import run_eagerly

        return run_eagerly(get_item, (self,), (key,), {}, False, None)

    def __repr__(self):
        return f"<GpuArray {self.dtype}{list(self.shape)}>"


class _Flags:
    def __init__(self, interface, array):
        strides, dense = interface.get("strides"), array.dtype.itemsize
        self.c_contiguous = True
        for n, stride in zip(array.shape[::-1], (strides or ())[::-1], strict=False):
            self.c_contiguous &= n == 1 or stride == dense or not array.size
            dense *= n


class CudaArrays(cupy.CupyArrays):
    """Arrays of CuPy, if the script uses it, or `GpuArray`s; see `arrays.Arrays`."""

    @property
    def module(self):
        return sys.modules.get("cupy")

    def own(self, x, dtype=None):
        if self.module is not None:
            return super().own(x, dtype)
        if arrays.is_on_gpu(x):
            x = x if isinstance(x, GpuArray) else GpuArray(_shown(x))
        dtype = np.dtype(dtype or dtypes.standardize(np.dtype(_type(x)), "array"))
        if isinstance(x, GpuArray):
            if x.flags.c_contiguous and x.dtype == dtype:
                return x
            if not x.flags.c_contiguous:
                raise ValueError(
                    "array: expected C-contiguous memory on the GPU, got strides; install CuPy,"
                    " or make a contiguous copy first"
                )
            x = x.get()
        there = empty(np.shape(x), dtype)
        there.set(np.require(x, dtype, ["C", "A"]))
        return GpuArray(there)

    def empty(self, shape, dtype):
        return GpuArray(empty(shape, dtype)) if self.module is None else super().empty(shape, dtype)

    def shown(self, x):
        """A result of a program as an array of the caller's: on the GPU without a copy."""
        if isinstance(x, np.ndarray):
            return x
        xp = self.module
        if xp is None:
            return GpuArray(x)
        if not x.nbytes:
            return xp.empty(x.shape, x.dtype)
        # Work is in CuPy's current stream: its own way from the interface would wait for it.
        memory = xp.cuda.UnownedMemory(x.address, x.nbytes, x)
        return xp.ndarray(x.shape, x.dtype, xp.cuda.MemoryPointer(memory, 0))

    def on_device(self, memory):
        """The memory of variables as a flat CuPy array, with what programs left in it."""
        there = memory.on_device(empty)
        _order()
        return self.shown(there).reshape(-1)

    def changed(self, variable):
        _order()
        super().changed(variable)


def _type(x):
    if not isinstance(x, GpuArray) and hasattr(x, "__cuda_array_interface__"):
        return x.__cuda_array_interface__["typestr"]
    return getattr(x, "dtype", None) or np.asarray(x).dtype


def _shown(x):
    if hasattr(x, "__cuda_array_interface__"):
        return x
    raise TypeError(
        f"array: expected __cuda_array_interface__ of an array on the GPU, got"
        f" {type(x).__name__}; install CuPy for DLPack"
    )


ARRAYS = CudaArrays()


def _order():
    """What CuPy does from now on comes after what programs do, and the other way round."""
    from dlcore import _cuda

    _cuda.order(stream())


def stream():
    """CuPy's current stream, where the script uses CuPy."""
    xp = ARRAYS.module
    return None if xp is None else xp.cuda.get_current_stream().ptr


def bare(x):
    """What owns the memory of `x`: of arrays of ours the extension knows who uses them."""
    return x._holder if type(x) is GpuArray else x


def dense(x, dtype):
    """`x` as the native program takes it: contiguous, of the traced dtype."""
    return ARRAYS.own(x, dtype) if arrays.is_on_gpu(x) else np.require(x, dtype, ["C", "A"])
