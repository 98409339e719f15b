"""The oracle of every kernel: the ops' formulas on NumPy in float64, and finite differences of
them."""

import numpy as np

from dlcore.backends.arrays import interpret
from dlcore.program.differentiate import gradients
from dlcore.program.graph import Graph, Trace
from dlcore.program.widen import widen


def as_list(y):
    return list(y) if isinstance(y, (tuple, list)) else [y]


def run(f, arrays):
    """f(*arrays) through the formulas, as a list of arrays."""
    with Trace() as trace:
        outputs = as_list(f(*[trace.input(x.shape, x.dtype.name) for x in arrays]))
        graph = Graph(trace, outputs)
    return list(interpret(widen(graph), arrays))


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
    value, *dxs = interpret(widen(graph), arrays)
    return value, dxs


def weighted(f, xs):
    """A scalar of all results of f(*xs) whose gradient is not constant."""
    from dlcore import ops

    shapes = [y.shape for y in run(f, xs)]
    rng = np.random.default_rng(7)
    weights = [rng.uniform(0.5, 1.5, s) for s in shapes]

    def loss(*tensors):
        ys = as_list(f(*tensors))
        return sum(ops.sum(y * ops.cast(w, y.dtype)) for y, w in zip(ys, weights, strict=True))

    return loss


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
