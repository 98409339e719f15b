"""The native CPU backend: emitted programs, run by dlcore._cpu."""

import functools
import gc

import numpy as np

from dlcore import _cpu
from dlcore.program import dtypes
from dlcore.program.emit import ARENA, CONSTANTS, Emission, NoKernel
from dlcore.program.widen import widen

_OPCODES = _cpu.opcodes()


@functools.cache
def _kernels(module):
    return frozenset(module.kernels())


def compile(graph):
    """A `CpuProgram`, or None if an op has no native kernel."""
    graph = widen(graph)
    try:
        return CpuProgram(graph, Emission(graph, _OPCODES))
    except NoKernel:
        return None


def compile_batches(graph, signature):
    """A `CpuBatches`, or None if an op has no native kernel."""
    try:
        return CpuBatches(widen(graph), signature)
    except NoKernel:
        return None


def remember(dispatcher, signature, program):
    if isinstance(program, CpuProgram):
        codes = tuple((dtypes.CODES[dtype], tuple(shape)) for shape, dtype in signature)
        dispatcher.add(codes, program.native)


_COLLECT = 256 << 20  # bytes of new programs after which models that nobody has are looked for
_new_bytes = 0


def _collect(size):
    """Models are cycles, whose memory Python's collector, which counts objects, would let lie."""
    global _new_bytes
    _new_bytes += size
    if _new_bytes > _COLLECT:
        gc.collect()
        _new_bytes = 0


def build(module, emission, inputs=(), outputs=()):
    """The program of `_cpu` or `_cuda`, a `module`, for an emission."""
    for name in {instruction[0] for instruction in emission.instructions} - _kernels(module):
        raise NoKernel(name)
    owned = {
        slot: size
        for slot, size in ((ARENA, emission.arena_bytes), (CONSTANTS, emission.constant_bytes))
        if size
    }
    _collect(sum(owned.values()))
    try:
        native = module.Program(
            emission.n_slots, emission.instructions, list(inputs), list(outputs), owned
        )
    except MemoryError as error:
        size = sum(owned.values()) / 1e9
        detail = str(error).replace("std::bad_alloc", "") or "none"
        raise MemoryError(
            f"program: expected {size:.1f} GB for results between ops, got {detail};"
            " a smaller batch needs less"
        ) from None
    for offset, array in emission.constants:
        if array.size:
            native.write(CONSTANTS, offset, array)
    return native


def _build(emission, inputs=(), outputs=()):
    native = build(_cpu, emission, inputs, outputs)
    for slot, memory in emission.buffers:
        native.bind(slot, memory.root)
    return native


def output_specs(graph, emission):
    """[(slot, dtype code, shape)] of the results."""
    return [
        (slot, dtypes.CODES[t.dtype], t.shape)
        for slot, t in zip(emission.outputs, graph.outputs, strict=True)
    ]


class CpuProgram:
    """A graph as a callable on arrays."""

    def __init__(self, graph, emission):
        self.graph = graph
        self.native = _build(emission, emission.inputs, output_specs(graph, emission))
        self._specs = [(t.shape, np.dtype(t.dtype)) for t in graph.inputs]
        self._many = len(graph.outputs) != 1

    @property
    def instructions(self):
        """What the program does: a dict (kernel, parts, threads, flops, bytes) per instruction."""
        return self.native.instructions

    @property
    def memory_bytes(self):
        """Bytes of results, constants and scratch while it runs."""
        return self.native.memory_bytes

    def __call__(self, *arrays):
        try:
            result = self.native(*arrays)
        except TypeError:
            result = self.native(*map(_dense, arrays, self._specs))
        return result if self._many else (result,)


def _dense(x, spec):
    """`x` as the native program takes it: aligned, contiguous, of the traced dtype."""
    x = np.require(x, spec[1], ["C", "A"])
    return np.array(x) if type(x) is not np.ndarray else x


class Steps:
    """Places the inputs and outputs of a program over batches."""

    def __init__(self, signature):
        self.signature = signature

    def begin(self, emission):
        """Instructions that bring the rows of a step to the traced inputs."""
        sig = self.signature
        if sig.indexed:
            self.index_slot = emission.n_slots
            emission.n_slots += 1
        for i, ((shape, dtype), t) in enumerate(
            zip(sig.inputs, emission.graph.inputs, strict=True)
        ):
            width = int(np.prod(shape, dtype=np.int64))
            code, slot = dtypes.CODES[dtype], emission.inputs[i]
            rows = (
                slot,
                0,
                sig.batch * width * dtypes.SIZES[dtype],
                code,
                (sig.batch, width),
                (width, 1),
            )
            if not sig.indexed and dtype == t.dtype:
                emission.place_input(i, rows[:3])
                continue
            base = emission.reserve(t.shape, t.dtype)
            emission.place_input(i, base)
            target = (*base, dtypes.CODES[t.dtype], (sig.batch, width), (width, 1))
            if not sig.indexed:
                emission.copy(target, rows)
                continue
            table = (slot, 0, 0, code, (sig.n_rows, width), (width, 1))
            index = (self.index_slot, 0, sig.batch * 8, dtypes.CODES["int64"], (sig.batch,), (1,))
            emission.instructions.append(("gather", [target, table, index], [], []))

    def output_step(self, i):
        """Bytes between the rows of one step and the next in output i."""
        t = self.emission_outputs[i]
        return t.size * dtypes.SIZES[t.dtype]


class CpuBatches:
    """A graph over batches of rows; see `dlcore.program.BatchProgram`."""

    def __init__(self, graph, signature):
        self.graph = graph
        steps = Steps(signature)
        steps.emission_outputs = graph.outputs
        self._emission = Emission(graph, _OPCODES, steps)
        self.native = _build(self._emission)
        self._index_slot = steps.index_slot if signature.indexed else None

    @property
    def instructions(self):
        return self.native.instructions

    @property
    def memory_bytes(self):
        """Bytes of results, constants and scratch while it runs."""
        return self.native.memory_bytes

    def run(self, arrays, start, steps, index, outputs, deadline_ms=None):
        emission, outputs = self._emission, [y[start:] for y in outputs or ()]
        if index is None:
            arrays = [x[start:] for x in arrays]
        given = [*zip(emission.inputs, arrays, strict=True)]
        given += zip(emission.outputs, outputs, strict=True)
        if index is not None:
            given.append((self._index_slot, index[start:]))
        return self.native.run(0, steps, deadline_ms, given)
