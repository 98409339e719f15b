"""Small data sets that lie as published files, "x" and "y" in an .npz archive, named by digest."""

import numpy as np

ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


def fetched(path, file, digest):
    """The path of a file: `path`, or in the folder of data sets, where it is fetched if absent."""
    from dlcore.data.fetch import get_file

    return get_file(path or file, ORIGIN + file, digest, "datasets", "auto", False, None)


def shuffled(path, file, digest, seed, rows=None, objects=False):
    """(x, y), the first `rows` of the archive, in random order.

    Arrays of objects are pickled, which may run code: they are read from a file of the published
    digest only.
    """
    with np.load(fetched(path, file, digest), allow_pickle=objects) as archive:
        x, y = archive["x"][:rows], archive["y"][:rows]
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)
    return x[order], y[order]


def split(name, x, y, test_split):
    """((x_train, y_train), (x_test, y_test)), where the last rows test."""
    if not 0 <= test_split < 1:
        raise ValueError(f"{name}: expected test_split in 0 <= test_split < 1, got {test_split!r}")
    n = int(len(x) * (1 - test_split))
    return (x[:n], y[:n]), (x[n:], y[n:])
