"""Who runs a graph: the native CPU extension, or the ops' formulas on NumPy or CuPy arrays.

The one file that chooses. `DLCORE_BACKEND` forces "cpu" (compiled) or "numpy" (formulas).
"""

import os

import numpy as np

from dlcore.backends import arrays

_NAMES = ("cpu", "numpy")


def _choose():
    forced = os.environ.get("DLCORE_BACKEND")
    if forced not in (None, "", *_NAMES):
        raise ImportError(f"DLCORE_BACKEND: expected one of {', '.join(_NAMES)}, got {forced!r}")
    return forced or "cpu"


name = _choose()
if name == "cpu":
    try:
        import dlcore._cpu as _cpu
    except ModuleNotFoundError as error:
        folder = os.path.dirname(os.path.dirname(__file__))
        raise ModuleNotFoundError(
            f"dlcore: expected its compiled module in {folder}, got sources alone; start Python "
            "in another folder, or install in place with: pip install -e ."
        ) from error
    from dlcore.backends import cpu as _native
else:
    _cpu = _native = None  # not the name `cpu`, which an import of the submodule would set


def compile(graph):
    """A callable ``program(*arrays) -> tuple of arrays`` that runs `graph` and updates its
    variables."""
    program = _native.compile(graph) if _native else None
    return program or arrays.ArrayProgram(graph, np)


def compile_batches(graph, signature):
    """The program of `dlcore.program.BatchProgram`."""
    program = _native.compile_batches(graph, signature) if _native else None
    return program or arrays.ArrayBatches(graph, signature, np)


def make_dispatcher(miss):
    """A fast native callable that runs remembered programs and calls `miss` for all else, or
    None."""
    return _cpu.Dispatcher(miss) if _native else None


def remember(dispatcher, signature, program):
    """Let `dispatcher` run `program` for arrays of `signature` [(shape, dtype name), ...]."""
    if _native:
        _native.remember(dispatcher, signature, program)


def is_device_array(x):
    """Whether `x` lies on a GPU (CuPy or another __cuda_array_interface__)."""
    return not isinstance(x, np.ndarray) and hasattr(x, "__cuda_array_interface__")


def interpret(graph, values):
    """Run `graph` by formulas on device arrays."""
    import cupy

    return arrays.interpret(graph, [cupy.asarray(v) for v in values], cupy)


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
