"""What an op is: shape rule, formula in array language, gradient, and how the native backends run
it."""

import numpy as np

from dlcore import backends
from dlcore.program import dtypes
from dlcore.program.graph import Tensor, current_trace, scalar_value
from dlcore.program.symbol import Symbol
from dlcore.program.variable import Variable


class Op:
    """A node type of graphs.

    Parameters
    ----------
    name : str
        For pointwise ops also the name of the operation in csrc/opcodes.def.
    shape : callable
        ``shape(*inputs, **attrs)`` checks every argument and returns ``(shape, dtype)`` of the
        output, or a list of them.
    formula : callable
        ``formula(xp, *arrays, **attrs)`` in array language: on NumPy in float64 it is the oracle
        of the kernels, on NumPy and CuPy the array backend.
    gradient : callable, optional
        ``gradient(g, y, *inputs, **attrs)`` with g = dloss/dy, returns one tensor (or None) per
        input, written with other ops. With several outputs g and y are tuples; absent g are None.
    kind : {"pointwise", "view", "kernel"}
        How the native backends treat it; see dlcore/program/emit.py.
    kernel : callable, optional
        For kind "kernel": ``kernel(node)`` returns ``(kernel name, ints, floats)``.
    fold : callable, optional
        ``fold(inputs, numbers, attrs)``: the one number of the result where every input holds one
        number everywhere. Pointwise ops have it by themselves.
    rewrite : callable, optional
        ``rewrite(*inputs, **attrs)``: the same values for less work, or None. Pointwise ops have
        one by themselves.
    epilogue : bool
        Whether the kernel evaluates an expression, encoded behind its own ints, on its result.
    optional : int
        How many of the last outputs the kernel leaves out where nobody reads them.
    expressions : bool
        ``kernel(node, outputs, opcodes)`` encodes expressions itself.
    overwrites : int, optional
        Number of the input over which the kernel may write its output.
    parts : callable, optional
        ``parts(*inputs, **attrs)``: the outputs, made with other ops. A program runs these instead,
        fused with their neighbours; shape, formula and gradient are those of the whole.
    """

    def __init__(
        self,
        name,
        shape,
        formula,
        gradient=None,
        kind="kernel",
        kernel=None,
        fold=None,
        rewrite=None,
        epilogue=False,
        optional=0,
        expressions=False,
        parts=None,
        overwrites=None,
    ):
        self.name, self.shape, self.formula, self.gradient = name, shape, formula, gradient
        self.kind, self.kernel = kind, kernel
        self.expressions = expressions
        self.fold, self.epilogue, self.optional = fold, epilogue, optional
        self.rewrite, self.parts, self.overwrites = rewrite, parts, overwrites
        if kind == "pointwise":
            self.fold = lambda inputs, arrays, attrs: formula(np, *arrays, **attrs)
            self.rewrite = self._below_view
        OPS[name] = self

    def __call__(self, *inputs, **attrs):
        specs = self.shape(*inputs, **attrs)
        single = not isinstance(specs, list)
        if single and self.fold is not None:
            folded = self._fold_constants(inputs, attrs, *specs)
            if folded is not None:
                return folded
        if single and self.rewrite is not None:
            same = self.rewrite(*inputs, **attrs)
            if same is not None:
                return same
        node = current_trace().add(self, inputs, attrs, [specs] if single else specs)
        return node.outputs[0] if single else node.outputs

    def _fold_constants(self, inputs, attrs, shape, dtype):
        """The result where every input holds one known number: a constant, or None."""
        numbers = [scalar_value(x) for x in inputs]
        if any(n is None for n in numbers):
            return None
        types = [dtypes.array_type(x.dtype) for x in inputs]
        arrays = [np.asarray(n, t) for n, t in zip(numbers, types, strict=True)]
        with np.errstate(all="ignore"):
            value = np.asarray(self.fold(inputs, arrays, attrs), dtypes.array_type(dtype))
        constant = _constant(value, dtype)
        return constant if shape == () else OPS["broadcast_to"](constant, shape=shape)

    def _below_view(self, *inputs, **attrs):
        """f(view(x), ...) as view(f(x, ...)) for a transposed or reshaped x, where that lets f ride
        in the kernel that makes x."""
        view = next((x.node for x in inputs if _is_view_of_result(x.node)), None)
        if view is None:
            return None
        inner = [_behind(x, view) for x in inputs]
        if any(x is None for x in inner):
            return None
        behind = zip(inner, inputs, strict=True)
        if all(a is b or any(a is x for x in b.node.inputs) for a, b in behind):
            y = self(*inner, **attrs)
        else:  # an operand was reshaped to fit: slipping below that again would never end
            y = current_trace().add(self, inner, attrs, [self.shape(*inner, **attrs)]).outputs[0]
        return OPS[view.op.name](y, **view.attrs)

    def __repr__(self):
        return f"<op {self.name}>"


