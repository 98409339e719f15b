"""Fusion: the nodes of a graph become units, each one kernel call.

A chain of pointwise nodes of one shape is a unit (one expression, evaluated a cache-sized block at
a time). A matrix product or convolution takes the pointwise nodes that follow it as its epilogue:
bias and activation, the activation's gradient, the optimizer's update of the weight whose gradient
it is. A reduction takes the pointwise nodes that feed nothing else as its prologue.
"""

from dlcore.program.graph import CONSTANT, INPUT, VARIABLE

LEAVES = (INPUT, VARIABLE, CONSTANT)
_WIDE = ("float64", "int32", "int64")  # these are computed in float64; all others in float32


class Unit:
    """One kernel call (or, for joins, a few copies).

    nodes : members in order.  anchor : the member with a kernel of its own, or None.
    whole : tensors that other units must make, as members see them through views or the anchor
    takes them as its operands.
    inputs : source tensors read from other units or leaves.  outputs : tensors that others need.
    """

    def __init__(self, node, anchor):
        self.nodes = [node]
        self.anchor = anchor
        self.shape = node.outputs[0].shape
        self.compute = compute_type(node)
        self.deps = set()
        self.whole = set()
        self.outputs = []

    @property
    def order(self):
        """Where in the schedule the unit wants to be."""
        return self.nodes[0].id


def compute_type(node):
    types = [t.dtype for t in (*node.inputs, *node.outputs)]
    return "float64" if any(t in _WIDE for t in types) else "float32"


class Layout:
    """Where the elements of a tensor lie in its source tensor: offset and strides in elements."""

    __slots__ = ("offset", "source", "strides")

    def __init__(self, source, offset, strides):
        self.source, self.offset, self.strides = source, offset, strides


