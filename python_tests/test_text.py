"""Texts and series: TextVectorization, Tokenizer, pad_sequences, windows, the IMDB reviews."""

import gzip
import hashlib
import io
import json
import tarfile

import numpy as np
import pytest

import dlcore as keras
from dlcore import layers
from dlcore.datasets import imdb
from dlcore.preprocessing.sequence import pad_sequences
from dlcore.preprocessing.text import Tokenizer, text_to_word_sequence, tokenizer_from_json

# -- pad_sequences


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[0, 0, 1], [2, 3, 4], [0, 5, 6]]),
        ({"padding": "post"}, [[1, 0, 0], [2, 3, 4], [5, 6, 0]]),
        ({"maxlen": 2}, [[0, 1], [3, 4], [5, 6]]),
        ({"maxlen": 2, "truncating": "post", "value": 9}, [[9, 1], [2, 3], [5, 6]]),
        ({"maxlen": 0}, np.zeros((3, 0))),
    ],
    ids=str,
)
def test_pad_sequences(options, expected):
    x = keras.utils.pad_sequences([[1], [2, 3, 4], [5, 6]], **options)
    assert x.dtype == np.int32
    np.testing.assert_array_equal(x, expected)


def test_pad_sequences_of_vectors_words_and_nothing():
    x = pad_sequences([[[1, 2]], []], maxlen=2, dtype="float32", value=-1.0)
    np.testing.assert_array_equal(x, [[[-1, -1], [1, 2]], [[-1, -1], [-1, -1]]])
    assert pad_sequences([["a"], []], dtype=object, value="-").tolist() == [["a"], ["-"]]
    assert pad_sequences([]).shape == (0, 0)
    with pytest.raises(ValueError, match="expected padding 'pre' or 'post', got 'left'"):
        pad_sequences([[1]], padding="left")
    with pytest.raises(ValueError, match="expected entries of one shape"):
        pad_sequences([[[1, 2]], [[1, 2, 3]]])
    for words in (["the cat", "sat"], [["the"], ["cat"]], [[1], [None]]):
        with pytest.raises(ValueError, match="pad_sequences: expected entries of dtype int32, got"):
            pad_sequences(words)
    with pytest.raises(ValueError, match="expected dtype=object"):
        pad_sequences([[1]], value="x")


# -- windows


def test_windows_of_a_series():
    data = np.arange(20).reshape(10, 2)
    windows = keras.utils.timeseries_dataset_from_array(
        data, data[4:, 0], 3, sequence_stride=2, sampling_rate=2, batch_size=2
    )
    batches = list(windows)
    assert [len(x) for x, _ in batches] == [2, 1] and len(windows) == 2
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    for i in range(3):
        np.testing.assert_array_equal(x[i], data[[2 * i, 2 * i + 2, 2 * i + 4]])
        assert y[i] == data[2 * i + 4, 0]


def test_windows_between_places_shuffled_and_single():
    series = np.arange(10.0)
    make = keras.utils.timeseries_dataset_from_array
    x = np.concatenate(list(make(series, None, 2, start_index=3, end_index=7)))
    np.testing.assert_array_equal(x, [[3, 4], [4, 5], [5, 6]])
    a, b = (np.concatenate(list(make(series, None, 2, shuffle=True, seed=s))) for s in (1, 1))
    np.testing.assert_array_equal(a, b)
    assert sorted(a[:, 0]) == list(range(9)) and not (np.diff(a[:, 0]) > 0).all()
    assert next(iter(make(series, series, 4, batch_size=None)))[0].shape == (4,)
    with pytest.raises(ValueError, match="expected at least 11 steps"):
        make(series, None, 11)
    with pytest.raises(ValueError, match="start_index < end_index <= 10, got 5 and 5"):
        make(series, None, 2, start_index=5, end_index=5)


def test_windows_keep_their_order_in_fit():
    """As a stateful layer needs it; those that are shuffled come in another order each epoch."""
    series, seen = np.arange(40.0), []

    class Seen(keras.Model):
        def train_step(self, data):
            return {"first": keras.ops.sum(data[0][0])}

    for shuffle in (False, True):
        windows = keras.utils.timeseries_dataset_from_array(
            series, series, 1, batch_size=4, shuffle=shuffle, seed=1
        )
        model, order = Seen(), []
        model.compile("sgd")
        log = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, order=order: order.append(logs["first"])
        )
        model.fit(windows, epochs=2, verbose=0, callbacks=[log])
        seen.append(order)
    assert seen[0] == [*range(0, 40, 4)] * 2
    assert seen[1][:10] != seen[1][10:] and sorted(seen[1][:10]) == sorted(seen[1][10:])


