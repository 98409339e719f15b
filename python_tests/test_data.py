"""Data sets, their files, toy sets, splitting and one-hot rows."""

import gzip
import hashlib
import os

import numpy as np
import pytest

from dlcore import data, datasets, function
from dlcore.data import idx
from dlcore.utils import normalize, to_categorical

SHAPES = {"xi.gz": (5, 3, 2), "xl.gz": (5,), "ti.gz": (2, 3, 2), "tl.gz": (2,)}


@pytest.fixture
def source(tmp_path):
    """A small data set in IDX files: (folder, files)."""
    files = {}
    for i, (name, shape) in enumerate(SHAPES.items()):
        values = (np.arange(np.prod(shape)) + i).astype(np.uint8)
        content = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + values.tobytes()
        with gzip.open(tmp_path / name, "wb") as file:
            file.write(content)
        files[name] = (hashlib.sha256(content).hexdigest(), shape)
    return tmp_path, files


def test_digits():
    (x, y), (u, v) = datasets.digits.load_data()
    assert x.shape == (1442, 8, 8) and u.shape == (355, 8, 8) and x.dtype == y.dtype == np.uint8
    assert x.max() == 16 and len(y) == 1442 and len(v) == 355
    assert np.bincount(y).tolist() == [143, 146, 142, 147, 145, 146, 145, 144, 140, 144]
    assert np.bincount(v).tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
    every = np.concatenate([x, u]).reshape(-1, 64)
    assert len(np.unique(every, axis=0)) == 1797  # no image is in both parts
    assert every.sum(dtype=np.int64) == 561718


def test_idx_reads_from_a_folder(source):
    folder, files = source
    (x, y), (u, v) = idx.load("small", (), files, folder)
    assert (x.shape, y.shape, u.shape, v.shape) == tuple(SHAPES.values())
    assert x[0].tolist() == [[0, 1], [2, 3], [4, 5]] and v.tolist() == [3, 4]
    assert x.flags.writeable


def test_idx_reads_from_dlcore_data(source, monkeypatch):
    folder, files = source
    monkeypatch.setenv("DLCORE_DATA", str(folder.parent))
    (x, _), _ = idx.load(folder.name, (), files)
    assert x.shape == (5, 3, 2)


def test_idx_downloads_once(source, monkeypatch, tmp_path_factory):
    folder, files = source
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DLCORE_DATA", str(home))
    mirrors = ((folder / "nowhere").as_uri() + "/", folder.as_uri() + "/")
    (x, _), _ = idx.load("small", mirrors, files)
    assert x.shape == (5, 3, 2)
    assert sorted(os.listdir(home / "small")) == sorted(files)  # no partial file is left
    idx.load("small", (), files)


