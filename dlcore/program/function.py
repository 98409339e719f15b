"""Python functions as compiled programs: traced once per signature, then run natively."""

from typing import Any

import numpy as np

from dlcore import backends
from dlcore.backends.memory import when_device_changes
from dlcore.program import variable as variables
from dlcore.program.graph import Graph, Tensor, Trace, current_trace, suspended

_CACHE_LIMIT = 512  # programs of eager ops; the oldest goes first
_MOST_BYTES = 256 << 20  # that the programs of one function keep for their results
_FEW = 4  # of them stay whatever they keep: those for whole and last batches take turns

_eager = {}
when_device_changes(_eager.clear)


def run_eagerly(f, tensors, rest, kwargs, is_list, dispatcher):
    """Call the traceable function `f` on concrete values through a cached program."""
    from dlcore.ops.op import is_scalar, to_array

    with suspended():
        device = "gpu" if any(map(backends.is_device_array, tensors)) else None
        tensors = [x if x is None or is_scalar(x) else _concrete(x, to_array) for x in tensors]
        if device:
            tensors = [
                x if x is None or is_scalar(x) else backends.device_array(x) for x in tensors
            ]
        tensors, axes = zip(*map(_in_memory_order, tensors), strict=True) if tensors else ((), ())
        key = (
            f,
            tuple(
                (x.shape, x.dtype.num, a) if hasattr(x, "dtype") else (type(x), x)
                for x, a in zip(tensors, axes, strict=True)
            ),
            device,
            _hashable(rest),
            _hashable(tuple(sorted(kwargs.items()))),
        )
        entry = _eager.get(key)
        if entry is None:
            graph, structure = _trace_eager(f, tensors, axes, rest, kwargs, is_list)
            entry = backends.compile(graph, device), structure
            if len(_eager) >= _CACHE_LIMIT:
                _eager.pop(next(iter(_eager)))
            _eager[key] = entry
            arrays_only = all(isinstance(x, np.ndarray) for x in tensors) and not any(axes)
            plain = arrays_only and not rest and not kwargs and entry[1] is None
            if dispatcher is not None and plain:
                backends.remember(dispatcher, [(x.shape, x.dtype.name) for x in tensors], entry[0])
        program, structure = entry
        results = program(*[x for x in tensors if hasattr(x, "dtype")])
        return results[0] if structure is None else structure(results)


def _concrete(x, to_array):
    return x if backends.is_device_array(x) else to_array(x)


def _in_memory_order(x):
    """(contiguous array, axes that transpose it to x, or None): transposed arrays need no copy."""
    if not isinstance(x, np.ndarray) or x.flags.c_contiguous or not x.flags.aligned:
        return x, None
    if x.flags.f_contiguous:
        return x.T, tuple(range(x.ndim))[::-1]
    order = sorted(range(x.ndim), key=lambda a: -x.strides[a])
    dense = x.transpose(order)
    if not dense.flags.c_contiguous:
        return np.ascontiguousarray(x), None
    return dense, tuple(np.argsort(order).tolist())


def _trace_eager(f, tensors, axes, rest, kwargs, is_list):
    """(graph of `f` on arrays like `tensors`, structure of its results)."""
    from dlcore import ops

    with Trace() as trace:
        symbolic = [
            trace.input(x.shape, x.dtype.name) if hasattr(x, "dtype") else x for x in tensors
        ]
        symbolic = [
            x if a is None else ops.transpose(x, a) for x, a in zip(symbolic, axes, strict=True)
        ]
        result = f(symbolic, *rest, **kwargs) if is_list else f(*symbolic, *rest, **kwargs)
        outputs, structure = _flatten_result(result)
        return Graph(trace, outputs), structure


def _flatten_result(result):
    """(tensors, rebuild): rebuild is None for a single tensor."""
    from dlcore.ops.op import result_tensor

    if result is None:
        return [], lambda _: None
    if not isinstance(result, (tuple, list, dict)):
        return [result_tensor(result)], None
    leaves, tree = flatten(result)
    return [result_tensor(x) for x in leaves], lambda values: unflatten(tree, values)


