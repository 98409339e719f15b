"""Reuters: 11,228 messages of 46 topics, as sequences of word numbers (Lewis 1987)."""

from dlcore import lookup

FILE, WORDS = "reuters.npz", "reuters_word_index.json"
SHA256 = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
WORDS_MD5 = "4d44cc38712099c9e383dc6e5f11a921"


@lookup.checked
def load_data(
    path=FILE, num_words=None, skip_top=0, maxlen=None, test_split=0.2, seed=113, start_char=1,
    oov_char=2, index_from=3,
):  # fmt: skip
    """Load the messages, downloading them to `$DLCORE_DATA` (or `~/.dlcore`) at the first call.

    Parameters
    ----------
    path : path-like
        The file, in the folder of data sets.
    num_words, skip_top, maxlen, start_char, oov_char, index_from
        As for `imdb.load_data`.
    test_split : float, 0 <= test_split < 1, default 0.2
        Share of the messages that test.
    seed : int, default 113
        Of the order.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x: object array of lists of int; y: topics 0..45.

    Raises
    ------
    FileNotFoundError
        The file is neither there nor to be had.
    ValueError
        `maxlen` leaves nothing.
    """
    from dlcore.data import published
    from dlcore.datasets.imdb import _kept

    texts, y = published.shuffled(path, FILE, SHA256, seed, objects=True)
    first = [] if start_char is None else [start_char]
    x = [first + [w + index_from for w in text] for text in texts]
    if maxlen:
        kept = [i for i, row in enumerate(x) if len(row) < maxlen]
        x, y = [x[i] for i in kept], y[kept]
        if not x:
            raise ValueError(f"reuters: expected messages shorter than maxlen={maxlen}, got none")
    num_words = num_words or max(max(row, default=0) for row in x) + 1
    return published.split("reuters", _kept(x, skip_top, num_words, oov_char), y, test_split)


def get_word_index(path=WORDS):
    """{word: number}; `load_data` adds `index_from`."""
    import json

    from dlcore.data import published

    with open(published.fetched(path, WORDS, WORDS_MD5), encoding="utf-8") as file:
        return json.load(file)
