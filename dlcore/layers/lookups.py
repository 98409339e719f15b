"""Numbers of strings and integers, by their places in a vocabulary, outside of the model's
program."""

import numpy as np

from dlcore import config
from dlcore.data.text import as_text, learn_vocabulary, read_vocabulary, take_vocabulary
from dlcore.layers.base import Layer
from dlcore.layers.categories import _MODES, _encoded, _set_mode


class _Lookup(Layer):
    """Base of lookups: `key(x)` is a token as the vocabulary has it."""

    def __init__(
        self, max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
        output_mode, pad_to_max_tokens, sparse, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        _set_mode(self, output_mode, _MODES, sparse)
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
        self.pad_to_max_tokens = pad_to_max_tokens
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
        tokens = [self.key(x) for x in read_vocabulary(self, vocabulary)]
        special = self._special()
        if special and tokens[: len(special)] == special:
            tokens = tokens[len(special) :]
        weights = take_vocabulary(self, tokens, idf_weights, "tokens")
        if weights is not None:
            self.idf_weights = weights

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
        learn_vocabulary(self, self._rows(data, steps), (self.mask_token, self.oov_token))

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
