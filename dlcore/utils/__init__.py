"""Helpers with the names of `keras.utils`."""

from dlcore.data.batches import PyDataset
from dlcore.data.images import (
    array_to_img,
    image_dataset_from_directory,
    img_to_array,
    load_img,
    save_img,
)
from dlcore.data.sequences import pad_sequences, timeseries_dataset_from_array
from dlcore.data.splitting import one_hot
from dlcore.random import set_random_seed
from dlcore.utils.model_plot import plot_model

Sequence = PyDataset  # its name in older scripts

__all__ = [
    "PyDataset", "Sequence", "array_to_img", "get_file", "image_dataset_from_directory",
    "img_to_array", "load_img", "normalize", "pad_sequences", "plot_model", "save_img",
    "set_random_seed", "timeseries_dataset_from_array", "to_categorical",
]  # fmt: skip


def to_categorical(x, num_classes=None):
    """Labels as one-hot rows: out[..., c] = 1 where x[...] = c.

    Parameters
    ----------
    x : array_like of int
        Labels in [0, num_classes); a last axis of size 1 is dropped.
    num_classes : int, optional
        Number of classes; by default the largest label + 1.

    Returns
    -------
    ndarray (*x.shape, num_classes) of `config.floatx()`

    Raises
    ------
    ValueError
        A label is not an integer or not in range.

    Examples
    --------
    >>> to_categorical([1, 0]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    return one_hot(x, num_classes)


def normalize(x, axis=-1, order=2):
    """Vectors along `axis` divided by their norm, (sum |x|^order)^(1/order); zeros stay zeros.

    Parameters
    ----------
    x : array_like
    axis : int
    order : float
        Order of the norm, 2 for the Euclidean one.

    Returns
    -------
    ndarray of x's shape

    Examples
    --------
    >>> normalize([[3.0, 4.0]]).tolist()
    [[0.6, 0.8]]
    """
    import numpy as np

    x = np.asarray(x)
    size = np.atleast_1d(np.linalg.norm(x, order, axis, keepdims=True))
    return x / np.where(size == 0, 1, size)


def get_file(
    fname=None,
    origin=None,
    file_hash=None,
    cache_subdir="datasets",
    hash_algorithm="auto",
    extract=False,
    cache_dir=None,
    **kwargs,
):
    """The path of a file, downloaded where it is not there yet.

    Parameters
    ----------
    fname : str, optional
        Name to keep it under; by default the last part of `origin`.
    origin : str
        Its address.
    file_hash : str, optional
        Digest of the file; a file with another one is refused, and fetched anew.
    cache_subdir : str, default "datasets"
    hash_algorithm : {"auto", "sha256", "md5"}
    extract : bool
        Whether to unpack a .tar.gz or .zip archive beside it, and return that folder.
    cache_dir : str, optional
        By default `$DLCORE_DATA` or `~/.dlcore`.

    Returns
    -------
    str

    Raises
    ------
    FileNotFoundError
        The file cannot be had.
    ValueError
        An argument is missing, or the archive is damaged.
    """
    from dlcore.data.fetch import get_file

    return get_file(fname, origin, file_hash, cache_subdir, hash_algorithm, extract, cache_dir)