def _is_view_of_result(node):
    if node.op.name not in ("transpose", "reshape") or not node.outputs[0].shape:
        return False
    maker = node.inputs[0].node.op
    return _takes_pointwise(maker) or (_has_channels_first(node) and isinstance(maker, Op))


def _has_channels_first(node):
    """Whether a transpose shows images that lie (N, H, W, C) as (N, C, H, W): their neighbours are
    kernels that want the order in memory."""
    axes = node.attrs.get("axes", ())
    return len(axes) > 3 and axes == (0, len(axes) - 1, *range(1, len(axes) - 1))


def _takes_pointwise(op):
    """Whether pointwise ops ride in what runs `op`."""
    return isinstance(op, Op) and (op.kind == "pointwise" or op.epilogue or op.parts is not None)


def _behind(x, view):
    """What corresponds to operand x before `view`, or None where that would cost a copy."""
    source, seen = view.inputs[0], view.outputs[0]
    if not x.shape:
        return x
    if (
        x.node.op is view.op
        and x.node.attrs == view.attrs
        and x.node.inputs[0].shape == source.shape
    ):
        return x.node.inputs[0]
    if view.op.name == "transpose":
        return None
    if x.ndim == 1 and source.shape and x.shape[0] == source.shape[-1] == seen.shape[-1]:
        return x
    if x.shape != seen.shape or getattr(x.node.op, "kind", None) == "view":
        return None
    if _takes_pointwise(x.node.op):  # f rides there as well
        return None
    return OPS["reshape"](x, shape=source.shape)


def no_second_gradient(name):
    """The gradient of a gradient kernel that has none: a sentence, not a wrong number."""

    def refuse(*_, **__):
        raise ValueError(f"{name}: expected a first derivative, got a second one")

    return refuse


OPS = {}
_SUPPORTED = frozenset(map(np.dtype, dtypes.ARRAYS))  # in native byte order


def to_tensor(x, dtype=None):
    """`x` as a tensor of the open trace; Python scalars take `dtype`."""
    if isinstance(x, Tensor):
        return x
    trace = current_trace()
    if isinstance(x, Variable):
        return cast_to(trace.read(x), _seen_as(x))
    if isinstance(x, (list, tuple)) and holds_tensors(x):
        from dlcore.ops.shaping import stack

        return stack([to_tensor(y, dtype) for y in x])
    return _constant(to_array(x, dtype), dtype)


def holds_tensors(x):
    nested = isinstance(x, (list, tuple)) and any(map(holds_tensors, x))
    return nested or isinstance(x, (Tensor, Variable))


def _seen_as(variable):
    """The type of a variable in the open trace: weights have that of the layer's computation."""
    trace = current_trace()
    if not variable.autocast or trace is None or trace.autocast is None:
        return variable.dtype
    return trace.autocast


def result_tensor(x):
    """`x` as what leaves a program: arrays hold no halves."""
    x = to_tensor(x)
    return cast_to(x, dtypes.array_type(x.dtype))


def _constant(value, dtype):
    """An array as a constant, of the half `dtype` with its numbers rounded."""
    if dtype not in dtypes.HALVES:
        return current_trace().constant(value)
    with np.errstate(all="ignore"):
        value = np.asarray(dtypes.round_to_half(np, value, dtype), "float32")
    return current_trace().constant(value, dtype)