def test_a_model_trains_on_windows():
    series = np.sin(np.arange(300) / 5).astype("float32")
    windows = keras.utils.timeseries_dataset_from_array(
        series[:-1, None], series[8:], 8, batch_size=32, shuffle=True, seed=0
    )
    model = keras.Sequential([layers.SimpleRNN(8), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(windows, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]


# -- Tokenizer


def test_tokenizer():
    texts = ["The cat, the dog.", "A cat!"]
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(texts)
    assert tokenizer.word_index == {"the": 1, "cat": 2, "dog": 3, "a": 4}
    assert tokenizer.texts_to_sequences([*texts, "bird"]) == [[1, 2, 1, 3], [4, 2], []]
    assert tokenizer.sequences_to_texts([[1, 2]]) == ["the cat"]
    assert tokenizer.document_count == 2 and tokenizer.word_docs["cat"] == 2
    again = tokenizer_from_json(tokenizer.to_json())
    assert again.texts_to_sequences(texts) == tokenizer.texts_to_sequences(texts)
    assert json.loads(tokenizer.to_json())["config"]["word_index"] == json.dumps(
        tokenizer.word_index
    )


def test_tokenizer_options():
    tokenizer = Tokenizer(num_words=3, oov_token="?")
    tokenizer.fit_on_texts(["b b b a a c"])
    assert tokenizer.word_index == {"?": 1, "b": 2, "a": 3, "c": 4}
    assert tokenizer.texts_to_sequences(["a b x"]) == [[1, 2, 1]]
    letters = Tokenizer(char_level=True, lower=False)
    letters.fit_on_texts(["aAa"])
    assert letters.texts_to_sequences(["Aa"]) == [[2, 1]]
    assert text_to_word_sequence("A-b  c\t", lower=False) == ["A", "b", "c"]


@pytest.mark.parametrize("mode", ["binary", "count", "freq", "tfidf"])
def test_tokenizer_matrix(mode):
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["a a b", "b c"])
    x = tokenizer.texts_to_matrix(["a a b"], mode)
    weight = {i: np.log(1 + 2 / (1 + n)) for i, n in ((1, 1), (2, 2))}
    expected = {
        "binary": [0, 1, 1, 0],
        "count": [0, 2, 1, 0],
        "freq": [0, 2 / 3, 1 / 3, 0],
        "tfidf": [0, (1 + np.log(2)) * weight[1], weight[2], 0],
    }[mode]
    np.testing.assert_allclose(x, [expected])


# -- TextVectorization


def test_text_vectorization_numbers_words():
    layer = layers.TextVectorization(max_tokens=4, output_sequence_length=5)
    layer.adapt(np.array([["The cat, the dog"], ["a cat the"]]))
    assert layer.get_vocabulary() == ["", "[UNK]", "the", "cat"]
    np.testing.assert_array_equal(
        layer(np.array(["Cat! the bird", ""])), [[3, 2, 1, 0, 0], [0] * 5]
    )
    np.testing.assert_array_equal(layer("the cat"), [2, 3, 0, 0, 0])
    np.testing.assert_array_equal(layer("the cat sat on the mat"), [2, 3, 1, 1, 2])
    again = layers.deserialize(layers.serialize(layer))
    np.testing.assert_array_equal(again(["the dog"]), layer(["the dog"]))


def test_equal_counts_come_in_reverse_alphabetical_order():
    layer = layers.TextVectorization()
    layer.adapt(["b a c"])
    assert layer.get_vocabulary(include_special_tokens=False) == ["c", "b", "a"]


@pytest.mark.parametrize("mode", ["multi_hot", "count", "tf_idf"])
def test_bags_of_words(mode):
    layer = layers.TextVectorization(output_mode=mode, max_tokens=6, pad_to_max_tokens=True)
    layer.adapt(["a a b", "b c"])
    assert layer.get_vocabulary() == ["[UNK]", "b", "a", "c"]
    x = layer(["a a b z"])
    idf = np.log(1 + 2 / (1 + np.array([2, 1, 1])))
    expected = {
        "multi_hot": [1, 1, 1, 0, 0, 0],
        "count": [1, 1, 2, 0, 0, 0],
        "tf_idf": [idf.mean(), idf[0], 2 * idf[1], 0, 0, 0],
    }[mode]
    np.testing.assert_allclose(x, [expected], rtol=1e-6)


def test_splitting_ngrams_and_vocabulary_files(tmp_path):
    letters = layers.TextVectorization(split="character", standardize="lower")
    letters.adapt(["abb"])
    np.testing.assert_array_equal(letters(["Ba"]), [[2, 3]])
    pairs = layers.TextVectorization(ngrams=2, vocabulary=["x", "x y"])
    np.testing.assert_array_equal(pairs(["x y"]), [[2, 1, 3]])
    file = tmp_path / "words.txt"
    file.write_text("one\ntwo\n", encoding="utf-8")
    assert layers.TextVectorization(vocabulary=str(file)).vocabulary_size() == 4
    file.write_text("one\ntwo\none\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected different words, got 'one' twice"):
        layers.TextVectorization(vocabulary=str(file))
    file.write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match="expected a vocabulary in utf-8"):
        layers.TextVectorization(vocabulary=str(file))


