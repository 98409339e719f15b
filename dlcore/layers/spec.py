"""What layers know about shapes, nested inputs and configurations."""

import math
import threading
from contextlib import contextmanager

import numpy as np

from dlcore import backends, lookup
from dlcore.program.function import flatten, unflatten
from dlcore.program.graph import Tensor, Trace, suspended
from dlcore.program.symbol import Symbol

_MOST_ELEMENTS = 2**60  # more have no size in bytes that fits 63 bits


class _StandIn(int):
    """A number in the place of a size that is not known, which messages show as `shown`."""

    def __new__(cls, value, shown):
        self = super().__new__(cls, value)
        self.shown = shown
        return self

    def __repr__(self):
        return self.shown


# What stands for None while output shapes are traced: the batch, by a number that hardly is the
# size of anything else, and other sizes, by two numbers, as what differs for them is not known.
# Those can be halved six times, as networks that reduce images and enlarge them again ask for.
# The batch has more numbers for layers that cut it into groups, or join another axis to it.
_SOME_ROWS = _StandIn(61, "batch")
_MORE_ROWS = _StandIn(720, "batch"), _StandIn(1440, "batch")
_SOME_SIZES = _StandIn(128, "None"), _StandIn(192, "None")


class _Tracing(threading.local):
    any_rows = False


_tracing = _Tracing()


def any_rows():
    """Whether the shapes for any number of rows are being found, and no batch is computed."""
    return _tracing.any_rows


class _Limit(threading.local):
    """How many scalars weights may still take: set while an untrusted file is read."""

    left = None


_limit = _Limit()


@contextmanager
def weight_limit(size):
    """Weights made inside are zeros, and together at most `size` scalars."""
    outer, _limit.left = _limit.left, size
    try:
        yield
    finally:
        _limit.left = outer


def initial_value(name, initializer, shape, dtype):
    """The first value of a weight."""
    if _limit.left is None:
        try:
            if math.prod(shape) >= _MOST_ELEMENTS:
                raise MemoryError
            value = np.asarray(initializer(shape, dtype=dtype))
        except MemoryError:
            raise MemoryError(f"{name}: expected room for a weight of shape {shape}") from None
        if value.shape != shape:
            raise ValueError(
                f"{name}: expected an initial value of shape {shape}, got {value.shape}"
            )
        return value
    size = 1
    for n in shape:
        size *= n
    if size > _limit.left:
        raise ValueError(f"{name}: expected at most {_limit.left} more weights, got shape {shape}")
    _limit.left -= size
    return np.zeros(shape, dtype)


def leaves(tree):
    """The leaves of nested tuples, lists and dicts, in order."""
    return flatten(tree)[0]


def map_leaves(f, tree):
    """The same nesting, with f(leaf) for every leaf."""
    if isinstance(tree, Tensor):
        return f(tree)
    flat, structure = flatten(tree)
    return unflatten(structure, [f(x) for x in flat])


def batch_shapes(tree):
    """Shapes with None as the batch."""
    return map_leaves(_batch_shape, tree)


def _batch_shape(x):
    shape = tuple(getattr(x, "shape", ()))  # numbers may be among the inputs
    return (None, *shape[1:]) if len(shape) > 1 else shape


def as_arrays(name, tree):
    """Concrete inputs of a layer as arrays; lists of numbers become one array."""
    if isinstance(tree, (list, tuple)) and not any(hasattr(x, "shape") for x in leaves(tree)):
        tree = np.asarray(tree)
    return map_leaves(lambda x: as_array(name, x), tree)


def as_array(name, x):
    """`x` (array, list, frame, scalar) as an ndarray of numbers."""
    if x is None or backends.is_device_array(x):
        return x
    try:
        array = np.asarray(x)
        if array.dtype == object:
            array = array.astype(np.float64)
    except (ValueError, TypeError):
        raise TypeError(f"{name}: expected numbers, got {type(x).__name__}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers, got {array.dtype}")
    return array


