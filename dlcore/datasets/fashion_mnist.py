"""Fashion-MNIST: 70,000 pictures of clothes, 28 x 28 pixels (Xiao, Rasul, Vollgraf 2017, MIT)."""

MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
FILES = {
    "train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        (60000, 28, 28),
    ),
    "train-labels-idx1-ubyte.gz": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        (60000,),
    ),
    "t10k-images-idx3-ubyte.gz": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        (10000, 28, 28),
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        (10000,),
    ),
}


def load_data(path=None):
    """Load Fashion-MNIST, downloading it to `$DLCORE_DATA` (or `~/.dlcore`) at the first call.

    Parameters
    ----------
    path : path-like, optional
        A folder with the four gzip-compressed IDX files; nothing is downloaded then.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x uint8 (n, 28, 28) with values 0 .. 255 and y uint8 (n,): 0 T-shirt, 1 trouser, 2 pullover,
        3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag, 9 ankle boot; 60,000 and 10,000 rows.

    Raises
    ------
    FileNotFoundError
        A file is neither there nor to be had.
    ValueError
        A file is damaged, or not the published one.
    """
    from dlcore.data import idx

    return idx.load("fashion_mnist", MIRRORS, FILES, path)
