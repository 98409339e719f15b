"""Halves where they are stored, on GPUs: kernels that take halves read and write them. Around any
other there are casts from and to float32, pointwise ops that fuse with their neighbours. What
enters and leaves a program is float32, as constants are. (Where no halves are stored: widen.py.)
"""

from dlcore.program.dtypes import HALVES, array_type
from dlcore.program.lower import copied, rebuild
from dlcore.program.widen import ROUNDINGS


def store_halves(graph, kernels):
    """`graph` for a backend whose `kernels`, a set of names, take halves."""
    from dlcore.ops.op import OPS, cast_to

    if not any(y.dtype in HALVES for node in graph.nodes for y in node.outputs):
        return graph

    def make(trace, node, inputs):
        if node.op.kind != "pointwise":  # whose operands may be of any types, each its own
            pairs = zip(inputs, node.inputs, strict=True)
            inputs = [cast_to(x, old.dtype) for x, old in pairs]
        if _takes(node, kernels):
            return copied(trace, node, inputs)
        wide = [cast_to(x, array_type(x.dtype)) for x in inputs]
        outputs = copied(trace, node, wide, array_type)
        return [cast_to(z, y.dtype) for z, y in zip(outputs, node.outputs, strict=True)]

    def result(t):
        return cast_to(OPS[ROUNDINGS[t.dtype]](t), "float32") if t.dtype in HALVES else t

    return rebuild(graph, make, array_type, result)


def _takes(node, kernels):
    """Whether what runs the node takes operands of the types that it has."""
    if not any(t.dtype in HALVES for t in (*node.inputs, *node.outputs)):
        return True
    if node.op.kind in ("pointwise", "view", "assemble"):
        return True
    if node.op.kernel is None or node.op.expressions:
        return False
    return node.op.kernel(node)[0] in kernels
