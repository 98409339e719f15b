"""Who runs a graph: native kernels on the CPU, compiled CUDA or CuPy on a GPU, or the ops' formulas
on NumPy arrays.

The one file that chooses. `DLCORE_DEVICE` or `set_device` picks "cpu" or "gpu"; `DLCORE_BACKEND`
forces "cpu" (native), "numpy" (formulas), "cuda" (compiled) or "cupy" (formulas on CuPy arrays).
Nothing of a GPU is touched before it is used.
"""

import contextlib
import functools
import importlib
import os

import numpy as np

from dlcore.backends import arrays, memory

_OF_DEVICE = {"cpu": ("cpu", "numpy"), "gpu": ("cuda", "cupy")}


def _choice(variable, known):
    value = os.environ.get(variable) or None
    if value not in (None, *known):
        raise ImportError(f"{variable}: expected one of {', '.join(known)}, got {value!r}")
    return value


def _start():
    """(forced backend or None, device) as the environment wants them."""
    forced = _choice("DLCORE_BACKEND", sum(_OF_DEVICE.values(), ()))
    device = _choice("DLCORE_DEVICE", _OF_DEVICE)
    natural = next((d for d, names in _OF_DEVICE.items() if forced in names), device or "cpu")
    if device not in (None, natural):
        raise ImportError(f"DLCORE_DEVICE: expected {natural!r} for {forced!r}, got {device!r}")
    return forced, natural


def _check_interpreter():
    """The compiled module would wait for ever in a subinterpreter."""
    try:
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
    except ImportError:
        return
    if interpreters.get_current() != interpreters.get_main():
        raise ImportError(
            "dlcore: expected Python's main interpreter, got a subinterpreter; use processes"
        )


_forced, _device = _start()
if _forced == "numpy":
    _cpu = _native = None  # not the name `cpu`, which an import of the submodule would set
else:
    _check_interpreter()
    try:
        import dlcore._cpu as _cpu
    except ModuleNotFoundError as error:
        folder = os.path.dirname(os.path.dirname(__file__))
        raise ModuleNotFoundError(
            f"dlcore: expected its compiled module in {folder}, got sources alone; start Python "
            "in another folder, or install in place with: pip install -e ."
        ) from error
    from dlcore.backends import cpu as _native

_gpu = None  # the module that runs programs on the GPU, once it has been asked for


# Devices


def get_device():
    """Where programs run: "cpu" or "gpu"."""
    return _device