@pytest.mark.parametrize("damage", ["truncated", "other", "not gzip", "longer", "flipped", "empty"])
def test_idx_refuses_a_damaged_file(source, damage, monkeypatch, tmp_path_factory):
    folder, files = source
    path = folder / "xi.gz"
    packed = path.read_bytes()
    content = gzip.decompress(packed)
    path.write_bytes(
        {
            "truncated": packed[: len(packed) // 2],
            "other": gzip.compress(content[:-1] + b"?"),
            "not gzip": b"<html>not here</html>",
            "longer": gzip.compress(content + bytes(1 << 20)),
            "flipped": packed[:20] + bytes([packed[20] ^ 255]) + packed[21:],
            "empty": b"",
        }[damage]
    )
    with pytest.raises(ValueError, match=r"^small: expected .*xi\.gz"):
        idx.load("small", (), files, folder)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DLCORE_DATA", str(home))
    with pytest.raises(FileNotFoundError, match="small: expected"):  # a bad download is not kept
        idx.load("small", (folder.as_uri() + "/",), files)
    assert os.listdir(home) == []


def test_idx_absent(source, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for module in (datasets.mnist, datasets.fashion_mnist):
        with pytest.raises(FileNotFoundError, match="expected the file"):
            module.load_data(empty)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_published_files(name):
    folder = os.path.join(os.environ.get("DLCORE_DATA", ""), name)
    if not os.path.isdir(folder):
        pytest.skip(f"{name} is not in $DLCORE_DATA")
    (x, y), (u, v) = getattr(datasets, name).load_data()
    assert x.shape == (60000, 28, 28) and y.shape == (60000,)
    assert u.shape == (10000, 28, 28) and np.bincount(v).min() > 800


@pytest.mark.parametrize("make", [data.xor, data.circles, data.spiral, data.blobs])
def test_toy_sets(make):
    x, y = make(301, seed=3)
    assert x.shape == (301, 2) and x.dtype == np.float32 and y.dtype == np.int64
    assert np.ptp(np.bincount(y)) <= 1 and y.min() == 0
    assert np.array_equal(make(301, seed=3)[0], x) and not np.array_equal(make(301, seed=4)[0], x)
    assert make(0)[0].shape == (0, 2) and make(1)[0].shape == (1, 2)
    noisy = make(301, noise=0.5, seed=3)[0]
    assert not np.array_equal(noisy, x)
    for wrong in ({"n": -1}, {"n": 2.5}, {"noise": -1.0}, {"noise": float("nan")}):
        with pytest.raises(ValueError, match=f"^{make.__name__}: expected"):
            make(**wrong)


def test_toy_formulas():
    x, y = data.xor(200)
    assert np.array_equal(y, (x[:, 0] > 0) ^ (x[:, 1] > 0))
    x, y = data.circles(200, noise=0, factor=0.25)
    assert np.allclose(np.hypot(*x.T), np.where(y == 0, 1, 0.25), atol=1e-6)
    x, y = data.spiral(200, noise=0, classes=2, turns=2)
    turn = np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi) - 2 * np.hypot(*x.T) - y / 2
    assert np.allclose(turn, np.round(turn), atol=1e-4)
    x, y = data.blobs(4, noise=0, classes=4)
    assert np.allclose(x, [[1, 0], [0, 1], [-1, 0], [0, -1]], atol=1e-6)


def test_split_keeps_rows_together():
    x, y = np.arange(20).reshape(10, 2), np.arange(10)
    (a, b), (c, d), (e, f) = data.split(x, y, fractions=(0.5, 0.3, 0.2), seed=1)
    assert [len(p) for p in (a, c, e)] == [5, 3, 2]
    assert sorted(np.concatenate([b, d, f])) == list(range(10))
    for rows, ids in ((a, b), (c, d), (e, f)):
        assert np.array_equal(rows, x[ids])


def test_train_test_split():
    x, y = np.arange(100), np.arange(100) % 3
    x_train, x_test, y_train, y_test = data.train_test_split(x, y, test_size=0.2, seed=0)
    assert len(x_train) == 80 and len(x_test) == 20
    assert np.array_equal(x_train % 3, y_train) and np.array_equal(x_test % 3, y_test)
    assert np.array_equal(data.train_test_split(x, test_size=0.2, seed=0)[0], x_train)
    train, test = data.train_test_split(x, test_size=7, train_size=10, shuffle=False)
    assert train.tolist() == list(range(10)) and test.tolist() == list(range(93, 100))


@pytest.mark.parametrize("counts", [(50, 50), (90, 9, 1), (3, 100, 33, 7), (1,), (2, 2)])
def test_stratified_parts_hold_each_label_in_proportion(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = data.split(labels, fractions=(0.6, 0.3, 0.1), stratify=labels, seed=2)
    for (part,), share in zip(parts, (0.6, 0.3, 0.1), strict=True):
        got = np.bincount(part, minlength=len(counts))
        assert np.all(np.abs(got - share * np.array(counts)) <= 1.5)
    assert sum(len(p) for (p,) in parts) == sum(counts)


@pytest.mark.parametrize(
    "call",
    [
        lambda: data.split(np.zeros(3), np.zeros(4)),
        lambda: data.split(),
        lambda: data.split(np.float32(1)),
        lambda: data.split(np.zeros(3), fractions=(0.5, 0.6)),
        lambda: data.split(np.zeros(3), fractions=(1.5, -0.5)),
        lambda: data.split(np.zeros(3), stratify=[1, 2]),
        lambda: data.train_test_split(np.zeros(3), test_size=4),
        lambda: data.train_test_split(np.zeros(3), test_size=1.5),
        lambda: data.train_test_split(np.zeros(3), test_size=2, train_size=2),
    ],
)
def test_split_errors(call):
    with pytest.raises(ValueError, match=r"^(train_test_)?split: expected .*, got "):
        call()


@pytest.mark.parametrize(
    ("labels", "classes", "shape"),
    [
        ([1, 0, 2], None, (3, 3)),
        ([[1], [0]], 4, (2, 4)),
        ([[1, 0], [0, 1]], 2, (2, 2, 2)),
        (np.array([2.0, 1.0], np.float32), 3, (2, 3)),
        ([True, False], 2, (2, 2)),
        (2, 3, (3,)),
        ([], 3, (0, 3)),
        ([], None, (0, 0)),
        (np.array([1, 0], ">i8"), 2, (2, 2)),
    ],
)
def test_to_categorical(labels, classes, shape):
    out = to_categorical(labels, classes)
    assert out.shape == shape and out.dtype == np.float32
    assert np.all(out.sum(-1) == 1)
    if out.size:
        assert np.array_equal(out.argmax(-1).ravel(), np.ravel(labels).astype(int))


@pytest.mark.parametrize(
    ("labels", "got"),
    [([-1, 0], "got -1"), ([0, 3], "got 3"), ([0.5], "got 0.5"), (["a"], "dtype")],
)
def test_to_categorical_errors(labels, got):
    with pytest.raises(ValueError, match=f"^to_categorical: expected .*{got}"):
        to_categorical(labels, 3)


def test_to_categorical_refuses_nan():
    with pytest.raises(ValueError, match="to_categorical: expected integer labels, got nan"):
        to_categorical([float("nan")], 3)


def test_normalize():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert np.allclose(normalize(x), [[0.6, 0.8], [0, 0]])
    assert np.allclose(function(normalize)(x), normalize(x))
    assert np.allclose(
        normalize([[1.0, 3.0], [1.0, 1.0]], axis=0, order=1), [[0.5, 0.75], [0.5, 0.25]]
    )
