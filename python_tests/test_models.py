"""Models: training against a NumPy loop in float64, the ways to call fit / evaluate / predict,
bad input.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import dlcore
from dlcore import callbacks, layers, losses, metrics, models, ops, optimizers, random

RNG = np.random.default_rng(11)
X = RNG.normal(size=(90, 6)).astype("float32")
LABELS = np.argmax(X[:, :3] + 0.1 * RNG.normal(size=(90, 3)), axis=1)
TARGETS = (X @ RNG.normal(size=(6, 2))).astype("float32")


def classifier(optimizer="adam", metric=("accuracy",), seed=0, **kwargs):
    random.set_random_seed(seed)
    model = models.Sequential(
        [layers.Input((6,)), layers.Dense(16, "tanh"), layers.Dense(3, "softmax")]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=list(metric), **kwargs)
    return model


def regressor(loss="mse", rate=0.05, l2=0.0):
    random.set_random_seed(3)
    model = models.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8, "tanh", kernel_regularizer=dlcore.regularizers.L2(l2) if l2 else None),
            layers.Dense(2),
        ]
    )
    model.compile(optimizers.SGD(rate), loss, metrics=["mae"])
    return model


def numpy_training(weights, x, y, batch, epochs, rate, l2=0.0, sample_weight=None):
    """Gradient descent on tanh-MLP and mean squared error; returns weights and the loss of each
    epoch.
    """
    w1, b1, w2, b2 = (w.astype("float64") for w in weights)
    x, y = x.astype("float64"), y.astype("float64")
    weight = np.ones(len(x)) if sample_weight is None else sample_weight.astype("float64")
    history = []
    for _ in range(epochs):
        total = 0.0
        for start in range(0, len(x), batch):
            xb, yb, sb = (v[start : start + batch] for v in (x, y, weight))
            h = np.tanh(xb @ w1 + b1)
            difference = h @ w2 + b2 - yb
            loss = np.mean(np.mean(difference**2, axis=1) * sb) + l2 * np.sum(w1**2)
            total += loss * len(xb)
            dy = 2 * difference / difference.size * sb[:, None]
            dz = (dy @ w2.T) * (1 - h**2)
            w2 -= rate * (h.T @ dy)
            b2 -= rate * dy.sum(0)
            w1 -= rate * (xb.T @ dz + 2 * l2 * w1)
            b1 -= rate * dz.sum(0)
        history.append(total / len(x))
    return [w1, b1, w2, b2], history


@pytest.mark.parametrize(
    ("batch", "l2", "weighted"), [(16, 0, False), (90, 0.1, False), (40, 0, True)]
)
def test_fit_is_gradient_descent(batch, l2, weighted):
    model = regressor(l2=l2)
    sample_weight = RNG.uniform(size=90) if weighted else None
    expected, losses_expected = numpy_training(
        model.get_weights(), X, TARGETS, batch, 4, 0.05, l2, sample_weight
    )
    history = model.fit(
        X, TARGETS, batch, epochs=4, shuffle=False, verbose=0, sample_weight=sample_weight
    )
    for w, e in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(w, e, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(history.history["loss"], losses_expected, rtol=1e-5)
    assert history.epoch == [0, 1, 2, 3]


def test_train_on_batch_is_a_step_of_fit():
    a, b = regressor(), regressor()
    a.fit(X, TARGETS, batch_size=32, shuffle=False, verbose=0)
    for start in range(0, 90, 32):
        x, y = X[start : start + 32], TARGETS[start : start + 32]
        before = b.evaluate(x, y, verbose=0)
        np.testing.assert_allclose(b.test_on_batch(x, y), before, rtol=1e-6)
        np.testing.assert_allclose(b.train_on_batch(x, y), before, rtol=1e-6)
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-6, atol=1e-7)


def test_class_weight_is_a_sample_weight():
    a, b = classifier(), classifier()
    weights = {0: 3.0, 2: 0.5}
    each = np.array([weights.get(int(k), 1.0) for k in LABELS])
    a.fit(X, LABELS, shuffle=False, verbose=0, class_weight=weights)
    b.fit(X, LABELS, shuffle=False, verbose=0, sample_weight=each)
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)


def test_class_weights_multiply_sample_weights():
    a, b = classifier(), classifier()
    weights, own = {0: 3.0, 2: 0.5}, RNG.uniform(0.5, 2, len(X)).astype("float32")
    each = np.array([weights.get(int(k), 1.0) for k in LABELS])
    a.fit(X, LABELS, shuffle=False, verbose=0, class_weight=weights, sample_weight=own)
    b.fit(X, LABELS, shuffle=False, verbose=0, sample_weight=each * own)
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-6)


def test_class_weight_leaves_validation_alone():
    model = classifier()
    history = model.fit(
        X, LABELS, verbose=0, class_weight={0: 3.0, 2: 0.5}, validation_split=0.25, epochs=1
    )
    at = int(90 * 0.75)
    value = model.evaluate(X[at:], LABELS[at:], verbose=0, return_dict=True)["loss"]
    assert history.history["val_loss"] == [pytest.approx(value, rel=1e-6)]


def test_targets_of_one_output_in_a_list():
    a, b = classifier(), classifier()
    a.fit([X], [LABELS], shuffle=False, verbose=0)
    b.fit(X, LABELS, shuffle=False, verbose=0)
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)


def test_weights_of_a_loss_that_is_one_number():
    def loss(y, y_pred):
        return ops.mean(ops.square(y - y_pred))

    model, w = regressor(), RNG.uniform(size=90)
    model.compile("sgd", loss)
    expected = np.mean((model.predict(X) - TARGETS) ** 2) * w.mean()
    assert model.evaluate(X, TARGETS, 90, 0, w) == pytest.approx(expected, rel=1e-5)


def test_learns():
    model = classifier()
    history = model.fit(X, LABELS, epochs=60, batch_size=16, verbose=0)
    _, accuracy = model.evaluate(X, LABELS, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert accuracy > 0.9
    assert accuracy == pytest.approx(np.mean(model.predict(X).argmax(1) == LABELS))


def test_evaluate_is_the_mean_over_rows():
    model = classifier()
    p = model.predict(X).astype("float64")
    expected = -np.mean(np.log(p[np.arange(90), LABELS]))
    for batch in (7, 32, 90, 1000):
        loss, accuracy = model.evaluate(X, LABELS, batch_size=batch, verbose=0)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert accuracy == pytest.approx(np.mean(p.argmax(1) == LABELS))
    logs = model.evaluate(X, LABELS, verbose=0, return_dict=True)
    assert list(logs) == ["accuracy", "loss"]  # names in order, and lists with the loss first
    assert model.evaluate(X, LABELS, steps=1, verbose=0)[1] == pytest.approx(
        np.mean(p[:32].argmax(1) == LABELS[:32])
    )


def test_predict_has_the_same_bits_for_any_batch():
    model = classifier()
    whole = model.predict(X)
    assert whole.shape == (90, 3) and whole.dtype == np.float32
    # NumPy's own products depend on the shape.
    tolerance = 1e-5 if dlcore.backends.active() in ("numpy", "cupy") else 0

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=tolerance)

    for batch in (1, 13, 90, 1000):
        compare(model.predict(X, batch_size=batch), whole)
    compare(np.concatenate([model.predict(X[i : i + 1]) for i in range(90)]), whole)
    compare(model.predict_on_batch(X), whole)
    compare(model(X), whole)
    compare(model.predict(X, steps=2), whole[:64])


def test_predict_after_weights_change():
    model = classifier()
    row = X[:1]
    before = model.predict(row).copy()
    model.predict(row)
    model.fit(X, LABELS, verbose=0)
    after = model.predict(row)
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, model.predict(X)[:1], rtol=1e-5)
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    np.testing.assert_allclose(model.predict(row), np.full((1, 3), 1 / 3), rtol=1e-6)
    model.pop()
    assert model.predict(row).shape == (1, 16)


def strided(a):
    wide = np.zeros((a.shape[0], 2 * a.shape[1]), a.dtype)
    wide[:, ::2] = a
    return wide[:, ::2]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def misaligned(a):
    buffer = np.zeros(a.nbytes + 1, "uint8")
    b = buffer[1:].view(a.dtype).reshape(a.shape)
    b[...] = a
    return b


class Frame:
    """Like a pandas frame: only np.asarray knows what is in it."""

    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.a, dtype)


class Mixed(Frame):
    """A frame with a column of text."""

    columns, dtypes = ["age", "name"], [np.dtype("float32"), np.dtype("O")]

    def __array__(self, dtype=None, copy=None):
        return np.array([[1.0, "a"]] * len(self.a), object)


class Missing(Frame):
    """A frame with a number that is missing: NumPy sees objects."""

    columns, dtypes = ["age"], [np.dtype("float32")]

    def __array__(self, dtype=None, copy=None):
        return np.array([[object()]] * len(self.a))


class Sparse:
    """Like a sparse matrix: NumPy sees one object."""

    __array_interface__ = {"shape": (), "typestr": "|O", "version": 3, "data": None}  # noqa: RUF012

    def toarray(self):
        return X


class Exported:
    """What has nothing but DLPack."""

    def __init__(self, a):
        self.__dlpack__, self.__dlpack_device__ = a.__dlpack__, a.__dlpack_device__


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.tolist(), lambda a: a.astype("float64"), lambda a: a.astype(">f4"), strided,
        np.asfortranarray, read_only, misaligned, Frame, lambda a: a.astype(object), Exported,
        np.ma.asarray,
    ],
    ids=[
        "list", "float64", "big endian", "strided", "Fortran", "read-only", "misaligned", "frame",
        "object", "DLPack", "masked nowhere",
    ],
)  # fmt: skip
def test_any_kind_of_array(convert):
    a, b = classifier(), classifier()
    a.fit(X, LABELS, epochs=2, verbose=0, shuffle=False)
    labels = convert(LABELS[:, None].astype("float32"))
    b.fit(convert(X), labels, epochs=2, verbose=0, shuffle=False)
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)
    np.testing.assert_array_equal(a.predict(X), b.predict(convert(X)))
    np.testing.assert_array_equal(a.predict(X[:3]), b.predict(convert(X[:3])))
    assert a.evaluate(X, LABELS, verbose=0) == b.evaluate(convert(X), LABELS.tolist(), verbose=0)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int64", "bool"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_integer_images(dtype, shuffle):
    images = RNG.integers(0, 2 if dtype == "bool" else 100, size=(50, 4, 3)).astype(dtype)
    labels = RNG.integers(0, 3, 50)
    results = []
    for x in (images, images.astype("float32")):
        random.set_random_seed(1)
        model = models.Sequential([layers.Flatten(), layers.Dense(3, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(x, labels, verbose=0, shuffle=shuffle)
        results.append((model.get_weights(), model.predict(x), model.predict(x[:1])))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(results[0][2], results[1][2])


def test_sizes():
    model = classifier()
    assert model.fit(X, LABELS, epochs=0, verbose=0).history == {}
    assert len(model.fit(X, LABELS, batch_size=1000, verbose=0).history["loss"]) == 1
    assert len(model.fit(X[:1], LABELS[:1], verbose=0).history["loss"]) == 1
    assert np.isfinite(model.evaluate(X[:1], LABELS[:1], verbose=0)).all()
    assert model.predict(X[:1]).shape == (1, 3)
    with pytest.raises(ValueError, match="at least one row"):
        model.fit(X[:0], LABELS[:0])
    with pytest.raises(ValueError, match="at least one row"):
        model.predict(X[:0])


def test_one_column_of_targets_with_or_without_its_axis():
    y = X[:, 0] * 2
    results = []
    for target in (y, y[:, None]):
        random.set_random_seed(0)
        model = models.Sequential([layers.Dense(1, input_dim=6)])
        model.compile("sgd", "mse")
        model.fit(X, target, verbose=0, shuffle=False)
        results.append(model.get_weights()[0])
    np.testing.assert_array_equal(*results)
    model = models.Sequential([layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="expected y_true of shape"):
        model.fit(X, np.stack([y, y], axis=1), verbose=0)


def test_a_vector_is_one_feature():
    model = models.Sequential([layers.Dense(1, input_shape=(1,))])
    model.compile("sgd", "mse")
    model.fit(np.arange(8.0), np.arange(8.0), verbose=0)
    assert model.predict(np.arange(3.0)).shape == (3, 1)


def test_shuffling_is_reproducible():
    def train(seed, shuffle=True):
        model = classifier(seed=seed)
        model.fit(X, LABELS, epochs=3, verbose=0, shuffle=shuffle)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    np.testing.assert_array_equal(train(1), train(1))
    assert not np.array_equal(train(1), train(1, shuffle=False))
    assert not np.array_equal(train(1), train(2))


def test_shuffling_visits_every_row_once():
    """With the rate 0 nothing is learned: the loss of an epoch is the mean over all rows."""
    model = classifier(optimizers.SGD(0.0))
    expected = model.evaluate(X, LABELS, verbose=0)
    history = model.fit(X, LABELS, batch_size=16, epochs=2, verbose=0)
    np.testing.assert_allclose(history.history["loss"], [expected[0]] * 2, rtol=1e-6)
    np.testing.assert_allclose(history.history["accuracy"], [expected[1]] * 2)


def test_dropout_is_reproducible_and_new_at_every_step():
    def train(seed, steps):
        random.set_random_seed(seed)
        model = models.Sequential(
            [layers.Input((6,)), layers.Dropout(0.5), layers.Dense(1, kernel_initializer="zeros")]
        )
        model.compile(optimizers.SGD(1.0), lambda y, p: ops.sum(p, axis=-1))
        weights = []
        watch = callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()[0][:, 0])
        )
        x = np.ones((1, 6))
        model.fit(x, x[:, :1], epochs=steps, verbose=0, callbacks=[watch])
        return np.diff([np.zeros(6), *weights], axis=0)  # minus the masked inputs of every step

    masks = train(4, 20)
    assert set(np.unique(masks)) == {-2.0, 0.0}
    assert len(np.unique(masks, axis=0)) > 10
    np.testing.assert_array_equal(masks, train(4, 20))
    assert not np.array_equal(masks, train(5, 20))


def test_validation():
    model = classifier()
    history = model.fit(X, LABELS, epochs=2, validation_split=0.2, verbose=0)
    expected = model.evaluate(X[72:], LABELS[72:], verbose=0)
    assert [history.history["val_loss"][-1], history.history["val_accuracy"][-1]] == expected
    assert history.params["steps"] == 3  # 72 rows
    history = model.fit(
        X, LABELS, epochs=4, validation_data=(X[:9], LABELS[:9]), validation_freq=2, verbose=0
    )
    assert len(history.history["val_loss"]) == 2
    history = model.fit(
        X, LABELS, epochs=3, initial_epoch=1, validation_freq=[3], verbose=0,
        validation_data=(X[:9].tolist(), LABELS[:9].tolist(), np.ones(9)),
    )  # fmt: skip
    assert history.epoch == [1, 2] and len(history.history["val_loss"]) == 1
    for split in (1.0, 0.999, -0.5):
        with pytest.raises(ValueError, match="validation_split"):
            model.fit(X, LABELS, validation_split=split)
    with pytest.raises(ValueError, match=r"validation_data as x, \(x, y\)"):
        model.fit(X, LABELS, validation_data=())
    with pytest.raises(ValueError, match=r"expected \(x, y\) for the loss, got x alone"):
        model.fit(X, LABELS, validation_data=X)


def test_steps_per_epoch():
    model = regressor()
    expected, _ = numpy_training(model.get_weights(), X[:32], TARGETS[:32], 16, 1, 0.05)
    model.fit(X, TARGETS, 16, steps_per_epoch=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], expected[0], rtol=1e-5, atol=1e-6)


def test_metrics_of_every_kind():
    def distance(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred), axis=-1)

    model = regressor()
    model.compile("sgd", "mse", metrics=["mae", metrics.RootMeanSquaredError(), distance])
    history = model.fit(X, TARGETS, verbose=0)
    assert list(history.history) == ["distance", "loss", "mae", "root_mean_squared_error"]
    assert model.metrics_names == ["loss", "mae", "root_mean_squared_error", "distance"]
    loss, mae, rmse, same = model.evaluate(X, TARGETS, verbose=0)
    difference = model.predict(X).astype("float64") - TARGETS
    assert loss == pytest.approx(np.mean(difference**2), rel=1e-5)
    assert mae == pytest.approx(np.mean(np.abs(difference)), rel=1e-5) == same
    assert rmse == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-5)


def test_weighted_metrics():
    model = regressor()
    model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mse"])
    weight = RNG.uniform(size=90)
    _, mae, mse = model.evaluate(X, TARGETS, sample_weight=weight, verbose=0)
    difference = model.predict(X).astype("float64") - TARGETS
    assert mae == pytest.approx(np.mean(np.abs(difference)), rel=1e-5)
    expected = np.sum(weight * np.mean(difference**2, axis=1)) / weight.sum()
    assert mse == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "units", "loss", "labels"),
    [
        ("softmax", 3, "sparse_categorical_crossentropy", LABELS),
        ("softmax", 3, "categorical_crossentropy", np.eye(3)[LABELS]),
        ("sigmoid", 1, "binary_crossentropy", LABELS == 1),
        ("softmax", 3, "crossentropy", LABELS),
    ],
)
def test_accuracy_means_what_the_targets_are(activation, units, loss, labels):
    model = models.Sequential([layers.Dense(units, activation)])
    model.compile("adam", loss, metrics=["acc"])
    model.fit(X, labels, verbose=0)
    p = model.predict(X)
    right = p.argmax(1) == LABELS if units > 1 else (p[:, 0] > 0.5) == (LABELS == 1)
    assert model.evaluate(X, labels, verbose=0, return_dict=True)["acc"] == pytest.approx(
        right.mean()
    )


class Net(models.Model):
    """A residual block, a penalty and an inner model."""

    def __init__(self, units=6):
        super().__init__()
        self.units = units
        self.hidden = layers.Dense(units, "relu")
        self.inner = models.Sequential([layers.Dense(4), layers.Dropout(0.0), layers.Dense(2)])

    def call(self, x, training=None):
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return self.inner(x + self.hidden(x))


def test_subclass():
    model = Net()
    with pytest.raises(RuntimeError, match="expected a compiled model"):
        model.fit(X, TARGETS)
    model.compile("sgd", "mse")
    model.fit(X, TARGETS, epochs=2, verbose=0)
    assert len(model.weights) == 6 and len(model.layers) == 2
    difference = np.mean((model.predict(X).astype("float64") - TARGETS) ** 2)
    expected = difference + 0.1 * np.mean(X.astype("float64") ** 2)
    assert model.evaluate(X, TARGETS, batch_size=90, verbose=0) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(model(X), model.predict(X), rtol=1e-5, atol=1e-6)


def test_several_inputs():
    class Both(models.Model):
        def __init__(self):
            super().__init__()
            self.out = layers.Dense(1)

        def call(self, inputs):
            return self.out(inputs["a"] * inputs["b"])

    model = Both()
    model.compile("sgd", "mse")
    model.fit({"a": X, "b": X}, X[:, :1], epochs=1, verbose=0)
    assert model.predict({"a": X, "b": X}).shape == (90, 1)
    with pytest.raises(ValueError, match="expected x with 90 rows"):
        model.fit({"a": X, "b": X[:5]}, X[:, :1], verbose=0)


def test_frozen_layers_stay():
    model = regressor()
    model.layers[0].trainable = False
    first, second = model.layers[0].get_weights()[0], model.layers[1].get_weights()[0]
    model.compile("adam", "mse")
    model.fit(X, TARGETS, verbose=0)
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], first)
    assert not np.array_equal(model.layers[1].get_weights()[0], second)


def test_layers_shared_by_two_models():
    base = layers.Dense(4, "tanh", input_shape=(6,))
    a = models.Sequential([base, layers.Dense(2)])
    a.compile("sgd", "mse")
    a.fit(X, TARGETS, verbose=0)
    b = models.Sequential([base, layers.Dense(1)])
    b.compile("sgd", "mse")
    row = X[:1]
    before = a.predict(row)
    b.fit(X, TARGETS[:, :1], verbose=0)
    after = a.predict(row)
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(a(row), after, rtol=1e-6)
    a.fit(X, TARGETS, verbose=0)
    np.testing.assert_array_equal(a.layers[0].get_weights()[0], b.layers[0].get_weights()[0])


def test_sequential_grows_and_shrinks():
    model = models.Sequential(name="mine")
    assert not model.built and model.name == "mine"
    model.add(layers.Dense(4, input_shape=(6,)))
    assert model.output_shape == (None, 4) and len(model.weights) == 2
    model.add(layers.Dense(2))
    assert model.output_shape == (None, 2) and model.input_shape == (None, 6)
    assert model(X).shape == (90, 2)
    assert model.pop().units == 2 and model.predict(X).shape == model(X).shape == (90, 4)
    assert [x.units for x in model.layers] == [4] and model.get_layer(index=0).units == 4
    unbuilt = models.Sequential([layers.Dense(3)])
    assert unbuilt.weights == []
    unbuilt.build((None, 5))
    assert unbuilt.count_params() == 18
    same = models.clone_model(unbuilt)
    assert same.count_params() == 18 and same.name == unbuilt.name
    assert models.model_from_json(unbuilt.to_json()).output_shape == (None, 3)


def test_summary():
    model = classifier()
    lines = []
    model.summary(print_fn=lines.append)
    text = lines[0]
    for part in ("dense", "(None, 16)", "112", "51", "Parameters: 163", "FLOPs", "peak memory"):
        assert part in text
    weights = model.get_weights()
    model.summary(print_fn=lines.append, show_trainable=True)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    Net().summary(print_fn=lines.append)
    assert "unbuilt" in lines[-1]


@pytest.mark.parametrize("loss", ["binary_crossentropy", losses.BinaryFocalCrossentropy()])
def test_labels_of_two_classes_are_0_and_1(loss):
    model = models.Sequential([layers.Input((6,)), layers.Dense(1, "sigmoid")])
    model.compile("sgd", loss)
    for labels, got in ((2 * (LABELS == 1) - 1, -1), (LABELS, 2), (np.full(90, 255, "uint8"), 255)):
        with pytest.raises(ValueError, match=rf"expected labels in 0\.\.1, got {got} at row \d"):
            model.fit(X, labels, verbose=0)
    for labels in (LABELS == 1, (LABELS == 1).astype(int), 1.05 * (LABELS == 1)):
        model.fit(X, labels, verbose=0)  # noise on labels is a habit of GANs


def wrong_labels(value):
    labels = LABELS.copy()
    labels[7] = value
    return labels


ERRORS = [
    (lambda m: m.fit(X, wrong_labels(3)),
     r"sparse_categorical_crossentropy: expected labels in 0..2, got 3 at row 7"),
    (lambda m: m.fit(X, wrong_labels(-1)), "got -1 at row 7"),
    (lambda m: m.fit(X, LABELS + 0.5), "expected integer labels, got [0-2].5 at row 0"),
    (lambda m: m.fit(X, np.full(90, np.nan)), "expected integer labels, got nan at row 0"),
    (lambda m: m.fit(X, np.eye(3)[LABELS]), "expected"),
    (lambda m: m.fit(X, LABELS, epochs=-1), "expected epochs as an int above -1, got -1"),
    (lambda m: m.fit(X, LABELS, steps_per_epoch=0), "expected steps_per_epoch"),
    (lambda m: m.fit(X, LABELS, validation_split=0.5, validation_batch_size=0), "validation_batch"),
    (lambda m: models.Model(inputs=[], outputs=[]), "at least one of inputs"),
    (lambda m: m.evaluate(X, wrong_labels(9)), "got 9 at row 7"),
    (lambda m: m.fit(X[:, :5], LABELS), r"dense\w*: expected input \(batch, 6\), got \(90, 5\)"),
    (lambda m: m.predict(X[:1, :5]), r"dense\w*: expected input \(batch, 6\), got \(1, 5\)"),
    (lambda m: m.predict(X[:, :, None, None]), r"expected input \(batch, 6\)"),
    (lambda m: m.fit(X, LABELS[:80]), "fit: expected y with 90 rows like x, got 80"),
    (lambda m: m.fit(X, LABELS, sample_weight=np.ones(3)), "expected sample_weight with 90 rows"),
    (lambda m: m.fit(X), "expected y"),
    (lambda m: m.fit(None, LABELS), "expected x, got None"),
    (lambda m: m.fit(X, LABELS, batch_size=0), "expected batch_size as an int above 0, got 0"),
    (lambda m: m.fit(X, LABELS, batch_size=2.5), "batch_size"),
    (lambda m: m.fit(np.array([["a"] * 6]), LABELS[:1]), "expected numbers in x"),
    (lambda m: m.fit([[1, 2], [3]], LABELS[:2]), "expected numbers in x"),
    (lambda m: m.fit(X + 1j, LABELS), "expected numbers in x"),
    (lambda m: m.fit(np.ma.masked_less(X, 0), LABELS), "masked array with .* masked; x.filled"),
    (lambda m: m.fit(X, ["cat", "dog", "cat"] * 30), r"in y, got text; np.unique\(y, return_inv"),
    (lambda m: m.fit(["a cat"] * 90, LABELS), "in x, got text; TextVectorization"),
    (lambda m: m.fit(Missing(X), LABELS), "x, got a Missing with missing values"),
    (lambda m: m.fit(Mixed(X), LABELS), r"something else in the columns \['name'\]"),
    (lambda m: m.fit(Sparse(), LABELS), r"x, got a Sparse; x.toarray\(\) is dense"),
    (lambda m: m.predict(X[0]), r"got \(6,\); x\[None\] makes a batch of one sample"),
    (lambda m: m.predict(X.reshape(90, 2, 3)), r"x.reshape\(-1, 6\) has such rows"),
    (lambda m: m.fit(X, LABELS, validation_data=X), r"expected \(x, y\) for the loss, got x alone"),
    (lambda m: m.fit(X, LABELS, class_weight="balanced"), "expected a dict .*, got 'balanced'"),
    (lambda m: m.fit(X, LABELS, class_weight=[1, 2, 3]), "class_weight: expected a dict from"),
    (lambda m: m.predict(3.0), "one row per sample"),
    (lambda m: m.fit(X, LABELS, callbacks=[3]), "expected Callback objects"),
    (lambda m: m.fit(X, LABELS, verbose=7), "verbose: expected"),
    (lambda m: m.fit(X, LABELS, class_weight={0: -1.0}), "class_weight"),
    (lambda m: m.compile("adm", "mse"), "did you mean 'adam"),
    (lambda m: m.compile("adam", "mean_square_error"), "mean_squared_error"),
    (lambda m: m.compile("adam", "mse", metrics=["acuracy"]), "accuracy"),
    (lambda m: m.compile("adam", "mse", metrics="mae"), "expected metrics as a list"),
    (lambda m: m.compile("adam", "mse", loss_weights=[1, 2]), "loss_weights as one number"),
    (lambda m: m.compile("adam", "mse", ["mae"]), r"got \['mae'\]; for metrics write metrics="),
    (lambda m: m.compile(optimizers.SGD(-0.1), "mse"), "-0.1"),
    (lambda m: m.add(layers.Input((3,))), "first entry only"),
    (lambda m: m.add("dense"), "expected a Layer"),
    (lambda m: m.add(layers.Flatten), r"call it: Flatten\(...\)"),
    (lambda m: models.Sequential(layers.Dense(2)), "expected a list of layers, got <Dense"),
    (lambda m: layers.Dense(10**12).build((None, 6)), "room for a weight of shape"),
    (lambda m: layers.Dense(2**80).build((None, 6)), r"room for a weight of shape \(6, 12\d+"),
    (lambda m: m.save("no/such/folder/file"), "expected a file in a folder that exists"),
    (lambda m: m.save("/"), "expected the name of a file, got the folder '/'"),
    (lambda m: m.add(m.layers[0]), "twice"),
    (lambda m: m.build((None, 9)), "expected input shape"),
    (lambda m: m.get_layer("nope"), "got 'nope'"),
    (lambda m: models.Sequential().pop(), "empty model"),
    (lambda m: models.Sequential([layers.Dense(1)]).output_shape, "expected a built model"),
    (lambda m: models.Sequential([layers.Dense(1)]).evaluate(X, LABELS), "call compile"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_errors(act, message):
    model = classifier()
    before = model.get_weights()
    errors = ValueError, TypeError, RuntimeError, AttributeError, MemoryError, OSError
    with pytest.raises(errors, match=message):
        act(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, LABELS, verbose=0)  # the model still works


def test_check_numerics():
    model = classifier()
    bad = X.copy()
    bad[4, 2] = np.nan
    dlcore.config.check_numerics(True)
    try:
        with pytest.raises(
            ValueError, match="expected finite values in x, got NaN or Inf in row 4"
        ):
            model.fit(bad, LABELS, verbose=0)
        regression = regressor(rate=1e30)
        with pytest.raises(ValueError, match="expected a finite loss"):
            regression.fit(X, TARGETS, epochs=5, verbose=0)
    finally:
        dlcore.config.check_numerics(False)


def test_ctrl_c():
    """An interrupt stops `fit` within 200 ms and leaves weights that predict."""
    model = models.Sequential(
        [layers.Dense(256, "relu"), layers.Dense(256, "relu"), layers.Dense(2)]
    )
    model.compile("adam", "mse")
    x, y = np.tile(X, (100, 1)), np.tile(TARGETS, (100, 1))
    model.fit(x[:64], y[:64], verbose=0)
    raised = []

    def interrupt():
        time.sleep(0.3)
        raised.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=100_000, verbose=0)
    latency = time.perf_counter() - raised[0]
    thread.join()
    assert latency < 0.2
    assert np.isfinite(model.predict(x)).all()
    model.fit(x[:64], y[:64], verbose=0)


def test_models_in_threads():
    def train(seed, into):
        model = models.Sequential([layers.Dense(8, "tanh"), layers.Dense(2)])
        model.build((None, 6))
        r = np.random.default_rng(seed)
        model.set_weights([r.normal(size=w.shape) for w in model.get_weights()])
        model.compile("adam", "mse", metrics=["mae"])
        model.fit(X, TARGETS, epochs=20, verbose=0, shuffle=False)
        into[seed] = np.concatenate([w.ravel() for w in model.get_weights()])

    alone, together = {}, {}
    for seed in range(8):
        train(seed, alone)
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for seed in range(8):
        np.testing.assert_array_equal(alone[seed], together[seed])


def test_stop_training_from_a_batch():
    class Stop(callbacks.Callback):
        seen = 0

        def on_train_batch_end(self, batch, logs=None):
            self.seen += 1
            self.model.stop_training = batch == 1

    stop = Stop()
    history = regressor().fit(X, TARGETS, 16, epochs=5, verbose=0, callbacks=[stop])
    assert stop.seen == 2 and history.epoch == [0]


def test_loss_objects_and_functions():
    def own(y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1)

    results = []
    for loss in (
        "mse",
        "mean_squared_error",
        losses.MeanSquaredError(),
        losses.mean_squared_error,
        own,
    ):
        model = regressor(loss)
        model.fit(X, TARGETS, verbose=0, shuffle=False)
        results.append(model.get_weights()[0])
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-6, atol=1e-7)


def test_logits():
    """Cross-entropy of logits and of their softmax train alike."""
    results = []
    for activation, from_logits in (("softmax", False), (None, True)):
        random.set_random_seed(0)
        model = models.Sequential([layers.Dense(3, activation, input_shape=(6,))])
        loss = losses.SparseCategoricalCrossentropy(from_logits=from_logits)
        model.compile("sgd", loss, metrics=["accuracy"])
        model.fit(X, LABELS, epochs=3, verbose=0, shuffle=False)
        results.append(model.get_weights()[0])
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


def test_integer_inputs_reach_a_subclass_as_they_are(tmp_path):
    class Lookup(models.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.out = layers.Dense(2)

        def call(self, x):
            assert x.dtype == "int64"
            return self.out(ops.one_hot(x[:, 0], 5))

    model = Lookup()
    model.compile("sgd", "mse")
    x = np.arange(20).reshape(20, 1) % 5
    model.fit(x, TARGETS[:20], verbose=0)
    model.summary(print_fn=lambda text: None)
    model.save(tmp_path / "m")
    other = models.load_model(tmp_path / "m", {"Lookup": Lookup})
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peak memory of Linux")
def test_training_takes_the_memory_that_was_planned():
    """In a process of its own, which does nothing else: the growth of its resident memory."""
    code = """
