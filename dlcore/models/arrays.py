"""What callers pass as x, y and sample_weight, checked once and turned into arrays that programs
can gather from.

Floats become `config.floatx()` here, once; small integers (images in uint8) stay as they are and
are cast inside the program, a batch at a time, as that moves a quarter of the bytes.
"""

import numpy as np

from dlcore import config
from dlcore.layers.spec import Spec
from dlcore.program import dtypes
from dlcore.program.function import flatten, unflatten


def as_array(who, what, x):
    """`x` (array, list, pandas frame, ...) as a C-contiguous, aligned, native array of a type
    programs take.
    """
    try:
        array = np.asarray(x)
        if array.dtype == object:
            array = array.astype(np.float64)
    except (ValueError, TypeError):
        raise TypeError(f"{who}: expected numbers in {what}, got {_kind(x)}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{who}: expected numbers in {what}, got {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{who}: expected {what} with one row per sample, got a single number")
    floating = array.dtype.kind == "f"
    dtype = config.floatx() if floating else dtypes.standardize(array.dtype.newbyteorder("="), who)
    return np.require(array, dtype, ["C", "A"])


def _kind(x):
    return f"{type(x).__name__} of mixed or non-numeric values"


def _tree(who, x, single):
    """(leaves, structure) of the input: one array, or nested arrays where the model takes
    several.
    """
    nested = isinstance(x, dict) or (
        isinstance(x, (list, tuple)) and len(x) > 0 and all(_is_batch(v) for v in x)
    )
    if single or not nested:
        return [as_array(who, "x", x)], None
    leaves, structure = flatten(x)
    return [as_array(who, "x", leaf) for leaf in leaves], structure


def _is_batch(x):
    return (hasattr(x, "shape") and len(x.shape) > 0) or isinstance(x, (dict, tuple))


# NumPy computes dtype.name anew each time, in microseconds.
_NAMES = {np.dtype(name).num: name for name in dtypes.NAMES}


class Data:
    """Arrays with one row per sample: the inputs, then the targets and the weights where they are
    given.

    Parameters
    ----------
    who : str
        For messages: "fit", "evaluate", ...
    x : array_like, or nested arrays where the model takes several inputs
    y, sample_weight : array_like, optional
    single : bool
        Whether the model takes one input.
    """

    def __init__(self, who, x, y=None, sample_weight=None, single=True):
        if x is None:
            raise ValueError(f"{who}: expected x, got None")
        inputs, self.structure = _tree(who, x, single)
        self.who = who
        self.arrays = list(inputs)
        self.inputs = len(inputs)
        self.targets = None if y is None else as_array(who, "y", y)
        self.weights = None
        if y is not None:
            self.arrays.append(self.targets)
        if sample_weight is not None:
            self._set_weights(as_array(who, "sample_weight", sample_weight))
        self._check_lengths(y is not None)
        self._check_finite()

    def _set_weights(self, weights):
        if weights.dtype != config.floatx():
            weights = weights.astype(config.floatx())
        if self.weights is None:
            self.arrays.append(weights)
        self.arrays[-1] = self.weights = weights

    def scale_weights(self, weights):
        """Multiply the sample weights by `weights` (rows,)."""
        if self.weights is not None:
            shape = (-1,) + (1,) * (self.weights.ndim - 1)
            weights = self.weights * weights.reshape(shape)
        self._set_weights(weights)

    def replace_targets(self, targets):
        """Use `targets`, of the same rows, from now on."""
        self.targets = self.arrays[self.inputs] = targets

    @property
    def rows(self):
        return len(self.arrays[0])

    def _check_lengths(self, has_targets):
        names = ["x"] * self.inputs + ["y"] * has_targets + ["sample_weight"]
        if self.rows == 0:
            raise ValueError(
                f"{self.who}: expected at least one row, got x of shape {self.shape()}"
            )
        for name, array in zip(names[1:], self.arrays[1:], strict=False):
            if len(array) != self.rows:
                raise ValueError(
                    f"{self.who}: expected {name} with {self.rows} rows like x, got {len(array)}"
                )

    def shape(self):
        return self.arrays[0].shape

    def _check_finite(self):
        if not config.check_numerics():
            return
        names = (
            ["x"] * self.inputs + (["y"] if self.targets is not None else []) + ["sample_weight"]
        )
        for name, array in zip(names, self.arrays, strict=False):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise ValueError(
                    f"{self.who}: expected finite values in {name}, got NaN or Inf in row {row}"
                )

    # -- for programs

    def specs(self):
        """[(row shape, dtype)] of the arrays."""
        return [(a.shape[1:], _NAMES[a.dtype.num]) for a in self.arrays]

    def key(self):
        """What programs over such data depend on."""
        structure = repr(self.structure)
        return tuple(self.specs()), self.inputs, self.targets is not None, structure

    def input_specs(self):
        """The nested inputs as `Spec`s with None as the batch."""
        specs = [Spec((None, *shape), dtype) for shape, dtype in self.specs()[: self.inputs]]
        return specs[0] if self.structure is None else unflatten(self.structure, specs)

    def unpack(self):
        """A function from flat tensors (or arrays) to (x, y, sample_weight)."""
        inputs, structure = self.inputs, self.structure
        has_targets, has_weights = self.targets is not None, self.weights is not None

        def split(tensors):
            x = tensors[0] if structure is None else unflatten(structure, tensors[:inputs])
            y = tensors[inputs] if has_targets else None
            return x, y, tensors[-1] if has_weights else None

        return split

    def part(self, start, stop):
        """Rows start..stop, as views."""
        other = object.__new__(Data)
        other.__dict__.update(self.__dict__)
        other.arrays = [a[start:stop] for a in self.arrays]
        if self.targets is not None:
            other.targets = other.arrays[self.inputs]
        if self.weights is not None:
            other.weights = other.arrays[-1]
        return other


def check_labels(name, labels, classes, ignored=None):
    """Refuse class labels outside 0..classes - 1, and fractions.

    Raises
    ------
    ValueError
        Naming the first one and its row.
    """
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        row = np.argwhere(labels != np.floor(labels))[0][0]
        raise ValueError(
            f"{name}: expected integer labels, got {labels[row].ravel()[0]} at row {row}"
        )
    if labels.size == 0 or (labels.min() >= 0 and labels.max() < classes):
        return
    bad = ~((labels >= 0) & (labels < classes))
    if ignored is not None:
        bad &= labels != ignored
    if bad.any():
        where = np.argwhere(bad)[0]
        raise ValueError(
            f"{name}: expected labels in 0..{classes - 1},"
            f" got {labels[tuple(where)]} at row {where[0]}"
        )


def split_off(data, fraction):
    """(training, validation): the last `fraction` of the rows validates."""
    if not 0 < fraction < 1:
        raise ValueError(f"fit: expected validation_split between 0 and 1, got {fraction!r}")
    at = int(np.floor(data.rows * (1.0 - fraction)))
    if at in (0, data.rows):
        raise ValueError(
            "fit: expected validation_split to leave rows on both sides,"
            f" got {fraction} of {data.rows} rows"
        )
    return data.part(0, at), data.part(at, data.rows)
