"""Lowering: nodes of ops that are made of other ops become those, before fusion.

Such an op is one node while a model is recorded and differentiated, so that its gradient can be
better than that of its parts, and is its parts when the program is made, so that they fuse with
their neighbours.
"""

from dlcore.program.graph import CONSTANT, INPUT, VARIABLE, Graph, Trace


def lower(graph):
    """`graph` without nodes whose op has `parts`."""
    if not any(getattr(node.op, "parts", None) for node in graph.nodes):
        return graph
    new = {}
    with Trace() as trace:
        trace.inputs = [_leaf(trace, x.node, new) for x in graph.inputs]
        for node in graph.nodes:
            if node.op in (INPUT, VARIABLE, CONSTANT):
                if node.outputs[0] not in new:
                    _leaf(trace, node, new)
                continue
            inputs = [new[x] for x in node.inputs]
            if node.op.parts is not None:
                outputs = node.op.parts(*inputs, **node.attrs)
            else:
                specs = [(y.shape, y.dtype) for y in node.outputs]
                outputs = trace.add(node.op, inputs, node.attrs, specs).outputs
            new.update(zip(node.outputs, outputs, strict=True))
        trace.reads = dict.fromkeys(graph.variables)
        for node in graph.nodes:
            if node.op is VARIABLE:
                trace.reads[node.attrs["variable"]] = new[node.outputs[0]]
        trace.state = trace.reads | {v: new[t] for v, t in graph.updates}
        return Graph(trace, [new[t] for t in graph.outputs])


def _leaf(trace, node, new):
    specs = [(y.shape, y.dtype) for y in node.outputs]
    new[node.outputs[0]] = trace._new(node.op, (), node.attrs, specs).outputs[0]
    return new[node.outputs[0]]
