"""What callers pass as x, y and sample_weight, checked once and turned into arrays that programs
can gather from.

Floats become `config.floatx()` here, once; small integers (images in uint8) stay as they are and
are cast inside the program, a batch at a time, as that moves a quarter of the bytes.
"""

import numpy as np

from dlcore import backends, config
from dlcore.data.batches import unpack
from dlcore.layers.spec import Spec
from dlcore.program import dtypes
from dlcore.program.function import flatten, unflatten


def as_array(who, what, x):
    """`x` (array, list, pandas frame, ...) as a C-contiguous, aligned, native array of a type
    programs take; arrays of a GPU stay there.
    """
    on_gpu = backends.is_device_array(x)
    if on_gpu and backends.get_device() != "gpu":
        raise TypeError(
            f"{who}: expected {what} on device 'cpu', got an array of a GPU;"
            " call dlcore.set_device('gpu')"
        )
    if on_gpu:
        x = backends.device_array(x)
    try:
        array = x if on_gpu else _on_host(x)
        if array.dtype == object:
            array = array.astype(np.float64)
    except (ValueError, TypeError):
        raise TypeError(f"{who}: expected numbers in {what}, got {_kind(x)}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{who}: expected numbers in {what}, got {_kind_of(what, array)}")
    if type(x) is not np.ndarray and isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError(
            f"{who}: expected a number everywhere in {what}, got a masked array with"
            f" {np.ma.count_masked(x)} of them masked; x.filled(0) has others there"
        )
    if array.ndim == 0:
        raise ValueError(f"{who}: expected {what} with one row per sample, got a single number")
    floating = array.dtype.kind == "f"
    dtype = config.floatx() if floating else dtypes.standardize(array.dtype.newbyteorder("="), who)
    if on_gpu:
        return backends.device_array(array, dtype)
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.aligned and type(array) is np.ndarray:
        return array  # np.require would look for a microsecond or two
    return np.require(array, dtype, ["C", "A"])


def _on_host(x):
    """`x` as an ndarray; also what has nothing but DLPack."""
    if hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
        return np.from_dlpack(x)
    return np.asarray(x)


def _kind_of(what, array):
    if array.dtype.kind not in "UST":
        return str(array.dtype)
    if what.startswith("y"):
        return "text; np.unique(y, return_inverse=True) gives the classes and their numbers"
    return "text; TextVectorization and StringLookup make numbers of it"


def _kind(x):
    if callable(x):
        return f"a {type(x).__name__}; a generator is what calling it returns"
    if hasattr(x, "toarray"):  # SciPy's sparse ones
        return f"a {type(x).__name__}; x.toarray() is dense"
    if hasattr(x, "columns") and hasattr(x, "dtypes"):  # a frame
        other = [c for c, t in zip(x.columns, x.dtypes, strict=True) if t.kind not in "biuf"]
        what = f"something else in the columns {other}" if other else "missing values"
        return f"a {type(x).__name__} with {what}"
    return f"{type(x).__name__} of {getattr(x, 'dtype', 'mixed or non-numeric values')}"


def _tree(who, x):
    """(leaves, structure) of the input of a model that has not said what it takes: one array, or
    nested arrays.
    """
    nested = isinstance(x, dict) or (
        isinstance(x, (list, tuple)) and len(x) > 0 and all(_is_batch(v) for v in x)
    )
    return flatten(x) if nested else ([x], None)


def _is_batch(x):
    return (hasattr(x, "shape") and len(x.shape) > 0) or isinstance(x, (dict, tuple))


# NumPy computes dtype.name anew each time, in microseconds.
_NAMES = {np.dtype(name).num: name for name in dtypes.ARRAYS}


