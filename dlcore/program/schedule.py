"""The order of units, where results live, and the plan of the arena.

A variable's new value is written over the old one by the unit that computes it, once every reader
of the old value has run; where that cannot be, a copy at the end does it. Everything else lies in
one arena, planned by lifetime before the first step.
"""

import heapq

from dlcore.program import dtypes
from dlcore.program.fuse import LEAVES, depends, is_dense

_ALIGNMENT = 64


class Copy:
    """A unit that copies a tensor to where a result belongs."""

    def __init__(self, tensor, target):
        self.tensor, self.target = tensor, target  # target: ("variable", v) or ("output", i)
        self.deps = set()
        self.outputs = []
        self.nodes = []
        self.order = float("inf")


class Plan:
    """units in order; homes: source tensor -> ("variable", v) | ("output", i) | ("arena",
    offset)."""

    def __init__(self, units, homes, arena_bytes):
        self.units, self.homes, self.arena_bytes = units, homes, arena_bytes


def plan(graph, layouts, units):
    """Order `units`, give every tensor a home and lay out the arena."""
    maker = {t: u for u in units for t in u.outputs}
    readers = _readers(units, layouts)
    homes, copies, made = {}, [], []
    for i, tensor in enumerate(graph.outputs):
        if layouts[tensor].source in maker:
            made.append((i, tensor))
        else:  # a variable's old value, perhaps, which the unit that overwrites it must wait for
            copies.append(_copy(tensor, ("output", i), layouts, maker, readers))
    for variable, tensor in graph.updates:
        _place_update(graph, variable, tensor, layouts, maker, readers, homes, copies)
    for i, tensor in made:
        layout = layouts[tensor]
        source = layout.source
        dense = is_dense(tensor.shape, layout.strides)
        whole = layout.offset == 0 and source.size == tensor.size and dense
        if source not in homes and whole:
            homes[source] = ("output", i)
        else:
            copies.append(_copy(tensor, ("output", i), layouts, maker, readers))
    _order_copies(graph, copies, readers)
    ordered = _sort(units + copies)
    arena = _place(ordered, layouts, homes)
    return Plan(ordered, homes, arena)


def _readers(units, layouts):
    """source tensor -> units that read it."""
    readers = {}
    for unit in units:
        for source in unit_reads(unit, layouts):
            readers.setdefault(source, set()).add(unit)
    return readers


def unit_reads(unit, layouts):
    """Source tensors that a unit reads from memory."""
    if isinstance(unit, Copy):
        return {layouts[unit.tensor].source}
    inside = {t for n in unit.nodes for t in n.outputs}
    return {
        layouts[x].source
        for n in unit.nodes
        for x in n.inputs
        if x not in inside or layouts[x].source is not x
    }


def _copy(tensor, target, layouts, maker, readers):
    unit = Copy(tensor, target)
    source = layouts[tensor].source
    if source in maker:
        unit.deps.add(maker[source])
    readers.setdefault(source, set()).add(unit)
    return unit


def _place_update(graph, variable, tensor, layouts, maker, readers, homes, copies):
    old = next((n.outputs[0] for n in graph.nodes if n.attrs.get("variable") is variable), None)
    unit = maker.get(tensor)
    others = readers.get(old, set()) - {unit} if old is not None else set()
    fits = (
        unit is not None
        and tensor not in homes
        and layouts[tensor].source is tensor
        and _may_overwrite(unit, old, layouts)
        and not any(depends(o, unit) for o in others)
    )
    if fits:
        homes[tensor] = ("variable", variable)
        unit.deps |= others
    else:
        copies.append(_copy(tensor, ("variable", variable), layouts, maker, readers))


def _may_overwrite(unit, old, layouts):
    """Whether `unit` reads the old value only element by element, where it writes the new one."""
    if old is None:
        return True
    written = None if unit.anchor is None else unit.anchor.op.overwrites
    for node in unit.nodes:
        for at, x in enumerate(node.inputs):
            if layouts[x].source is not old or (node is unit.anchor and x is old and at == written):
                continue
            if node is unit.anchor or x is not old or node.outputs[0].shape != old.shape:
                return False
    if unit.anchor is None or unit.anchor.op.epilogue or written is not None:
        return True
    return not _reads(unit, old, layouts)