def test_text_that_is_not_text():
    layer = layers.TextVectorization(vocabulary=["a"])
    np.testing.assert_array_equal(layer([b"a b"]), [[2, 1]])
    with pytest.raises(ValueError, match="expected text in UTF-8, got byte 0xff at 1"):
        layer([b"a\xff"])
    with pytest.raises(TypeError, match="expected texts, got int"):
        layer([3])
    with pytest.raises(ValueError, match="call adapt"):
        layers.TextVectorization()(["a"])
    with pytest.raises(ValueError, match="expected at most 1 words"):
        layers.TextVectorization(max_tokens=3, vocabulary=["a", "b"])


# -- IMDB

GOOD, BAD = "A good, good film.<br /><br />Good!", "A bad film"


def write_tables(folder):
    for part, lines in (("train", [(1, GOOD), (0, BAD), (0, BAD)]), ("test", [(1, "good new")])):
        with gzip.open(folder / f"{part}.tsv.gz", "wt", encoding="utf-8") as file:
            file.writelines(f"{label}\t5\t{text}\n" for label, text in lines)


def write_archive(path):
    files = {"train/pos/0_9.txt": GOOD, "train/neg/0_1.txt": BAD, "train/neg/1_1.txt": BAD}
    files |= {"test/pos/0_8.txt": "good new", "train/unsup/0_0.txt": "x"}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo("aclImdb/" + name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))


@pytest.mark.parametrize("form", ["tables", "archive", "folder"])
def test_imdb(form, tmp_path):
    if form == "tables":
        write_tables(tmp_path)
    else:
        write_archive(tmp_path / imdb.ARCHIVE)
    if form == "folder":
        with tarfile.open(tmp_path / imdb.ARCHIVE) as archive:
            archive.extractall(tmp_path, filter="data")
        (tmp_path / "aclImdb/test/neg").mkdir()
    index = imdb.get_word_index(tmp_path)
    assert index["good"] < index["bad"] and sorted(index.values()) == list(range(1, 6))
    (x, y), (x_test, y_test) = imdb.load_data(tmp_path)
    words = {i + 3: w for w, i in index.items()}
    found = sorted(
        (" ".join(words[i] for i in row[1:]), int(label)) for row, label in zip(x, y, strict=True)
    )
    assert found == [("a bad film", 0), ("a bad film", 0), ("a good good film good", 1)]
    assert all(row[0] == 1 for row in x) and x.dtype == object and y_test.tolist() == [1]
    assert len(x_test[0]) == 3


def test_imdb_limits(tmp_path):
    write_tables(tmp_path)
    index = imdb.get_word_index(tmp_path)
    limit = index["bad"] + 3
    (x, y), _ = imdb.load_data(tmp_path, num_words=limit)
    assert all(w < limit for row in x for w in row) and any(2 in row for row in x)
    (x, _), _ = imdb.load_data(tmp_path, num_words=limit, oov_char=None, start_char=None)
    assert all(4 <= w < limit for row in x for w in row)
    (x, y), _ = imdb.load_data(tmp_path, maxlen=5)
    assert len(x) == len(y) == 2
    with pytest.raises(ValueError, match="expected reviews shorter than maxlen=2, got none"):
        imdb.load_data(tmp_path, maxlen=2)


