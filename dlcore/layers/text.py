"""TextVectorization: texts become token numbers or bags of words, outside of the model's program.

count[n, v] = how often word v is in text n        tf_idf = count log(1 + N / (1 + texts with v))
"""

import re
import string

import numpy as np

from dlcore import config
from dlcore.data.text import as_text, learn_vocabulary, read_vocabulary, take_vocabulary
from dlcore.layers.base import Layer

_PUNCTUATION = re.compile("[" + re.escape(string.punctuation) + "]")
_STANDARDIZE = {
    None: lambda text: text,
    "lower": str.lower,
    "strip_punctuation": lambda text: _PUNCTUATION.sub("", text),
    "lower_and_strip_punctuation": lambda text: _PUNCTUATION.sub("", text.lower()),
}
_SPLIT = {None: lambda text: [text], "whitespace": str.split, "character": list}
_MODES = ("int", "multi_hot", "count", "tf_idf")
_UNKNOWN = "[UNK]"


class TextVectorization(Layer):
    """Texts as rows of numbers, by a vocabulary that is given or learned with `adapt`.

    It takes strings, so it is called on arrays or lists of texts (also in the data pipeline), not
    on tensors inside a model.

    Parameters
    ----------
    max_tokens : int, optional
        Largest size of the vocabulary, padding and "[UNK]" included.
    standardize : {"lower_and_strip_punctuation", "lower", "strip_punctuation", None} or callable
        What is done to a text first; a callable takes and returns a text.
    split : {"whitespace", "character", None} or callable
        A callable takes a text and returns its words.
    ngrams : int or tuple of int, optional
        Also runs of words, up to that many; or of those lengths alone.
    output_mode : {"int", "multi_hot", "count", "tf_idf"}
        "int": the words' numbers in order, 0 for padding and 1 for unknown words; else one column
        per word, the first for unknown ones.
    output_sequence_length : int, optional
        Length of the rows of "int"; by default that of the longest text.
    pad_to_max_tokens : bool
        Whether bags of words have `max_tokens` columns even if there are fewer words.
    vocabulary : list of str, or path of a file with one word per line, optional
    idf_weights : array, optional
        One per word of the vocabulary, for "tf_idf".
    encoding : str, default "utf-8"
        Of the vocabulary's file.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import dlcore
    >>> layer = dlcore.layers.TextVectorization(output_sequence_length=4)
    >>> layer.adapt(["the cat sat", "the cat"])
    >>> layer.get_vocabulary()
    ['', '[UNK]', 'the', 'cat', 'sat']
    >>> layer(["The dog sat!"])
    array([[2, 1, 4, 0]])
    """

    def __init__(
        self,
        max_tokens=None,
        standardize="lower_and_strip_punctuation",
        split="whitespace",
        ngrams=None,
        output_mode="int",
        output_sequence_length=None,
        pad_to_max_tokens=False,
        vocabulary=None,
        idf_weights=None,
        sparse=False,
        ragged=False,
        encoding="utf-8",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._check("standardize", standardize, _STANDARDIZE)
        self._check("split", split, _SPLIT)
        self._check("output_mode", output_mode, dict.fromkeys(_MODES))
        if sparse or ragged:
            raise ValueError(f"{self.name}: expected sparse=False and ragged=False, got True")
        if max_tokens is not None and max_tokens < 2:
            raise ValueError(f"{self.name}: expected max_tokens above 1, got {max_tokens}")
        self.max_tokens, self.standardize, self.split = max_tokens, standardize, split
        self.ngrams = tuple(range(1, ngrams + 1)) if isinstance(ngrams, int) else ngrams
        self.output_mode, self.output_sequence_length = output_mode, output_sequence_length
        self.pad_to_max_tokens, self.encoding = pad_to_max_tokens, encoding
        self.vocabulary = self.idf_weights = None
        self.built = True
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    def _check(self, what, value, known):
        if not callable(value) and (isinstance(value, (list, tuple)) or value not in known):
            raise ValueError(
                f"{self.name}: expected {what} in {tuple(known)} or a callable, got {value!r}"
            )

    # -- the vocabulary

    @property
    def _first(self):
        """Numbers before the words': padding and unknown words."""
        return 2 if self.output_mode == "int" else 1

    def set_vocabulary(self, vocabulary, idf_weights=None):
        """Take the words of a list, or of a file with one word per line.

        Raises
        ------
        ValueError
            If a word is there twice, there are too many, or weights are missing.
        """
        words = [as_text(self.name, w) for w in read_vocabulary(self, vocabulary)]
        for special in ("", _UNKNOWN)[2 - self._first :]:
            words = words[1:] if words and words[0] == special else words
        weights = take_vocabulary(self, words, idf_weights, "words")
        if weights is not None:
            self.idf_weights = [sum(weights) / max(len(weights), 1), *weights]

    def get_vocabulary(self, include_special_tokens=True):
        """List of the words, most frequent first."""
        words = list(self.vocabulary or ())
        return ["", _UNKNOWN][2 - self._first :] + words if include_special_tokens else words

    def vocabulary_size(self):
        """Number of words, padding and "[UNK]" included."""
        return len(self.get_vocabulary())

    def adapt(self, data, batch_size=None, steps=None):
        """Learn the vocabulary: the most frequent words of the texts in `data`.

        Parameters
        ----------
        data : list or array of texts, or batches of them
        """
        learn_vocabulary(self, map(self._words, _texts(self.name, data)), ("",))

    # -- texts

    def _words(self, text):
        standardize = _STANDARDIZE.get(self.standardize, self.standardize)
        words = list(_SPLIT.get(self.split, self.split)(standardize(text)))
        if self.ngrams is None:
            return words
        return [" ".join(words[i : i + n]) for n in self.ngrams for i in range(len(words) - n + 1)]

    def __call__(self, inputs, *args, **kwargs):
        if self.vocabulary is None:
            raise ValueError(f"{self.name}: expected a vocabulary; call adapt(texts) first")
        single = isinstance(inputs, (str, bytes)) or np.ndim(inputs) == 0
        rows = [self._words(t) for t in _texts(self.name, [inputs] if single else inputs)]
        unknown = self._first - 1
        numbers = [[self._number.get(w, unknown) for w in row] for row in rows]
        result = self._padded(numbers) if self.output_mode == "int" else self._bags(numbers)
        return result[0] if single else result

    call = __call__

    def _padded(self, numbers):
        length = self.output_sequence_length
        length = max(map(len, numbers), default=0) if length is None else length
        result = np.zeros((len(numbers), length), np.int64)
        for row, sequence in zip(result, numbers, strict=True):
            row[: len(sequence)] = sequence[:length]
        return result

    def _bags(self, numbers):
        width = self.vocabulary_size()
        if self.pad_to_max_tokens and self.max_tokens is not None:
            width = self.max_tokens
        result = np.zeros((len(numbers), width), config.floatx())
        for row, sequence in zip(result, numbers, strict=True):
            np.add.at(row, np.asarray(sequence, np.int64), 1)
        if self.output_mode == "multi_hot":
            return (result > 0).astype(result.dtype)
        if self.output_mode == "tf_idf":
            result[:, : len(self.idf_weights)] *= np.array(self.idf_weights, result.dtype)
        return result

    def get_config(self):
        config = super().get_config()
        config["idf_weights"] = None if self.idf_weights is None else self.idf_weights[1:]
        return config


def _texts(name, data):
    """The texts in an array (n) or (n, 1), a list, or batches of them."""
    for x in data:
        if isinstance(x, (str, bytes)):
            yield as_text(name, x)
        elif isinstance(x, (list, tuple, np.ndarray)):
            yield from _texts(name, np.ravel(x).tolist() if isinstance(x, np.ndarray) else x)
        else:
            raise TypeError(f"{name}: expected texts, got {type(x).__name__}")
