"""The compiled backend of NVIDIA GPUs: emitted programs, run by dlcore._cuda. What has no kernel
there runs by the formulas, on CuPy where it is installed.
"""

import math
import threading
import warnings

import numpy as np

from dlcore import config
from dlcore.backends import arrays, cupy
from dlcore.backends.arrays import ArrayBatches, ArrayProgram
from dlcore.backends.cpu import Steps, build, output_specs
from dlcore.backends.feed import Feed
from dlcore.backends.gpu_array import ARRAYS, bare, dense, empty, stream
from dlcore.program.emit import Emission, NoKernel
from dlcore.program.halves import store_halves

NAME = "cuda"
_CHUNK_BYTES = 64 << 20  # of rows that travel in one copy
_told = set()  # why kernels refused what the formulas do


def missing():
    """Why the compiled extension cannot be used, in some words, or None."""
    try:
        from dlcore import _cuda
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) or "cannot import name" in str(error)
        return "not in this build" if absent else f"does not start ({error})"
    return _cuda.available()


def forked():
    """The extension notices forks itself."""


def describe():
    """What `dlcore info` says about the device: a dict."""
    from dlcore import _cuda

    found = _cuda.device()
    for name in ("driver", "runtime"):
        found[name] = ".".join(map(str, found[name]))
    library = "compiled kernels" + (", emulated on the processor" if found["emulated"] else "")
    return found | {"library": library}


def use_hopper(products):
    """Which products kernels for Hopper take from now on: "never", "large" or "always"; returns how
    many they have taken."""
    from dlcore import _cuda

    return _cuda.use_hopper(products)


def compile(graph):
    """A `CudaProgram`, or the formulas."""
    return _first_that_can(CudaProgram, ArrayProgram, graph)


def compile_batches(graph, signature):
    """A `CudaBatches`, or the formulas."""
    return _first_that_can(CudaBatches, ArrayBatches, graph, signature)


def _first_that_can(native, formulas, *given):
    """The native program, or the formulas where an op has no kernel or a kernel refuses the call:
    on CuPy, which is then imported, else on NumPy. What is refused is told, once."""
    from dlcore import _cuda

    try:
        return native(*given)
    except NoKernel:
        where = None
    except _cuda.Refusal as refusal:
        where = str(refusal)
    there = ARRAYS if cupy.missing() is None else arrays.HOST
    if where is not None and where not in _told:
        _told.add(where)
        module = "CuPy" if there is ARRAYS else "NumPy"
        warnings.warn(f"{where}; runs by its formulas on {module}", RuntimeWarning, stacklevel=2)
    program = formulas(*given, there)
    program.refusal = where
    return program


def place(given):
    """The arrays on the device if they all fit, else as they are."""
    from dlcore import _cuda

    return cupy.place_within(ARRAYS, given, _cuda.device()["free_bytes"])


class _Native:
    """An emitted program and the memories of the variables that it reads and changes."""

    def __init__(self, graph, emission, *slots):
        from dlcore import _cuda

        _cuda.allow_tf32(config.matmul_precision() == "tf32")
        self.native = build(_cuda, emission, *slots)
        self.emission = emission
        self._memories = [None] * len(emission.buffers)
        changed = {v.memory for v, _ in graph.updates}
        self._changed = [m for _, m in emission.buffers if m in changed]

    def follow(self):
        """Variables are where the program reads them."""
        for i, (slot, memory) in enumerate(self.emission.buffers):
            there = memory.on_device(empty)
            if there is not self._memories[i]:
                self.native.bind(slot, there)
                self._memories[i] = there

    def done(self):
        for memory in self._changed:
            memory.changed_on_device()


def _emission(graph, steps=None):
    from dlcore import _cuda

    return Emission(store_halves(graph, frozenset(_cuda.half_kernels())), _cuda.opcodes(), steps)


class CudaProgram:
    """A graph as a callable on arrays, of NumPy or on the GPU."""

    def __init__(self, graph):
        self.graph = graph
        emission = _emission(graph)
        self._program = _Native(graph, emission, emission.inputs, output_specs(graph, emission))
        self._dtypes = [np.dtype(t.dtype) for t in graph.inputs]
        self._many = len(graph.outputs) != 1

    @property
    def instructions(self):
        """What the program does: a dict (kernel, flops, bytes) per instruction."""
        return self._program.native.instructions

    @property
    def memory_bytes(self):
        """Bytes of results, constants and scratch while it runs."""
        return self._program.native.memory_bytes

    def __call__(self, *inputs):
        program = self._program
        program.follow()
        try:
            result = program.native(*map(bare, inputs), stream=stream())
        except TypeError:
            inputs = map(dense, inputs, self._dtypes)
            result = program.native(*map(bare, inputs), stream=stream())
        program.done()
        return tuple(map(ARRAYS.shown, result if self._many else (result,)))


