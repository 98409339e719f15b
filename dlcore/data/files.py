"""Where data sets lie, and how what is missing is fetched."""

import os

TIMEOUT = 30  # seconds without an answer before the next mirror is tried


def home():
    """The folder of data sets: `$DLCORE_DATA`, or `~/.dlcore`."""
    return os.environ.get("DLCORE_DATA") or os.path.join(os.path.expanduser("~"), ".dlcore")


def sha256(path):
    """The digest of a file, in hexadecimal."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(name, mirrors, path, limit, check, what):
    """Fetch `path` from the first mirror that has it; the file appears whole or not at all.

    Parameters
    ----------
    name : str
        Of the data set, for messages.
    mirrors : sequence of str
        Addresses of folders, tried in order.
    path : str
    limit : int
        Most bytes to take: stops an endless answer.
    check : callable
        ``check(path of the fetched file)`` raises ValueError unless it is the published one.
    what : str
        What a person should put into the folder where no mirror answers.

    Raises
    ------
    FileNotFoundError
        No mirror has the file, or it cannot be written.
    """
    import tempfile

    folder, file = os.path.split(path)
    new = not os.path.isdir(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=file, suffix=".part", dir=folder)
        os.close(handle)
    except OSError as error:
        raise FileNotFoundError(
            f"{name}: expected {path} or a folder to download it to, got {error.strerror}; "
            "set DLCORE_DATA to a folder you can write"
        ) from None
    reasons = []
    try:
        for mirror in mirrors:
            try:
                _fetch(mirror + file, part, limit)
                check(part)
                os.replace(part, path)
                return
            except (OSError, ValueError) as error:
                reasons.append(f"{mirror}: {error}")
    finally:
        if os.path.exists(part):
            os.remove(part)
        if new and not os.listdir(folder):
            os.rmdir(folder)
    raise FileNotFoundError(
        f"{name}: expected {path} or a mirror that has it, got {'; '.join(reasons)}; "
        f"put {what} into {folder}"
    )


def _fetch(address, path, limit):
    """At most `limit` bytes of an address, in a file."""
    import urllib.request

    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, open(path, "wb") as out:
        while limit > 0 and (block := answer.read(min(limit, 1 << 20))):
            out.write(block)
            limit -= len(block)
