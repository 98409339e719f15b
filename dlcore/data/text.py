"""Texts as sequences of numbers: the `Tokenizer` of older Keras scripts."""

import collections
import json

import numpy as np

from dlcore import lookup

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


def read_vocabulary(layer, vocabulary):
    """A list as it is; the lines of a file, if that is its name."""
    if not isinstance(vocabulary, str):
        return vocabulary
    encoding = getattr(layer, "encoding", "utf-8")
    with open(vocabulary, encoding=encoding) as file:
        try:
            return file.read().splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{layer.name}: expected a vocabulary in {encoding}, got {error}"
            ) from None


def take_vocabulary(layer, tokens, idf_weights, what):
    """Make `tokens` the vocabulary of `layer` where they and their weights are right for it; the
    weights as a list of floats, or None."""
    if len(set(tokens)) < len(tokens):
        twice = next(t for t, n in collections.Counter(tokens).items() if n > 1)
        raise ValueError(f"{layer.name}: expected different {what}, got {twice!r} twice")
    if layer.max_tokens is not None and len(tokens) + layer._first > layer.max_tokens:
        raise ValueError(
            f"{layer.name}: expected at most {layer.max_tokens - layer._first} {what}"
            f" (max_tokens={layer.max_tokens}), got {len(tokens)}"
        )
    if (layer.output_mode == "tf_idf") != (idf_weights is not None):
        raise ValueError(f"{layer.name}: expected idf_weights for output_mode 'tf_idf' only")
    if idf_weights is not None:
        weights = np.asarray(idf_weights, float)[-len(tokens) :] if tokens else []
        if len(weights) != len(tokens):
            raise ValueError(
                f"{layer.name}: expected {len(tokens)} idf_weights, got {len(weights)}"
            )
        idf_weights = [float(w) for w in weights]
    layer.vocabulary = tokens
    layer._number = {token: i for i, token in enumerate(tokens, layer._first)}
    return idf_weights


def learn_vocabulary(layer, rows, left_out):
    """Set the vocabulary of `layer` to the tokens of `rows`, most frequent first; their weights are
    log(1 + N / (1 + rows with the token))."""
    counts, rows_with, n = collections.Counter(), collections.Counter(), 0
    for row in rows:
        counts.update(row)
        rows_with.update(set(row))
        n += 1
    for token in left_out:
        counts.pop(token, None)
    most = None if layer.max_tokens is None else layer.max_tokens - layer._first
    tokens = sorted(counts, key=lambda t: (counts[t], t), reverse=True)[:most]
    weights = None
    if layer.output_mode == "tf_idf":
        weights = [np.log(1 + n / (1 + rows_with[t])) for t in tokens]
    layer.set_vocabulary(tokens, weights)


def text_to_word_sequence(input_text, filters=FILTERS, lower=True, split=" "):
    """The words of a text.

    Parameters
    ----------
    input_text : str
    filters : str
        Characters that are taken as `split`.
    lower : bool, default True
    split : str, default " "

    Returns
    -------
    list of str

    Examples
    --------
    >>> text_to_word_sequence("To be, or not to be")
    ['to', 'be', 'or', 'not', 'to', 'be']
    """
    text = as_text("text_to_word_sequence", input_text)
    text = text.lower() if lower else text
    text = text.translate(str.maketrans(dict.fromkeys(filters, split)))
    return [word for word in text.split(split) if word]


def as_text(name, x):
    """`x` as str; bytes are UTF-8."""
    if isinstance(x, bytes):
        try:
            return x.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}: expected text in UTF-8, got byte {x[error.start]:#04x} at {error.start}"
            ) from None
    if not isinstance(x, str):
        raise TypeError(f"{name}: expected text, got {type(x).__name__}")
    return x