def flatten(tree):
    """Leaves of nested tuples, lists and dicts, and a structure that `unflatten` takes."""
    if isinstance(tree, dict):
        parts = [flatten(v) for v in tree.values()]
        spec = (dict, tuple(tree), tuple(p[1] for p in parts))
    elif isinstance(tree, (tuple, list)):
        parts = [flatten(v) for v in tree]
        spec = (type(tree), len(tree), tuple(p[1] for p in parts))
    else:
        return [tree], None
    return [leaf for p in parts for leaf in p[0]], spec


def unflatten(spec, leaves):
    """The inverse of `flatten`."""
    return _build(spec, iter(leaves))


def _build(spec, leaves):
    # Not a function inside `unflatten`: one that calls itself is a cycle, which would hold the
    # arrays until the collector comes, and the next call would have to map new memory.
    if spec is None:
        return next(leaves)
    kind, keys, children = spec
    values = [_build(c, leaves) for c in children]
    if kind is dict:
        return dict(zip(keys, values, strict=True))
    return kind(*values) if hasattr(kind, "_fields") else kind(values)


def _hashable(x):
    if isinstance(x, (list, tuple)):
        return tuple(_hashable(v) for v in x)
    if isinstance(x, slice):
        return ("slice", x.start, x.stop, x.step)
    if isinstance(x, np.ndarray):
        return ("array", x.shape, x.dtype.str, x.tobytes())
    return x


class Function:
    """A Python function that is traced and compiled once per signature of its arguments.

    Arguments are arrays or nested tuples, lists and dicts of arrays; everything else (numbers,
    strings, None) is static. Variables that the function reads or assigns become state of the
    program.
    """

    def __init__(self, f, float_arguments=()):
        self._f = f
        self._float_arguments = float_arguments  # positions where Python floats become arrays
        self._programs, self._bytes = {}, 0
        self._layout = None
        self._dispatcher = backends.make_dispatcher(self._general)
        self.__name__ = getattr(f, "__name__", "function")
        self.__doc__ = f.__doc__
        self.__wrapped__ = f

    def __call__(self, *args) -> Any:
        if current_trace() is not None:
            return self._f(*args)
        if self._dispatcher is not None and self._layout == variables.layout():
            return self._dispatcher(*args)  # plain arrays of a known signature, else _general
        return self._general(*args)

    def _general(self, *args):
        (program, structure, _, checks), arrays = self._entry(args)
        for position, check in checks:
            check(arrays[position])
        results = program(*arrays)
        return results[0] if structure is None else structure(results)

    def compiled(self, *args):
        """The program for arguments like these: ``program(*arrays) -> tuple of arrays``.

        It holds until variables move (`layout`).
        """
        return self._entry(args)[0][0]

    def _entry(self, args):
        self._forget_old_layout()
        for n in self._float_arguments:
            if -len(args) <= n < len(args):
                args = (*args[:n], _floats_to_arrays(args[n]), *args[n % len(args) + 1 :])
        leaves, tree = flatten(args)
        leaves = [_argument(x) for x in leaves]
        arrays = [x for x in leaves if _is_array(x)]
        key = tuple(
            (_is_array(x), x.shape, x.dtype.num) if _is_array(x) else (type(x), x) for x in leaves
        )
        entry = self._programs.get((tree, key))
        if entry is None:
            entry = self._compile(leaves, tree)
            self._keep((tree, key), entry)
            flat = len(arrays) == len(args)
            if self._dispatcher is not None and flat and entry[2] and not entry[3]:
                signature = [(x.shape, x.dtype.name) for x in arrays]
                backends.remember(self._dispatcher, signature, entry[0])
        return entry, arrays

    def _forget_old_layout(self):
        """Programs are bound to where variables lay when they were compiled."""
        if self._layout != variables.layout():
            self._forget()
            self._layout = variables.layout()

    def _forget(self):
        self._programs, self._bytes = {}, 0
        self._dispatcher = backends.make_dispatcher(self._general)

    def _keep(self, key, entry):
        """Remember a program; of ever new shapes not more than some memory holds."""
        size = entry[0].memory_bytes
        n = len(self._programs)
        if n == _CACHE_LIMIT or (n >= _FEW and self._bytes + size > _MOST_BYTES):
            self._forget()
        self._programs[key], self._bytes = entry, self._bytes + size

    def _compile(self, leaves, tree):
        """(program, structure of its results, whether it returns them as they are, what looks at
        the values of its arguments).
        """
        with Trace() as trace:
            symbolic = [trace.input(x.shape, x.dtype.name) if _is_array(x) else x for x in leaves]
            result = self._f(*unflatten(tree, symbolic))
            outputs, structure = _flatten_result(result)
            graph = Graph(trace, outputs)
        plain = structure is None or (
            type(result) is tuple
            and len(result) != 1
            and all(not isinstance(x, (tuple, list, dict)) for x in result)
        )
        device = "gpu" if any(_is_array(x) == "gpu" for x in leaves) else None
        checks = [] if device else trace.checks
        return backends.compile(graph, device), structure, plain, checks


