"""Recurrences: a step of pointwise arithmetic and products, repeated over time.

    for t = 0 .. T-1:   states = step(inputs[t], states),   with products  s = a @ m  inside

Simple RNN, LSTM and GRU are steps. A step is traced once into a small graph; its gradient is that
graph differentiated, a recurrence that runs the other way (back-propagation through time, Werbos,
"Backpropagation through time: what it does and how to do it", Proc. IEEE 1990). Both run as one
kernel, csrc/cpu/kernels/recurrence.cpp. Sequences are (T, B, W) inside: a step is contiguous.
"""

import numpy as np

from dlcore.ops.op import OPS, Op
from dlcore.program import dtypes
from dlcore.program.differentiate import gradients
from dlcore.program.graph import CONSTANT, INPUT, Tensor, Trace, current_trace

# Recomputed in the gradient rather than kept for it.
_CHEAP = {
    "add", "subtract", "multiply", "negative", "abs", "square", "relu", "where", "maximum",
    "minimum", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal",
    "logical_and", "logical_or", "logical_not", "cast", "stop_gradient", "identity", "sign",
}  # fmt: skip
_ANY = (2, 3)  # the shape of a value in the graph of a step: no axis to broadcast, no size to use


def _lists(dys, ys):
    """The gradients and outputs of a node, which come bare when there is one."""
    return ([dys], [ys]) if isinstance(ys, Tensor) else (dys, ys)


def _product_gradient(dys, ys, *inputs, matrix, transposed, slices):
    dys, ys = _lists(dys, ys)
    dys = [_zero(y.dtype) if dy is None else dy for dy, y in zip(dys, ys, strict=True)]
    current_trace().products[ys[0].node] = dys
    return product(dys, matrix, len(inputs), not transposed)


_PRODUCT = Op(
    "step_product",
    lambda *a, matrix, transposed, slices: [(_ANY, a[0].dtype)] * slices,
    None,
    _product_gradient,
)


def product(a, matrix, slices, transposed=False):
    """`slices` values: the values `a` side by side, times matrix number `matrix` of the step (or
    its transpose)."""
    return list(_PRODUCT(*a, matrix=matrix, transposed=transposed, slices=slices))


def _zero(dtype):
    return OPS["broadcast_to"](current_trace().constant(np.zeros((), dtype)), shape=_ANY)


def _find(values, x):
    """The index of `x` itself, or None: `==` on tensors records a node."""
    return next((i for i, y in enumerate(values) if y is x), None)


def _same(a, b):
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


class Step:
    """The graph of one step and the places of its values.

    sources : {value: (argument, shift, slice)} what the step reads: H columns of sequence number
        `argument` at step t + shift, or ("state", i): state i before the step.
    states : values of the states after the step.
    groups : lists of values that are kept, side by side, for all steps; the last `optional` of
        them only where somebody reads them.
    """

    def __init__(self, sources, states, groups, optional=0):
        self.sources, self.states, self.optional = sources, states, optional
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
            if node.op is not _PRODUCT or self.operand(node) is not None:
                continue
            self.groups.insert(len(self.groups) - self.optional, list(node.inputs))

    def operand(self, node):
        """Where a product's left side lies: ("state", i), ("after", i), ("group", g) or
        (argument, shift, slice)."""
        a = list(node.inputs)
        if len(a) == 1:
            if a[0] in self.sources:
                return self.sources[a[0]]
            state = _find(self.states, a[0])
            if state is not None:
                return "after", state
        return next((("group", g) for g, x in enumerate(self.groups) if _same(x, a)), None)

    def _split(self):
        """Stages: a product or none, then pointwise nodes. Values that a later stage reads are
        kept."""
        stages = [(None, [])]
        for node in self.nodes:
            if node.op is _PRODUCT:
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

    def find(self, x):
        """Where value `x` can be read again once it was written."""
        if x in self.sources:
            return self.sources[x]
        state = _find(self.states, x)
        if state is not None:
            return "after", state
        for g, group in enumerate(self.groups[: len(self.groups) - self.optional]):
            if _find(group, x) is not None:
                return "group", g, _find(group, x)
        return None