class Tokenizer(lookup.Checked):
    """Numbers for the words (or characters) of texts: 1 is the most frequent one.

    Parameters
    ----------
    num_words : int, optional
        Only words below this number are kept in sequences.
    filters, lower, split
        See `text_to_word_sequence`.
    char_level : bool
        Whether every character is a word.
    oov_token : str, optional
        Stands for words that are not known; it has number 1 then.
    analyzer : callable, optional
        Returns the words of a text, instead of all this.

    Examples
    --------
    >>> tokenizer = Tokenizer(oov_token="?")
    >>> tokenizer.fit_on_texts(["to be or not to be"])
    >>> tokenizer.texts_to_sequences(["to do or not"])
    [[2, 1, 4, 5]]
    """

    def __init__(
        self,
        num_words=None,
        filters=FILTERS,
        lower=True,
        split=" ",
        char_level=False,
        oov_token=None,
        analyzer=None,
    ):
        self.num_words, self.filters, self.lower, self.split = num_words, filters, lower, split
        self.char_level, self.oov_token, self.analyzer = char_level, oov_token, analyzer
        self.word_counts = collections.OrderedDict()
        self.word_docs, self.index_docs = collections.Counter(), collections.Counter()
        self.word_index, self.index_word = {}, {}
        self.document_count = 0

    def _words(self, text):
        if not isinstance(text, (str, bytes)):
            return [w.lower() if self.lower else w for w in text]  # a list of words
        if self.analyzer is not None:
            return self.analyzer(text)
        if self.char_level:
            text = as_text("Tokenizer", text)
            return list(text.lower() if self.lower else text)
        return text_to_word_sequence(text, self.filters, self.lower, self.split)

    def fit_on_texts(self, texts):
        """Count the words of texts and number them."""
        for text in texts:
            words = self._words(text)
            self.document_count += 1
            for word in words:
                self.word_counts[word] = self.word_counts.get(word, 0) + 1
            self.word_docs.update(set(words))
        ranked = sorted(self.word_counts, key=lambda w: -self.word_counts[w])
        first = [] if self.oov_token is None else [self.oov_token]
        words = first + [w for w in ranked if w != self.oov_token]
        self.word_index = {w: i for i, w in enumerate(words, 1)}
        self.index_word = {i: w for w, i in self.word_index.items()}
        self.index_docs = collections.Counter(
            {self.word_index[w]: n for w, n in self.word_docs.items()}
        )

    def texts_to_sequences(self, texts):
        """Lists of numbers; unknown words are left out, or `oov_token`'s."""
        unknown = self.word_index.get(self.oov_token)
        most = float("inf") if not self.num_words else self.num_words

        def number(word):
            i = self.word_index.get(word)
            return i if i is not None and i < most else unknown

        numbers = [[number(w) for w in self._words(text)] for text in texts]
        return [[i for i in row if i is not None] for row in numbers]

    def sequences_to_texts(self, sequences):
        """Texts of the numbers' words."""
        most = float("inf") if not self.num_words else self.num_words
        return [
            " ".join(
                word
                for word in (
                    self.index_word.get(i, self.oov_token) if i < most else self.oov_token
                    for i in row
                )
                if word is not None
            )
            for row in sequences
        ]

    def texts_to_matrix(self, texts, mode="binary"):
        """One row per text; see `sequences_to_matrix`."""
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(self, sequences, mode="binary"):
        """Which words are in each sequence: an array (len(sequences), num_words).

        Parameters
        ----------
        sequences : list of lists of int
        mode : {"binary", "count", "freq", "tfidf"}
            Whether, how often, in which share, or log-weighted by how few texts have the word.
        """
        if mode not in ("binary", "count", "freq", "tfidf"):
            raise ValueError(
                f"Tokenizer: expected mode 'binary', 'count', 'freq' or 'tfidf', got {mode!r}"
            )
        if not self.num_words and not self.word_index:
            raise ValueError("Tokenizer: expected num_words or texts to fit on, got neither")
        if mode == "tfidf" and not self.document_count:
            raise ValueError("Tokenizer: expected texts to fit on for mode 'tfidf', got none")
        width = self.num_words or len(self.word_index) + 1
        x = np.zeros((len(sequences), width))
        for row, sequence in zip(x, sequences, strict=True):
            kept = [i for i in sequence if i < width]
            np.add.at(row, np.asarray(kept, np.int64), 1)
            if mode == "freq" and len(sequence):
                row /= len(sequence)
        if mode == "binary":
            return (x > 0).astype(float)
        if mode == "tfidf":
            docs = np.array([self.index_docs.get(i, 0) for i in range(width)])
            weight = np.log(1 + self.document_count / (1 + docs))
            return np.where(x > 0, 1 + np.log(np.maximum(x, 1)), 0) * weight
        return x

    def get_config(self):
        """The arguments and what was counted, as JSON can hold them."""
        config = {
            key: getattr(self, key)
            for key in ("num_words", "filters", "lower", "split", "char_level", "oov_token",
                        "document_count")
        }  # fmt: skip
        for key in ("word_counts", "word_docs", "index_docs", "word_index", "index_word"):
            config[key] = json.dumps(getattr(self, key))
        return config

    def to_json(self, **kwargs):
        """The tokenizer as text for `tokenizer_from_json`."""
        return json.dumps({"class_name": "Tokenizer", "config": self.get_config()}, **kwargs)


