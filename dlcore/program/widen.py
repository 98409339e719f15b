"""Widening: halves where none are stored.

A GPU stores bfloat16 and float16 tensors in two bytes. Elsewhere such a tensor is a float32 tensor
with numbers that the half can hold: what makes it is followed by a pointwise op that rounds and
fuses with its neighbours. A tensor that one pointwise op alone reads is never stored, as that op
runs with what makes it, and is not rounded (but a cast to a half always rounds); neither is one
whose numbers are a half's by themselves.
"""

from dlcore.program.dtypes import HALVES, array_type
from dlcore.program.graph import CONSTANT
from dlcore.program.lower import copied, rebuild

ROUNDINGS = {"bfloat16": "round_bf16", "float16": "round_f16"}
# Ops whose results are numbers of their inputs, but for the sign, or 0, 1 and -1.
_CHOOSING = frozenset(
    (
        "identity", "negative", "abs", "sign", "relu", "relu_grad", "maximum", "minimum", "where",
        "place", "concatenate", "gather", "max_pool",
    )
)  # fmt: skip


def widen(graph):
    """`graph` with float32 tensors in the place of halves."""
    if not any(y.dtype in HALVES for node in graph.nodes for y in node.outputs):
        return graph
    return rebuild(graph, _Widening(graph), array_type)


class _Widening:
    """Makes the new nodes, and knows which tensors hold a half's numbers."""

    def __init__(self, graph):
        self.exact = {y for n in graph.nodes if n.op is CONSTANT for y in n.outputs}
        self.readers = {}
        for node in graph.nodes:
            for x in node.inputs:
                self.readers.setdefault(x, []).append(node)
        for t in graph.results():
            self.readers.setdefault(t, []).append(None)

    def __call__(self, trace, node, inputs):
        if node.op.name == "cast" and array_type(node.attrs["dtype"]) == inputs[0].dtype:
            outputs = inputs
        elif node.op.name == "cast":
            dtype = array_type(node.attrs["dtype"])
            specs = [(node.outputs[0].shape, dtype)]
            outputs = trace.add(node.op, inputs, {"dtype": dtype}, specs).outputs
        else:
            outputs = copied(trace, node, inputs, array_type)
        return [self._stored(trace, y, z) for y, z in zip(node.outputs, outputs, strict=True)]

    def _stored(self, trace, old, new):
        """`new` rounded to the half that `old` is, where that changes anything."""
        if old.dtype not in HALVES:
            return new
        if self._is_exact(old):
            self.exact.add(old)
            return new
        if self._stays_in_registers(old):
            return new
        from dlcore.ops.op import OPS

        self.exact.add(old)
        op = OPS[ROUNDINGS[old.dtype]]
        return trace.add(op, (new,), {}, [(new.shape, new.dtype)]).outputs[0]

    def _is_exact(self, y):
        node = y.node
        chooses = node.op.kind == "view" or node.op.name in _CHOOSING
        chooses |= node.op.name == "reduce" and node.attrs["kind"] in ("max", "min")
        return chooses and all(x in self.exact for x in node.inputs if x.dtype == y.dtype)

    def _stays_in_registers(self, y):
        op, readers = y.node.op, set(self.readers.get(y, ()))
        reader = readers.pop() if len(readers) == 1 else None
        if op.name == "cast" or reader is None or reader.op.kind != "pointwise":
            return False
        fuses = op.kind == "pointwise" or op.epilogue or op.parts is not None
        return reader.op.name == "cast" or (fuses and reader.outputs[0].shape == y.shape)