def _is_array(x):
    """ "cpu" or "gpu" for a concrete array there, None for what is static."""

    if isinstance(x, np.ndarray):
        return "cpu"
    return "gpu" if backends.is_device_array(x) else None


def _argument(x):
    """Array-likes as arrays; static values as they are."""
    from dlcore.ops.op import to_array

    if isinstance(x, (np.ndarray, np.generic)):
        return to_array(x)
    if isinstance(x, variables.Variable):
        return x.value
    if backends.is_device_array(x):
        return backends.device_array(x)
    if hasattr(x, "__array__") and not isinstance(x, Tensor):
        return to_array(np.asarray(x))
    return x


def function(f):
    """Compile `f`: it is traced once per signature of its arguments and runs natively from then on.

    Parameters
    ----------
    f : callable
        Written with `dlcore.ops` and operators. Arrays in (nested) arguments become symbolic;
        other values are static. Python control flow happens while tracing.

    Returns
    -------
    Function
        Called as `f`; returns NumPy arrays in the structure that `f` returns, or arrays on the GPU
        where it is given one.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> f = dlcore.function(lambda x: dlcore.ops.sum(x * x))
    >>> float(f(np.array([3.0, 4.0], "float32")))
    25.0
    """
    return Function(f)


def value_and_grad(f, argnums=0, has_aux=False):
    """A function that returns ``f(*args)`` and its gradient.

    Parameters
    ----------
    f : callable
        Returns a scalar tensor, written with `dlcore.ops`.
    argnums : int or tuple of int
        The arguments to differentiate by: arrays, or nested tuples, lists and dicts of arrays.
    has_aux : bool
        Whether f returns (scalar, more): nested arrays that come back beside the value.

    Returns
    -------
    callable
        ``g(*args) -> (value, gradients)``, or ``((value, more), gradients)``; gradients have the
        structure of the argument, or are a tuple of such for a tuple `argnums`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> value, dx = dlcore.value_and_grad(lambda x: dlcore.ops.sum(x * x))(np.ones(2, "float32"))
    >>> dx
    array([2., 2.], dtype=float32)
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def traced(*args):
        from dlcore.program.differentiate import gradients

        returned = f(*args)
        value = returned[0] if has_aux and isinstance(returned, tuple) else returned
        if not isinstance(value, Tensor) or value.size != 1:
            raise ValueError(f"value_and_grad: expected f to return a scalar, got {value!r}")
        result = []
        for n in numbers:
            if not -len(args) <= n < len(args):
                raise ValueError(f"value_and_grad: expected argnums below {len(args)}, got {n}")
            leaves, tree = flatten(args[n])
            bad = [x for x in leaves if not isinstance(x, (Tensor, variables.Variable))]
            if bad:
                raise TypeError(
                    f"value_and_grad: expected arrays in argument {n}, got {type(bad[0]).__name__}"
                )
            result.append(unflatten(tree, gradients(value, leaves)))
        return returned, (result[0] if isinstance(argnums, int) else tuple(result))

    compiled = Function(traced, numbers)
    compiled.__name__ = getattr(f, "__name__", "function")
    return compiled


def _floats_to_arrays(tree):
    from dlcore.ops.op import to_array

    leaves, spec = flatten(tree)
    return unflatten(spec, [to_array(x) if isinstance(x, float) else x for x in leaves])


def grad(f, argnums=0):
    """A function that returns the gradient of ``f``; see `value_and_grad`."""
    both = value_and_grad(f, argnums)
    compiled = Function(lambda *args: both.__wrapped__(*args)[1], both._float_arguments)
    compiled.__name__ = both.__name__
    return compiled
