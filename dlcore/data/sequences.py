"""Sequences of different lengths as arrays, and windows of a time series as batches."""

import numpy as np

from dlcore import lookup
from dlcore.data.batches import Batches
from dlcore.program import dtypes


@lookup.checked
def pad_sequences(
    sequences, maxlen=None, dtype="int32", padding="pre", truncating="pre", value=0.0
):
    """Sequences of different lengths as the rows of one array.

    Parameters
    ----------
    sequences : list of sequences
        Of numbers, or of arrays that have one shape.
    maxlen : int, optional
        Length T of the rows; by default that of the longest sequence.
    dtype : str, default "int32"
        Of the result; `object` or a string type for strings.
    padding : {"pre", "post"}
        Where `value` is put to what is too short.
    truncating : {"pre", "post"}
        Where what is too long is cut.
    value : float or str, default 0

    Returns
    -------
    ndarray (len(sequences), T, ...)

    Raises
    ------
    ValueError
        If the entries differ in shape, or an argument is none of those above.

    Examples
    --------
    >>> pad_sequences([[1], [2, 3, 4]], maxlen=2)
    array([[0, 1],
           [3, 4]], dtype=int32)
    """
    for what, side in (("padding", padding), ("truncating", truncating)):
        if side not in ("pre", "post"):
            raise ValueError(f"pad_sequences: expected {what} 'pre' or 'post', got {side!r}")
    if not hasattr(sequences, "__len__") or not all(hasattr(s, "__len__") for s in sequences):
        raise ValueError("pad_sequences: expected a list of sequences, got something without len()")
    shapes = {np.shape(s)[1:] for s in sequences if len(s)} or {()}
    if len(shapes) > 1:
        raise ValueError(f"pad_sequences: expected entries of one shape, got {sorted(shapes)}")
    longest = max((len(s) for s in sequences), default=0)
    length = longest if maxlen is None else int(maxlen)
    dtype = np.dtype(dtype)
    if isinstance(value, str) and dtype.kind not in "OUS":
        raise ValueError(f"pad_sequences: expected dtype=object for the value {value!r}")
    rows = np.full((len(sequences), length, *shapes.pop()), value, dtype)
    for row, sequence in zip(rows, sequences, strict=True):
        n = min(len(sequence), length)
        if n:
            kept = sequence[-n:] if truncating == "pre" else sequence[:n]
            try:
                row[length - n if padding == "pre" else 0 :][:n] = kept
            except (ValueError, TypeError):
                raise ValueError(
                    f"pad_sequences: expected entries of dtype {dtype}, got {kept!r};"
                    " TextVectorization and StringLookup make numbers of text"
                ) from None
    return rows


class Windows(Batches):
    """Batches of windows of a series; see `timeseries_dataset_from_array`.

    Parameters
    ----------
    data, targets : ndarray or None
    starts : ndarray of int
        Where the windows begin.
    offsets : ndarray of int
        Places in a window.
    batch_size : int or None
    """

    def __init__(self, data, targets, starts, offsets, batch_size):
        super().__init__()
        self.data, self.targets = data, targets
        self.starts, self.offsets, self.batch_size = starts, offsets, batch_size

    def __len__(self):
        return -(-len(self.starts) // (self.batch_size or 1))

    def __getitem__(self, index):
        size = self.batch_size or 1
        starts = self.starts[index * size : (index + 1) * size]
        if self.batch_size is None:
            starts = starts[0]
        x = self.data[starts[..., None] + self.offsets]
        return x if self.targets is None else (x, self.targets[starts])


@lookup.checked
def timeseries_dataset_from_array(
    data,
    targets,
    sequence_length,
    sequence_stride=1,
    sampling_rate=1,
    batch_size=128,
    shuffle=False,
    seed=None,
    start_index=None,
    end_index=None,
):
    """Windows of a time series as batches for `fit`.

    Window i holds the steps i sequence_stride + j sampling_rate, j = 0 .. sequence_length - 1, and
    its target is that at its first step.

    Parameters
    ----------
    data : array (steps, ...)
    targets : array (steps, ...) or None
        targets[i] belongs to the window that begins at step i; to forecast, shift the data.
    sequence_length : int
    sequence_stride : int, default 1
        Steps between windows.
    sampling_rate : int, default 1
        Steps between entries of a window.
    batch_size : int or None, default 128
        None gives single windows.
    shuffle : bool
        Whether the windows are put into a random order, once.
    seed : int, optional
        Of that order.
    start_index, end_index : int, optional
        Only the steps start_index .. end_index - 1 are used.

    Returns
    -------
    Windows
        Batches x (batch, sequence_length, ...), or (x, y).

    Examples
    --------
    >>> import numpy as np
    >>> data = timeseries_dataset_from_array(np.arange(6), np.arange(6)[3:], 3)
    >>> [(x.tolist(), y.tolist()) for x, y in data]
    [([[0, 1, 2], [1, 2, 3], [2, 3, 4]], [3, 4, 5])]
    """
    name = "timeseries_dataset_from_array"
    data = np.asarray(data)
    for what, n in (("sequence_length", sequence_length), ("sequence_stride", sequence_stride),
                    ("sampling_rate", sampling_rate), ("batch_size", batch_size or 1)):  # fmt: skip
        if not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"{name}: expected {what} above 0, got {n!r}")
    start = 0 if start_index is None else start_index
    end = len(data) if end_index is None else end_index
    if not 0 <= start < end <= len(data):
        raise ValueError(
            f"{name}: expected 0 <= start_index < end_index <= {len(data)}, got {start} and {end}"
        )
    span = (sequence_length - 1) * sampling_rate
    count = end - start - span
    if targets is not None:
        targets = np.asarray(targets)[start:end]
        count = min(count, len(targets))
    if count < 1:
        raise ValueError(
            f"{name}: expected at least {span + 1} steps for a window (and a target),"
            f" got {end - start}"
        )
    starts = np.arange(0, count, sequence_stride)
    if shuffle:
        np.random.default_rng(seed).shuffle(starts)
    data = data[start:end]
    if data.dtype.kind not in "OUS":
        data = data.astype(dtypes.standardize(data.dtype.newbyteorder("="), name), copy=False)
    offsets = np.arange(0, span + 1, sampling_rate)
    windows = Windows(data, targets, starts, offsets, batch_size)
    windows.ordered = not shuffle
    return windows
