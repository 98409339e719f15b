"""Branches and loops, as Keras names them.

On concrete values they are Python's. In a trace a condition that depends on values chooses between
the results of both branches (the gradient flows through both, so a branch must be finite even where
it is not chosen), and loops are unrolled: their number of steps must be known. For long sequences
`dlcore.layers.RNN` is better, whose steps are one kernel.
"""

import functools

import numpy as np

from dlcore.ops import pointwise as pw
from dlcore.ops.creation import shape, zeros_like
from dlcore.ops.op import OPS, Op, check_axis, is_symbolic, to_tensor
from dlcore.ops.shaping import concatenate, flip, stack
from dlcore.ops.shaping import split as split_
from dlcore.program.function import flatten, unflatten
from dlcore.program.graph import Tensor, current_trace
from dlcore.program.symbol import first_symbol
from dlcore.program.variable import Variable


def _is_open(x):
    """Whether the value of x is known only when a program runs."""
    return is_symbolic(x) or (isinstance(x, Variable) and current_trace() is not None)


# Branches


def _merged(condition, a, b):
    """The structure a where `condition` is non-zero, else b."""
    (xs, spec), (ys, other) = flatten(a), flatten(b)
    if spec != other:
        raise ValueError("cond: expected branches with results of one structure, got different")
    return unflatten(spec, [_chosen(condition, x, y) for x, y in zip(xs, ys, strict=True)])


def _chosen(condition, x, y):
    if x is None or x is y:
        return x
    if shape(x) != shape(y):
        raise ValueError(
            f"cond: expected branches with results of one shape, got {shape(x)} and {shape(y)}"
        )
    return pw.where(condition, x, y)


def cond(pred, true_fn, false_fn):
    """``true_fn()`` if `pred`, else ``false_fn()``; where `pred` is symbolic both are computed, and
    variables take the values of the chosen one."""
    if not _is_open(pred):
        return true_fn() if pred else false_fn()
    trace = current_trace()
    if trace is None:  # a model that is put together: no variable changes
        return _merged(pred, true_fn(), false_fn())
    before = dict(trace.state)
    chosen, states = [], []
    for f in (true_fn, false_fn):
        trace.state = dict(before)
        chosen.append(f())
        states.append(trace.state)
    trace.state = before
    for variable in [v for v in {**states[0], **states[1]} if states[0].get(v) is not before.get(v)
                     or states[1].get(v) is not before.get(v)]:  # fmt: skip
        old = trace.read(variable)
        trace.assign(variable, _chosen(pred, *(s.get(variable, old) for s in states)))
    return _merged(pred, *chosen)


def switch(index, branches, *operands):
    """``branches[index](*operands)``, the index limited to those there are; where it is symbolic
    all are computed."""
    last = len(branches) - 1
    if last < 0:
        raise ValueError("switch: expected at least one branch, got none")
    if not _is_open(index):
        return branches[min(max(int(index), 0), last)](*operands)
    index, rest = pw.clip(index, 0, last), functools.partial(branches[last], *operands)
    for i in reversed(range(last)):
        rest = functools.partial(
            cond, pw.equal(index, i), functools.partial(branches[i], *operands), rest
        )
    return rest()


# Loops


def _count(name, n):
    if _is_open(n):
        raise TypeError(
            f"{name}: expected a number of steps that is known while tracing, got a symbolic "
            "tensor; mask the steps with ops.where"
        )
    return int(n)


def while_loop(cond, body, loop_vars, maximum_iterations=None):
    """``loop_vars = body(*loop_vars)`` while ``cond(*loop_vars)``.

    A condition on symbolic values needs `maximum_iterations`: so many steps are unrolled, and keep
    the variables once the condition is false.
    """
    single = not isinstance(loop_vars, (tuple, list))
    state = (loop_vars,) if single else tuple(loop_vars)
    most = float("inf") if maximum_iterations is None else _count("while_loop", maximum_iterations)
    done, going = 0, True
    while done < most:
        here = cond(*state)
        if _is_open(here):
            if maximum_iterations is None:
                raise TypeError(
                    "while_loop: expected a condition that is known while tracing, got a symbolic "
                    "tensor; give maximum_iterations, or mask the steps with ops.where"
                )
            going = here if going is True else pw.logical_and(going, here)
        elif not here:
            break
        new = body(*state)
        new = tuple(new) if isinstance(new, (tuple, list)) else (new,)
        state = new if going is True else _merged(going, new, state)
        done += 1
    return state[0] if single else type(loop_vars)(state)


def fori_loop(lower, upper, body_fun, init_val):
    """``val = body_fun(i, val)`` for i from `lower` to below `upper`."""
    value = init_val
    for i in range(_count("fori_loop", lower), _count("fori_loop", upper)):
        value = body_fun(i, value)
    return value


def _leaves(name, xs):
    """(leaves with a leading axis of one size, their structure, that size)."""
    leaves, spec = flatten(xs)
    leaves = [x if hasattr(x, "shape") else np.asarray(x) for x in leaves]
    sizes = {shape(x)[0] if shape(x) else None for x in leaves}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            f"{name}: expected arrays with one size of their first axis, got {sizes or 'none'}"
        )
    return leaves, spec, sizes.pop()


def _stacked(values):
    """A list of results of one structure as that structure of stacked results."""
    leaves, specs = zip(*[flatten(v) for v in values], strict=True)
    columns = zip(*leaves, strict=True)
    return unflatten(specs[0], [None if c[0] is None else stack(list(c)) for c in columns])


