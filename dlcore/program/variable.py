"""State: arrays that live between calls of a program (weights, optimizer slots, counters, metric
sums)."""

import numpy as np

from dlcore import backends, config
from dlcore.backends.memory import Memory, when_device_changes
from dlcore.program import dtypes
from dlcore.program.graph import VARIABLE, Operators, Tensor, current_trace

_ALIGNMENT = 64  # bytes: a cache line and the widest vector
_layout = 0  # grows when arrays move, so that programs bound to the old places are not used again
_made = 0  # variables so far


def layout():
    """Number that changes whenever variables move in memory."""
    return _layout


def _moved():
    global _layout
    _layout += 1


when_device_changes(_moved)


def variables_made():
    """Number that changes whenever a variable is made, so that lists of them may be kept."""
    return _made


def _initial(initializer, shape, dtype):
    """The array, or number, that a variable starts with."""
    if isinstance(initializer, Variable):
        initializer = initializer.value
    if callable(initializer):
        if shape is None:
            raise ValueError("Variable: expected a shape for an initializer, got None")
        return initializer(tuple(shape), dtype=dtype or config.floatx())
    if shape is not None and tuple(np.shape(initializer)) != tuple(shape):
        raise ValueError(
            f"Variable: expected a value of shape {tuple(shape)}, got {np.shape(initializer)}"
        )
    return initializer


class Variable(Operators):
    """An array that programs read and change.

    Parameters
    ----------
    initializer : array_like, or callable (shape, dtype) -> array
        The initial value, which is copied, or what makes it of a shape.
    shape : tuple of int, optional
        For an initializer; a value must have it.
    dtype : str, optional
        "float32", "float64", "int32", "int64", "uint8" or "bool"; by default that of an array, else
        `config.floatx()` for floats.
    trainable : bool
        Whether optimizers change it.
    autocast : bool, default True
        Whether layers see floats in the type that they compute in.
    aggregation, synchronization
        Accepted for Keras' sake, and not needed here.
    name : str, optional

    Examples
    --------
    >>> import dlcore
    >>> v = dlcore.Variable([1.0, 2.0])
    >>> v.assign_add([1.0, 1.0])
    >>> v.numpy()
    array([2., 3.], dtype=float32)
    """

    __slots__ = (
        "__weakref__", "_array", "autocast", "constraint", "dtype", "memory", "name",
        "path", "regularizer", "trainable",
    )  # fmt: skip

    def __init__(
        self,
        initializer,
        shape=None,
        dtype=None,
        trainable=True,
        autocast=True,
        aggregation="none",
        synchronization="auto",
        name=None,
    ):
        global _made
        _made += 1
        value = backends.to_host(_initial(initializer, shape, dtype))
        if dtype is None:
            array = np.asarray(value)
            given = isinstance(value, (np.ndarray, np.generic))
            dtype = array.dtype if given or array.dtype.kind not in "fc" else None
        self.dtype = dtypes.standardize(dtype, "Variable")
        self._array = np.array(value, dtype=self.dtype, order="C")
        self.memory = Memory(self._array)
        self.trainable = trainable
        self.name = self.path = name or "variable"
        self.regularizer = self.constraint = None
        self.autocast = bool(autocast and dtypes.is_float(self.dtype))

    @property
    def value(self):
        """The live array (a view: it changes when programs run), or a symbolic tensor in a
        trace. While the variable lives on a GPU, the array is a read-only copy."""
        trace = current_trace()
        if trace is None:
            return self._look()
        from dlcore.ops.op import to_tensor

        return to_tensor(self)

    def _look(self):
        memory = self.memory
        if memory.device is None:
            return self._array
        memory.bring_home()
        view = self._array.view()
        view.flags.writeable = False
        return view

    @property
    def shape(self):
        return self._array.shape

    @property
    def ndim(self):
        return self._array.ndim

    @property
    def size(self):
        return self._array.size

    @property
    def packed(self):
        """Whether `pack` has put it into a buffer with others."""
        return self._array.base is not None

    @property
    def offset(self):
        """Bytes from the start of `memory` to the variable."""
        starts = (a.__array_interface__["data"][0] for a in (self._array, self.memory.root))
        return next(starts) - next(starts)

    def numpy(self):
        """A copy of the current value."""
        return self._look().copy()

    def assign(self, value):
        """Set the value; `value` must have the variable's shape."""
        trace = current_trace()
        if trace is None and type(value) is np.ndarray and value.shape == self.shape:
            self._store(value)  # as metrics do before every single batch
            return
        shape = value.shape if isinstance(value, (Tensor, Variable)) else np.shape(value)
        if tuple(shape) != self.shape:
            raise ValueError(
                f"{self.name}: expected a value of shape {self.shape}, got {tuple(shape)}"
            )
        if trace is None:
            self._store(value._look() if isinstance(value, Variable) else value)
        else:
            from dlcore.ops.op import OPS, cast_to, to_tensor

            tensor = cast_to(to_tensor(value), self.dtype)
            if _is_state(tensor):  # so that two variables can exchange their values
                tensor = OPS["identity"](tensor)
            trace.assign(self, tensor)

    def _store(self, value):
        self.memory.bring_home()  # its other variables
        self._array[...] = backends.to_host(value)
        self.memory.changed_on_host()

    def assign_add(self, value):
        """Add `value`, of the variable's shape."""
        self.assign(self + value)

    def assign_sub(self, value):
        """Subtract `value`, of the variable's shape."""
        self.assign(self - value)

    def __array__(self, dtype=None, copy=None):
        if current_trace() is not None:
            raise TypeError(f"{self.name}: expected dlcore.ops inside a traced function, got NumPy")
        array = self._look()  # a copy unless refused: what is kept must not change with training
        return np.asarray(array, dtype) if copy is False else np.array(array, dtype)

    def __float__(self):
        return float(self._look())

    def __int__(self):
        return int(self._look())

    def __len__(self):
        return len(self._array)

    def __hash__(self):
        return id(self)

    def __repr__(self):
        return f"<Variable {self.name} {self.dtype}{list(self.shape)}>"


def _is_state(tensor):
    """Whether `tensor` is a variable's memory, possibly seen through views."""
    node = tensor.node
    while node.op is not VARIABLE:
        if getattr(node.op, "kind", None) != "view":
            return False
        node = node.inputs[0].node
    return True


def pack(variables):
    """Move the arrays of `variables` into one flat buffer per dtype, each at a multiple of 64
    bytes.

    An optimizer is then one pass, a checkpoint one write and an all-reduce one call. Values stay
    the same; views taken before are left behind.

    Returns
    -------
    dict of dtype name to the flat ndarray.
    """
    global _layout
    flat = {}
    for dtype in sorted({v.dtype for v in variables}):
        group = [v for v in variables if v.dtype == dtype]
        unit = _ALIGNMENT // dtypes.SIZES[dtype]
        sizes = [-(-v.size // unit) * unit for v in group]
        raw = np.zeros(sum(sizes) + unit, dtype)
        start = (-raw.ctypes.data % _ALIGNMENT) // dtypes.SIZES[dtype]
        buffer = raw[start : start + sum(sizes)]
        memory = Memory(buffer)
        at = 0
        for variable, size in zip(group, sizes, strict=True):
            view = buffer[at : at + variable.size].reshape(variable.shape)
            view[...] = variable._look()
            variable._array, variable.memory = view, memory
            at += size
        flat[dtype] = buffer
    _layout += 1
    return flat