import gc, numpy as np, dlcore
from dlcore import layers

def train(n, batch):
    model = dlcore.Sequential([layers.Input((32, 32, 3)), layers.Conv2D(16, 3, padding="same"),
        layers.BatchNormalization(), layers.ReLU(), layers.Flatten(), layers.Dense(10)])
    model.compile("adam", "mse")
    x, y = np.ones((n, 32, 32, 3), "float32"), np.ones((n, 10), "float32")
    gc.collect()
    before = resident("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
    model.fit(x, y, batch_size=batch, verbose=0)
    (program,) = model._programs.values()
    planned = program.memory_bytes + sum(
        v.value.nbytes for v in [*model.weights, *model.optimizer.variables])
    return resident("VmHWM") - before, planned

def resident(kind):
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return 1024 * int(lines[kind].split()[0])

train(2, 1)  # loads code
grown, planned = train(512, 512)
assert 0.95 * planned < grown < 1.05 * planned, (grown, planned)
"""
    environment = os.environ | {"DLCORE_BACKEND": "cpu"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_summary_leaves_targets_of_own_losses_alone():
    """A step on guessed targets would be refused, and decide what "accuracy" means."""

    def loss(y, y_pred):
        return dlcore.losses.sparse_categorical_crossentropy(y, y_pred)

    model = dlcore.Sequential([layers.Input((3,)), layers.Dense(4, activation="softmax")])
    model.compile("sgd", loss, metrics=["accuracy"])
    model.summary(print_fn=lambda text: None)
    x, y = RNG.normal(size=(20, 3)), RNG.integers(0, 4, 20)
    accuracy = model.evaluate(x, y, verbose=0)[1]
    assert accuracy == pytest.approx((model.predict(x, verbose=0).argmax(-1) == y).mean())


def test_an_inner_stack_takes_other_lengths():
    stack = models.Sequential([layers.Dense(4, "relu"), layers.Dense(2)])

    class Around(layers.Layer):
        def __init__(self):
            super().__init__()
            self.stack = stack

        def call(self, x):
            return self.stack(x)

    x = layers.Input((None, 3))
    model = models.Model(x, Around()(x))
    assert model.output_shape == (None, None, 2)
    assert model.predict(np.ones((2, 5, 3))).shape == (2, 5, 2)
    assert stack.layers[0].output.shape == (None, None, 4)
    with pytest.raises(ValueError, match="expected input"):
        stack(np.ones((2, 5, 4)))


def test_one_array_of_targets_for_the_one_output_with_a_loss():
    x = layers.Input((3,))
    h = layers.Dense(2)(x)
    model = models.Model(x, [layers.Dense(1)(h), h])
    model.compile("sgd", ["mse", None])
    assert len(model.fit(X[:, :3], TARGETS[:, :1], verbose=0).history["loss"]) == 1