def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
    """``carry, y = f(carry, x)`` over the leading axis of xs; the last carry and the stacked ys.

    Parameters
    ----------
    f : callable
    init : array or structure of arrays
        The first carry.
    xs : array or structure of arrays, optional
    length : int, optional
        The number of steps where there are no xs.
    reverse : bool
        From the last x to the first; ys lie as xs do.
    unroll : int or bool
        For Keras' sake: steps are always unrolled.

    Examples
    --------
    >>> import numpy as np
    >>> from dlcore import ops
    >>> total, sums = ops.scan(lambda c, x: (c + x, c + x), 0, np.array([1, 2, 3]))
    >>> sums.tolist()
    [1, 3, 6]
    """
    if xs is None and length is None:
        raise ValueError("scan: expected xs or length, got neither")
    leaves, spec, n = ([], None, _count("scan", length)) if xs is None else _leaves("scan", xs)
    if length is not None and n != length:
        raise ValueError(f"scan: expected xs of length {length}, got {n}")
    carry, ys = init, []
    for i in reversed(range(n)) if reverse else range(n):
        x = None if xs is None else unflatten(spec, [a[i] for a in leaves])
        carry, y = f(carry, x)
        ys.append(y)
    ys = _stacked(ys[::-1] if reverse else ys) if ys else None
    return carry, ys


def map(f, xs):
    """f of each element along the first axis of xs, an array or a structure of them; stacked."""
    leaves, spec, n = _leaves("map", xs)
    if not n:
        raise ValueError("map: expected at least one element, got none")
    return _stacked([f(unflatten(spec, [a[i] for a in leaves])) for i in range(n)])


def vectorized_map(function, elements):
    """As `map`; ops written for whole batches are faster."""
    return map(function, elements)


def associative_scan(f, elems, reverse=False, axis=0):
    """Running results of the associative f(a, b) along `axis`: y[i] = f(y[i - 1], x[i]).

    By doubling: after k steps each element holds those of the 2^k places up to its own. f takes and
    returns structures as elems, and works on many elements at once.
    """
    leaves, spec = flatten(elems)
    leaves = [x if hasattr(x, "shape") else np.asarray(x) for x in leaves]
    axes = [check_axis("associative_scan", axis, len(shape(x))) for x in leaves]
    sizes = {shape(x)[a] for x, a in zip(leaves, axes, strict=True)}
    if len(sizes) != 1:
        raise ValueError(f"associative_scan: expected one size along axis {axis}, got {sizes}")
    n, step = sizes.pop(), 1

    def cut(at):
        pieces = [split_(x, [at], a) for x, a in zip(leaves, axes, strict=True)]
        return tuple([p[i] for p in pieces] for i in (0, 1))

    def turned():
        return [flip(x, a) for x, a in zip(leaves, axes, strict=True)] if reverse else leaves

    leaves = turned()
    while step < n:
        (first, rest), (before, _) = cut(step), cut(n - step)
        rest, _ = flatten(f(unflatten(spec, before), unflatten(spec, rest)))
        leaves = [concatenate(p, a) for *p, a in zip(first, rest, axes, strict=True)]
        step *= 2
    return unflatten(spec, turned())


# Gradients


def _custom_gradient(dys, ys, *inputs, grad, n):
    dys = list(dys) if isinstance(dys, (tuple, list)) else [dys]
    dys = [zeros_like(y) if dy is None else dy for y, dy in zip(inputs, dys, strict=False)]
    dxs = grad(*dys)
    dxs = list(dxs) if isinstance(dxs, (tuple, list)) else [dxs]
    if len(dxs) != len(inputs) - n:
        raise ValueError(
            f"custom_gradient: expected {len(inputs) - n} gradients, one for each array, "
            f"got {len(dxs)}"
        )
    return [None] * n + [None if dx is None else to_tensor(dx) for dx in dxs]


# The first n inputs, which the others were made into; their gradient is what `grad` says.
Op(
    "custom_gradient",
    lambda *xs, grad, n: [(x.shape, x.dtype) for x in xs[:n]],
    lambda xp, *xs, grad, n: tuple(xs[:n]),
    _custom_gradient,
    parts=lambda *xs, grad, n: xs[:n],
)


def custom_gradient(f):
    """A function with a gradient of its own.

    Parameters
    ----------
    f : callable
        ``f(*arrays)`` returns (result, grad): grad takes the gradient by the result, or one for
        each, and returns one for each array.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> from dlcore import ops
    >>> clipped = ops.custom_gradient(lambda x: (x * x, lambda g: ops.clip(g * 2 * x, -1, 1)))
    >>> dlcore.grad(lambda x: ops.sum(clipped(x)))(np.array([0.25, 3.0], "float32"))
    array([0.5, 1. ], dtype=float32)
    """

    @functools.wraps(f)
    def call(*args, **kwargs):
        symbol = first_symbol(args) if current_trace() is None else None
        if symbol is not None:
            return symbol.record(call, args, kwargs)
        if not any(isinstance(x, (Tensor, Variable)) for x in args) or current_trace() is None:
            return f(*args, **kwargs)[0]
        given = [to_tensor(x) for x in args]
        result, grad = f(*given, **kwargs)
        leaves, spec = flatten(result)
        leaves = [to_tensor(y) for y in leaves]
        ys = OPS["custom_gradient"](*leaves, *given, grad=grad, n=len(leaves))
        return unflatten(spec, ys)

    return call
