"""Helpers with the names of `keras.utils`."""

from dlcore import lookup
from dlcore.config import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from dlcore.data.batches import PyDataset
from dlcore.data.images import (
    array_to_img,
    image_dataset_from_directory,
    img_to_array,
    load_img,
    save_img,
)
from dlcore.data.sequences import pad_sequences, timeseries_dataset_from_array
from dlcore.data.splitting import one_hot, split_dataset
from dlcore.data.text import text_dataset_from_directory
from dlcore.lookup import custom_object_scope, get_custom_objects, register_keras_serializable
from dlcore.random import set_random_seed
from dlcore.utils.model_plot import plot_model
from dlcore.utils.progbar import Progbar

Sequence = PyDataset  # its name in older scripts

CustomObjectScope = custom_object_scope
_SAVING = (
    "deserialize_keras_object", "get_registered_name", "get_registered_object",
    "serialize_keras_object",
)  # fmt: skip

__all__ = [
    "CustomObjectScope", "Progbar", "PyDataset", "Sequence", "array_to_img", "clear_session",
    "custom_object_scope", "disable_interactive_logging", "enable_interactive_logging",
    "get_custom_objects", "get_file", "get_source_inputs", "image_dataset_from_directory",
    "img_to_array", "is_interactive_logging_enabled", "is_keras_tensor", "load_img", "normalize",
    "pack_x_y_sample_weight", "pad_sequences", "plot_model", "register_keras_serializable",
    "save_img", "set_random_seed", "split_dataset", "standardize_dtype",
    "text_dataset_from_directory", "timeseries_dataset_from_array", "to_categorical",
    "unpack_x_y_sample_weight", *_SAVING,
]  # fmt: skip


def __getattr__(name):
    if name in _SAVING:
        from dlcore import saving

        return getattr(saving, name)
    from dlcore.lookup import no_attribute

    raise no_attribute("dlcore.utils", name, __all__)


def clear_session(free_memory=True):
    """Start automatic names of layers anew, and let go of what nobody holds any more."""
    from dlcore.layers.names import reset_names

    reset_names()
    if free_memory:
        import gc

        gc.collect()


def standardize_dtype(dtype):
    """The name of a type; None for that of `config.floatx`."""
    from dlcore.program.dtypes import standardize

    return standardize(dtype)


def is_keras_tensor(x):
    """Whether `x` is a symbol: what `Input` and layers called on such symbols return."""
    from dlcore.layers import KerasTensor

    return isinstance(x, KerasTensor)


def get_source_inputs(tensor):
    """The symbols of `Input` that a symbol is computed from."""
    found, stack, seen = {}, [tensor], set()
    while stack:
        x = stack.pop()
        if id(x) not in seen:
            seen.add(id(x))
            inputs = x.connection.inputs
            stack += reversed(inputs)
            if not inputs:
                found[id(x)] = x
    return list(found.values())


def pack_x_y_sample_weight(x, y=None, sample_weight=None):
    """A batch as `fit` takes it and `train_step` gets it: x, (x, y) or (x, y, sample_weight)."""
    from dlcore.data.batches import pack_batch

    return pack_batch(x, y, sample_weight)


def unpack_x_y_sample_weight(data):
    """(x, y, sample_weight) of a batch; what is not there is None.

    Examples
    --------
    >>> unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    from dlcore.data.batches import unpack

    return unpack("unpack_x_y_sample_weight", data)


@lookup.checked
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
    x : array_like or tensor
    axis : int
    order : float
        Order of the norm, 2 for the Euclidean one.

    Returns
    -------
    ndarray or tensor of x's shape

    Examples
    --------
    >>> normalize([[3.0, 4.0]]).tolist()
    [[0.6, 0.8]]
    """
    import numpy as np

    from dlcore import ops
    from dlcore.program.graph import Operators

    if isinstance(x, Operators):
        return ops.normalize(x, axis, order)
    x = np.asarray(x)
    size = np.atleast_1d(np.linalg.norm(x, order, axis, keepdims=True))
    return x / np.where(size == 0, 1, size)


@lookup.checked
def get_file(
    fname=None,
    origin=None,
    untar=False,
    md5_hash=None,
    file_hash=None,
    cache_subdir="datasets",
    hash_algorithm="auto",
    extract=False,
    archive_format="auto",
    cache_dir=None,
    force_download=False,
):
    """The path of a file, downloaded where it is not there yet.

    Parameters
    ----------
    fname : str, optional
        Name to keep it under; by default the last part of `origin`.
    origin : str
        Its address.
    untar, md5_hash
        Older names of `extract` and `file_hash`.
    file_hash : str, optional
        Digest of the file; a file with another one is refused, and fetched anew.
    cache_subdir : str, default "datasets"
    hash_algorithm : {"auto", "sha256", "md5"}
    extract : bool
        Whether to unpack a .tar.gz or .zip archive beside it, and return that folder.
    cache_dir : str, optional
        By default `$DLCORE_DATA` or `~/.dlcore`.
    archive_format
        Accepted for Keras' sake: the file itself tells.
    force_download : bool
        Whether to fetch it even where it is there.

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

    if file_hash is None and md5_hash is not None:
        file_hash, hash_algorithm = md5_hash, "md5"
    return get_file(
        fname, origin, file_hash, cache_subdir, hash_algorithm, extract or untar, cache_dir,
        force_download,
    )  # fmt: skip
