"""The oracle of every kernel: the ops' formulas on NumPy in float64, and finite differences of
them."""

import numpy as np

from dlcore.backends.arrays import interpret
from dlcore.program.differentiate import gradients
from dlcore.program.graph import Graph, Trace


def run(f, arrays):
    """f(*arrays) through the formulas, as a list of arrays."""
    with Trace() as trace:
        result = f(*[trace.input(x.shape, x.dtype.name) for x in arrays])
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        graph = Graph(trace, outputs)
    return list(interpret(graph, arrays))


def wide(x):
    """Floats as float64; integers as they are."""
    return x.astype("float64") if x.dtype.kind == "f" else x


def gradient(f, arrays):
    """(value, gradients by the float inputs) of the scalar f, through the formulas."""
    floats = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]
    with Trace() as trace:
        tensors = [trace.input(x.shape, x.dtype.name) for x in arrays]
        value = f(*tensors)
        graph = Graph(trace, [value, *gradients(value, [tensors[i] for i in floats])])
    value, *dxs = interpret(graph, arrays)
    return value, dxs


def finite_differences(f, arrays, step=1e-6, most=12):
    """[(input, flat position, derivative)] of the scalar f at some positions, in float64."""
    result = []
    rng = np.random.default_rng(0)
    for i, x in enumerate(arrays):
        if x.dtype.kind != "f" or not x.size:
            continue
        for at in rng.permutation(x.size)[:most]:
            ends = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[i].flat[at] += sign * step
                ends.append(float(run(f, moved)[0]))
            result.append((i, at, (ends[0] - ends[1]) / (2 * step)))
    return result
