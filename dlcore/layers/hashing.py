"""Categories without a vocabulary: numbers of what strings and integers hash to. Outside of the
model's program, as lookups are."""

import numpy as np

from dlcore.data.hashing import crossed, fingerprint, keyed
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.layers.categories import _encoded, _set_mode


def _text(value):
    """What is hashed of a string, bytes or a number."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else str(int(value))).encode()


class Hashing(Layer):
    """Strings or integers as numbers 0..num_bins - 1, the same in every process.

    It is called on arrays or lists (also in the data pipeline), not on symbolic tensors.

    Parameters
    ----------
    num_bins : int
    mask_value : str or int, optional
        What becomes 0, and everything else 1 and more.
    salt : int or pair of int, optional
        The key of SipHash; without one the hash is FarmHash's fingerprint.
    output_mode : {"int", "one_hot", "multi_hot", "count"}
        The numbers, or rows as those of `CategoryEncoding`.
    sparse : bool
        Accepted for Keras' sake, where it must be False.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import dlcore
    >>> layer = dlcore.layers.Hashing(num_bins=3)
    >>> layer([["A"], ["B"], ["C"], ["D"], ["E"]]).tolist()
    [[1], [0], [1], [1], [2]]
    """

    _modes = ("int", "one_hot", "multi_hot", "count")

    def __init__(
        self, num_bins, mask_value=None, salt=None, output_mode="int", sparse=False, **kwargs
    ):
        super().__init__(**kwargs)
        _set_mode(self, output_mode, self._modes, sparse)
        self.num_bins = spec.check_positive_int(self.name, "num_bins", num_bins)
        self.mask_value = mask_value
        pair = salt if isinstance(salt, (tuple, list)) else (salt, salt)
        if salt is not None and (len(pair) != 2 or not all(isinstance(k, int) for k in pair)):
            raise ValueError(f"{self.name}: expected salt as one or two ints, got {salt!r}")
        self.salt = None if salt is None else list(pair)

    def _bin(self, value):
        masked = self.mask_value is not None and self.num_bins > 1
        if masked and value == self.mask_value:
            return 0
        text = _text(value)
        number = fingerprint(text) if self.salt is None else keyed(text, self.salt)
        return number % (self.num_bins - masked) + masked

    def __call__(self, inputs, *args, **kwargs):
        x = np.asarray(inputs)
        numbers = np.array([self._bin(v) for v in x.ravel().tolist()], np.int64).reshape(x.shape)
        return self._rows(numbers)

    call = __call__

    def _rows(self, numbers):
        if self.output_mode == "int":
            return numbers
        return np.asarray(_encoded(numbers, self.output_mode, self.num_bins, self.compute_dtype))


class HashedCrossing(Hashing):
    """Several features as one: what their values hash to together; see `Hashing`.

    Parameters
    ----------
    num_bins : int
    output_mode : {"int", "one_hot"}
    sparse : bool
        Accepted for Keras' sake, where it must be False.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.HashedCrossing(num_bins=5)
    >>> layer((np.array(["A", "B", "A", "B", "A"]), np.array([101, 101, 101, 102, 102]))).tolist()
    [1, 4, 1, 1, 3]
    """

    _modes = ("int", "one_hot")
    _fixed_arguments = ("mask_value", "salt")

    def __init__(self, num_bins, output_mode="int", sparse=False, name=None, dtype=None, **kwargs):
        super().__init__(
            num_bins, None, None, output_mode, sparse, name=name, dtype=dtype, **kwargs
        )

    def __call__(self, inputs, *args, **kwargs):
        parts = [np.asarray(x) for x in inputs]
        if len(parts) < 2 or len({x.shape for x in parts}) > 1:
            raise ValueError(
                f"{self.name}: expected two or more arrays of one shape, got "
                f"{', '.join(str(x.shape) for x in parts)}"
            )
        columns = zip(*(x.ravel().tolist() for x in parts), strict=True)
        words = ([v if isinstance(v, int) else fingerprint(_text(v)) for v in c] for c in columns)
        numbers = np.array([crossed(w) % self.num_bins for w in words], np.int64)
        return self._rows(numbers.reshape(parts[0].shape))

    call = __call__
