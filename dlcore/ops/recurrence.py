"""Recurrences: a step of pointwise arithmetic and products, repeated over time.

    for t = 0 .. T-1:   states = step(inputs[t], states),   with products  s = a @ m  inside

Simple RNN, LSTM and GRU are steps. A step is traced once into a small graph; its gradient is that
graph differentiated. Both run as one kernel, csrc/cpu/kernels/recurrence.cpp. Sequences are (T, B,
W) inside: a step is contiguous.
"""

from dlcore.ops.op import Op, no_second_gradient
from dlcore.ops.step import ANY, MOST_OUTPUTS, MOST_VALUES, PRODUCT, Step, bare_as_lists, product
from dlcore.ops.step_gradient import StepGradient
from dlcore.program.graph import CONSTANT, Trace


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
        constants = self._constants(xp)
        for y, x in zip(histories, first, strict=False):
            y[steps if backwards else 0] = x
        for t in range(steps)[:: -1 if backwards else 1]:
            values = dict(constants)
            for x, source in step.sources.items():
                if source[0] == "state":
                    values[x] = histories[source[1]][t + before]
                else:
                    values[x] = self._read(inputs[source[0]], t, *source[1:])
            for node in step.nodes:
                self._run(xp, node, values, matrices)
            for i, x in enumerate(step.states):
                histories[i][t + after] = values[x]
            for y, group in zip(groups, step.groups, strict=True):
                for i, x in enumerate(group):
                    y[t, :, i * h : (i + 1) * h] = values[x]
        return (*histories, *groups)

    def _read(self, x, t, shift, slice):
        x = x[0 if x.shape[0] == 1 and shift == 0 else t + shift]
        h = self.width
        return x if x.shape[1] == 1 else x[:, slice * h : (slice + 1) * h]

    def _constants(self, xp):
        """The constants of the step, as arrays of `xp`."""
        known = [*self.step.states, *(x for group in self.step.groups for x in group)]
        known += [x for node in self.step.nodes for x in node.inputs]
        return {x: xp.asarray(x.node.attrs["value"]) for x in known if x.node.op is CONSTANT}

    def _run(self, xp, node, values, matrices):
        inputs = [values[x] for x in node.inputs]
        if node.op is PRODUCT:
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
            no_second_gradient("recurrence")()
        return self.backward.gradient(*bare_as_lists(dys, ys), inputs, steps, rows, backwards)

    # The native program

    def _encode(self, node, outputs, opcodes):
        """(kernel name, ints, floats) of one use with the tensors `outputs` written."""
        from dlcore.program.emit import NoKernel

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
            if len(written) > MOST_OUTPUTS or sum(code[2:5]) > MOST_VALUES:
                raise NoKernel("recurrence")
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
            values = [trace.input(ANY, kind) for _ in range(n)]
            sources.update({x: (i, 0, k) for k, x in enumerate(values)})
            inputs.append(values)
        states = [trace.input(ANY, dtype) for _ in range(n_states)]
        sources.update({x: ("state", i) for i, x in enumerate(states)})
        after = list(f(inputs, states, product))
    step = Step(sources, after, [])
    for node in step.nodes:
        if node.op is not PRODUCT and node.op.kind == "kernel":
            raise ValueError(
                f"recurrence: expected a step of pointwise functions, got {node.op.name}"
            )
    backward = StepGradient(Recurrence, step, trace, len(parts), n_matrices, width)
    return Recurrence(step, width, len(parts), n_matrices, backward=backward)
