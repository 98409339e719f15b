"""train_on_batch and test_on_batch: batches of known shapes and types take a short cut, which has
to do and to refuse the same as the long way.
"""

import numpy as np
import pytest

import dlcore as keras
from dlcore import layers

RNG = np.random.default_rng(5)
X = RNG.normal(size=(12, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 12)


def make_model():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu"), layers.Dropout(0.5), layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"])
    return model


@pytest.fixture
def model():
    return make_model()


def long_way(monkeypatch):
    """No batch is known from here on."""
    monkeypatch.setattr(keras.Model, "_remember_step", lambda *args: None)


def checked_batches(model):
    """How many batches go the long way, where everything is checked."""
    calls, data = [], model._data

    def counted(*args):
        calls.append(args[0])
        return data(*args)

    model.__dict__["_data"] = counted
    return calls


def steps(model):
    logs = [model.train_on_batch(X, LABELS) for _ in range(3)]
    logs.append(model.test_on_batch(X, LABELS, return_dict=True))
    model.optimizer.learning_rate = 0.01
    logs += [model.train_on_batch(X, LABELS, return_dict=True) for _ in range(2)]
    logs += [model.test_on_batch(X[:5], LABELS[:5]) for _ in range(2)]
    return logs, model.get_weights()


def test_known_batches_are_not_checked_again(model):
    calls = checked_batches(model)
    for _ in range(4):
        model.train_on_batch(X, LABELS)
        model.test_on_batch(X, LABELS)
    assert calls == ["train_on_batch", "test_on_batch"]
    model.train_on_batch(X[:5], LABELS[:5])
    model.train_on_batch(X, LABELS.astype("int32"))
    assert len(calls) == 4


def test_the_short_cut_does_the_same(model, monkeypatch):
    logs, weights = steps(model)
    long_way(monkeypatch)
    other = make_model()
    calls = checked_batches(other)
    expected_logs, expected = steps(other)
    assert len(calls) == len(logs) == 8
    assert logs == expected_logs
    for w, e in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(w, e)


def test_labels_of_known_batches_are_looked_at(model):
    model.train_on_batch(X, LABELS)
    wrong = LABELS.copy()
    wrong[7] = 3
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"expected labels in 0\.\.2, got 3 at row 7"):
        model.train_on_batch(X, wrong)
    for w, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(w, b)


def test_token_ids_of_known_batches_are_looked_at():
    model = keras.Sequential([layers.Embedding(10, 4), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    ids, y = RNG.integers(0, 10, (4, 3)), np.ones((4, 1), "float32")
    calls = checked_batches(model)
    for _ in range(3):
        model.train_on_batch(ids, y)
    assert len(calls) == 1
    with pytest.raises(ValueError, match=r"expected token ids in 0\.\.9"):
        model.train_on_batch(ids + 10, y)


def test_what_changes_is_noticed(model):
    for _ in range(2):
        model.train_on_batch(X, LABELS)
    before = model.test_on_batch(X, LABELS)
    model.layers[1].rate = 0.0  # dropout: training is now what testing is
    assert model.train_on_batch(X, LABELS) == pytest.approx(before, rel=1e-5)
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    frozen, released = model.layers[0].get_weights(), model.layers[2].get_weights()
    for _ in range(2):
        assert isinstance(model.train_on_batch(X, LABELS), float)  # no accuracy any more
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], frozen[0])
    assert (model.layers[2].get_weights()[0] != released[0]).any()


def test_check_numerics_counts_from_when_it_is_set(model):
    model.train_on_batch(X, LABELS)
    bad = np.where(np.arange(6) == 2, np.nan, X).astype("float32")
    keras.config.check_numerics(True)
    try:
        with pytest.raises(ValueError, match="NaN"):
            model.train_on_batch(bad, LABELS)
    finally:
        keras.config.check_numerics(False)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x[:, ::-1],
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(">f4"),
        lambda x: x.astype("float64"),
        lambda x: x.tolist(),
        lambda x: np.frombuffer(b"0" + x.tobytes(), "u1")[1:].view("f4").reshape(x.shape),
    ],
    ids=["reversed", "columns first", "big-endian", "float64", "list", "misaligned"],
)
def test_arrays_of_other_forms(model, other):
    given = other(X)
    dense = np.array(given, "float32")
    expected = model.test_on_batch(dense, LABELS)
    calls = checked_batches(model)
    for _ in range(3):
        assert model.test_on_batch(given, LABELS.astype("uint8")) == expected
    assert len(calls) == (3 if isinstance(given, list) else 1)
