"""CIFAR-100: 60,000 color images of 32 x 32 pixels in 100 classes of 20 kinds (Krizhevsky 2009)."""

ARCHIVE = "cifar-100-python.tar.gz"
MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
DIGEST = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
FOLDER = "cifar-100-python"
FILES = (["train"], ["test"])


def load_data(label_mode="fine", path=None):
    """Load CIFAR-100, downloading it to `$DLCORE_DATA` (or `~/.dlcore`) at the first call.

    Parameters
    ----------
    label_mode : {"fine", "coarse"}
        Whether y holds the 100 classes, or the 20 kinds of them.
    path : path-like, optional
        The published archive for Python, or a folder with it or with its batches; nothing is
        downloaded then.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x uint8 (n, 32, 32, 3) with values 0 .. 255 and y uint8 (n, 1); 50,000 and 10,000 rows.

    Raises
    ------
    FileNotFoundError
        The archive is neither there nor to be had.
    ValueError
        A file is damaged, or not the published one.
    """
    from dlcore.data import cifar

    if label_mode not in ("fine", "coarse"):
        raise ValueError(f"cifar100: expected label_mode 'fine' or 'coarse', got {label_mode!r}")
    key = f"{label_mode}_labels"
    return cifar.load("cifar100", ARCHIVE, MIRRORS, DIGEST, FOLDER, FILES, key, path)
