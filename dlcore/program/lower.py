"""Lowering: nodes of ops that are made of other ops become those, before fusion.

Such an op is one node while a model is recorded and differentiated, so that its gradient can be
better than that of its parts, and is its parts when the program is made, so that they fuse with
their neighbours. The parts compute in float32 what is stored as halves.
"""

from dlcore.program.dtypes import HALVES
from dlcore.program.graph import CONSTANT, INPUT, VARIABLE, Graph, Trace, current_trace


def lower(graph):
    """`graph` without nodes whose op has `parts`."""
    if not any(getattr(node.op, "parts", None) for node in graph.nodes):
        return graph
    return rebuild(graph, _parts)


def _parts(trace, node, inputs):
    if node.op.parts is None:
        return copied(trace, node, inputs)
    from dlcore.ops.op import cast_to

    wide = [cast_to(x, "float32") if x.dtype in HALVES else x for x in inputs]
    outputs = node.op.parts(*wide, **node.attrs)
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return [cast_to(z, y.dtype) for z, y in zip(outputs, node.outputs, strict=True)]


def rebuild(graph, make, stored=lambda dtype: dtype, result=lambda t: t):
    """A copy of `graph`: ``make(trace, node, inputs)`` gives the outputs of a node that is no leaf,
    `stored` the type of leaves, `result` what is given back for a tensor."""
    new = {}

    def leaf(node):
        specs = [(y.shape, stored(y.dtype)) for y in node.outputs]
        new[node.outputs[0]] = trace._new(node.op, (), node.attrs, specs).outputs[0]
        return new[node.outputs[0]]

    with Trace() as trace:
        trace.inputs = [leaf(x.node) for x in graph.inputs]
        trace.reads = dict.fromkeys(graph.variables)
        for node in graph.nodes:
            if node.op not in (INPUT, VARIABLE, CONSTANT):
                outputs = make(trace, node, [new[x] for x in node.inputs])
                new.update(zip(node.outputs, outputs, strict=True))
            elif node.outputs[0] not in new:
                leaf(node)
            if node.op is VARIABLE:
                trace.reads[node.attrs["variable"]] = new[node.outputs[0]]
        trace.state = trace.reads | {v: new[t] for v, t in graph.updates}
        return Graph(trace, [result(new[t]) for t in graph.outputs])


def inlined(graph, values):
    """The outputs of `graph` for the tensors `values` as its inputs, in the open trace."""
    trace = current_trace()
    new = dict(zip(graph.inputs, values, strict=True))
    for node in graph.nodes:
        if node.op is CONSTANT:
            y = node.outputs[0]
            new[y] = trace.constant(node.attrs["value"], y.dtype)
        elif node.op is not INPUT:
            outputs = copied(trace, node, [new[x] for x in node.inputs])
            new.update(zip(node.outputs, outputs, strict=True))
    return [new[t] for t in graph.outputs]


def copied(trace, node, inputs, stored=lambda dtype: dtype):
    """The outputs of the same node in another trace."""
    specs = [(y.shape, stored(y.dtype)) for y in node.outputs]
    return trace.add(node.op, inputs, node.attrs, specs).outputs
