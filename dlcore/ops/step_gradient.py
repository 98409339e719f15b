"""The gradient of a recurrence: a recurrence that runs the other way.

Back-propagation through time (Werbos, "Backpropagation through time: what it does and how to do
it", Proc. IEEE 1990), by differentiating the graph of one step.
"""

from dlcore.ops.op import OPS
from dlcore.ops.step import ANY, MOST_OUTPUTS, PRODUCT, Step, same, zero
from dlcore.program import dtypes
from dlcore.program.differentiate import gradients
from dlcore.program.graph import CONSTANT

# Recomputed in the gradient rather than kept for it.
_CHEAP = {
    "add", "subtract", "multiply", "negative", "abs", "square", "relu", "where", "maximum",
    "minimum", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal",
    "logical_and", "logical_or", "logical_not", "cast", "stop_gradient", "identity", "sign",
}  # fmt: skip


class StepGradient:
    """The gradient of a step: which arguments its recurrence takes and what becomes of its
    results."""

    def __init__(self, make, step, trace, sequences, matrices, width):
        self._make, self.step, self.width = make, step, width
        self.n_sequences, self.n_matrices = sequences, matrices
        n_forward = len(trace.nodes)
        dtype = step.states[0].dtype
        trace.products = {}
        with trace:
            carried = [trace.input(ANY, dtype) for _ in step.states]
            given = [trace.input(ANY, dtype) for _ in step.states]
            loss = None
            for y, a, b in zip(step.states, carried, given, strict=True):
                term = OPS["multiply"](y, OPS["add"](a, b))
                loss = term if loss is None else OPS["add"](loss, term)
            wanted = [x for x in step.sources if dtypes.is_float(x.dtype)]
            grads = dict(zip(wanted, gradients(loss, wanted), strict=True))
        self.products = [n for n in step.nodes if n.op is PRODUCT and n in trace.products]
        self.groups = [trace.products[n] for n in self.products]
        self.slices = self._group_by_sequence(grads)  # sequence -> the group of its gradient
        states = {step.sources[x][1]: grads[x] for x in wanted if step.sources[x][0] == "state"}
        with trace:
            self.results = [states.get(i) for i in range(len(step.states))]
            self.results = [zero(dtype) if x is None else x for x in self.results]
        used, seen = self._choose_kept(n_forward)
        self._place(used, seen, carried, given)

    def _group_by_sequence(self, grads):
        """Put the gradients of the parts of each sequence side by side, where no product has
        them so."""
        slices, sources = {}, self.step.sources
        for i in range(self.n_sequences):
            parts = {sources[x][2]: g for x, g in grads.items() if sources[x][0] == i}
            if not parts:
                continue
            group = [parts[k] for k in sorted(parts)]
            at = next((g for g, x in enumerate(self.groups) if same(x, group)), None)
            if at is None:
                at = len(self.groups)
                self.groups.append(group)
            slices[i] = at
        return slices

    def _choose_kept(self, n_forward):
        """Have the step keep the values that the gradient reads and that are not cheap to compute
        again, or of an activation with many such values only the products. Returns {value: its
        place} of what the gradient reads of the step's own sources and states, and all values of
        the gradient."""
        used, kept, seen = self._read(n_forward)
        if len(kept) + len(self.step.states) > MOST_OUTPUTS:
            used, kept, seen = self._read(n_forward, products_only=True)
        self.kept = sorted(kept, key=lambda x: (x.node.id, x.index))
        self.step.keep(self.kept)
        self.first_kept = len(self.step.groups) - len(self.kept)
        return used, seen

    def _read(self, n_forward, products_only=False):
        """(places of sources and states, values to keep, all values) that the gradient reads."""
        forward, cheap = dict(self.step.sources), {}
        for i, y in enumerate(self.step.states):
            forward.setdefault(y, ("after", i))

        def recomputed(x):  # from what is at hand, without a product
            if x in forward or x.node.op is CONSTANT:
                return True
            if x.node.op is PRODUCT or x.node.op.name not in _CHEAP:
                return False
            if x not in cheap:
                cheap[x] = all(recomputed(i) for i in x.node.inputs)
            return cheap[x]

        def is_kept(x):
            return x.node.op is PRODUCT if products_only else not recomputed(x)

        used, kept, seen = {}, [], set()
        stack = [*self.results, *(t for g in self.groups for t in g)]
        while stack:
            x = stack.pop()
            if x in seen:
                continue
            seen.add(x)
            if x in forward:
                used[x] = forward[x]
            elif x.node.id < n_forward and is_kept(x):
                kept.append(x)
            else:
                stack += x.node.inputs
        return used, kept, seen

    def _place(self, used, seen, carried, given):
        """The arguments of the gradient: sequences, histories, values kept and gradients of the
        histories; and where its step reads each value."""
        self.arguments, self.sources = [], {}

        def read(x, what, at):
            if what not in self.arguments:
                self.arguments.append(what)
            self.sources[x] = self.arguments.index(what), at

        for x, where in used.items():
            if where[0] in ("state", "after"):
                read(x, ("history", where[1]), where[0])
            else:
                read(x, ("sequence", where[0]), where[1:])
        for g, x in enumerate(self.kept):
            read(x, ("kept", g), (0, 0))
        for i, x in enumerate(given):
            if x in seen:
                read(x, ("given", i), "after")
        self.carried = {x: i for i, x in enumerate(carried) if x in seen}
        self._ops = {}

    def _op(self, backwards, direct, zeros):
        """The recurrence of the gradient of a forward pass that went `backwards` or not.

        direct : numbers of the states whose gradients are given for the states after each step
            alone, (T, B, H).
        zeros : the states' gradients begin as zeros.
        """
        op = self._ops.get((backwards, direct, zeros))
        if op is None:
            shift = {"state": int(backwards), "after": int(not backwards)}
            sources = {}
            for x, (argument, at) in self.sources.items():
                kind, i = self.arguments[argument]
                at = (0, 0) if kind == "given" and i in direct else at
                sources[x] = (argument, shift[at], 0) if isinstance(at, str) else (argument, *at)
            sources.update({x: ("state", i) for x, i in self.carried.items()})
            step = Step(sources, self.results, self.groups)
            op = self._ops[backwards, direct, zeros] = self._make(
                step, self.width, len(self.arguments), self.n_matrices, zeros=zeros
            )
        return op

    def gradient(self, dys, ys, inputs, steps, rows, backwards):
        from dlcore.ops import creation, linalg, pointwise, reduction, shaping

        n = len(self.step.states)
        end, after = (steps, 0) if backwards else (0, 1)
        given, last, direct = [], [], []
        for i, dy in enumerate(dys[:n]):
            dlast, dy = _split_last(dy, steps - end)
            if dy is not None and _places_steps(dy, after, steps):
                direct.append(i)
                dy = OPS["dense"](dy.node.inputs[0])  # rows far apart would be slow to read
            given.append(dy)
            last.append(dlast)
        first = []
        if any(x is not None for x in last):
            shape, dtype = (rows, self.width), ys[0].dtype
            first = [creation.zeros(shape, dtype) if x is None else x for x in last]
        op = self._op(backwards, tuple(direct), not first)
        groups = ys[n + self.first_kept :]
        zeros = creation.zeros(ys[0].shape, ys[0].dtype)
        lists = {"sequence": inputs, "history": ys, "kept": groups}
        lists["given"] = [zeros if x is None else x for x in given]
        arguments = [lists[kind][i] for kind, i in self.arguments]
        matrices = inputs[self.n_sequences : self.n_sequences + self.n_matrices]
        results = op(*arguments, *matrices, *first, steps=steps, rows=rows, backwards=not backwards)
        firsts = [
            r[end] if g is None or i in direct else pointwise.add(r[end], g[end])
            for i, (r, g) in enumerate(zip(results[:n], given, strict=True))
        ]
        kept = results[n:]
        dx = []
        for i, x in enumerate(inputs[: self.n_sequences]):
            if i not in self.slices:
                dx.append(None)
                continue
            d = kept[self.slices[i]]
            axes = [a for a in (0, 1) if x.shape[a] == 1 != d.shape[a]]
            dx.append(reduction.sum(d, axis=tuple(axes), keepdims=True) if axes else d)
        dm = [None] * self.n_matrices
        for g, node in enumerate(self.products):
            a = self._operand(node, ys, inputs, steps, backwards)
            d = kept[g]
            a, d = (shaping.reshape(v, (-1, v.shape[-1])) for v in (a, d))
            if node.attrs["transposed"]:
                a, d = d, a
            part = linalg.matmul(shaping.transpose(a), d)
            i = node.attrs["matrix"]
            dm[i] = part if dm[i] is None else pointwise.add(dm[i], part)
        return [*dx, *dm, *firsts]

    def _operand(self, node, ys, inputs, steps, backwards):
        """The left sides of a product at all steps, (T, B, K)."""
        where = self.step.operand(node)
        if where[0] == "group":
            return ys[len(self.step.states) + where[1]]
        if where[0] in ("state", "after"):
            late = (where[0] == "after") != backwards
            history = ys[where[1]]
            return history[1:] if late else history[:steps]
        argument, shift, part = where
        columns = slice(part * self.width, (part + len(node.inputs)) * self.width)
        return inputs[argument][shift : shift + steps, :, columns]


def _split_last(dy, at):
    """(part, rest) of the gradient of a history: of the state (B, H) at `at` alone, as the next
    layer or piece of time gives it, and all else; None for nothing."""
    parts, last, rest = [] if dy is None else [dy], None, None
    while parts:
        part = parts.pop()
        node = part.node
        if node.op.name == "add" and all(x.shape == part.shape for x in node.inputs):
            parts += node.inputs
        elif _places_steps(part, at, 1):
            x = OPS["reshape"](node.inputs[0], shape=part.shape[1:])
            last = x if last is None else OPS["add"](last, x)
        else:
            rest = part if rest is None else OPS["add"](rest, part)
    return last, rest


def _places_steps(dy, start, n):
    """Whether `dy` holds n steps from `start`, and zeros."""
    if dy.node.op.name != "place":
        return False
    _, *whole = ((0, size, 1) for size in dy.shape)
    return dy.node.attrs["bounds"] == ((start, start + n, 1), *whole)
