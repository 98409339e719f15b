"""How a model becomes a program: trace, differentiate, fuse, place in memory, emit."""

from dlcore.program.batches import BatchProgram
from dlcore.program.differentiate import gradients
from dlcore.program.function import Function, function, grad, value_and_grad
from dlcore.program.graph import Graph, Tensor, Trace, current_trace, tracing
from dlcore.program.variable import Variable, layout, pack, variables_made

__all__ = [
    "BatchProgram", "Function", "Graph", "Tensor", "Trace", "Variable", "current_trace", "function",
    "grad", "gradients", "layout", "pack", "tracing", "value_and_grad", "variables_made",
]  # fmt: skip