def output_spec(layer, *args, call=None, **kwargs):
    """Nested (shape, dtype) of what `layer` returns for arguments in which a `Spec` or a symbol
    stands for an array.

    The layer, and all inner ones, are built; `call` is called in its place. Sizes that are None,
    and what follows from them, come back as None.
    """
    flat, structure = flatten((args, kwargs))
    shapes = [x.shape for x in flat if is_spec(x)]
    free = any(shape and shape[0] is None for shape in shapes)
    call = call or layer
    rows, outputs = _traced_in_rows(layer, call, flat, structure, free)
    if any(n is None for shape in shapes for n in shape[1:]):
        others = iter(leaves(_traced_again(layer, call, flat, structure, shapes, rows)))
        outputs = map_leaves(lambda y: _common(y, next(others)), outputs)

    def spec(y):
        if y is None:
            return None
        known = not (free and y.shape and y.shape[0] == rows)
        return Spec(y.shape if known else (None, *y.shape[1:]), y.dtype, spec(y.mask))

    return map_leaves(spec, outputs)


def _traced_in_rows(layer, call, flat, structure, free):
    """(what stands for the batch, nested tensors that the layer returns), or specs where a first
    size follows from that of the batch.
    """
    rows, size = _SOME_ROWS, _SOME_SIZES[0]
    try:
        outputs = _traced(layer, call, flat, structure, rows, size)
    except ValueError as error:
        if not free:
            raise
        rows = _MORE_ROWS[0]
        try:
            outputs = _traced(layer, call, flat, structure, rows, size)
        except ValueError:
            raise error from None
    first = [y.shape[0] for y in leaves(outputs) if y is not None and y.shape]
    if free and any(n != rows and (n % rows == 0 or rows != _SOME_ROWS) for n in first):
        others = iter(leaves(_traced(layer, call, flat, structure, _MORE_ROWS[1], size)))
        outputs = map_leaves(lambda y: _common(y, next(others)), outputs)
    return rows, outputs


def _traced(layer, call, flat, structure, rows, size):
    """Nested tensors that the layer, or `call` in its place, returns."""
    outer = _tracing.any_rows
    _tracing.any_rows = outer or any(is_spec(x) and x.shape[:1] == (None,) for x in flat)
    try:
        with suspended(), Trace() as trace:
            tensors = [_stand_in(trace, x, rows, size) if is_spec(x) else x for x in flat]
            args, kwargs = unflatten(structure, tensors)
            outputs = call(*args, **kwargs)
    finally:
        _tracing.any_rows = outer
    layer._clear_losses()
    return outputs


def _traced_again(layer, call, flat, structure, shapes, rows):
    try:
        return _traced(layer, call, flat, structure, rows, _SOME_SIZES[1])
    except ValueError:  # weights were made for the first size
        shown = " and ".join(map(str, shapes))
        raise ValueError(
            f"{layer.name}: expected known sizes where weights depend on them, got {shown}"
        ) from None


def _stand_in(trace, x, rows, size):
    """A tensor in the place of a `Spec` or symbol."""
    tensor = trace.input(_concrete(x.shape, rows, size), x.dtype)
    if x.mask is not None:
        tensor.mask = _stand_in(trace, x.mask, rows, size)
    return tensor


def _concrete(shape, rows, size):
    """The shape with stand-ins for what is not known."""
    if not shape:
        return ()
    rows = rows if shape[0] is None else int(shape[0])
    return (rows, *(size if n is None else int(n) for n in shape[1:]))


def _common(y, other):
    """The shape that is the same in both traces; None for sizes that differ."""
    pairs = zip(y.shape, other.shape, strict=True)
    mask = None if y.mask is None else _common(y.mask, other.mask)
    return Spec([a if a == b else None for a, b in pairs], y.dtype, mask)


class Spec:
    """Shape (the batch may be None) and dtype of an array, and the `Spec` of its mask."""

    def __init__(self, shape, dtype, mask=None):
        self.shape, self.dtype, self.mask = tuple(shape), dtype, mask

    def __iter__(self):
        return iter((self.shape, self.dtype))

    def __repr__(self):
        return f"{self.dtype}{self.shape}"


