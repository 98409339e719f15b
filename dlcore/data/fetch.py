"""Any file by its address, kept in the folder of data sets."""

import os

from dlcore.data.files import download, home

_LIMIT = 1 << 40  # bytes


def get_file(
    fname, origin, file_hash, subdir, algorithm, extract, cache_dir, anew=False
):  # fmt: skip
    """See `dlcore.utils.get_file`."""
    from dlcore.data.reviews import check_digest

    if not origin:
        raise ValueError(f"get_file: expected origin, got {origin!r}")
    name = origin.rstrip("/").rsplit("/", 1)[-1]
    folder = os.path.join(cache_dir or home(), subdir)
    path = os.path.join(folder, fname or name)
    if algorithm == "auto":
        algorithm = "md5" if file_hash is not None and len(file_hash) == 32 else "sha256"

    def check(part):
        if file_hash is not None:
            check_digest("get_file", part, file_hash, algorithm)

    if anew or not _good(path, check):
        mirror = _Address(origin)
        download("get_file", (mirror,), path, _LIMIT, check, name)
    return _unpacked(path) if extract else path


class _Address(str):
    """A mirror with this one file, whatever it is kept under."""

    def __add__(self, file):
        return str(self)


def _good(path, check):
    if not os.path.isfile(path):
        return False
    try:
        check(path)
    except ValueError:
        return False
    return True


def _unpacked(path):
    """The folder with what an archive holds."""
    import shutil
    import tarfile
    import zipfile

    folder = path + "_extracted"
    if os.path.isdir(folder):
        return folder
    part = folder + ".part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(part)
        else:
            with tarfile.open(path) as archive:
                archive.extractall(part, filter="data")
    except (OSError, EOFError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise ValueError(f"get_file: expected a .tar or .zip archive, got {error}") from None
    os.replace(part, folder)
    return folder