def set_device(device):
    """Run everything on the CPU or on an NVIDIA GPU from now on.

    On a GPU compiled CUDA kernels run where the wheel has them, else CuPy. Weights and the state of
    optimizers and metrics follow by themselves; arrays stay where they are, and ops on arrays of a
    GPU run there in any case.

    Parameters
    ----------
    device : {"cpu", "gpu"}

    Raises
    ------
    RuntimeError
        Without a GPU that can be used, with what was found and what to install.

    Examples
    --------
    >>> import dlcore
    >>> dlcore.set_device("cpu")
    >>> dlcore.get_device()
    'cpu'
    """
    global _device
    if device not in _OF_DEVICE:
        raise ValueError(f"set_device: expected 'cpu' or 'gpu', got {device!r}")
    if device == "gpu":
        if _forced in _OF_DEVICE["cpu"]:
            raise ValueError(f"set_device: expected 'cpu' with DLCORE_BACKEND={_forced}, got 'gpu'")
        gpu()
    if device == _device:
        return
    try:
        memory.bring_all_home()
    except RuntimeError as error:  # it failed: all that can be done is to go on without it
        import warnings

        warnings.warn(
            f"set_device: weights are as the host saw them last, the GPU is lost: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
    memory.leave_devices()
    _device = device
    memory.tell_listeners()


def active():
    """The name of the backend that runs programs: "cpu", "numpy", "cuda" or "cupy"."""
    return gpu().NAME if _device == "gpu" else "cpu" if _native else "numpy"


def gpu():
    """The backend of the GPU, a module: compiled CUDA, else CuPy."""
    global _gpu
    if _gpu is None:
        found = {}
        for name in (_forced,) if _forced in _OF_DEVICE["gpu"] else _OF_DEVICE["gpu"]:
            module = importlib.import_module(f"dlcore.backends.{name}")
            found[name] = module.missing()
            if found[name] is None:
                _gpu = module
                _watch_forks()
                return module
        raise RuntimeError(
            f"gpu: expected a GPU with {' or '.join(found)}, got "
            + ", ".join(f"{name}: {why}" for name, why in found.items())
            + "; install NVIDIA's driver, and a dlcore built with CUDA or CuPy"
            " (pip install 'dlcore[cuda13]')"
        )
    return _gpu


@functools.cache
def _watch_forks():
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _before_fork():
    with contextlib.suppress(RuntimeError, MemoryError):  # of a GPU that has failed
        memory.bring_all_home()


def _after_fork():
    """CUDA does not survive a fork: the child has the contents on the host."""
    if _gpu is not None:
        _gpu.forked()
    memory.leave_devices()


# Programs


def compile(graph, device=None):
    """A callable ``program(*arrays) -> tuple of arrays`` that runs `graph` on `device` (by default
    that of `set_device`) and updates its variables."""
    if device == "gpu" != _device and graph.variables:
        raise ValueError(
            "function: expected NumPy arrays beside variables on device 'cpu', got arrays of a GPU;"
            " call dlcore.set_device('gpu')"
        )
    if "gpu" in (device, _device):
        return gpu().compile(graph)
    program = _native.compile(graph) if _native else None
    return program or arrays.ArrayProgram(graph)


def compile_batches(graph, signature):
    """The program of `dlcore.program.BatchProgram`."""
    if _device == "gpu":
        return gpu().compile_batches(graph, signature)
    program = _native.compile_batches(graph, signature) if _native else None
    return program or arrays.ArrayBatches(graph, signature)


def make_dispatcher(miss):
    """A fast native callable that runs remembered programs and calls `miss` for all else, or
    None."""
    return _cpu.Dispatcher(miss) if _native and _device == "cpu" else None


def remember(dispatcher, signature, program):
    """Let `dispatcher` run `program` for arrays of `signature` [(shape, dtype name), ...]."""
    if _native and _device == "cpu":
        _native.remember(dispatcher, signature, program)


# Arrays


is_device_array = arrays.is_on_gpu
to_host = arrays.to_host


def device_array(x, dtype=None):
    """`x` as an array on the GPU that programs take, with `dtype`; without a copy where it is one
    already."""
    return gpu().ARRAYS.own(x, dtype)


def array_module(x):
    """(NumPy or CuPy, `x` as an array of it)."""
    if not is_device_array(x):
        return np, x
    xp = gpu().ARRAYS.module
    return (np, to_host(x)) if xp is None else (xp, device_array(x))


def place(given):
    """The arrays `given` where programs over batches read them best: all on the GPU, if they fit
    there, or as they are."""
    return gpu().place(given) if _device == "gpu" else given


def empty(shape, dtype, like):
    """An uninitialised array, beside the array `like`."""
    return gpu().ARRAYS.empty(shape, dtype) if is_device_array(like) else np.empty(shape, dtype)


# Threads and the machine


def describe():
    """What results are taken on: a dict with "device" and "backend", and more of a GPU."""
    if _device == "gpu":
        found = gpu().describe()
        return {"device": found["name"], "backend": active(), **found}
    import platform

    return {"device": f"CPU ({platform.machine()}, {isa()})", "backend": active()}


def set_num_threads(n):
    """Use `n` threads (1..256) from now on; results keep the same bits."""
    if not isinstance(n, (int, np.integer)) or not 1 <= n <= 256:
        raise ValueError(f"set_num_threads: expected an integer in 1..256, got {n!r}")
    if _cpu:
        _cpu.set_num_threads(int(n))


def get_num_threads():
    """The number of threads that kernels may use."""
    return _cpu.get_num_threads() if _cpu else 1


def isa():
    """The instruction set in use, "baseline", "avx2", "avx512", or "numpy" for the formulas."""
    return _cpu.level() if _cpu else "numpy"


def isas():
    """The instruction sets that this machine can run."""
    return _cpu.levels() if _cpu else ["numpy"]


def fma_peak(threads):
    """Measured float32 multiply-add rate of `threads` cores, in flop/s; NaN without native
    kernels."""
    return _cpu.fma_peak(threads) if _cpu else float("nan")


def read_bandwidth(size, threads):
    """Measured bytes/s of `threads` cores reading a buffer of `size` bytes over and over."""
    return _cpu.read_bandwidth(size, threads) if _cpu else float("nan")


def latency_ns():
    """Measured time for a cache line from one core to another; NaN with one core or no kernels."""
    return _cpu.latency_ns() if _cpu else float("nan")


def two_thread_gain():
    """Measured multiply-adds of two threads at once over those of one: about 2, or about 1 where
    both run on one core; NaN with one core or no kernels."""
    return _cpu.two_thread_gain() if _cpu else float("nan")