def is_spec(x):
    """Whether `x` stands for an array."""
    return isinstance(x, (Spec, Symbol))


def output_shape(layer, input_shape):
    """Nested output shapes for nested input shapes, in the layer's dtype."""
    outputs = output_spec(layer, specs_of(input_shape, layer.dtype))
    return map_leaves(lambda y: y.shape, outputs)


def specs_of(shapes, dtype):
    """Nested shapes as `Spec`s of one dtype."""
    return map_shapes(lambda shape: Spec(shape, dtype), shapes)


def batch_specs(tree):
    """Nested `Spec`s with None as the batch."""
    return map_leaves(
        lambda x: Spec(_batch_shape(x), str(x.dtype)) if hasattr(x, "shape") else x, tree
    )


def map_shapes(f, tree):
    """The same nesting, with f(shape) for every shape."""
    if isinstance(tree, dict):
        return {k: map_shapes(f, v) for k, v in tree.items()}
    if all(n is None or isinstance(n, (int, np.integer)) for n in tree):
        return f(tuple(tree))
    return type(tree)(map_shapes(f, v) for v in tree)


def check_row_shape(name, shape):
    """The shape of one row as a tuple of positive ints, and None for sizes that may vary."""
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    if not all(n is None or _is_positive(n) for n in sizes):
        raise ValueError(
            f"{name}: expected a shape of positive ints or None without the batch, got {shape!r}"
        )
    return tuple(None if n is None else int(n) for n in sizes)


def _is_positive(n):
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0


def fits(shape, expected):
    """Whether the shape is the expected one, where None stands for any size."""
    return len(shape) == len(expected) and all(
        e is None or n == e for n, e in zip(shape, expected, strict=True)
    )


def check_weight_shape(name, shape):
    """The shape of a weight as a tuple of ints."""
    sizes = () if shape is None else shape if isinstance(shape, (tuple, list)) else (shape,)
    if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in sizes):
        raise ValueError(f"{name}: expected a weight's shape of known sizes, got {shape!r}")
    return tuple(int(n) for n in sizes)


def check_positive_int(name, what, value, least=1):
    """`value` as an int of at least `least`."""
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integer or value < least:
        raise ValueError(f"{name}: expected {what} as an int above {least - 1}, got {value!r}")
    return int(value)


def check_axis(name, axis):
    """`axis` as an int."""
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
        raise ValueError(f"{name}: expected axis as an int, got {axis!r}")
    return int(axis)


def assign_all(name, variables, values):
    """Set `variables` to `values`; nothing is changed when a shape is wrong."""
    values = [np.asarray(backends.to_host(v)) for v in values]
    if len(values) != len(variables):
        raise ValueError(f"{name}: expected {len(variables)} weights, got {len(values)}")
    for i, (variable, value) in enumerate(zip(variables, values, strict=True)):
        if value.shape != variable.shape:
            raise ValueError(
                f"{name}: expected weight {i} ({variable.name}) of shape {variable.shape},"
                f" got {value.shape}"
            )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def plain(layer, value):
    """An argument of `layer` as JSON can hold it."""
    from dlcore.layers import base, serialize

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(plain(layer, x) for x in value)
    if isinstance(value, dict):
        return {k: plain(layer, x) for k, x in value.items()}
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, base.Layer):
        return serialize(value)
    anonymous = getattr(value, "__name__", "<lambda>") == "<lambda>"
    if anonymous and not hasattr(value, "get_config"):
        if lookup.is_live():
            return value
        raise ValueError(
            f"{layer.name}: expected arguments that can be saved, got {value!r};"
            " use named functions, or define get_config"
        )
    return lookup.serialize(value)


def revive(value):
    """Layers described inside a configuration, alive again; everything else as it is."""
    from dlcore.layers import deserialize, is_layer_config

    if isinstance(value, (list, tuple)):
        return type(value)(revive(x) for x in value)
    return deserialize(value) if is_layer_config(value) else value


def shown(row_shape):
    """The shape of a batch of rows, for messages: (batch, 3, 4)."""
    return "(" + ", ".join(["batch", *map(str, row_shape)]) + ")"
