"""Image data sets kept as four gzip-compressed IDX files (MNIST and its relatives).

IDX: two zero bytes, a type byte (8 = unsigned byte), the rank, each dimension as a big-endian
32-bit integer, then the values. Every file is compared with the SHA-256 of its published contents,
so a damaged disk, a cut download or another file of the same name is noticed.
"""

import os

import numpy as np

from dlcore.data.files import download, home


def load(name, mirrors, files, path=None):
    """Read a data set, downloading what is not there yet.

    Parameters
    ----------
    name : str
        Name of the data set, and of its folder in `$DLCORE_DATA` (or in `~/.dlcore`).
    mirrors : sequence of str
        Addresses that hold the files, tried in order.
    files : dict
        File name to (SHA-256 of the decompressed bytes, shape), in the order train images, train
        labels, test images, test labels.
    path : path-like, optional
        The folder to read from instead; nothing is downloaded then.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test)) : uint8 arrays.

    Raises
    ------
    FileNotFoundError
        A file is neither there nor to be had from a mirror.
    ValueError
        A file is not the published one.
    """
    folder = os.fspath(path) if path is not None else os.path.join(home(), name)
    arrays = []
    for file, (digest, shape) in files.items():
        at = os.path.join(folder, file)
        if not os.path.exists(at):
            if path is not None:
                raise FileNotFoundError(f"{name}: expected the file {at}, got no such file")
            limit = 2 * int(np.prod(shape)) + 4096  # gzip never needs more

            def check(part, digest=digest, shape=shape):
                _decode(name, part, digest, shape)

            download(name, mirrors, at, limit, check, "the four files")
        arrays.append(_decode(name, at, digest, shape))
    return (arrays[0], arrays[1]), (arrays[2], arrays[3])


def _header(shape):
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


def _decode(name, path, digest, shape):
    """The array in the file `path`; ValueError unless it is the published one."""
    import gzip
    import hashlib
    import zlib

    header = _header(shape)
    size = len(header) + int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            content = file.read(size + 1)  # one more: a longer file is noticed, not unpacked
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{name}: expected a whole gzip file, got a truncated or damaged one in {path} "
            f"({error}); delete it to download it again"
        ) from None
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(
            f"{name}: expected the published contents (SHA-256 {digest[:12]}...), "
            f"got others in {path}; delete it to download it again"
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()
