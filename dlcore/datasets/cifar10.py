"""CIFAR-10: 60,000 color images of 32 x 32 pixels in ten classes (Krizhevsky 2009)."""

ARCHIVE = "cifar-10-python.tar.gz"
MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
DIGEST = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FOLDER = "cifar-10-batches-py"
FILES = ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"])
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_SUBSET = "cifar10_first4000"  # x (4000, 32, 32, 3) and y (4000): the first training images


def load_data(path=None):
    """Load CIFAR-10, downloading it to `$DLCORE_DATA` (or `~/.dlcore`) at the first call.

    Parameters
    ----------
    path : path-like, optional
        The published archive for Python, or a folder with it or with its batches; nothing is
        downloaded then.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x uint8 (n, 32, 32, 3) with values 0 .. 255 and y uint8 (n, 1) with the class numbers of
        `CLASSES`; 50,000 and 10,000 rows.

    Raises
    ------
    FileNotFoundError
        The archive is neither there nor to be had.
    ValueError
        A file is damaged, or not the published one.
    """
    from dlcore.data import cifar

    return cifar.load("cifar10", ARCHIVE, MIRRORS, DIGEST, FOLDER, FILES, "labels", path)


def load_subset(path=None, n_test=500):
    """The first 4,000 training images of CIFAR-10, to try things out with: not the data set.

    Parameters
    ----------
    path : path-like, optional
        Folder with `cifar10_first4000.npz` (x uint8 (4000, 32, 32, 3) and y (4000)); by default
        `cifar10_first4000` in `$DLCORE_DATA` (or `~/.dlcore`).
    n_test : int
        How many of the last images are the test part; the official test images are not in it.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        As `load_data`; 4000 - n_test and n_test rows.

    Raises
    ------
    FileNotFoundError
        The file is not there.
    ValueError
        The file holds something else.
    """
    import os
    import zipfile

    import numpy as np

    from dlcore.data.files import home

    folder = os.fspath(path) if path is not None else os.path.join(home(), _SUBSET)
    file = os.path.join(folder, _SUBSET + ".npz")
    if not os.path.isfile(file):
        raise FileNotFoundError(f"cifar10: expected the file {file}, got no such file")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"cifar10: expected arrays x and y in {file}, got {error}") from None
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1:] != (32, 32, 3) or y.shape != x.shape[:1]:
        raise ValueError(
            f"cifar10: expected x uint8 (n, 32, 32, 3) and y (n) in {file}, got {x.dtype} {x.shape}"
            f" and {y.shape}"
        )
    if not 0 < n_test < len(x):
        raise ValueError(f"cifar10: expected n_test in 1..{len(x) - 1}, got {n_test}")
    y = y.astype(np.uint8)[:, None]
    return (x[:-n_test], y[:-n_test]), (x[-n_test:], y[-n_test:])