class Recurrence(Op):
    """The op of a step.

    Inputs: sequences (T, B, W), or (T + 1, B, W) where the step reads at t + 1, or with 1 for T, B
    or W; matrices; one first state (B, H) for each state, or none (zeros). Outputs: a history (T +
    1, B, H) of each state, then (T, B, W) of each group of values.
    """

    def __init__(self, step, width, sequences, matrices, zeros=False, backward=None):
        self.step, self.width, self.zeros = step, width, zeros
        self.n_sequences, self.n_matrices = sequences, matrices
        self.backward = backward  # how to differentiate, or None
        super().__init__(
            "recurrence",
            self._shape,
            self._formula,
            self._gradient,
            kernel=self._encode,
            optional=step.optional,
            expressions=True,
        )

    def _shape(self, *inputs, steps, rows, backwards):
        dtype = inputs[self.n_sequences].dtype
        histories = [((steps + 1, rows, self.width), dtype)] * len(self.step.states)
        groups = [((steps, rows, self.width * len(g)), dtype) for g in self.step.groups]
        return histories + groups

    # The formula

    def _formula(self, xp, *inputs, steps, rows, backwards):
        step, h = self.step, self.width
        matrices = inputs[self.n_sequences : self.n_sequences + self.n_matrices]
        first = inputs[self.n_sequences + self.n_matrices :]
        dtype = matrices[0].dtype
        histories = [xp.zeros((steps + 1, rows, h), dtype) for _ in step.states]
        groups = [xp.zeros((steps, rows, h * len(g)), dtype) for g in step.groups]
        before, after = (1, 0) if backwards else (0, 1)
        for y, x in zip(histories, first, strict=False):
            y[steps if backwards else 0] = x
        for t in range(steps)[:: -1 if backwards else 1]:
            values = {}
            for x, source in step.sources.items():
                if source[0] == "state":
                    values[x] = histories[source[1]][t + before]
                else:
                    values[x] = self._read(inputs[source[0]], t, *source[1:])
            for node in step.nodes:
                self._run(xp, node, values, matrices)
            for i, x in enumerate(step.states):
                histories[i][t + after] = self._value(x, values)
            for y, group in zip(groups, step.groups, strict=True):
                for i, x in enumerate(group):
                    y[t, :, i * h : (i + 1) * h] = self._value(x, values)
        return (*histories, *groups)

    def _read(self, x, t, shift, slice):
        x = x[0 if x.shape[0] == 1 and shift == 0 else t + shift]
        h = self.width
        return x if x.shape[1] == 1 else x[:, slice * h : (slice + 1) * h]

    @staticmethod
    def _value(x, values):
        return x.node.attrs["value"] if x.node.op is CONSTANT else values[x]

    def _run(self, xp, node, values, matrices):
        inputs = [self._value(x, values) for x in node.inputs]
        if node.op is _PRODUCT:
            m = matrices[node.attrs["matrix"]]
            rows = max(x.shape[0] for x in inputs)
            a = xp.concatenate([xp.broadcast_to(x, (rows, self.width)) for x in inputs], axis=1)
            s = a @ (m.T if node.attrs["transposed"] else m)
            h = self.width
            results = [s[:, i * h : (i + 1) * h] for i in range(len(node.outputs))]
        elif node.op.kind == "view":  # of a constant, or stop_gradient
            results = inputs
        else:
            results = node.op.formula(xp, *inputs, **node.attrs)
            results = results if isinstance(results, tuple) else (results,)
        for y, value in zip(node.outputs, results, strict=True):
            values[y] = value

    # The gradient

    def _gradient(self, dys, ys, *inputs, steps, rows, backwards):
        if self.backward is None:
            raise NotImplementedError(
                "recurrence: expected to be differentiated once, got a second derivative"
            )
        return self.backward.gradient(*_lists(dys, ys), inputs, steps, rows, backwards)

    # The native program

    def _encode(self, node, outputs, opcodes):
        """(kernel name, ints, floats) of one use with the tensors `outputs` written."""
        step, backwards = self.step, node.attrs["backwards"]
        n_states = len(step.states)
        position = {t.index: i for i, t in enumerate(outputs)}
        inputs = len(outputs)
        first = inputs + self.n_sequences + self.n_matrices
        starts = [-1] * n_states if self.zeros else [first + i for i in range(n_states)]
        ints = [self.width, int(backwards), n_states, len(outputs), *starts, len(step.stages)]
        floats = []
        before, after = (1, 0) if backwards else (0, 1)

        def place(where):
            if where[0] == "state":
                return [where[1], before, 0]
            if where[0] == "after":
                return [where[1], after, 0]
            if where[0] == "group":
                output = position.get(n_states + where[1])
                return None if output is None else [output, 0, where[2] if len(where) > 2 else 0]
            return [inputs + where[0], *where[1:]]

        for p, nodes, results in step.stages:
            sums = {}
            if p is None:
                ints += [-1, 0, 0, 0, -1, 0, 0]
            else:
                ints += [*place(step.operand(p)), len(p.inputs)]
                ints += [inputs + self.n_sequences + p.attrs["matrix"]]
                ints += [int(p.attrs["transposed"]), len(p.outputs)]
                sums = {y: [-1, 0, i] for i, y in enumerate(p.outputs)}
            written = [(x, place(where)) for x, where in results if place(where) is not None]
            read, code, constants = _encode(nodes, [x for x, _ in written], opcodes)
            ints += [len(read)]
            for x in read:
                ints += sums[x] if x in sums else place(step.find(x))
            ints += [len(written)] + [i for _, where in written for i in where]
            ints += [len(constants), len(code), *code]
            floats += constants
        return "recurrence", ints, floats


