"""CIFAR: the published form, read without trusting it."""

import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from dlcore import datasets
from dlcore.data import cifar
from dlcore.data.files import sha256

FILES = (["data_batch_1", "data_batch_2"], ["test_batch"])
ARCHIVE = "small.tar.gz"


def string(text):
    """A Python 2 str, as its pickles hold it."""
    text = text.encode() if isinstance(text, str) else text
    short = len(text) < 256
    return (b"U" + bytes([len(text)]) if short else b"T" + struct.pack("<i", len(text))) + text


def integers(*values):
    return b"".join(b"J" + struct.pack("<i", v) for v in values)


def pickled(x, y, label_key="labels", code="u1"):
    """What Python 2 writes for {"batch_label": ..., label_key: y, "data": x, "filenames": ...}."""
    dtype = (
        b"cnumpy\ndtype\n" + string(code) + integers(0, 1) + b"\x87R"
        + b"(" + integers(3) + string("|") + b"NNN" + integers(-1, -1, 0) + b"tb"
    )  # fmt: skip
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integers(0) + b"\x85"
        + string("b") + b"\x87R(" + integers(1) + b"(" + integers(*x.shape) + b"t" + dtype
        + b"\x89" + string(x.tobytes()) + b"tb"
    )  # fmt: skip
    return (
        b"\x80\x02}q\x01(" + string("batch_label") + b"q\x02" + string("some batch")
        + string(label_key) + b"](" + integers(*y) + b"e" + string("data") + array
        + string("filenames") + b"](" + string("a.png") + b"eu."
    )  # fmt: skip


def images(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3072)).astype("uint8"), rng.integers(0, 10, n)


@pytest.fixture
def source(tmp_path):
    """The published form with few images: (folder with archive and batches, arrays)."""
    folder = tmp_path / "batches"
    folder.mkdir()
    arrays = [images(n, n) for n in (3, 4, 2)]
    for name, (x, y) in zip([*FILES[0], *FILES[1]], arrays, strict=True):
        (folder / name).write_bytes(pickled(x, y))
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as archive:
        archive.add(folder, "batches")
    return tmp_path, arrays


def load(path, digest=None, mirrors=()):
    digest = digest or sha256(path / ARCHIVE)
    given = None if mirrors else path
    return cifar.load("small", ARCHIVE, mirrors, digest, "batches", FILES, "labels", given)


def check(loaded, arrays):
    (x, y), (u, v) = loaded
    assert x.shape == (7, 32, 32, 3) and u.shape == (2, 32, 32, 3)
    assert y.shape == (7, 1) and v.shape == (2, 1)
    assert x.dtype == y.dtype == u.dtype == v.dtype == np.uint8
    for image, row in zip(x, np.concatenate([arrays[0][0], arrays[1][0]]), strict=True):
        np.testing.assert_array_equal(image[:, :, 1].ravel(), row[1024:2048])
    assert v.ravel().tolist() == arrays[2][1].tolist()


def test_reads_folder_archive_and_download(source, monkeypatch, tmp_path_factory):
    folder, arrays = source
    check(load(folder), arrays)
    digest = sha256(folder / ARCHIVE)
    for file in (folder / "batches").iterdir():
        file.unlink()
    check(load(folder), arrays)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DLCORE_DATA", str(home))
    mirrors = ((folder / "nowhere").as_uri() + "/", folder.as_uri() + "/")
    check(load(folder, digest, mirrors), arrays)
    assert os.listdir(home / "small") == [ARCHIVE]
    check(load(folder, digest, ("file:///nowhere/",)), arrays)  # not fetched again


