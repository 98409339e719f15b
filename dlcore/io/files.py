"""One safetensors file: named arrays, and a JSON document in the header. No code, no pickle.

Files are written whole to a new name in the same folder, flushed to the disk and renamed, so that
a full disk or a crash leaves the old file as it was. Files are read as if an enemy wrote them, and
a checksum tells those that a disk or a network has changed.
"""

import json
import os
import zlib

import numpy as np

# Header of a file: names, shapes and the document. A network of 10,000 layers takes some 5 MiB.
_MAX_HEADER = 64 << 20
_FORMAT = "dlcore"


def write(path, tensors, document):
    """Write {name: ndarray} and a JSON-able document.

    Raises
    ------
    OSError
        If there is no room or no permission; the old file is then unchanged.
    """
    from safetensors.numpy import save

    try:
        text = json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"save: expected a model that JSON can describe, got {error}") from None
    path = os.path.realpath(_name("save", path))
    metadata = {"format": _FORMAT, "document": text, "crc32": _checksum(tensors, text)}
    data = save(tensors, metadata)
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f"save: expected the name of a file, got the folder {path!r}")
    if os.path.exists(path) and not os.path.isfile(path):  # root could replace /dev/null
        raise OSError(f"save: expected the name of a file, got the device {path!r}")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"save: expected a file in a folder that exists, got {path!r}")
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename, error.filename2 = path, None  # the one that the caller knows
        raise
    _sync_folder(folder)


def _name(who, path):
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{who}: expected the name of a file, got {path!r}")
    return os.fsdecode(path)


def _checksum(tensors, text):
    """Of names, types, shapes and contents of the arrays and of the document."""
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        x = np.ascontiguousarray(tensors[name])
        crc = zlib.crc32(f"{name} {x.dtype} {x.shape}".encode(), crc)
        crc = zlib.crc32(x.reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


def _sync_folder(folder):
    """Make the new name last through a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path):
    """({name: ndarray}, document) of a file.

    Raises
    ------
    ValueError
        If it is not a whole file of this format.
    OSError
        If it cannot be opened.
    """
    from safetensors import SafetensorError, safe_open

    path = _name("load", path)
    _check_header(path)
    try:
        with safe_open(path, framework="np") as f:
            metadata = f.metadata() or {}
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, KeyError) as error:
        raise ValueError(f"load: expected a whole model file, got {path!r}: {error}") from None
    if metadata.get("format") != _FORMAT:
        raise ValueError(
            f"load: expected a file written by dlcore, got {path!r} of another program"
        )
    text = metadata.get("document", "")
    if metadata.get("crc32") not in (None, _checksum(tensors, text)):  # older files have none
        raise ValueError(f"load: expected the file that was saved, got {path!r} with other bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(
            f"load: expected a JSON description in {path!r}, got damaged text"
        ) from None
    if not isinstance(document, dict):
        raise ValueError(
            f"load: expected a JSON description in {path!r}, got {type(document).__name__}"
        )
    return tensors, document


def _check_header(path):
    if not os.path.isfile(path):
        error = IsADirectoryError if os.path.isdir(path) else FileNotFoundError
        raise error(f"load: expected the file of a model, got no file {path!r}")
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        first = f.read(8)
    header = int.from_bytes(first, "little")
    if first[:4] == b"PK\x03\x04":
        raise ValueError(
            f"load: expected a file written by dlcore, got {path!r}, a zip archive;"
            " files of Keras cannot be read"
        )
    if len(first) < 8 or header > min(size - 8, _MAX_HEADER):
        raise ValueError(f"load: expected a whole model file, got {path!r} of {size} bytes")
