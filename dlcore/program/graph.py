"""A model as a graph: tensors, the nodes that make them, and the trace that records nodes.

A trace is open while a function is called with symbolic tensors. Every op that sees a `Tensor`
(or, inside a trace, a `Variable`) adds a `Node` to it. Equal nodes are recorded once
(hash-consing), so common subexpressions cost nothing.
"""

import threading

import numpy as np

_local = threading.local()


class Operators:
    """Arithmetic on symbolic tensors and variables; `dlcore.ops` fills in the methods."""

    __slots__ = ()
    __array_priority__ = 1000  # so that ndarray + Tensor asks the Tensor, and np.exp `__array__`


class Tensor(Operators):
    """A symbolic array: a shape of known sizes, a dtype name and the node that makes it.

    `mask` is None or a tensor of bools: which steps count, for layers, losses and metrics.
    """

    __slots__ = ("dtype", "index", "mask", "node", "shape")

    def __init__(self, node, index, shape, dtype):
        self.node, self.index, self.shape, self.dtype = node, index, shape, dtype
        self.mask = None

    @property
    def _keras_mask(self):
        return self.mask

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def size(self):
        n = 1
        for s in self.shape:
            n *= s
        return n

    def __len__(self):
        if not self.shape:
            raise TypeError("len: expected a tensor with at least one axis, got a scalar")
        return self.shape[0]

    def __bool__(self):
        raise TypeError(
            "expected a concrete array, got a symbolic tensor; "
            "use ops.where instead of `if` on values"
        )

    def __array__(self, *_args, **_kwargs):
        raise TypeError(
            "expected a concrete array, got a symbolic tensor; use dlcore.ops instead of NumPy here"
        )

    def __float__(self):
        value = known_value(self)
        if value is None or value.size != 1:
            raise TypeError(
                "expected a number that is known while tracing, got a symbolic tensor;"
                " leave float() out: arithmetic and dlcore.ops take the tensor itself"
            )
        return float(value.reshape(()))

    def __format__(self, spec):
        return format(repr(self), "")  # its value, and thus digits and width, come later

    def __setitem__(self, key, value):
        raise TypeError(
            "expected a tensor that stays as it is, got an assignment to some of its elements;"
            " ops.where or ops.slice_update makes a new one"
        )

    def __getattr__(self, name):
        hint = ""
        if name[:1] != "_":
            from dlcore import ops

            hint = f"; ops.{name}(x) does it" if hasattr(ops, name) else ""
        raise AttributeError(f"expected an attribute of a tensor, got {name!r}{hint}")

    def __index__(self):
        value = known_value(self)
        if value is None or value.size != 1 or value.dtype.kind not in "iu":
            raise TypeError(
                "expected an integer that is known while tracing, got a symbolic tensor;"
                " sizes are in its attribute shape"
            )
        return int(value.reshape(()))

    def __hash__(self):
        return id(self)

    def __repr__(self):
        return f"<Tensor {self.dtype}{list(self.shape)} of {self.node.op.name}>"


class Node:
    """One use of an op. `id` grows in the order of recording, which is a topological order."""

    __slots__ = ("attrs", "id", "inputs", "op", "outputs")

    def __init__(self, op, inputs, attrs, specs, id):
        self.op, self.inputs, self.attrs, self.id = op, inputs, attrs, id
        self.outputs = tuple(Tensor(self, i, s, d) for i, (s, d) in enumerate(specs))


class Leaf:
    """A pseudo-op for what a graph starts from: "input", "variable" or "constant"."""

    def __init__(self, name):
        self.name = name


INPUT, VARIABLE, CONSTANT = Leaf("input"), Leaf("variable"), Leaf("constant")


def input_position(tensor):
    """The place of the input that a tensor has the values of, or None."""
    while tensor.node.op.name in ("cast", "reshape"):
        tensor = tensor.node.inputs[0]
    return tensor.node.attrs["position"] if tensor.node.op is INPUT else None