class CudaBatches:
    """A graph over batches of rows; see `dlcore.program.BatchProgram`.

    Data on the GPU is read where it lies. From the host, and to it, rows travel in pieces of some
    megabytes; a piece from the host while the steps of the one before run.
    """

    def __init__(self, graph, signature):
        self.graph, self._signature = graph, signature
        steps = Steps(signature)
        steps.emission_outputs = graph.outputs
        self._program = _Native(graph, _emission(graph, steps))
        self._index_slot = steps.index_slot if signature.indexed else None
        self._index = self._streaming = self._feed = None
        self._buffers = {}
        self._turn = threading.RLock()  # what is bound, and the buffers, are one thread's at a time

    @property
    def instructions(self):
        return self._program.native.instructions

    @property
    def memory_bytes(self):
        """Bytes of results, constants and scratch while it runs."""
        return self._program.native.memory_bytes

    def run(self, given, start, steps, index, outputs, deadline_ms=None):
        with self._turn:
            there = all(map(arrays.is_on_gpu, given))
            run = self._run_there if there else self._stream_in
            return run(given, start, steps, index, outputs, deadline_ms)

    def _run_there(self, given, start, steps, index, outputs, deadline_ms):
        native, emission = self._program.native, self._program.emission
        batch, outputs = self._signature.batch, outputs or ()
        steps = min([steps, *(self._steps_of(y) for y in outputs if isinstance(y, np.ndarray))])
        if index is not None:
            native.bind(self._index_slot, self._index_there(index, start)[start:])
        for slot, x in zip(emission.inputs, given, strict=True):
            native.bind(slot, bare(x if index is not None else x[start:]))
        places = []
        for i, (slot, y) in enumerate(zip(emission.outputs, outputs, strict=bool(outputs))):
            there = bare(y[start:]) if arrays.is_on_gpu(y) else None
            place = self._buffer("out", i, y, steps * batch) if there is None else there
            native.bind(slot, place)
            places.append(place)
        self._program.follow()
        done = native.run(0, steps, deadline_ms, stream=stream())
        self._program.done()
        for y, place in zip(outputs, places, strict=True):
            if isinstance(y, np.ndarray):
                y[start : start + done * batch] = place[: done * batch].get()
        return done

    def _steps_of(self, y):
        """Most steps whose rows of the host's array `y` travel at once."""
        row = max(y.itemsize * math.prod(y.shape[1:]), 1)
        return max(_CHUNK_BYTES // (row * self._signature.batch), 1)

    def _buffer(self, kind, i, like, rows):
        """Room on the GPU for `rows` rows like those of an array; the same as the last time."""
        there = self._buffers.get((kind, i))
        if there is None or there.shape[0] < rows:
            there = self._buffers[kind, i] = empty((rows, *like.shape[1:]), like.dtype)
        return there

    def _index_there(self, index, start):
        """The index on the GPU, copied once for the runs from its start to its end."""
        if index is not self._index or start == 0:
            there = self._buffer("index", 0, index, len(index))
            there[: len(index)].set(np.ascontiguousarray(index))
            self._index = index
        return self._buffers["index", 0]

    def _stream_in(self, given, start, steps, index, outputs, deadline_ms):
        signature, feed = self._signature, self._feed
        if feed is None or not feed.goes_on(given, index, start):
            if feed is not None:
                feed.stop()
            rows = min(map(self._steps_of, given)) * signature.batch
            feed = self._feed = Feed(self._carry, given, index, start, rows, signature.batch)
        if self._streaming is None:
            plain = type(signature)(signature.inputs, signature.batch, False, None)
            self._streaming = self if index is None else CudaBatches(self.graph, plain)
        picked = feed.rows(start)
        steps = min(steps, picked[0].shape[0] // signature.batch)
        rows = slice(start, start + steps * signature.batch)
        part = None if outputs is None else [y[rows] for y in outputs]
        done = self._streaming.run(picked, 0, steps, None, part, deadline_ms)
        if feed.ends_at(start + done * signature.batch):
            self._feed = None  # the data is the caller's again
        return done

    def _carry(self, side, i, x):
        """Copy an array of the host to a place of its own on the GPU; `side`: one of two."""
        old = self._buffers.get((side, i))
        there = self._buffer(side, i, x, len(x))
        there[: len(x)].set(x, beside=there is old)  # of new memory others may not be done
        return there[: len(x)]