def to_array(x, dtype=None):
    """`x` (array, scalar, list, frame, ...) as an ndarray of one of the library's types."""
    if isinstance(x, Variable):
        return x.value
    if isinstance(x, np.ndarray) and dtype is None:
        if x.dtype not in _SUPPORTED:
            return np.asarray(x, dtypes.standardize(x.dtype.newbyteorder("="), "array"))
        return x
    try:
        array = np.asarray(backends.to_host(x))
    except ValueError:  # NumPy's has two sentences
        kind = type(x).__name__
        raise ValueError(f"array: expected numbers, got a {kind} of unequal lengths") from None
    if array.dtype == object or array.dtype.kind in "USMm":
        raise TypeError(f"array: expected numbers, got {type(x).__name__} of {array.dtype}")
    if dtype is None:
        if isinstance(x, np.generic):
            dtype = dtypes.standardize(array.dtype, "array")
        else:  # lists and Python numbers
            kind = array.dtype.kind
            dtype = {"f": None, "b": "bool"}.get(kind, "int32")
            if dtype == "int32" and array.size and abs(array).max() > 2**31 - 1:
                dtype = "int64"
    return np.asarray(array, dtypes.standardize(dtype, "array"))


def is_symbolic(*xs):
    """Whether some of `xs` get their values only when a program runs."""
    return any(isinstance(x, (Tensor, Symbol)) for x in xs)


def concrete(name, x):
    """(NumPy or CuPy, x as an array of it)."""
    if is_symbolic(x):
        raise TypeError(f"{name}: expected a concrete array, got a symbolic tensor")
    xp, x = backends.array_module(x)
    return xp, to_array(x) if xp is np else x


def dtype_of(x):
    """dtype name of a tensor-like; None for a Python float, "bool" for bools and small ints."""
    if isinstance(x, Tensor):
        return x.dtype
    if isinstance(x, Variable):
        return _seen_as(x)
    if isinstance(x, bool):
        return "bool"
    if isinstance(x, int):
        return "uint8"  # promotes to any partner
    if isinstance(x, float):
        return None
    return to_array(x).dtype.name


def is_scalar(x):
    return isinstance(x, (bool, int, float)) and not isinstance(x, np.generic)


def promoted(*xs):
    """`xs` as tensors of their common type; Python scalars follow the arrays."""
    if all(is_scalar(x) for x in xs):
        xs = [to_array(x) for x in xs]
    xs = [to_tensor(x) if isinstance(x, (list, tuple)) else x for x in xs]
    dtype = dtypes.promote(*map(dtype_of, xs))
    if dtype == "uint8" and any(is_scalar(x) and not 0 <= x < 256 for x in xs):
        dtype = "int32"
    if dtype in ("bool", "uint8") and any(type(x) is int for x in xs):
        dtype = "int32" if dtype == "bool" else dtype
    return [cast_to(to_tensor(x, dtype if is_scalar(x) else None), dtype) for x in xs]


def cast_to(x, dtype):
    """Tensor `x` as `dtype`; the same tensor when it has that type."""
    if x.dtype == dtype:
        return x
    if dtype == "bool":
        return OPS["not_equal"](x, to_tensor(0, x.dtype))
    return OPS["cast"](x, dtype=dtype)


def as_float(x):
    """`x` as a tensor of a float type."""
    x = to_tensor(x)
    return cast_to(x, dtypes.as_float(x.dtype))


def check_axis(name, axis, ndim):
    """`axis` as a non-negative int."""
    if not isinstance(axis, (int, np.integer)) or not -ndim <= axis < max(ndim, 1):
        raise ValueError(f"{name}: expected axis in {-ndim}..{ndim - 1}, got {axis!r}")
    return int(axis) % max(ndim, 1)


def check_axes(name, axis, ndim):
    """`axis` (None, int or a sequence) as a sorted tuple of non-negative ints."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    result = tuple(sorted(check_axis(name, a, ndim) for a in axes))
    if len(set(result)) < len(result):
        raise ValueError(f"{name}: expected different axes, got {axis!r}")
    return result


def broadcast_shapes(name, *shapes):
    """The common shape by NumPy's rules."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        shown = " and ".join(str(tuple(s)) for s in shapes)
        raise ValueError(f"{name}: expected shapes that broadcast together, got {shown}") from None