def test_imdb_that_is_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"aclImdb_v1.tar.gz, got no such file"):
        imdb.load_data(tmp_path)
    (tmp_path / imdb.ARCHIVE).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="imdb: expected the published archive"):
        imdb.load_data(tmp_path)
    (tmp_path / "train.tsv.gz").write_bytes(gzip.compress(b"no tabs\n"))
    with pytest.raises(ValueError, match="expected lines of label, rating and review"):
        imdb.load_data(tmp_path)


# -- get_file


def test_get_file(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    write_archive(source / "a.tar.gz")
    data = (source / "a.tar.gz").read_bytes()
    origin = (source / "a.tar.gz").as_uri()
    options = {"cache_dir": str(tmp_path), "file_hash": hashlib.sha256(data).hexdigest()}
    path = keras.utils.get_file("b.tar.gz", origin, **options)
    with open(path, "rb") as file:
        assert path.endswith("datasets/b.tar.gz") and file.read() == data
    (source / "a.tar.gz").unlink()  # the second call needs no source
    folder = keras.utils.get_file("b.tar.gz", origin, extract=True, **options)
    with open(folder + "/aclImdb/train/neg/0_1.txt", encoding="utf-8") as file:
        assert file.read() == BAD
    md5 = hashlib.md5(data).hexdigest()
    kwargs = {"cache_dir": str(tmp_path), "untar": True, "md5_hash": md5}
    assert keras.utils.get_file("b.tar.gz", origin, **kwargs) == folder
    with pytest.raises(FileNotFoundError, match="get_file: expected"):
        keras.utils.get_file("b.tar.gz", origin, force_download=True, **options)
    with pytest.raises(FileNotFoundError, match="get_file: expected"):
        keras.utils.get_file("c.tar.gz", origin, **options)
    with pytest.raises(ValueError, match="expected origin"):
        keras.utils.get_file("c.tar.gz")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Files as the published ones are, by digests of their own."""
    monkeypatch.setenv("DLCORE_DATA", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    texts = np.empty(10, object)
    texts[:] = [list(range(1, 3 + i)) for i in range(10)]
    files = {
        keras.datasets.california_housing: (np.arange(800.0).reshape(-1, 8), np.arange(100.0)),
        keras.datasets.boston_housing: (np.arange(130.0).reshape(-1, 13), np.arange(10.0)),
        keras.datasets.reuters: (texts, np.arange(10)),
    }
    for module, (x, y) in files.items():
        path = tmp_path / "datasets" / module.FILE
        np.savez(path, x=x, y=y)
        monkeypatch.setattr(module, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return tmp_path / "datasets"


def test_published_tables(published, monkeypatch):
    for module, width in ((keras.datasets.california_housing, 8),
                          (keras.datasets.boston_housing, 13)):  # fmt: skip
        (x, y), (_, y_test) = module.load_data(test_split=0.3)
        n = len(y) + len(y_test)
        assert len(y_test) == n * 3 // 10 and x.shape == (len(y), width)
        order = np.arange(n)
        np.random.RandomState(113).shuffle(order)
        np.testing.assert_array_equal(np.concatenate([y, y_test]), order)
        np.testing.assert_array_equal(x[:, 0], y * width)
        with pytest.raises(ValueError, match="expected test_split in 0 <= test_split < 1, got 1"):
            module.load_data(test_split=1)
        monkeypatch.setattr("dlcore.data.published.ORIGIN", published.as_uri() + "/none/")
        monkeypatch.setattr(module, "SHA256", "0" * 64)
        with pytest.raises(FileNotFoundError):  # another file is never read
            module.load_data()


def test_published_messages(published, monkeypatch):
    reuters = keras.datasets.reuters
    (x, y), (x_test, _) = reuters.load_data()
    assert len(x) == 8 and len(x_test) == 2
    assert all(row == [1, *range(4, 6 + label)] for row, label in zip(x, y, strict=True))
    (x, y), _ = reuters.load_data(num_words=6, maxlen=5, test_split=0, oov_char=None)
    assert sorted(y) == [0, 1] and all(row == [1, 4, 5] for row in x)
    words = published / reuters.WORDS
    words.write_text('{"oil": 1}')
    monkeypatch.setattr(reuters, "WORDS_MD5", hashlib.md5(words.read_bytes()).hexdigest())
    assert reuters.get_word_index() == {"oil": 1}
