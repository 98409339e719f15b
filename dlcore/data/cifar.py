"""CIFAR-10 and CIFAR-100 as published for Python: pickled batches in a gzip-compressed archive.

A batch is a dictionary that Python 2 pickled: "data" is uint8 (n, 3072), a row holding the 1024
red, then the green, then the blue values of an image of 32 x 32 pixels; "labels" (or "fine_labels"
and "coarse_labels") is a list of n class numbers.

Unpickling can run any code and fill any memory. This reader knows the opcodes that these files
hold and no others, and in place of the three NumPy names in them puts objects that hold what they
are given. It is the unpickler written in Python, whose memo is a dictionary: a file cannot ask for
memory that it does not fill.
"""

import io
import os
import pickle
import tarfile
import zlib

import numpy as np

from dlcore.data.files import download, home, sha256

_SIDE, _PIXELS = 32, 3 * 32 * 32
_LARGEST_BATCH = 1 << 28  # bytes; the largest published file has 155 MB
_LARGEST_ARCHIVE = 1 << 28  # the published ones have 170 MB
_OPCODES = (
    pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD,
    pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.SETITEM,
    pickle.SETITEMS, pickle.TUPLE, pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINUNICODE, pickle.BINBYTES,
    pickle.SHORT_BINBYTES, pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET,
)  # fmt: skip


class _Array:
    """What stands for an ndarray: the state (version, shape, dtype, is Fortran, bytes)."""

    def __init__(self, *_):
        self.state = None

    def __setstate__(self, state):
        self.state = state

    def pixels(self):
        """uint8 (n, 3072)."""
        _, shape, dtype, fortran, content = self.state
        n, width = shape
        if dtype.code not in (b"u1", "u1") or width != _PIXELS or len(content) != n * _PIXELS:
            raise ValueError(f"expected data uint8 (n, {_PIXELS}), got {dtype.code} {shape}")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _DType:
    """What stands for a dtype: its code."""

    def __init__(self, code, *_):
        self.code = code

    def __setstate__(self, state):
        pass


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
}


class _Unpickler(pickle._Unpickler):
    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}  # noqa: RUF012

    def find_class(self, module, name):
        return _NAMES[module, name]


def read_batch(name, content, label_key):
    """(images uint8 (n, 32, 32, 3), labels uint8 (n, 1)) of a pickled batch.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    content : bytes
    label_key : str
        "labels", "fine_labels" or "coarse_labels".

    Raises
    ------
    ValueError
        If the file holds anything else.
    """
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
        x = batch["data"].pixels()
        y = np.array(batch[label_key], np.int64)
        if y.shape != (len(x),) or (len(y) and not 0 <= y.min() <= y.max() < 100):
            raise ValueError(f"expected {len(x)} class numbers, got {label_key} of shape {y.shape}")
    except Exception as error:  # damaged files end the unpickler in every way there is
        raise ValueError(
            f"{name}: expected a batch of CIFAR images, got a damaged or different file ({error!r})"
        ) from None
    x = x.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(x), y.astype(np.uint8)[:, None]


def load(name, archive, mirrors, digest, folder, files, label_key, path=None):
    """Read a data set from its archive, from the folder in it, or by a download.

    Parameters
    ----------
    name : str
        Name of the data set, and of its folder in `$DLCORE_DATA` (or in `~/.dlcore`).
    archive : str
        Name of the archive.
    mirrors : sequence of str
        Addresses that hold the archive, tried in order.
    digest : str
        SHA-256 of the archive.
    folder : str
        Name of the folder in the archive.
    files : (list of str, list of str)
        The batches in it for training and for tests.
    label_key : str
        See `read_batch`.
    path : path-like, optional
        The archive, or the folder with the archive or its contents; nothing is downloaded then.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test)) : uint8 arrays (n, 32, 32, 3) and (n, 1).

    Raises
    ------
    FileNotFoundError
        The data set is neither there nor to be had from a mirror.
    ValueError
        A file is damaged, or not the published one.
    """
    places = [os.fspath(path)] if path is not None else [os.path.join(home(), name), home()]
    found = next((f for p in places if (f := _find(p, archive, folder, files[1][0]))), None)
    if found is None:
        if path is not None:
            raise FileNotFoundError(
                f"{name}: expected {archive} or the folder {folder} in {places[0]}, got neither"
            )
        found = os.path.join(places[0], archive)

        def check(part):
            _check_archive(name, part, digest)

        download(name, mirrors, found, _LARGEST_ARCHIVE, check, archive)
    elif os.path.isfile(found):
        _check_archive(name, found, digest)
    read = _read_folder if os.path.isdir(found) else _read_archive
    contents = read(name, found, [*files[0], *files[1]])
    parts = [
        [read_batch(f"{name}: {file}", contents[file], label_key) for file in part]
        for part in files
    ]
    return tuple(tuple(map(np.concatenate, zip(*part, strict=True))) for part in parts)


def _find(place, archive, folder, file):
    """The folder of the batches, else the archive, at or in `place`; None if neither is there."""
    for inner in (place, os.path.join(place, folder)):
        if os.path.isfile(os.path.join(inner, file)):
            return inner
    for at in (place, os.path.join(place, archive)):
        if os.path.isfile(at):
            return at
    return None


def _check_archive(name, path, digest):
    got = sha256(path)
    if got != digest:
        raise ValueError(
            f"{name}: expected the published archive (SHA-256 {digest[:12]}...), "
            f"got {got[:12]}... in {path}; delete it to download it again"
        )


def _read_folder(name, folder, files):
    contents = {}
    for file in files:
        path = os.path.join(folder, file)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{name}: expected the file {path}, got no such file")
        with open(path, "rb") as batch:
            contents[file] = batch.read(_LARGEST_BATCH)
    return contents


def _read_archive(name, path, files):
    """{file: contents}, read without unpacking anything to the disk."""
    contents = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                file = os.path.basename(member.name)
                if member.isfile() and file in files and member.size <= _LARGEST_BATCH:
                    contents[file] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{name}: expected a whole archive, got a damaged one ({error})") from None
    missing = [file for file in files if file not in contents]
    if missing:
        raise ValueError(f"{name}: expected the batch {missing[0]} in {path}, got none")
    return contents