def contiguous(shape):
    """Row-major strides in elements."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def is_dense(shape, strides):
    """Whether `strides` are row-major, but for axes of size 1."""
    pairs = zip(shape, contiguous(shape), strides, strict=True)
    return all(n == 1 or e == s for n, e, s in pairs)


def reshape_strides(shape, strides, new):
    """Strides of a view of `new` shape, or None if the elements do not lie that way."""
    if 0 in shape:
        return contiguous(new)
    runs = []  # axes merged as far as memory allows: [size, stride]
    for n, s in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * s:
            runs[-1] = [runs[-1][0] * n, s]
        else:
            runs.append([n, s])
    result, at, left, step = [], len(runs) - 1, 1, 0
    if runs:
        left, step = runs[at]
    for n in reversed(new):
        if n == 1:
            result.append(0)
            continue
        if left == 1:
            at -= 1
            left, step = runs[at]
        if left % n:
            return None
        result.append(step)
        left //= n
        step *= n
    return tuple(reversed(result))


def find_layouts(graph):
    """tensor -> Layout for every tensor; views point to the tensor whose memory they see."""
    layouts = {}
    for node in graph.nodes:
        for y in node.outputs:
            layouts[y] = Layout(y, 0, contiguous(y.shape))
        if node.op not in LEAVES and node.op.kind == "view":
            seen = _view(node, layouts[node.inputs[0]])
            if seen is not None:
                layouts[node.outputs[0]] = seen
    return layouts


def _view(node, x):
    name, shape = node.op.name, node.inputs[0].shape
    if name == "transpose":
        return Layout(x.source, x.offset, tuple(x.strides[a] for a in node.attrs["axes"]))
    if name == "broadcast_to":
        new = node.attrs["shape"]
        return Layout(x.source, x.offset, broadcast_strides(shape, x.strides, new))
    if name == "slice":
        bounds = node.attrs["bounds"]
        empty = 0 in node.outputs[0].shape
        offset = 0 if empty else sum(b[0] * s for b, s in zip(bounds, x.strides, strict=True))
        strides = tuple(b[2] * s for b, s in zip(bounds, x.strides, strict=True))
        return Layout(x.source, x.offset + offset, strides)
    if name == "reshape":
        strides = reshape_strides(shape, x.strides, node.attrs["shape"])
        return None if strides is None else Layout(x.source, x.offset, strides)
    if name == "dense":
        return x if is_dense(shape, x.strides) else None
    return x  # stop_gradient


def broadcast_strides(shape, strides, new):
    """Strides of an array seen in the larger shape `new`."""
    lead = len(new) - len(shape)
    return (0,) * lead + tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))


def fuse(graph, layouts, most=24):
    """The units of `graph`, unordered, with dependencies and outputs filled in.

    `most` nodes share a unit; it is halved until every expression fits the native limits.
    """
    unit_of = {}
    for node in graph.nodes:
        if node.op in LEAVES:
            continue
        copies = node.op.kind == "view" and layouts[node.outputs[0]].source is node.outputs[0]
        if node.op.kind == "view" and not copies:
            continue
        sources = [layouts[x].source for x in node.inputs]
        deps = {unit_of[s.node.id] for s in sources if s.node.id in unit_of}
        pointwise = node.op.kind == "pointwise"
        pairs = zip(sources, node.inputs, strict=True)
        whole = {s for s, x in pairs if s is not x or not pointwise}
        unit = _join(node, deps, whole, unit_of, most) if pointwise else None
        if unit is None:
            unit = Unit(node, None if pointwise else node)
            unit.deps = deps
            unit_of[node.id] = unit
        unit.whole |= whole
    units = list(dict.fromkeys(unit_of.values()))
    kept = {layouts[t].source for t in graph.results()}
    _find_outputs(graph, layouts, unit_of, kept)
    if most > 1 and any(_too_large(u) for u in units):
        return fuse(graph, layouts, most // 2)
    return _fuse_prologues(units, kept, unit_of)


def _join(node, deps, whole, unit_of, most):
    """Put `node` into a unit that makes one of its inputs, if that unit can still run in one
    piece."""
    direct = {unit_of[x.node.id] for x in node.inputs if x.node.id in unit_of}
    compute, shape = compute_type(node), node.outputs[0].shape
    fitting = [
        u
        for u in direct
        if u.shape == shape and u.compute == compute and (u.anchor is None or u.anchor.op.epilogue)
    ]
    fitting = [u for u in fitting if len(u.nodes) < most and not _makes(u, whole, unit_of)]
    fitting.sort(key=lambda u: u.nodes[-1].id, reverse=True)
    home = None
    for unit in fitting:
        if any(depends(d, unit) for d in deps if d is not unit and d is not home):
            continue  # another input of `node` needs this unit: it must end before
        if home is None:
            home = unit
        elif _may_merge(home, unit, unit_of, most):
            home = _merge(home, unit, unit_of)
            deps = {home if d is unit else d for d in deps}
    if home is None:
        return None
    home.nodes.append(node)
    home.deps |= deps - {home}
    unit_of[node.id] = home
    return home


def _makes(unit, tensors, unit_of):
    return any(unit_of.get(t.node.id) is unit for t in tensors)


def _may_merge(a, b, unit_of, most):
    return (
        not (a.anchor and b.anchor)
        and len(a.nodes) + len(b.nodes) < most
        and not _path_between(a, b)
        and not _makes(a, b.whole, unit_of)
        and not _makes(b, a.whole, unit_of)
    )


def _merge(a, b, unit_of):
    a.nodes = sorted(a.nodes + b.nodes, key=lambda n: n.id)
    a.anchor = a.anchor or b.anchor
    a.deps = (a.deps | b.deps) - {a, b}
    a.whole |= b.whole
    for node in b.nodes:
        unit_of[node.id] = a
    for unit in set(unit_of.values()):
        if b in unit.deps:
            unit.deps = (unit.deps - {b}) | {a}
    return a


def depends(unit, on):
    """Whether `unit` needs the result of `on`, directly or not."""
    stack, seen = [unit], set()
    while stack:
        u = stack.pop()
        if u is on:
            return True
        if u not in seen:
            seen.add(u)
            stack.extend(u.deps)
    return False


def _path_between(a, b):
    """Whether one of two units needs the other through a third."""
    return any(depends(d, b) for d in a.deps if d is not b) or any(
        depends(d, a) for d in b.deps if d is not a
    )


def _find_outputs(graph, layouts, unit_of, kept):
    needed = set(kept)
    for node in graph.nodes:
        for x in node.inputs:
            source = layouts[x].source
            if unit_of.get(source.node.id) is not unit_of.get(node.id) or x is not source:
                needed.add(source)
    for node in graph.nodes:
        if node.id in unit_of:
            unit = unit_of[node.id]
            if _in_expression(unit, node):
                unit.outputs += [t for t in node.outputs if t in needed]
            else:  # a kernel can leave out its last ones
                least = len(node.outputs) - node.op.optional
                n = max([least, *(t.index + 1 for t in node.outputs if t in needed)])
                unit.outputs += node.outputs[:n]


def _too_large(unit):
    """Whether the expression exceeds kMaxOutputs or kMaxValues of csrc/cpu/kernels/expression.h."""
    values = {t for n in unit.nodes for t in (*n.inputs, *n.outputs)}
    return len(unit.nodes) > 1 and (len(unit.outputs) > 8 or len(values) > 60)


def _in_expression(unit, node):
    return node.op.kind == "pointwise" or (unit.anchor is node and node.op.epilogue)


def _fuse_prologues(units, kept, unit_of):
    for unit in list(units):
        if unit.anchor is None or unit.anchor.op.name != "reduce":
            continue
        x = unit.anchor.inputs[0]
        producer = unit_of.get(x.node.id)
        if producer is None or producer.anchor is not None or x in kept:
            continue
        alone = len(producer.outputs) == 1 and producer.outputs[0] is x
        if alone and [u for u in units if producer in u.deps] == [unit]:
            unit.nodes = producer.nodes + unit.nodes
            unit.compute = producer.compute
            unit.deps = (unit.deps - {producer}) | producer.deps
            units.remove(producer)
            for node in producer.nodes:
                unit_of[node.id] = unit
    return units