class Data:
    """Arrays with one row per sample: the inputs, then the targets and the weights where they are
    given.

    Parameters
    ----------
    who : str
        For messages: "fit", "evaluate", ...
    x : array_like, or nested arrays where the model takes several inputs
    form : Form, optional
        What the model takes; where that is not known, lists of arrays are several inputs.
    """

    def __init__(self, who, x, form=None):
        if x is None:
            raise ValueError(f"{who}: expected x, got None")
        if form is None:
            inputs, self.structure = _tree(who, x)
        else:
            inputs, self.structure = form.flatten(x), form.structure
        self.who, self.form = who, form
        self.names = _named("x", form, len(inputs))
        self.inputs = [as_array(who, n, v) for n, v in zip(self.names, inputs, strict=True)]
        self.targets, self.weights = [], []  # one entry per output, some None
        self.outputs = None
        self._placed = None, None
        if self.rows == 0:
            raise ValueError(f"{who}: expected at least one row, got x of shape {self.shape()}")
        self._check(self.names, self.inputs)

    def add_targets(self, y, sample_weight, form, needed):
        """Take the targets and sample weights of the outputs.

        Parameters
        ----------
        y, sample_weight : array_like, nested or by name where there are several outputs, or None
            One array of weights is for all outputs.
        form : Form
            Of the outputs.
        needed : list of bool
            Which outputs the loss and the metrics look at; targets of others are left out.
        """
        self.outputs = form
        nothing = [None] * len(form)
        if len(form) == 1 and self._holds_rows(y):
            y = y[0]
        targets = nothing if y is None else form.flatten(_for_needed(y, needed))
        targets = [t if n else None for t, n in zip(targets, needed, strict=True)]
        self.targets = self._rows_of("y", form, targets)
        weights = nothing if sample_weight is None else _weights_of(sample_weight, form)
        self._set_weights(self._rows_of("sample_weight", form, weights))

    def _holds_rows(self, y):
        """Whether `y` is a list of one array of targets, not the targets of one row."""
        one = isinstance(y, (list, tuple)) and len(y) == 1 and self.rows != 1
        return one and getattr(y[0], "shape", ())[:1] == (self.rows,)

    def _rows_of(self, what, form, given):
        names = _named(what, form, len(given))
        arrays = [
            None if v is None else as_array(self.who, n, v)
            for n, v in zip(names, given, strict=True)
        ]
        self._check(names, arrays)
        # Labels and weights are looked at: on the host.
        return [
            a if a is None or (what == "y" and a.dtype.kind == "f") else backends.to_host(a)
            for a in arrays
        ]

    def _set_weights(self, weights):
        floatx = config.floatx()
        self.weights = [w if w is None or w.dtype == floatx else w.astype(floatx) for w in weights]

    def scale_weights(self, weights):
        """Multiply the sample weights of the one output by `weights` (rows,)."""
        old = self.weights[0]
        if old is not None:
            weights = old * weights.reshape((-1,) + (1,) * (old.ndim - 1))
        self._set_weights([weights])

    @property
    def arrays(self):
        """All arrays, in the order in which programs take them."""
        return [a for a in (*self.inputs, *self.targets, *self.weights) if a is not None]

    def placed(self):
        """The `arrays` where programs read them: on a GPU, if they fit there, copied once."""
        if self._placed[0] != backends.get_device():
            self._placed = backends.get_device(), backends.place(self.arrays)
        return self._placed[1]

    @property
    def rows(self):
        return len(self.inputs[0])

    def _check(self, names, arrays):
        for name, array in zip(names, arrays, strict=True):
            if array is None:
                continue
            if len(array) != self.rows:
                raise ValueError(
                    f"{self.who}: expected {name} with {self.rows} rows like x, got {len(array)}"
                )
            _check_finite(self.who, name, array)

    def shape(self):
        return self.inputs[0].shape

    # -- for programs

    def specs(self):
        """[(row shape, dtype)] of the arrays."""
        return [_row_spec(a) for a in self.arrays]

    def key(self):
        """What programs over such data depend on."""
        given = tuple(a is not None for a in (*self.targets, *self.weights))
        return tuple(self.specs()), len(self.inputs), given, repr(self.structure)

    def input_specs(self, rows=None):
        """The nested inputs as `Spec`s with a batch of `rows`."""
        specs = [Spec((rows, *shape), dtype) for shape, dtype in map(_row_spec, self.inputs)]
        return specs[0] if self.structure is None else unflatten(self.structure, specs)

    def unpack(self):
        """A function from flat tensors (or arrays) to (x, y, sample_weight)."""
        inputs, structure, form = len(self.inputs), self.structure, self.outputs
        has_targets = [t is not None for t in self.targets]
        has_weights = [w is not None for w in self.weights]

        def nested(given, tensors):
            entries = [next(tensors) if g else None for g in given]
            return form.nest(entries) if any(given) else None

        def split(tensors):
            x = tensors[0] if structure is None else unflatten(structure, tensors[:inputs])
            rest = iter(tensors[inputs:])
            y = nested(has_targets, rest)
            return x, y, nested(has_weights, rest)

        return split

    def part(self, start, stop):
        """Rows start..stop, as views."""
        other = object.__new__(Data)
        other.__dict__.update(self.__dict__, _placed=(None, None))
        for kind in ("inputs", "targets", "weights"):
            arrays = [a if a is None else a[start:stop] for a in getattr(self, kind)]
            setattr(other, kind, arrays)
        return other


def same_rows(batch):
    """Whether the arrays of a batch have equally many rows."""
    return len({x.shape[0] for x in flatten(batch)[0] if getattr(x, "shape", ())}) < 2


class WholeBatch(Data):
    """A batch whose arrays have rows of different numbers, for a step of the user's: programs see
    each array as one row.

    Parameters
    ----------
    who : str
        For messages.
    batch : x, (x, y) or (x, y, sample_weight), nested
        What the step gets.
    """

    def __init__(self, who, batch):
        leaves, self.nesting = flatten(batch)
        super().__init__(who, [as_array(who, "x", v)[None] for v in leaves])

    def key(self):
        return (*super().key(), repr(self.nesting))

    def unpack(self):
        def split(tensors):
            return unpack(self.who, unflatten(self.nesting, [t[0] for t in tensors]))

        return split


def _named(what, form, count):
    """What messages call the arrays: x, or x['left'] and x['right']."""
    if count == 1:
        return [what]
    return [what] * count if form is None else [f"{what}[{name!r}]" for name in form.names]


def _for_needed(y, needed):
    """Targets of the needed outputs alone as a list with None for the others."""
    count = sum(needed)
    several = isinstance(y, (list, tuple))
    if isinstance(y, dict) or count in (0, len(needed)) or (several and len(y) == len(needed)):
        return y
    given = iter(y if several and len(y) == count else [y])
    return [next(given, None) if n else None for n in needed]


def _weights_of(given, form):
    several = isinstance(given, (list, tuple, dict)) and not form.single
    numbers = several and not isinstance(given, dict) and not any(map(_is_batch, given))
    return form.flatten(given) if several and not numbers else [given] * len(form)


def _row_spec(array):
    return array.shape[1:], _NAMES[array.dtype.num]


def _check_finite(who, name, array):
    if not config.check_numerics() or array.dtype.kind != "f":
        return
    array = backends.to_host(array)
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"{who}: expected finite values in {name}, got NaN or Inf in row {row}")


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
