"""The array backend: runs a graph node by node through the ops' formulas on NumPy or CuPy
arrays."""

import time

import numpy as np

from dlcore.program.graph import CONSTANT, INPUT
from dlcore.program.widen import widen

_DLPACK_GPU = (2, 13)  # kDLCUDA, kDLCUDAManaged


def is_on_gpu(x):
    """Whether the array `x` lies on a GPU (CuPy, or anything with __cuda_array_interface__ or
    DLPack)."""
    if isinstance(x, (np.ndarray, np.generic, int, float, str)):
        return False
    if getattr(type(x), "is_on_gpu", False):  # ours; the interface would say that others use it
        return True
    if hasattr(x, "__cuda_array_interface__"):
        return True
    where = getattr(x, "__dlpack_device__", None)
    return where is not None and where()[0] in _DLPACK_GPU


def to_host(x):
    """`x`, if it lies on a GPU as a new ndarray."""
    if not is_on_gpu(x):
        return x
    from dlcore import backends

    there = backends.gpu().ARRAYS
    return there.home(there.own(x))


class Arrays:
    """NumPy as the home of arrays; `cupy.py` has the counterpart of a GPU."""

    module = np
    on_gpu = False

    def take(self, x):
        """`x`, of NumPy or of a GPU, as an array of `module`."""
        return np.asarray(to_host(x))

    def contents(self, variable):
        """The live array of a variable."""
        variable.memory.bring_home()
        return variable._array

    def changed(self, variable):
        variable.memory.changed_on_host()

    def home(self, x):
        return x


HOST = Arrays()


def interpret(graph, inputs, arrays=HOST, constants=None):
    """Outputs of `graph` for `inputs`; variables take their new values. `constants` keeps what the
    nodes of constants hold from call to call."""
    xp, values = arrays.module, {}
    constants = {} if constants is None else constants
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.op is CONSTANT:
                if node not in constants:
                    constants[node] = xp.asarray(node.attrs["value"])
                values[node.outputs[0]] = constants[node]
                continue
            for y, value in zip(node.outputs, _run(node, inputs, values, arrays), strict=True):
                values[y] = value
    outputs = [xp.array(values[t]) for t in graph.outputs]
    new = [(v, xp.array(values[t])) for v, t in graph.updates]
    for variable, value in new:
        arrays.contents(variable)[...] = value
        arrays.changed(variable)
    return tuple(outputs)


def _run(node, inputs, values, arrays):
    xp = arrays.module
    if node.op is INPUT:
        return (inputs[node.attrs["position"]],)
    if "variable" in node.attrs:
        return (arrays.contents(node.attrs["variable"]),)
    result = node.op.formula(xp, *(values[x] for x in node.inputs), **node.attrs)
    result = result if isinstance(result, tuple) else (result,)
    return tuple(xp.asarray(r, dtype=y.dtype) for r, y in zip(result, node.outputs, strict=True))


def _to_gpu(x):
    from dlcore import backends

    return backends.device_array(x)


class ArrayProgram:
    """A graph as a callable on arrays. `made` counts them, for those who ask what a compiled
    backend lacks; `refusal` is why a kernel of it would not do, or None."""

    made = 0
    refusal = None
    memory_bytes = 0
    instructions = ()

    def __init__(self, graph, arrays=HOST):
        self.graph, self._arrays, self._constants = widen(graph), arrays, {}
        ArrayProgram.made += 1

    def __call__(self, *inputs):
        arrays = self._arrays
        taken = [arrays.take(x) for x in inputs]
        results = interpret(self.graph, taken, arrays, self._constants)
        if arrays.on_gpu == any(map(is_on_gpu, inputs)):
            return results
        return tuple(map(arrays.home if arrays.on_gpu else _to_gpu, results))


class ArrayBatches:
    """A graph over batches of rows; see `dlcore.program.BatchProgram`."""

    memory_bytes = 0
    instructions = ()
    refusal = None

    def __init__(self, graph, signature, arrays=HOST):
        self.graph, self._batch, self._arrays = widen(graph), signature.batch, arrays
        self._constants = {}

    def run(self, arrays, start, steps, index, outputs, deadline_ms=None):
        end = time.monotonic() + (float("inf") if deadline_ms is None else deadline_ms / 1000)
        there = [not isinstance(x, np.ndarray) for x in arrays]
        if index is not None:
            index = index[start : start + steps * self._batch]
            indices = index, self._arrays.take(index) if any(there) else None
        parts, done = [], 0
        while done < steps:
            a = start + done * self._batch
            rows = [slice(a, a + self._batch)] * 2
            if index is not None:
                at = slice(a - start, a - start + self._batch)
                rows = [i if i is None else i[at] for i in indices]
            inputs = [
                self._rows(x, on_gpu, rows[on_gpu]).astype(t.dtype, copy=False)
                for x, on_gpu, t in zip(arrays, there, self.graph.inputs, strict=True)
            ]
            parts.append(interpret(self.graph, inputs, self._arrays, self._constants))
            done += 1
            if time.monotonic() >= end:
                break
        if outputs:
            self._store(outputs, parts, start)
        return done

    def _rows(self, x, on_gpu, rows):
        """Rows of an array, of which those from the host alone travel."""
        return self._arrays.take(x)[rows] if on_gpu else self._arrays.take(x[rows])

    def _store(self, outputs, parts, start):
        """The results of all steps at once: each copy from a GPU waits for it."""
        for y, results in zip(outputs, zip(*parts, strict=True), strict=True):
            value = self._arrays.module.concatenate(results)
            rows = y[start : start + len(value)]
            if isinstance(y, np.ndarray):
                rows[...] = self._arrays.home(value)
            elif self._arrays.on_gpu:
                rows[...] = value
            else:
                rows.set(value)
