"""One step of a recurrence as a graph of pointwise nodes and products, and the places of its
values."""

import numpy as np

from dlcore.ops.op import OPS, Op
from dlcore.program.graph import CONSTANT, INPUT, Tensor, current_trace

# What an expression of csrc/common/expression.h may have.
MOST_OUTPUTS, MOST_VALUES = 8, 64
ANY = (2, 3)  # the shape of a value in the graph of a step: no axis to broadcast, no size to use


def bare_as_lists(dys, ys):
    """The gradients and outputs of a node, which come bare when there is one."""
    return ([dys], [ys]) if isinstance(ys, Tensor) else (dys, ys)


def _product_gradient(dys, ys, *inputs, matrix, transposed, slices):
    dys, ys = bare_as_lists(dys, ys)
    dys = [zero(y.dtype) if dy is None else dy for dy, y in zip(dys, ys, strict=True)]
    current_trace().products[ys[0].node] = dys
    return product(dys, matrix, len(inputs), not transposed)


PRODUCT = Op(
    "step_product",
    lambda *a, matrix, transposed, slices: [(ANY, a[0].dtype)] * slices,
    None,
    _product_gradient,
)


def product(a, matrix, slices, transposed=False):
    """`slices` values: the values `a` side by side, times matrix number `matrix` of the step (or
    its transpose)."""
    return list(PRODUCT(*a, matrix=matrix, transposed=transposed, slices=slices))


def zero(dtype):
    return OPS["broadcast_to"](current_trace().constant(np.zeros((), dtype)), shape=ANY)


def find_itself(values, x):
    """The index of `x` itself, or None: `==` on tensors records a node."""
    return next((i for i, y in enumerate(values) if y is x), None)


def same(a, b):
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


class Step:
    """The graph of one step and the places of its values.

    sources : {value: (argument, shift, slice)} what the step reads: H columns of sequence number
        `argument` at step t + shift, or ("state", i): state i before the step.
    states : values of the states after the step.
    groups : lists of values that are kept, side by side, for all steps; the last `optional` of
        them only where somebody reads them.
    """

    def __init__(self, sources, states, groups):
        self.sources, self.states, self.optional = sources, states, 0
        self.groups = [list(g) for g in groups]
        self.nodes = self._live()
        self._store_operands()
        self.stages = self._split()

    def _live(self):
        results = self.states + [t for g in self.groups for t in g]
        stack = [t.node for t in results if t not in self.sources]
        seen = {}
        stops = {t.node for t in self.sources}
        while stack:
            node = stack.pop()
            if node in seen or node in stops or node.op in (INPUT, CONSTANT):
                continue
            seen[node] = None
            stack += [x.node for x in node.inputs]
        return sorted(seen, key=lambda n: n.id)

    def _store_operands(self):
        """What a product reads must lie in memory: a state before the step or a group."""
        for node in self.nodes:
            if node.op is not PRODUCT or self.operand(node) is not None:
                continue
            self.groups.insert(len(self.groups) - self.optional, list(node.inputs))

    def operand(self, node):
        """Where a product's left side lies: ("state", i), ("after", i), ("group", g) or
        (argument, shift, slice)."""
        a = list(node.inputs)
        if len(a) == 1:
            if a[0] in self.sources:
                return self.sources[a[0]]
            state = find_itself(self.states, a[0])
            if state is not None:
                return "after", state
        return next((("group", g) for g, x in enumerate(self.groups) if same(x, a)), None)

    def _split(self):
        """Stages: a product or none, then pointwise nodes. Values that a later stage reads are
        kept."""
        stages = [(None, [])]
        for node in self.nodes:
            if node.op is PRODUCT:
                stages.append((node, []))
            else:
                stages[-1][1].append(node)
        if stages[0] == (None, []) and len(stages) > 1:
            del stages[0]
        made = {}
        for i, (first, nodes) in enumerate(stages):
            for node in [first] * (first is not None) + nodes:
                made.update((y, i) for y in node.outputs)
        for i, (_, nodes) in enumerate(stages):
            for x in (x for n in nodes for x in n.inputs):
                if made.get(x, i) != i and self.find(x) is None:
                    self.groups.insert(len(self.groups) - self.optional, [x])
        return [(p, nodes, self._results(i, made)) for i, (p, nodes) in enumerate(stages)]

    def _results(self, stage, made):
        """(value, place) of everything that a stage writes."""
        last = max(made.values(), default=0)
        places = [(t, ("after", i)) for i, t in enumerate(self.states)]
        places += [(t, ("group", g, i)) for g, x in enumerate(self.groups) for i, t in enumerate(x)]
        return [(t, place) for t, place in places if made.get(t, last) == stage]

    def keep(self, values):
        """Keep each of `values` where somebody reads it."""
        self.groups += [[x] for x in values]
        self.optional = len(values)
        self.stages = self._split()

    def find(self, x):
        """Where value `x` can be read again once it was written."""
        if x in self.sources:
            return self.sources[x]
        state = find_itself(self.states, x)
        if state is not None:
            return "after", state
        for g, group in enumerate(self.groups[: len(self.groups) - self.optional]):
            if find_itself(group, x) is not None:
                return "group", g, find_itself(group, x)
        return None
