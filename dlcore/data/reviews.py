"""The reviews of IMDB, from the published archive or from tables, as lists of word numbers."""

import functools
import os

import numpy as np

from dlcore.data.files import download, home
from dlcore.data.text import FILTERS

_LIMIT = 100 << 20  # bytes: the archive has 84 million
_PARTS = ("train", "test")


def load(path, archive, mirrors, md5):
    """([train, test] lists of lists of word numbers, [train, test] labels, {word: number}).

    Parameters
    ----------
    path : path-like or None
    archive, mirrors, md5 : str, sequence of str, str
        Of the published archive.
    """
    folder = os.path.join(home(), "imdb") if path is None else os.fspath(path)
    return _load(os.path.abspath(folder), path is None, archive, mirrors, md5)


@functools.lru_cache(maxsize=1)
def _load(folder, may_download, archive, mirrors, md5):
    file = os.path.join(folder, archive)
    if os.path.isfile(os.path.join(folder, "train.tsv.gz")):
        parts = [_from_table(os.path.join(folder, f"{part}.tsv.gz")) for part in _PARTS]
    elif os.path.isdir(os.path.join(folder, "aclImdb")):
        parts = [_from_folder(os.path.join(folder, "aclImdb", part)) for part in _PARTS]
    else:
        if not os.path.isfile(file):
            if not may_download:
                raise FileNotFoundError(f"imdb: expected the file {file}, got no such file")
            download("imdb", mirrors, file, _LIMIT, lambda p: check_digest("imdb", p, md5), archive)
        parts = _from_archive(file)
    rows = [[_words(text) for text, _ in part] for part in parts]
    index = _word_index(rows[0])
    # Words that only the test reviews have come after all others: no sequence loses a word.
    for row in rows[1]:
        for word in row:
            index.setdefault(word, len(index) + 1)
    numbers = [[[index[w] for w in row] for row in part] for part in rows]
    labels = [np.array([label for _, label in part], np.int64) for part in parts]
    return numbers, labels, index


def check_digest(name, path, digest, algorithm="md5"):
    """Refuse a file whose digest is another one."""
    import hashlib

    found = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    if found.hexdigest() != digest:
        raise ValueError(f"{name}: expected {algorithm} {digest}, got {found.hexdigest()}")


_SPACES = str.maketrans(dict.fromkeys(FILTERS, " "))


def _words(text):
    return text.replace("<br />", " ").lower().translate(_SPACES).split()


def _word_index(rows):
    import collections

    counts = collections.Counter()
    for row in rows:
        counts.update(row)
    return {w: i for i, (w, _) in enumerate(counts.most_common(), 1)}


def _from_table(path):
    """[(review, label)] of lines `label rating review`."""
    import gzip

    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            lines = [line.rstrip("\n").split("\t", 2) for line in file]
        return [(text, int(label)) for label, _, text in lines]
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(
            f"imdb: expected lines of label, rating and review in {path}, got {error}"
        ) from None


def _from_folder(folder):
    rows = []
    for label, kind in ((1, "pos"), (0, "neg")):
        names = sorted(os.listdir(os.path.join(folder, kind)))
        for name in names:
            with open(os.path.join(folder, kind, name), encoding="utf-8") as file:
                rows.append((file.read(), label))
    return rows


def _from_archive(path):
    """The reviews in the published archive; nothing is written to disk."""
    import tarfile

    found = {part: [] for part in _PARTS}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                place = member.name.split("/")
                if len(place) == 4 and place[1] in found and place[2] in ("pos", "neg"):
                    text = archive.extractfile(member).read().decode("utf-8")
                    found[place[1]].append((place[2:], text))
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise ValueError(f"imdb: expected the published archive at {path}, got {error}") from None
    parts = []
    for part in _PARTS:
        rows = sorted(found[part], key=lambda row: (row[0][0] == "neg", row[0][1]))
        parts.append([(text, int(place[0] == "pos")) for place, text in rows])
    if not all(parts):
        raise ValueError(f"imdb: expected train and test reviews in {path}, got none")
    return parts
