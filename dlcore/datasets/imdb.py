"""IMDB: 50,000 reviews of films, half of them good (Maas et al. 2011), as sequences of word
numbers."""

ARCHIVE = "aclImdb_v1.tar.gz"
MIRRORS = ("https://ai.stanford.edu/~amaas/data/sentiment/",)
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"


def load_data(
    path=None,
    num_words=None,
    skip_top=0,
    maxlen=None,
    seed=113,
    start_char=1,
    oov_char=2,
    index_from=3,
    **kwargs,
):
    """Load the reviews, downloading them to `$DLCORE_DATA` (or `~/.dlcore`) at the first call.

    Words are numbered by how often they are in the training reviews, 1 for the most frequent one;
    in the sequences each number is `index_from` higher.

    Parameters
    ----------
    path : path-like, optional
        Folder with `aclImdb_v1.tar.gz`, with `aclImdb/`, or with `train.tsv.gz` and `test.tsv.gz`
        (lines: label, rating, review); by default `imdb` in the folder of data sets.
    num_words : int, optional
        Only numbers below this one are kept.
    skip_top : int
        Numbers below this one are not kept.
    maxlen : int, optional
        Longer reviews are left out.
    seed : int, default 113
        Of the order of the reviews.
    start_char : int or None, default 1
        What every sequence begins with.
    oov_char : int or None, default 2
        What stands for words that are not kept; None leaves them out.
    index_from : int, default 3

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x: object array of lists of int; y: int64 array, 1 for good reviews; 25,000 rows each.

    Raises
    ------
    FileNotFoundError
        The reviews are neither there nor to be had.
    ValueError
        A file is damaged, or `maxlen` leaves nothing.
    """
    import numpy as np

    from dlcore.data import reviews

    if kwargs:
        raise TypeError(f"imdb: expected no argument {next(iter(kwargs))!r}")
    parts = []
    texts, labels, _ = reviews.load(path, ARCHIVE, MIRRORS, MD5)
    # One generator for both parts, drawn from in this order, as Keras does.
    rng = np.random.RandomState(seed)
    for part in (0, 1):
        order = np.arange(len(texts[part]))
        rng.shuffle(order)
        first = [] if start_char is None else [start_char]
        x = [first + [w + index_from for w in texts[part][i]] for i in order]
        y = labels[part][order]
        if maxlen:
            kept = [i for i, row in enumerate(x) if len(row) < maxlen]
            x, y = [x[i] for i in kept], y[kept]
            if not x:
                raise ValueError(f"imdb: expected reviews shorter than maxlen={maxlen}, got none")
        parts.append((x, y))
    if not num_words:
        num_words = max(max(row, default=0) for x, _ in parts for row in x) + 1
    return tuple((_kept(x, skip_top, num_words, oov_char), y) for x, y in parts)


def _kept(rows, low, high, other):
    import numpy as np

    result = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        if other is None:
            result[i] = [w for w in row if low <= w < high]
        else:
            result[i] = [w if low <= w < high else other for w in row]
    return result


def get_word_index(path=None):
    """{word: number} of the words in the training reviews; `load_data` adds `index_from`.

    Parameters
    ----------
    path : path-like, optional
        As for `load_data`.
    """
    from dlcore.data import reviews

    return reviews.load(path, ARCHIVE, MIRRORS, MD5)[2]
