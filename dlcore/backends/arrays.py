"""The array backend: runs a graph node by node through the ops' formulas on NumPy or CuPy
arrays."""

import numpy as np

from dlcore.program.graph import CONSTANT, INPUT


def interpret(graph, inputs, xp):
    """Outputs of `graph` for `inputs`; variables take their new values."""
    values = {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            for y, value in zip(node.outputs, _run(node, inputs, values, xp), strict=True):
                values[y] = value
    outputs = [xp.array(values[t]) for t in graph.outputs]
    new = [(v, xp.array(values[t])) for v, t in graph.updates]
    for variable, value in new:
        variable._array[...] = value.get() if hasattr(value, "get") else value
    return tuple(outputs)


def _run(node, inputs, values, xp):
    if node.op is INPUT:
        return (inputs[node.attrs["position"]],)
    if node.op is CONSTANT:
        return (xp.asarray(node.attrs["value"]),)
    if "variable" in node.attrs:
        return (xp.asarray(node.attrs["variable"]._array),)
    result = node.op.formula(xp, *(values[x] for x in node.inputs), **node.attrs)
    result = result if isinstance(result, tuple) else (result,)
    return tuple(xp.asarray(r, dtype=y.dtype) for r, y in zip(result, node.outputs, strict=True))


class ArrayProgram:
    """A graph as a callable on arrays."""

    def __init__(self, graph, xp):
        self.graph, self._xp = graph, xp
        self.arena_bytes = 0
        self.instructions = []

    def __call__(self, *inputs):
        return interpret(self.graph, inputs, self._xp)


class ArrayBatches:
    """A graph over batches of rows; see `dlcore.program.BatchProgram`."""

    def __init__(self, graph, signature, xp):
        self.graph, self._signature, self._xp = graph, signature, xp
        self.arena_bytes = 0
        self.instructions = []

    def run(self, arrays, start, steps, index, outputs, deadline_ms=None):
        batch = self._signature.batch
        for step in range(steps):
            a = start + step * batch
            rows = slice(a, a + batch) if index is None else index[a : a + batch]
            inputs = [
                self._xp.asarray(x[rows], dtype=t.dtype)
                for x, t in zip(arrays, self.graph.inputs, strict=True)
            ]
            results = interpret(self.graph, inputs, self._xp)
            for y, value in zip(outputs or (), results, strict=True):
                y[a : a + batch] = value
        return steps