def test_refuses_another_archive(source, monkeypatch, tmp_path_factory):
    folder, _ = source
    for file in (folder / "batches").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="small: expected the published archive"):
        load(folder, "0" * 64)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DLCORE_DATA", str(home))
    with pytest.raises(FileNotFoundError, match=r"small: expected .* put small\.tar\.gz into"):
        load(folder, "0" * 64, (folder.as_uri() + "/",))
    assert os.listdir(home) == []
    content = (folder / ARCHIVE).read_bytes()
    (folder / ARCHIVE).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="small: expected"):
        load(folder)
    with tarfile.open(folder / ARCHIVE, "w:gz"):
        pass
    with pytest.raises(ValueError, match="small: expected the batch data_batch_1"):
        load(folder)


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def damaged():
    x, y = images(3, 0)
    good = pickled(x, y)
    rows = {
        "code": pickle.dumps(Harm(), 2),
        "code in protocol 4": pickle.dumps({"data": Harm()}, 4),
        "an object": b"\x80\x02cbuiltins\neval\n" + string("1") + b"\x85R.",
        "cut": good[: len(good) // 2],
        "empty": b"",
        "text": b"<html>not here</html>",
        "another dictionary": pickle.dumps({"a": 1}, 2),
        "a list": pickle.dumps([1, 2], 2),
        "other width": pickled(x[:, :3071], y),
        "other type": pickled(x, y, code="O"),
        "too few labels": pickled(x, y[:2]),
        "a class of 100": pickled(x, [1, 2, 100]),
        "other labels": pickled(x, y, "fine_labels"),
        "more rows than bytes": good.replace(integers(3, 3072), integers(2**30, 3072)),
        "a huge memo": b"\x80\x02}r\xff\xff\xff\x7f.",
        "a huge string": b"\x80\x02T\xff\xff\xff\x7f.",
        "a huge bytearray": b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
    }
    return [pytest.param(content, id=name) for name, content in rows.items()]


@pytest.mark.parametrize("content", damaged())
def test_refuses_what_is_no_batch(content):
    with pytest.raises(ValueError, match=r"^some file: expected a batch of CIFAR images, got"):
        cifar.read_batch("some file", content, "labels")
    assert not os.path.exists("harmed")


def test_batches_of_this_python_are_read():
    """In protocol 3 and above arrays hold bytes instead of Python 2's strings."""
    x, y = images(2, 1)
    content = pickle.dumps({"data": np.asfortranarray(x), "labels": y.tolist()}, 3)
    images_read, labels = cifar.read_batch("file", content, "labels")
    np.testing.assert_array_equal(images_read[1, :, :, 2].ravel(), x[1, 2048:])
    assert labels.ravel().tolist() == y.tolist()


def test_absent(tmp_path):
    for module in (datasets.cifar10, datasets.cifar100):
        with pytest.raises(FileNotFoundError, match=r"expected cifar-10.* got neither"):
            module.load_data(path=tmp_path)
    with pytest.raises(FileNotFoundError, match="expected the file"):
        datasets.cifar10.load_subset(tmp_path)
    with pytest.raises(ValueError, match="label_mode"):
        datasets.cifar100.load_data("rough")


def test_labels_of_cifar100(tmp_path):
    for file in ("train", "test"):
        x, _ = images(3, 5)
        (tmp_path / file).write_bytes(pickled(x, [99, 0, 1], "fine_labels"))
    (_, y), _ = datasets.cifar100.load_data(path=tmp_path)
    assert y.ravel().tolist() == [99, 0, 1]


def test_subset(tmp_path):
    file = tmp_path / "cifar10_first4000.npz"
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 32, 32, 3)).astype("uint8"), np.arange(20) % 10
    np.savez(file, x=x, y=y)
    (a, b), (c, d) = datasets.cifar10.load_subset(tmp_path, 5)
    assert a.shape == (15, 32, 32, 3) and b.shape == (15, 1) and c.shape == (5, 32, 32, 3)
    np.testing.assert_array_equal(np.concatenate([b, d]).ravel(), y)
    for wrong in ({"x": x}, {"x": x[:, :5], "y": y}, {"x": np.array([{}] * 20), "y": y}):
        np.savez(file, **wrong)
        with pytest.raises(ValueError, match=r"^cifar10: expected"):
            datasets.cifar10.load_subset(tmp_path)
    file.write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"^cifar10: expected"):
        datasets.cifar10.load_subset(tmp_path)


def test_real_images():
    folder = os.path.join(os.environ.get("DLCORE_DATA", ""), "cifar10_first4000")
    if not os.path.isdir(folder):
        pytest.skip("cifar10_first4000 is not in $DLCORE_DATA")
    (x, y), (u, _) = datasets.cifar10.load_subset()
    assert x.shape == (3500, 32, 32, 3) and u.shape == (500, 32, 32, 3)
    assert y[:10].ravel().tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