def _reads(unit, tensor, layouts):
    return tensor in unit_reads(unit, layouts)


def _order_copies(graph, copies, readers):
    """A copy into a variable waits for all readers of the old value."""
    old = {n.attrs["variable"]: n.outputs[0] for n in graph.nodes if "variable" in n.attrs}
    for copy in copies:
        kind, target = copy.target
        if kind == "variable" and target in old:
            waits = readers.get(old[target], set()) - {copy}
            copy.deps |= waits


def _sort(units):
    """The order of running: as recorded, but what a unit needs comes as early as that unit.

    So the update of a weight runs right after its gradient's dy, which is then hot in the caches
    and soon forgotten, though the rate it takes was recorded last.
    """
    order = {u: u.order for u in units}
    for unit in reversed(_topological(units, order)):
        for d in unit.deps:
            order[d] = min(order[d], order[unit])
    return _topological(units, order)


def _topological(units, order):
    """`units` by `order`, but each behind its dependencies."""
    followers = {u: [] for u in units}
    missing = {u: len(u.deps) for u in units}
    for u in units:
        for d in u.deps:
            followers[d].append(u)
    ready = [(order[u], i, u) for i, u in enumerate(units) if not missing[u]]
    heapq.heapify(ready)
    ordered, count = [], len(units)
    while ready:
        _, _, unit = heapq.heappop(ready)
        ordered.append(unit)
        for f in followers[unit]:
            missing[f] -= 1
            if not missing[f]:
                count += 1
                heapq.heappush(ready, (order[f], count, f))
    if len(ordered) != len(units):
        raise AssertionError("schedule: the units form a cycle")
    return ordered


def _place(ordered, layouts, homes):
    """Offsets of all other tensors in the arena (best fit over lifetimes); returns its size."""
    last = {}
    for at, unit in enumerate(ordered):
        for source in unit_reads(unit, layouts):
            last[source] = at
    free, top, dying, blocks = [], 0, {}, {}  # free: [offset, size]; blocks: tensor -> the same
    for at, unit in enumerate(ordered):
        spent = [x for x in _overwritable(unit, layouts) if x in blocks and last[x] == at]
        for t in unit.outputs:
            if t.node.op in LEAVES or t in homes:
                continue
            x = next((x for x in spent if (x.shape, x.dtype) == (t.shape, t.dtype)), None)
            if x is not None:
                spent = [other for other in spent if other is not x]
                blocks[t] = blocks.pop(x)
            else:
                size = -(-max(t.size, 1) * dtypes.SIZES[t.dtype] // _ALIGNMENT) * _ALIGNMENT
                blocks[t] = [_take(free, size, top), size]
                top = max(top, sum(blocks[t]))
            homes[t] = ("arena", blocks[t][0])
            dying.setdefault(max(last.get(t, at), at), []).append(t)
        for t in dying.pop(at, []):
            if t in blocks:
                _release(free, blocks.pop(t))
    return top


def _overwritable(unit, layouts):
    """Tensors that a chain of pointwise nodes reads only where it writes."""
    if isinstance(unit, Copy) or unit.anchor is not None:
        return []
    inside = {t for n in unit.nodes for t in n.outputs}
    reads = [x for n in unit.nodes for x in n.inputs if x not in inside]
    views = {layouts[x].source for x in reads if layouts[x].source is not x}
    return [x for x in dict.fromkeys(reads) if x not in views and x.shape == unit.shape]


def _take(free, size, top):
    """The offset of `size` bytes out of a free block, or behind the others."""
    fitting = [block for block in free if block[1] >= size]
    if fitting:
        block = min(fitting, key=lambda b: b[1])
        offset = block[0]
        block[0] += size
        block[1] -= size
        if not block[1]:
            free.remove(block)
        return offset
    tail = next((b for b in free if b[0] + b[1] == top), None)
    if tail:
        free.remove(tail)
        return tail[0]
    return top


def _release(free, block):
    """Give a block back, joined with its neighbours."""
    for other in list(free):
        if other[0] + other[1] == block[0]:
            block = [other[0], other[1] + block[1]]
            free.remove(other)
        elif block[0] + block[1] == other[0]:
            block = [block[0], block[1] + other[1]]
            free.remove(other)
    free.append(block)
