"""The fallback on a GPU: the ops' formulas on CuPy arrays. Variables, the data of a `fit` and its
results stay on the device; metrics come back when somebody looks at them."""

import os

import numpy as np

from dlcore.backends.arrays import ArrayBatches, ArrayProgram
from dlcore.program import dtypes

NAME = "cupy"
_MOST = 0.8  # of the free memory for data: the rest is for activations
_forked_from = None


def missing():
    """Why CuPy cannot be used, in some words, or None."""
    try:
        import cupy
    except ImportError as error:
        return "not installed" if _is_absent(error) else f"does not start ({error})"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        return str(error)
    return None if count else "no GPU"


def _is_absent(error):
    return isinstance(error, ModuleNotFoundError) and error.name == "cupy"


def forked():
    """In the child of a process that used the GPU."""
    global _forked_from
    _forked_from = os.getppid()


def check_process():
    """Refuse to go on in a process forked from one that used the GPU."""
    if _forked_from is not None:
        raise RuntimeError(
            f"gpu: expected the process that first used the GPU, got one forked from it"
            f" (by {_forked_from}); start processes by 'spawn', or call dlcore.set_device('cpu')"
        )


class CupyArrays:
    """CuPy as the home of arrays; see `arrays.Arrays`."""

    on_gpu = True

    @property
    def module(self):
        import cupy

        return cupy

    def take(self, x):
        return self.module.asarray(x)

    def own(self, x, dtype=None):
        """`x` (of NumPy, CuPy, or with __cuda_array_interface__ or DLPack) as a contiguous CuPy
        array of one of the library's types."""
        check_process()
        xp = self.module
        if not isinstance(x, (xp.ndarray, np.ndarray)):
            by_dlpack = not hasattr(x, "__cuda_array_interface__") and hasattr(x, "__dlpack__")
            x = xp.from_dlpack(x) if by_dlpack else xp.asarray(x)
        return xp.ascontiguousarray(x, dtype or dtypes.standardize(x.dtype, "array")).reshape(
            x.shape
        )

    def empty(self, shape, dtype):
        return self.module.empty(shape, dtype)

    def home(self, x):
        return x.get()

    def on_device(self, memory):
        """The memory of variables as a flat array."""
        return memory.on_device(self.empty).reshape(-1)

    def contents(self, variable):
        check_process()
        flat = self.on_device(variable.memory)
        start = variable.offset // flat.dtype.itemsize
        return flat[start : start + variable.size].reshape(variable.shape)

    def changed(self, variable):
        variable.memory.changed_on_device()


ARRAYS = CupyArrays()


def compile(graph):
    return ArrayProgram(graph, ARRAYS)


def compile_batches(graph, signature):
    return ArrayBatches(graph, signature, ARRAYS)


def place(given):
    """The arrays on the device if they all fit, else as they are."""
    import cupy

    free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
    return place_within(ARRAYS, given, free)


def place_within(arrays, given, free):
    """The arrays on the device, if `free` bytes are enough for them and what else is needed."""
    if sum(x.nbytes for x in given if isinstance(x, np.ndarray)) > _MOST * free:
        return given
    try:
        return [arrays.own(x) for x in given]
    except MemoryError:
        return given


def describe():
    """What `dlcore info` says about the device: a dict."""
    import cupy

    runtime, number = cupy.cuda.runtime, cupy.cuda.runtime.getDevice()
    properties = runtime.getDeviceProperties(number)
    free, total = runtime.memGetInfo()
    return {
        "name": properties["name"].decode(),
        "capability": (properties["major"], properties["minor"]),
        "multiprocessors": properties["multiProcessorCount"],
        "total_bytes": total,
        "free_bytes": free,
        "driver": _version(runtime.driverGetVersion()),
        "runtime": _version(runtime.runtimeGetVersion()),
        "library": f"CuPy {cupy.__version__}",
    }


def _version(number):
    """13020 is 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"