def tokenizer_from_json(json_string):
    """The tokenizer that `Tokenizer.to_json` described."""
    config = json.loads(json_string)["config"]
    counted = {k: json.loads(config.pop(k)) for k in ("word_counts", "word_docs", "word_index")}
    index_docs, index_word = (json.loads(config.pop(k)) for k in ("index_docs", "index_word"))
    count = config.pop("document_count")
    tokenizer = Tokenizer(**config)
    tokenizer.document_count = count
    tokenizer.word_counts = collections.OrderedDict(counted["word_counts"])
    tokenizer.word_docs = collections.Counter(counted["word_docs"])
    tokenizer.word_index = counted["word_index"]
    tokenizer.index_docs = collections.Counter({int(k): v for k, v in index_docs.items()})
    tokenizer.index_word = {int(k): v for k, v in index_word.items()}
    return tokenizer


class TextFiles:
    """Text files as samples: (text, label), or the text alone without labels."""

    def __init__(self, paths, labels, max_length):
        self.paths, self.labels, self.max_length = paths, labels, max_length

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with open(self.paths[i], "rb") as file:
            text = np.array(as_text(self.paths[i], file.read())[: self.max_length], object)
        return text if self.labels is None else (text, self.labels[i])


@lookup.checked
def text_dataset_from_directory(
    directory,
    labels="inferred",
    label_mode="int",
    class_names=None,
    batch_size=32,
    max_length=None,
    shuffle=True,
    seed=None,
    validation_split=None,
    subset=None,
    follow_links=False,
    format=None,
    verbose=True,
    workers=2,
):
    """Batches of the texts in a folder's `.txt` files, read by background threads.

    Parameters
    ----------
    directory : path-like
        With one folder of texts for each class, or, without labels, with texts anywhere.
    max_length : int, optional
        Most characters of a text.
    format
        Accepted for Keras' sake.
    labels, label_mode, class_names, batch_size, shuffle, seed, validation_split, subset, \
follow_links, verbose, workers
        See `image_dataset_from_directory`.

    Returns
    -------
    DataLoader
        Of batches (texts, y) or texts, which are arrays (N,) of str; with `class_names` and
        `file_paths`. For "both" a tuple of two. Its `map` prepares the texts for a model, with
        `layers.TextVectorization` say.
    """
    from dlcore.data.folders import loaders_of

    return loaders_of(
        "text_dataset_from_directory", "texts", directory, (".txt",),
        lambda paths, y: TextFiles(paths, y, max_length), labels, label_mode, class_names,
        batch_size, shuffle, seed, validation_split, subset, follow_links, verbose, workers,
    )  # fmt: skip
