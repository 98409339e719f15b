"""Categories as numbers, and numbers as categories.

CategoryEncoding   y[n, c] = 1, or how often, where class c is in x[n]
Discretization     y = how many boundaries x reaches
StringLookup, IntegerLookup   y = the place of x in a vocabulary, outside of the model's program
"""

import collections

import numpy as np

from dlcore import config, ops
from dlcore.data.text import as_text, check_vocabulary, read_vocabulary
from dlcore.layers.base import Layer
from dlcore.layers.embedding import _TakesIds
from dlcore.program import dtypes

_MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


def _check_mode(layer, mode, known):
    if mode not in known:
        raise ValueError(f"{layer.name}: expected output_mode in {known}, got {mode!r}")
    return mode


def _encoded(ids, mode, depth, dtype, weights=None):
    """Ids as one-hot rows, or counted along their last axis."""
    if mode == "one_hot":
        ids = ops.squeeze(ids, -1) if len(ids.shape) > 1 and ids.shape[-1] == 1 else ids
        return ops.one_hot(ids, depth, dtype=dtype)
    ids = ids if ids.shape else ops.reshape(ids, (1,))
    hot = ops.one_hot(ids, depth, dtype=dtype)
    if weights is not None:
        hot = hot * ops.expand_dims(ops.cast(weights, dtype), -1)
    return ops.max(hot, axis=-2) if mode == "multi_hot" else ops.sum(hot, axis=-2)