class _Nodes:
    """What the encoder of expressions asks of a unit."""

    anchor = None

    def __init__(self, nodes, wide):
        self.nodes = [n for n in nodes if n.op.kind == "pointwise"]
        self.compute = "float64" if wide else "float32"


def _encode(nodes, results, opcodes):
    """(values read, ints, floats) of an expression."""
    from dlcore.program.emit import Encoder

    encoder = Encoder(_Nodes(nodes, results[0].dtype == "float64"), results, opcodes)
    ints, floats = encoder.encode()
    return encoder.inputs, ints, floats


# Building steps


class _Backward:
    """The gradient of a step: which arguments its recurrence takes and what becomes of its
    results."""

    def __init__(self, step, trace, sequences, matrices, width):
        self.step, self.width = step, width
        self.n_sequences, self.n_matrices = sequences, matrices
        n_forward = len(trace.nodes)
        dtype = step.states[0].dtype
        trace.products = {}
        with trace:
            carried = [trace.input(_ANY, dtype) for _ in step.states]
            given = [trace.input(_ANY, dtype) for _ in step.states]
            loss = None
            for y, a, b in zip(step.states, carried, given, strict=True):
                term = OPS["multiply"](y, OPS["add"](a, b))
                loss = term if loss is None else OPS["add"](loss, term)
            wanted = [x for x in step.sources if dtypes.is_float(x.dtype)]
            grads = dict(zip(wanted, gradients(loss, wanted), strict=True))
        self.products = [n for n in step.nodes if n.op is _PRODUCT and n in trace.products]
        groups = [trace.products[n] for n in self.products]
        self.slices = {}  # sequence -> (group of its gradient)
        for i in range(sequences):
            parts = {step.sources[x][2]: grads[x] for x in wanted if step.sources[x][0] == i}
            if not parts:
                continue
            group = [parts[k] for k in sorted(parts)]
            at = next((g for g, x in enumerate(groups) if _same(x, group)), None)
            if at is None:
                at = len(groups)
                groups.append(group)
            self.slices[i] = at
        states = {step.sources[x][1]: grads[x] for x in wanted if step.sources[x][0] == "state"}
        with trace:
            results = [states[i] if i in states else _zero(dtype) for i in range(len(step.states))]
        self._read(trace, step, n_forward, carried, given, results, groups)

    def _read(self, trace, step, n_forward, carried, given, results, groups):
        """Choose what the gradient reads: sources and states of the step, and values kept."""
        forward = dict(step.sources)
        for i, y in enumerate(step.states):
            forward.setdefault(y, ("after", i))
        kept = {}
        cheap = {}

        def recomputed(x):  # from what is at hand, without a product
            if x in forward or x.node.op is CONSTANT:
                return True
            if x.node.op is _PRODUCT or x.node.op.name not in _CHEAP:
                return False
            if x not in cheap:
                cheap[x] = all(recomputed(i) for i in x.node.inputs)
            return cheap[x]

        used = {}
        stack, seen = [*results, *(t for g in groups for t in g)], set()
        while stack:
            x = stack.pop()
            if x in seen:
                continue
            seen.add(x)
            if x in forward:
                used[x] = forward[x]
            elif x.node.id < n_forward and x.node.op is not CONSTANT and not recomputed(x):
                kept[x] = None
            else:
                stack += x.node.inputs
        self.kept = sorted(kept, key=lambda x: (x.node.id, x.index))
        step.groups += [[x] for x in self.kept]
        step.optional = len(self.kept)
        step.stages = step._split()
        self.first_kept = len(step.groups) - len(self.kept)
        # Arguments of the gradient: sequences, histories, kept values, gradients of the histories.
        self.arguments, sources = [], {}

        def argument(what):
            if what not in self.arguments:
                self.arguments.append(what)
            return self.arguments.index(what)

        for x, where in used.items():
            if where[0] in ("state", "after"):
                sources[x] = ("history", where[1]), where[0]
            else:
                sources[x] = ("sequence", where[0]), where[1:]
        for g, x in enumerate(self.kept):
            sources[x] = ("kept", g), (0, 0)
        for i, x in enumerate(given):
            if x in seen:
                sources[x] = ("given", i), "after"
        self.sources = {x: (argument(what), at) for x, (what, at) in sources.items()}
        self.carried = {x: i for i, x in enumerate(carried) if x in seen}
        self.results, self.groups = results, groups
        self._ops = {}

    def _op(self, backwards):
        """The recurrence of the gradient of a forward pass that went `backwards` or not."""
        op = self._ops.get(backwards)
        if op is None:
            shift = {"state": int(backwards), "after": int(not backwards)}
            sources = {}
            for x, (argument, at) in self.sources.items():
                sources[x] = (argument, shift[at], 0) if isinstance(at, str) else (argument, *at)
            sources.update({x: ("state", i) for x, i in self.carried.items()})
            step = Step(sources, self.results, self.groups)
            op = self._ops[backwards] = Recurrence(
                step, self.width, len(self.arguments), self.n_matrices, zeros=True
            )
        return op

    def gradient(self, dys, ys, inputs, steps, rows, backwards):
        from dlcore.ops import linalg, pointwise, reduction, shaping

        n = len(self.step.states)
        op = self._op(backwards)
        given = [
            shaping.zeros(y.shape, y.dtype) if dy is None else dy
            for dy, y in zip(dys[:n], ys[:n], strict=True)
        ]
        groups = ys[n + self.first_kept :]
        lists = {"sequence": inputs, "history": ys, "kept": groups, "given": given}
        arguments = [lists[kind][i] for kind, i in self.arguments]
        matrices = inputs[self.n_sequences : self.n_sequences + self.n_matrices]
        results = op(*arguments, *matrices, steps=steps, rows=rows, backwards=not backwards)
        end = 0 if not backwards else steps
        firsts = [pointwise.add(r[end], g[end]) for r, g in zip(results[:n], given, strict=True)]
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
        argument, shift, slice = where
        columns = np.s_[slice * self.width : (slice + len(node.inputs)) * self.width]
        return inputs[argument][shift : shift + steps, :, columns]


