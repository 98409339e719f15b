"""MNIST: 70,000 handwritten digits of 28 x 28 pixels (LeCun, Cortes and Burges)."""

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
FILES = {
    "train-images-idx3-ubyte.gz": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        (60000, 28, 28),
    ),
    "train-labels-idx1-ubyte.gz": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        (60000,),
    ),
    "t10k-images-idx3-ubyte.gz": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        (10000, 28, 28),
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        (10000,),
    ),
}


def load_data(path=None):
    """Load MNIST, downloading it to `$DLCORE_DATA` (or `~/.dlcore`) at the first call.

    Parameters
    ----------
    path : path-like, optional
        A folder with the four gzip-compressed IDX files; nothing is downloaded then.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x uint8 (n, 28, 28) with values 0 .. 255 and y uint8 (n,) with values 0 .. 9; 60,000 and
        10,000 rows.

    Raises
    ------
    FileNotFoundError
        A file is neither there nor to be had.
    ValueError
        A file is damaged, or not the published one.
    """
    from dlcore.data import idx

    return idx.load("mnist", MIRRORS, FILES, path)