class Trace:
    """Records the nodes of one graph, and what happens to variables."""

    def __init__(self):
        self.nodes = []
        self.inputs = []
        self.reads = {}  # Variable -> Tensor with its value when the program starts
        self.state = {}  # Variable -> Tensor with its current value
        self.starts = {}  # Variable -> [(value it was given, how that is seen)]
        self.autocast = None  # the half as which weights of layers are seen
        self.streams = 0  # random streams handed out, see dlcore.random
        self.checks = []  # (position of an input, what looks at its values), see `layers.Embedding`
        self._known = {}

    def _new(self, op, inputs, attrs, specs):
        node = Node(op, inputs, attrs, specs, len(self.nodes))
        self.nodes.append(node)
        return node

    def input(self, shape, dtype):
        node = self._new(INPUT, (), {"position": len(self.inputs)}, [(tuple(shape), dtype)])
        self.inputs.append(node.outputs[0])
        return node.outputs[0]

    def constant(self, value, dtype=None):
        """`value` is an ndarray of one of the library's types; for a half `dtype` its numbers are
        those of the half already."""
        dtype = dtype or value.dtype.name
        key = ("constant", dtype, value.shape, value.tobytes())
        node = self._known.get(key)
        if node is None:
            specs = [(value.shape, dtype)]
            node = self._known[key] = self._new(CONSTANT, (), {"value": value}, specs)
        return node.outputs[0]

    def read(self, variable):
        tensor = self.state.get(variable)
        if tensor is None:
            node = self._new(
                VARIABLE, (), {"variable": variable}, [(variable.shape, variable.dtype)]
            )
            tensor = self.state[variable] = self.reads[variable] = node.outputs[0]
        elif variable.trainable and tensor is not self.reads[variable]:
            tensor = self._start(variable, tensor)
        return tensor

    def _start(self, variable, tensor):
        """What a variable was given, as gradients with respect to it see it: they go no further
        back than to the assignment.
        """
        from dlcore.ops.op import OPS

        starts = self.starts.setdefault(variable, [])
        if not starts or starts[-1][0] is not tensor:
            specs = [(tensor.shape, tensor.dtype)]
            node = self._new(OPS["stop_gradient"], (tensor,), {}, specs)
            starts.append((tensor, node.outputs[0]))
        return starts[-1][1]

    def assign(self, variable, tensor):
        if variable not in self.state:
            self.read(variable)
        self.state[variable] = tensor

    def add(self, op, inputs, attrs, specs):
        key = (op, tuple(map(id, inputs)), tuple(sorted(attrs.items())))
        node = self._known.get(key)
        if node is None:
            node = self._known[key] = self._new(op, tuple(inputs), attrs, specs)
        return node

    def __enter__(self):
        self._outer = getattr(_local, "trace", None)
        _local.trace = self
        return self

    def __exit__(self, *_):
        _local.trace = self._outer


def current_trace():
    """The open trace of this thread, or None."""
    return getattr(_local, "trace", None)


def tracing():
    """Whether a trace is open: ops on tensors then record nodes."""
    return getattr(_local, "trace", None) is not None


class suspended:
    """No trace is open inside: concrete values met while tracing are computed at once."""

    def __enter__(self):
        self._outer = current_trace()
        _local.trace = None

    def __exit__(self, *_):
        _local.trace = self._outer


class Graph:
    """A finished trace: what a backend compiles.

    inputs : the input tensors, in order.  outputs : the result tensors.
    updates : list of (Variable, Tensor), the values that variables take.
    """

    def __init__(self, trace, outputs):
        self.inputs = list(trace.inputs)
        self.outputs = list(outputs)
        self.updates = [(v, t) for v, t in trace.state.items() if t is not trace.reads[v]]
        self.nodes = self._live()
        used = [n.attrs["variable"] for n in self.nodes if n.op is VARIABLE]
        self.variables = list(dict.fromkeys(used + [v for v, _ in self.updates]))

    def results(self):
        """Every tensor that must exist when the program ends."""
        return self.outputs + [t for _, t in self.updates]

    def _live(self):
        """Nodes that results depend on, in order."""
        seen = {}
        stack = [t.node for t in self.results()]
        while stack:
            node = stack.pop()
            if node.id not in seen:
                seen[node.id] = node
                stack.extend(t.node for t in node.inputs)
        return [seen[i] for i in sorted(seen)]


def known_value(tensor):
    """The ndarray that `tensor` holds where it follows from constants alone, or None."""
    nodes, stack = {}, [tensor.node]
    while stack:
        node = stack.pop()
        if node.id in nodes:
            continue
        nodes[node.id] = node
        if node.op is not CONSTANT and not node.inputs:
            return None
        stack.extend(x.node for x in node.inputs)
    values = {}
    for _, node in sorted(nodes.items()):
        given = [values[x] for x in node.inputs]
        found = node.op.formula(np, *given, **node.attrs) if given else node.attrs["value"]
        found = found if isinstance(found, tuple) else (found,)
        for y, value in zip(node.outputs, found, strict=True):
            values[y] = np.asarray(value, y.dtype)
    return values[tensor]


def scalar_value(tensor):
    """The Python number that `tensor` holds everywhere, or None."""
    node = tensor.node
    while node.op.name in ("broadcast_to", "reshape", "transpose"):
        node = node.inputs[0].node
    if node.op is CONSTANT:
        value = node.attrs["value"]
        if value.size == 1 or (value.size and np.all(value == value.flat[0])):
            return value.flat[0].item()
    return None