_steps = {}


def recurrence(f, key, sequences, matrices, states, backwards=False):
    """Run ``f`` over time.

    Parameters
    ----------
    f : callable
        ``f(inputs, states, product)`` -> list of the states after a step, of pointwise ops.
        ``inputs``: for each sequence the list of its H-wide parts at this step (a sequence that is
        1 wide: one value). ``product(values, i, n)``: the values side by side, times matrix i, in n
        parts.
    key : hashable
        Names f: steps of equal key are traced once.
    sequences : list of (T, B, W) tensors
        W a multiple of H, or 1 for a mask; T and B may be 1 for what is the same at all steps or
        rows.
    matrices : list of (K, N) tensors
    states : list of (B, H) tensors
    backwards : bool
        From the last step to the first.

    Returns
    -------
    list of (T + 1, B, H) tensors
        The history of each state: before step t at t and after it at t + 1; backwards, before it
        at t + 1 and after it at t.
    """
    rows, width = states[0].shape
    steps = max(s.shape[0] for s in sequences)
    dtype = states[0].dtype
    parts = tuple((max(s.shape[2] // width, 1), s.dtype) for s in sequences)
    known = (key, parts, len(matrices), len(states), width, dtype)
    op = _steps.get(known)
    if op is None:
        op = _steps[known] = _trace(f, parts, len(matrices), len(states), width, dtype)
    results = op(*sequences, *matrices, *states, steps=steps, rows=rows, backwards=bool(backwards))
    return list(results[: len(states)])


def _trace(f, parts, n_matrices, n_states, width, dtype):
    trace = Trace()
    with trace:
        sources, inputs = {}, []
        for i, (n, kind) in enumerate(parts):
            values = [trace.input(_ANY, kind) for _ in range(n)]
            sources.update({x: (i, 0, k) for k, x in enumerate(values)})
            inputs.append(values)
        states = [trace.input(_ANY, dtype) for _ in range(n_states)]
        sources.update({x: ("state", i) for i, x in enumerate(states)})
        after = list(f(inputs, states, product))
    step = Step(sources, after, [])
    for node in step.nodes:
        if node.op is not _PRODUCT and node.op.kind == "kernel":
            raise ValueError(
                f"recurrence: expected a step of pointwise functions, got {node.op.name}"
            )
    backward = _Backward(step, trace, len(parts), n_matrices, width)
    return Recurrence(step, width, len(parts), n_matrices, backward=backward)
