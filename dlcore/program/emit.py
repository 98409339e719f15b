"""The native program: units become instructions (kernel, operands, ints, floats) over slots of
memory.

The encodings are those of csrc/kernels.def and csrc/cpu/kernels/expression.h. Slot 0 is the arena,
slot 1 holds constants; then come the inputs, the outputs and one slot per buffer of variables.
"""

import numpy as np

from dlcore.program import dtypes
from dlcore.program.fuse import (
    LEAVES,
    broadcast_strides,
    contiguous,
    find_layouts,
    fuse,
)
from dlcore.program.graph import CONSTANT, INPUT, scalar_value
from dlcore.program.lower import lower
from dlcore.program.schedule import Copy, plan
from dlcore.program.widen import ROUNDINGS

ARENA, CONSTANTS = 0, 1


class Emission:
    """What the runner needs: instructions and slots.

    instructions : tuples for `_cpu.Program`.  n_slots : int.  arena_bytes, constant_bytes : sizes
    of slots 0, 1. constants : (offset, array) pairs to write.  inputs, outputs : slot numbers.
    buffers : (slot, `Memory`) of the variables.
    """

    def __init__(self, graph, opcodes, steps=None):
        """`steps`: for programs over batches, an object with `input_store(i)` and
        `output_step(i)`."""
        self.graph, self.opcodes = lower(graph), opcodes
        graph = self.graph
        self.layouts = find_layouts(graph)
        self.plan = plan(graph, self.layouts, fuse(graph, self.layouts))
        self.inputs = [2 + i for i in range(len(graph.inputs))]
        self.outputs = [2 + len(self.inputs) + i for i in range(len(graph.outputs))]
        self.n_slots = 2 + len(self.inputs) + len(self.outputs)
        self.buffers, self._slots = [], {}
        self.constants, self.constant_bytes = [], 0
        self.arena_bytes = self.plan.arena_bytes
        self.instructions = []
        self._steps = steps
        self._bases = {}
        for variable in graph.variables:
            self._variable_base(variable)
        if steps is not None:
            steps.begin(self)
        for unit in self.plan.units:
            self._unit(unit)

    # Where tensors lie

    def _variable_base(self, variable):
        memory = variable.memory
        slot = self._slots.get(memory)
        if slot is None:
            slot = self._slots[memory] = self.n_slots
            self.n_slots += 1
            self.buffers.append((slot, memory))
        return slot, variable.offset, 0

    def reserve(self, shape, dtype):
        """(slot, offset, step) of extra room in the arena that lives as long as the program."""
        offset = -(-self.arena_bytes // 64) * 64
        self.arena_bytes = offset + int(np.prod(shape, dtype=np.int64)) * dtypes.SIZES[dtype]
        return ARENA, offset, 0

    def place_input(self, i, base):
        self._bases[self.graph.inputs[i]] = base

    def _base(self, source):
        """(slot, byte offset, bytes per step) of a source tensor."""
        base = self._bases.get(source)
        if base is None:
            base = self._bases[source] = self._find_base(source)
        return base

    def _find_base(self, source):
        node = source.node
        if node.op is INPUT:
            return self.inputs[node.attrs["position"]], 0, 0
        if node.op is CONSTANT:
            offset = -(-self.constant_bytes // 64) * 64
            array = np.ascontiguousarray(node.attrs["value"])
            self.constants.append((offset, array))
            self.constant_bytes = offset + max(array.nbytes, 1)
            return CONSTANTS, offset, 0
        if node.op in LEAVES:
            return self._variable_base(node.attrs["variable"])
        return self._home(self.plan.homes[source])

    def _home(self, home):
        kind, where = home
        if kind == "arena":
            return ARENA, where, 0
        if kind == "variable":
            return self._variable_base(where)
        step = self._steps.output_step(where) if self._steps is not None else 0
        return self.outputs[where], 0, step

    def operand(self, tensor, shape=None):
        """An operand tuple for `tensor`, broadcast to `shape`."""
        layout = self.layouts[tensor]
        strides = layout.strides
        if shape is not None and shape != tensor.shape:
            strides = broadcast_strides(tensor.shape, strides, shape)
        return self._operand(
            self._base(layout.source), layout.offset, tensor.dtype, shape or tensor.shape, strides
        )

    @staticmethod
    def _operand(base, offset, dtype, shape, strides):
        slot, at, step = base
        at += offset * dtypes.SIZES[dtype]
        return (slot, at, step, dtypes.CODES[dtype], tuple(shape), tuple(strides))

    def copy(self, target, source):
        """An instruction that copies operand `source` to operand `target`, converting the dtype."""
        wide = any(dtypes.NAMES[t[3]] in ("float64", "int32", "int64") for t in (target, source))
        # one output, one input, no constants, temporaries or operations; the result is value 0
        self.instructions.append(("pointwise", [target, source], [int(wide), 1, 1, 0, 0, 0, 0], []))

    # Units

    def _unit(self, unit):
        if isinstance(unit, Copy):
            self._copy_result(unit)
        elif unit.anchor is None or unit.anchor.op.epilogue or unit.anchor.op.name == "reduce":
            self._expression(unit)
        elif unit.anchor.op.kind == "assemble":
            self._assemble(unit.anchor)
        elif unit.anchor.op.kind == "view":  # a reshape that needs a copy
            node = unit.anchor
            x, y = node.inputs[0], node.outputs[0]
            base = self._base(y)
            self.copy(
                self._operand(base, 0, y.dtype, x.shape, contiguous(x.shape)), self.operand(x)
            )
        else:
            node = unit.anchor
            if node.op.kernel is None:
                raise NoKernel(node.op.name)
            if node.op.expressions:
                name, ints, floats = node.op.kernel(node, unit.outputs, self.opcodes)
            else:
                name, ints, floats = node.op.kernel(node)
            operands = [self.operand(t) for t in (*unit.outputs, *node.inputs)]
            self.instructions.append((name, operands, ints, floats))

    def _copy_result(self, unit):
        t = unit.tensor
        base = self._home(unit.target)
        self.copy(self._operand(base, 0, t.dtype, t.shape, contiguous(t.shape)), self.operand(t))

    def _assemble(self, node):
        y = node.outputs[0]
        base, strides = self._base(y), contiguous(y.shape)

        def part(bounds, shape):
            offset = sum(b[0] * s for b, s in zip(bounds, strides, strict=True))
            steps = tuple(b[2] * s for b, s in zip(bounds, strides, strict=True))
            return self._operand(base, offset, y.dtype, shape, steps)

        if node.op.name == "place":
            x, bounds = node.inputs[0], node.attrs["bounds"]
            for zeros in _border(y.shape, bounds) if x.size else [[(0, n, 1) for n in y.shape]]:
                shape = tuple(b[1] - b[0] for b in zeros)
                self.copy(part(zeros, shape), self._scalar_zero(y.dtype, shape))
            if x.size:
                self.copy(part(bounds, x.shape), self.operand(x))
            return
        axis, at = node.attrs["axis"], 0
        for x in node.inputs:
            bounds = [(0, n, 1) for n in y.shape]
            bounds[axis] = (at, at + x.shape[axis], 1)
            at += x.shape[axis]
            if x.size:
                self.copy(part(bounds, x.shape), self.operand(x))

    def _scalar_zero(self, dtype, shape):
        offset = -(-self.constant_bytes // 64) * 64
        self.constants.append((offset, np.zeros(1, dtypes.array_type(dtype))))
        self.constant_bytes = offset + 8
        return self._operand((CONSTANTS, offset, 0), 0, dtype, shape, (0,) * len(shape))

    def _expression(self, unit):
        """A chain of pointwise nodes, alone, before a reduction or behind a kernel's result."""
        anchor, shape = unit.anchor, unit.shape
        if anchor is not None and anchor.op.name == "reduce":
            self._reduction(unit)
            return
        encoder = Encoder(unit, unit.outputs, self.opcodes)
        name, (ints, floats) = "pointwise", encoder.encode()
        operands = [self.operand(t, shape) for t in unit.outputs]
        if anchor is not None:
            name, geometry, _ = anchor.op.kernel(anchor)
            ints, floats = (geometry, []) if encoder.trivial else (geometry + ints, floats)
            matrix = self._matrix if name == "gemm" else lambda x, _: self.operand(x)
            operands += [matrix(x, shape) for x in anchor.inputs]
        operands += [self.operand(t, shape) for t in encoder.inputs]
        self.instructions.append((name, operands, ints, floats))

    def _reduction(self, unit):
        anchor = unit.anchor
        encoder = Encoder(unit, anchor.inputs, self.opcodes)
        ints, floats = encoder.encode()
        name, kind, _ = anchor.op.kernel(anchor)
        operands = [self.operand(anchor.outputs[0])]
        operands += [self.operand(t, anchor.inputs[0].shape) for t in encoder.inputs]
        self.instructions.append((name, operands, kind + ints, floats))

    def _matrix(self, x, shape):
        """Operand of a product: leading axes broadcast to those of the result."""
        return self.operand(x, (*shape[:-2], *x.shape[-2:]))


def _border(shape, bounds):
    """Boxes, as bounds, that cover `shape` around `bounds`; the whole where these have steps."""
    whole = [(0, n, 1) for n in shape]
    if any(step != 1 for _, _, step in bounds):
        return [whole]
    boxes, inside = [], list(whole)
    for axis, (start, stop, _) in enumerate(bounds):
        for a, b in ((0, start), (stop, shape[axis])):
            if a < b:
                boxes.append([*inside[:axis], (a, b, 1), *inside[axis + 1 :]])
        inside[axis] = (start, stop, 1)
    return boxes


class NoKernel(Exception):
    """The graph holds an op without a native kernel."""


class Encoder:
    """The expression of one unit: value ids of inputs, constants and temporaries, and the code."""

    def __init__(self, unit, results, opcodes):
        self.unit, self.results, self.opcodes = unit, results, opcodes
        self.members = [n for n in unit.nodes if n is not unit.anchor]
        self.made = {t for n in self.members for t in n.outputs}
        self.inputs, self.floats = [], []
        self._ids = {}
        follows = unit.anchor is not None and unit.anchor.op.epilogue
        self._product = unit.anchor.outputs[0] if follows else None  # what the kernel computes
        self._first = int(follows)  # it is input 0
        self._fused = {}

    @property
    def trivial(self):
        return not self.members and len(self.results) == 1

    def encode(self):
        self._find_multiply_adds()
        code_nodes = [n for n in self.members if n not in self._fused.values()]
        for node in code_nodes:
            for x in self._sources(node):
                self._leaf(x)
        for x in self.results:
            self._leaf(x)
        n_in, n_const = self._first + len(self.inputs), len(self.floats)
        code, n_temp = self._code(code_nodes, n_in + n_const)
        wide = int(self.unit.compute == "float64")
        results = [self._id(t) for t in self.results]
        head = [wide, len(results), n_in, n_const, n_temp, len(code_nodes)]
        return head + code + results, self.floats

    def _sources(self, node):
        product = self._fused.get(node)
        if product is None:
            return node.inputs
        a, b = node.inputs
        other = b if a.node is product else a
        return (*product.inputs, other)

    def _find_multiply_adds(self):
        """x * y + z in one operation where x * y is needed nowhere else."""
        uses = {}
        for n in self.members:
            for x in n.inputs:
                uses[x] = uses.get(x, 0) + 1
        for n in self.members:
            if n.op.name != "add":
                continue
            for x in n.inputs:
                once = x in self.made and uses[x] == 1 and not any(x is r for r in self.results)
                if once and x.node.op.name == "multiply" and n not in self._fused:
                    self._fused[n] = x.node

    def _leaf(self, x):
        """Give an input or a constant its place."""
        if x in self.made or x in self._ids or x is self._product:
            return
        value = scalar_value(x)
        if value is not None:
            self._ids[x] = ("const", len(self.floats))
            self.floats.append(float(value))
        else:
            self._ids[x] = ("in", len(self.inputs))
            self.inputs.append(x)

    def _id(self, x):
        if x is self._product:
            return 0
        where = self._ids[x]
        if isinstance(where, int):
            return where
        kind, i = where
        return self._first + i + (0 if kind == "in" else len(self.inputs))

    def _code(self, nodes, first):
        last = {}
        for at, node in enumerate(nodes):
            for x in self._sources(node):
                last[x] = at
        for x in self.results:
            last[x] = len(nodes)
        free, n_temp, code = [], 0, []
        for at, node in enumerate(nodes):
            sources = self._sources(node)
            ids = [self._id(x) for x in sources]
            for x in dict.fromkeys(sources):
                if x in self.made and last[x] == at:
                    free.append(self._ids[x])
            places = []
            for y in node.outputs:
                if free and len(node.outputs) == 1:
                    place = free.pop()
                else:
                    place, n_temp = first + n_temp, n_temp + 1
                places.append(place)
                self._ids[y] = place
                if y not in last:
                    free.append(place)
            name = "multiply_add" if node in self._fused else _opcode(node)
            code += [self.opcodes[name][0], *places, *ids]
        return code, n_temp


def _opcode(node):
    """The operation of csrc/opcodes.def that runs a pointwise node."""
    if node.op.name != "cast":
        return node.op.name
    source, target = node.inputs[0].dtype, node.attrs["dtype"]
    if target in ROUNDINGS:
        return ROUNDINGS[target]
    return "trunc" if dtypes.is_float(source) and not dtypes.is_float(target) else "identity"