class CategoryEncoding(_TakesIds):
    """Classes as rows with a column for each.

    Parameters
    ----------
    num_tokens : int
        Number of classes.
    output_mode : {"multi_hot", "one_hot", "count"}
        Which classes are in a row; the class of every entry; how often classes are in a row.
    sparse : bool
        Accepted for Keras' sake, where it must be False.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.CategoryEncoding(4, "count")(np.array([[0, 1], [2, 2]])).tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]
    """

    def __init__(self, num_tokens=None, output_mode="multi_hot", sparse=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(num_tokens, (int, np.integer)) or num_tokens < 1:
            raise ValueError(f"{self.name}: expected num_tokens above 0, got {num_tokens!r}")
        _dense(self, sparse)
        mode = "multi_hot" if output_mode == "binary" else output_mode
        self.output_mode = _check_mode(self, mode, ("multi_hot", "one_hot", "count"))
        self.num_tokens, self.sparse, self.autocast = int(num_tokens), False, False

    def check_values(self, inputs):
        if inputs.size and not (inputs.min() >= 0 and inputs.max() < self.num_tokens):
            bad = inputs[(inputs < 0) | (inputs >= self.num_tokens)].flat[0]
            raise ValueError(
                f"{self.name}: expected classes in 0..{self.num_tokens - 1}, got {bad}"
            )

    def call(self, inputs, count_weights=None):
        if count_weights is not None and self.output_mode != "count":
            raise ValueError(
                f"{self.name}: expected count_weights for output_mode 'count' only,"
                f" got {self.output_mode!r}"
            )
        ids = ops.cast(inputs, "int32")
        return _encoded(ids, self.output_mode, self.num_tokens, self.compute_dtype, count_weights)


def _dense(layer, sparse):
    if sparse:
        raise ValueError(f"{layer.name}: expected sparse=False, got {sparse!r}")


class Discretization(Layer):
    """The number of the bin that a value lies in.

    Parameters
    ----------
    bin_boundaries : list of float, optional
        Bin 0 lies below the first, bin i from boundary i - 1 on.
    num_bins : int, optional
        Instead, `adapt` finds boundaries that part the data into so many bins of equal size.
    epsilon : float, default 0.01
        How exactly `adapt` does: it looks at about 1 / epsilon of the sorted values.
    output_mode : {"int", "one_hot", "multi_hot", "count"}
        The numbers, or rows as those of `CategoryEncoding`.
    sparse : bool
        Accepted for Keras' sake, where it must be False.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.Discretization(bin_boundaries=[0.0, 1.0, 2.0])
    >>> layer(np.array([[-1.5, 1.0], [3.4, 0.5]])).tolist()
    [[0, 2], [3, 1]]
    """

    def __init__(
        self, bin_boundaries=None, num_bins=None, epsilon=0.01, output_mode="int", sparse=False,
        **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        _dense(self, sparse)
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError(f"{self.name}: expected either bin_boundaries or num_bins, got "
                             + ("none" if num_bins is None else "both"))  # fmt: skip
        if num_bins is not None and not num_bins > 0:
            raise ValueError(f"{self.name}: expected num_bins above 0, got {num_bins!r}")
        self.output_mode = _check_mode(self, output_mode, _MODES[:4])
        self.num_bins, self.epsilon, self.sparse = num_bins, epsilon, False
        self.bin_boundaries = None
        if bin_boundaries is not None:
            self.bin_boundaries = [float(b) for b in bin_boundaries]

    def adapt(self, data, steps=None):
        """Find the boundaries between `num_bins` parts of the data of equal size.

        Parameters
        ----------
        data : array_like, or a source of batches
        steps : int, optional
            Most batches.
        """
        from dlcore.data.batches import Stream, is_batches, unpack

        if self.num_bins is None:
            raise ValueError(f"{self.name}: expected num_bins for adapt(), got bin_boundaries")
        if is_batches(data):
            batches = Stream(self.name, data).epoch(steps)
            data = np.concatenate([np.ravel(unpack(self.name, b)[0]) for b in batches])
        values = np.sort(np.asarray(data, np.float32), axis=None)
        if not values.size:
            raise ValueError(f"{self.name}: expected data of at least one value, got none")
        step = max(values.size * self.epsilon, 1.0)
        looked_at = values[int(step - 1) :: int(step)]
        shares = (np.arange(looked_at.size) + 1) / looked_at.size
        at = np.arange(1, self.num_bins) / self.num_bins
        self.bin_boundaries = np.interp(at, shares, looked_at).tolist()

    def call(self, inputs):
        if self.bin_boundaries is None:
            raise ValueError(f"{self.name}: expected boundaries; call adapt(data) first")
        x = self._as_float(inputs)
        limits = np.asarray(self.bin_boundaries, dtypes.array_type(str(x.dtype)))
        reached = ops.greater_equal(ops.expand_dims(x, -1), limits)
        ids = ops.sum(ops.cast(reached, "int32"), axis=-1)
        if self.output_mode == "int":
            return ids
        return _encoded(ids, self.output_mode, limits.size + 1, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "bin_boundaries": self.bin_boundaries}

    @classmethod
    def from_config(cls, config):
        boundaries = config.get("bin_boundaries")
        if config.get("num_bins") is None:
            return cls(**config)
        layer = cls(**{**config, "bin_boundaries": None})
        layer.bin_boundaries = boundaries
        return layer


class _Lookup(Layer):
    """Base of lookups: `key(x)` is a token as the vocabulary has it."""

    def __init__(
        self, max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
        output_mode, pad_to_max_tokens, sparse, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        _dense(self, sparse)
        self.output_mode = _check_mode(self, output_mode, _MODES)
        if invert and output_mode != "int":
            raise ValueError(
                f"{self.name}: expected output_mode 'int' to invert, got {output_mode!r}"
            )
        if num_oov_indices < 0 or (invert and num_oov_indices > 1):
            most = "0 or 1 to invert" if invert else "0 or more"
            raise ValueError(
                f"{self.name}: expected num_oov_indices of {most}, got {num_oov_indices}"
            )
        self.max_tokens, self.num_oov_indices = max_tokens, num_oov_indices
        self.mask_token, self.oov_token, self.invert = mask_token, oov_token, invert
        self.pad_to_max_tokens, self.sparse = pad_to_max_tokens, False
        self.vocabulary = self.idf_weights = None
        self.built = True
        if max_tokens is not None and max_tokens <= self._first:
            raise ValueError(
                f"{self.name}: expected max_tokens above {self._first}, got {max_tokens}"
            )
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    @property
    def _masked(self):
        return int(self.mask_token is not None and self.output_mode == "int")

    @property
    def _first(self):
        """Numbers before the tokens': that of the mask, and those of unknown tokens."""
        return self._masked + self.num_oov_indices

    def set_vocabulary(self, vocabulary, idf_weights=None):
        """Take the tokens of a list, or of a file with one per line.

        Raises
        ------
        ValueError
            If a token is there twice, there are too many, or weights are missing.
        """
        if isinstance(vocabulary, str):
            vocabulary = read_vocabulary(self.name, vocabulary, getattr(self, "encoding", "utf-8"))
        tokens = [self.key(x) for x in vocabulary]
        special = self._special()
        if special and tokens[: len(special)] == special:
            tokens = tokens[len(special) :]
        idf_weights = check_vocabulary(self, tokens, idf_weights, "tokens")
        self.vocabulary = tokens
        self._number = {t: i for i, t in enumerate(tokens, self._first)}
        if idf_weights is not None:
            self.idf_weights = idf_weights

    def _special(self):
        return [self.mask_token] * self._masked + [self.oov_token] * self.num_oov_indices

    def get_vocabulary(self, include_special_tokens=True):
        """List of the tokens, most frequent first."""
        return self._special() * include_special_tokens + list(self.vocabulary or ())

    def vocabulary_size(self):
        """Number of tokens, those of the mask and of unknown ones included."""
        return len(self.get_vocabulary())

    def adapt(self, data, steps=None):
        """Learn the vocabulary: the tokens in `data`, most frequent first.

        Parameters
        ----------
        data : array_like of tokens, or batches of them
        steps : int, optional
            Most batches.
        """
        counts, rows_with, rows = collections.Counter(), collections.Counter(), 0
        for row in self._rows(data, steps):
            counts.update(row)
            rows_with.update(set(row))
            rows += 1
        for token in (self.mask_token, self.oov_token):
            counts.pop(token, None)
        most = None if self.max_tokens is None else self.max_tokens - self._first
        tokens = sorted(counts, key=lambda t: (counts[t], t), reverse=True)[:most]
        weights = None
        if self.output_mode == "tf_idf":
            weights = [np.log(1 + rows / (1 + rows_with[t])) for t in tokens]
        self.set_vocabulary(tokens, weights)

    def _rows(self, data, steps):
        """The tokens of every sample."""
        from dlcore.data.batches import Stream, is_batches, unpack

        batches = [data]
        if is_batches(data):
            batches = (unpack(self.name, b)[0] for b in Stream(self.name, data).epoch(steps))
        for batch in batches:
            for row in np.asarray(batch, object):
                yield [self.key(x) for x in np.ravel(row)]

    def __call__(self, inputs, *args, **kwargs):
        if self.vocabulary is None:
            raise ValueError(f"{self.name}: expected a vocabulary; call adapt(data) first")
        x = np.asarray(inputs)
        if self.invert:
            return self._inverted(x)
        numbers = np.array([self._place(self.key(t)) for t in x.ravel().tolist()], np.int64)
        numbers = numbers.reshape(x.shape)
        return numbers if self.output_mode == "int" else self._bag(numbers)

    call = __call__

    def _place(self, token):
        number = self._number.get(token)
        if number is not None:
            return number
        if self._masked and token == self.mask_token:
            return 0
        if self.num_oov_indices == 0:
            raise ValueError(
                f"{self.name}: expected tokens of the vocabulary (num_oov_indices=0), got {token!r}"
            )
        return self._masked + self.bucket(token)

    def _inverted(self, x):
        tokens = np.array([*self._special(), *self.vocabulary], self.dtype_of_tokens)
        inside = (x >= 0) & (x < len(tokens))
        return np.where(inside, tokens[np.where(inside, x, 0)], self.oov_token).astype(tokens.dtype)

    def _bag(self, numbers):
        width = self.vocabulary_size()
        if self.pad_to_max_tokens and self.max_tokens is not None:
            width = self.max_tokens
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        result = np.asarray(_encoded(numbers.astype("int32"), mode, width, config.floatx()))
        if self.output_mode == "tf_idf":
            known = np.asarray(self.idf_weights)
            unknown = np.full(self.num_oov_indices, known.mean() if known.size else 0.0)
            weights = np.concatenate([unknown, known])
            result = result * np.pad(weights, (0, width - weights.size)).astype(result.dtype)
        return result


class StringLookup(_Lookup):
    """Strings as their numbers in a vocabulary that is given or learned with `adapt`.

    It takes strings, so it is called on arrays or lists of them (also in the data pipeline), not
    on tensors inside a model.

    Parameters
    ----------
    max_tokens : int, optional
        Largest size of the vocabulary, special tokens included.
    num_oov_indices : {1, 0}
        Numbers for unknown strings; without one they raise.
    mask_token : str, optional
        What gets number 0 in output_mode "int".
    oov_token : str, default "[UNK]"
        What unknown numbers become with `invert`.
    vocabulary : list of str, or path of a file with one string per line, optional
    idf_weights : array, optional
        One per string of the vocabulary, for "tf_idf".
    invert : bool
        Whether to turn numbers into strings instead.
    output_mode : {"int", "one_hot", "multi_hot", "count", "tf_idf"}
        Numbers, or rows with a column for each string of the vocabulary.
    pad_to_max_tokens : bool
        Whether rows have `max_tokens` columns even if there are fewer strings.
    sparse : bool
        Accepted for Keras' sake, where it must be False.
    encoding : str, default "utf-8"
        Of the vocabulary's file.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import dlcore
    >>> layer = dlcore.layers.StringLookup()
    >>> layer.adapt(["a", "b", "b"])
    >>> layer(["a", "c"]).tolist(), layer.get_vocabulary()
    ([2, 0], ['[UNK]', 'b', 'a'])
    """

    dtype_of_tokens = object

    def __init__(
        self, max_tokens=None, num_oov_indices=1, mask_token=None, oov_token="[UNK]",
        vocabulary=None, idf_weights=None, invert=False, output_mode="int",
        pad_to_max_tokens=False, sparse=False, encoding="utf-8", **kwargs,
    ):  # fmt: skip
        self.encoding = encoding
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
            output_mode, pad_to_max_tokens, sparse, **kwargs,
        )  # fmt: skip
        if num_oov_indices > 1:
            raise ValueError(f"{self.name}: expected num_oov_indices 0 or 1, got {num_oov_indices}")

    def key(self, x):
        return str(as_text(self.name, x))  # not a NumPy string

    def bucket(self, token):
        return 0


class IntegerLookup(_Lookup):
    """Integers as their numbers in a vocabulary that is given or learned with `adapt`.

    It is called on arrays (also in the data pipeline), not on tensors inside a model.

    Parameters
    ----------
    max_tokens : int, optional
        Largest size of the vocabulary, special tokens included.
    num_oov_indices : int, default 1
        Numbers for unknown integers: x modulo so many; without one they raise.
    mask_token : int, optional
        What gets number 0 in output_mode "int".
    oov_token : int, default -1
        What unknown numbers become with `invert`.
    vocabulary : list of int, optional
    vocabulary_dtype : "int64" or "int32"
        Of what `invert` returns.
    idf_weights, invert, output_mode, pad_to_max_tokens, sparse
        As in `StringLookup`.
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, max_tokens=None, num_oov_indices=1, mask_token=None, oov_token=-1, vocabulary=None,
        vocabulary_dtype="int64", idf_weights=None, invert=False, output_mode="int",
        pad_to_max_tokens=False, sparse=False, **kwargs,
    ):  # fmt: skip
        self.vocabulary_dtype = self.dtype_of_tokens = vocabulary_dtype
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
            output_mode, pad_to_max_tokens, sparse, **kwargs,
        )  # fmt: skip

    def key(self, x):
        return int(x)

    def bucket(self, token):
        return token % self.num_oov_indices
