"""Reverse-mode differentiation as a transformation of the graph being traced.

Baydin et al., "Automatic differentiation in machine learning: a survey", JMLR 2018, section 3.2.
"""

import functools

from dlcore.program import dtypes
from dlcore.program.graph import Graph, Trace, current_trace
from dlcore.program.lower import inlined
from dlcore.program.variable import Variable


def gradients(loss, xs, required=False):
    """d sum(loss) / dx for every x, as tensors of the open trace.

    Parameters
    ----------
    loss : Tensor
    xs : sequence of Tensor or Variable
        A variable stands for all values that were read of it: none depends on those before.
    required : bool, default False
        Whether a loss without a gradient for any x is refused.

    Returns
    -------
    list of Tensor
        Zeros for an x that `loss` does not depend on.
    """
    from dlcore import ops

    trace = current_trace()
    if trace is None:
        raise RuntimeError(
            "gradients: expected to be called inside dlcore.function or value_and_grad"
        )
    for x in xs:
        if isinstance(x, Variable):
            trace.read(x)
    targets = [_read(trace, x) if isinstance(x, Variable) else [x] for x in xs]
    needed = _depends_on(trace, {t.node.id for ts in targets for t in ts})
    sums = {loss: [ops.ones_like(loss)]}
    for node in reversed(trace.nodes[: loss.node.id + 1]):
        if node.id not in needed or not node.inputs:
            continue
        if not any(y in sums for y in node.outputs):
            continue
        dys = [_total(sums.get(y)) for y in node.outputs]
        for x, dx in zip(node.inputs, _backward(node, dys), strict=True):
            if dx is None or x.node.id not in needed or not dtypes.is_float(x.dtype):
                continue
            if dx.shape != x.shape:
                raise ValueError(
                    f"{node.op.name}: expected a gradient of shape {x.shape}, got {dx.shape}"
                )
            dx = dx if dx.dtype == x.dtype else ops.cast(dx, x.dtype)
            parts = sums.setdefault(x, [])
            parts.append(dx)
            if not all(map(_is_placed, parts)):
                _total(parts)
    found = [[_total(sums[t]) for t in ts if t in sums] for ts in targets]
    if required and xs and not any(found):
        raise ValueError(
            "gradients: expected a loss that changes with the weights, got one with no gradient for"
            " any of them; argmax, round, comparisons and stop_gradient have none"
        )
    zipped = zip(found, targets, strict=True)
    return [_total(f) if f else ops.zeros_like(ts[0]) for f, ts in zipped]


def _read(trace, variable):
    """The tensors that stand for the values of a variable."""
    return [trace.reads[variable], *(seen for _, seen in trace.starts.get(variable, ()))]


def gradient_of(function):
    """The gradient of an op that computes what `function` does, in one kernel: that of `function`,
    written with ops that have gradients.

    It serves the second derivatives of kernels. It is made in a trace of its own, where the inputs
    depend on nothing.
    """

    def gradient(dys, ys, *inputs, **attrs):
        from dlcore import ops

        given = [dy for dy in dys if dy is not None]
        with Trace() as trace:
            xs = [trace.input(x.shape, x.dtype) for x in inputs]
            results = zip(function(*xs, **attrs), dys, strict=True)
            seeds = [trace.input(dy.shape, dy.dtype) for dy in given]
            wanted = [y for y, dy in results if dy is not None]
            terms = [ops.sum(y * dy) for y, dy in zip(wanted, seeds, strict=True)]
            floats = [x for x in xs if dtypes.is_float(x.dtype)]
            graph = Graph(trace, gradients(sum(terms[1:], terms[0]), floats))
        dxs = iter(inlined(graph, [*inputs, *given]))
        return [next(dxs) if dtypes.is_float(x.dtype) else None for x in inputs]

    return gradient


def _total(parts):
    """The sum of `parts`, from then on the only one in their list; None without parts. Gradients of
    slices that make up a whole are joined, not added."""
    from dlcore import ops

    if not parts:
        return None
    if len(parts) > 1:
        axis = _joined_axis(parts)
        if axis is not None:
            parts.sort(key=lambda dx: dx.node.attrs["bounds"][axis])
            parts[:] = [ops.concatenate([dx.node.inputs[0] for dx in parts], axis)]
        else:
            parts[:] = [functools.reduce(ops.add, parts)]
    return parts[0]


def _is_placed(dx):
    """Whether `dx` is the gradient of a slice: zeros around it."""
    return dx.node.op.name == "place"


def _joined_axis(parts):
    """The axis along which `parts`, placed among zeros, make up a whole, or None."""
    if not all(map(_is_placed, parts)):
        return None
    whole = tuple((0, n, 1) for n in parts[0].shape)
    bounds = [dx.node.attrs["bounds"] for dx in parts]
    axes = {
        a for b in bounds for a, (own, all_) in enumerate(zip(b, whole, strict=True)) if own != all_
    }
    if len(axes) != 1:
        return None
    axis, at = axes.pop(), 0
    for start, stop, step in sorted(b[axis] for b in bounds):
        if (start, step) != (at, 1):
            return None
        at = stop
    return axis if at == whole[axis][1] else None


def _backward(node, dys):
    gradient = node.op.gradient
    if gradient is None:
        return [None] * len(node.inputs)
    if len(node.outputs) == 1:
        result = gradient(dys[0], node.outputs[0], *node.inputs, **node.attrs)
    else:
        result = gradient(dys, node.outputs, *node.inputs, **node.attrs)
    return result if isinstance(result, (tuple, list)) else (result,)


def _depends_on(trace, sources):
    """Ids of the nodes through which a gradient to `sources` flows."""
    needed = set(sources)
    for node in trace.nodes:
        if any(x.node.id in needed for x in node.inputs):
            needed.add(node.id)
    return needed
