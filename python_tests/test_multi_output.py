"""Several inputs, outputs, losses and metrics: against the same sums in NumPy."""

import numpy as np
import pytest

import dlcore
from dlcore import layers, models, ops, random

RNG = np.random.default_rng(5)
X = RNG.normal(size=(70, 6)).astype("float32")
Y1 = (X @ RNG.normal(size=(6, 2))).astype("float32")
LABELS = RNG.integers(0, 3, 70)
W1, W2 = RNG.uniform(size=70), RNG.uniform(size=70)


def as_dict(pair):
    return {"a": pair[0], "b": pair[1]}


NESTS = {"tuple": tuple, "list": list, "dict": as_dict}


class Two(models.Model):
    """One shared layer, two outputs nested as `nest` says."""

    def __init__(self, nest="tuple", **kwargs):
        super().__init__(**kwargs)
        self.nest = nest
        self.hidden = layers.Dense(8, "tanh")
        self.a = layers.Dense(2)
        self.b = layers.Dense(3, "softmax")

    def call(self, x):
        h = self.hidden(x)
        return NESTS[self.nest]((self.a(h), self.b(h)))


def compiled(nest="tuple", **kwargs):
    random.set_random_seed(1)
    model = Two(nest)
    losses = {"loss": ["mse", "sparse_categorical_crossentropy"], "loss_weights": [2.0, 0.5]}
    model.compile("sgd", **(losses | kwargs))
    return model


def by_hand(model, w1=None, w2=None):
    """Losses, mean absolute error and accuracy from predictions."""
    a, b = [np.asarray(p, "float64") for p in model.predict(X)]
    w1, w2 = (np.ones(70) if w is None else w for w in (w1, w2))
    mse = np.mean(np.mean((a - Y1) ** 2, axis=1) * w1)
    nll = np.mean(-np.log(b[np.arange(70), LABELS]) * w2)
    return mse, nll, np.mean(np.abs(a - Y1)), np.mean(b.argmax(1) == LABELS)


@pytest.mark.parametrize("shared", [False, True])
def test_losses_metrics_and_weights(shared):
    model = compiled(metrics=[["mae"], ["accuracy"]], weighted_metrics=[None, ["accuracy"]])
    weights = W1 if shared else [W1, W2]
    logs = model.evaluate(X, [Y1, LABELS], sample_weight=weights, verbose=0, return_dict=True)
    names = ["loss", "output_1_loss", "output_2_loss", "output_1_mae", "output_2_accuracy",
             "output_2_weighted_accuracy"]  # fmt: skip
    assert list(logs) == sorted(names) and model.metrics_names == names
    w2 = W1 if shared else W2
    mse, nll, mae, accuracy = by_hand(model, W1, w2)
    right = model.predict(X)[1].argmax(1) == LABELS
    expected = [2 * mse + 0.5 * nll, mse, nll, mae, accuracy, np.sum(right * w2) / w2.sum()]
    np.testing.assert_allclose([logs[name] for name in names], expected, rtol=2e-5)
    listed = model.evaluate(X, [Y1, LABELS], sample_weight=weights, verbose=0)
    assert listed == [logs[name] for name in names]
    history = model.fit(X, (Y1, LABELS), sample_weight=weights, epochs=2, verbose=0,
                        validation_data=(X, [Y1, LABELS]))  # fmt: skip
    assert list(history.history) == sorted(names) + sorted(f"val_{n}" for n in names)
    assert history.history["loss"][1] < history.history["loss"][0]


def test_names_are_places():
    """The same training, whichever way targets, losses and weights are given."""
    ways = [
        ("list", ["mse", "sparse_categorical_crossentropy"], [2.0, 0.5], [Y1, LABELS], [W1, W2]),
        ("tuple", {"output_2": "sparse_categorical_crossentropy", "output_1": "mse"},
         {"output_1": 2.0, "output_2": 0.5}, {"output_2": LABELS, "output_1": Y1}, (W1, W2)),
        ("dict", {"b": "sparse_categorical_crossentropy", "a": "mse"}, {"a": 2.0, "b": 0.5},
         {"b": LABELS, "a": Y1}, {"a": W1, "b": W2}),
        ("dict", ["mse", "sparse_categorical_crossentropy"], [2.0, 0.5], [Y1, LABELS],
         [W1, W2]),
    ]  # fmt: skip
    results = []
    for nest, loss, loss_weights, y, weights in ways:
        model = compiled(nest, loss=loss, loss_weights=loss_weights)
        model.fit(X, y, sample_weight=weights, shuffle=False, verbose=0)
        results.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_one_loss_for_all_outputs():
    model = compiled(loss="mse", loss_weights=None)
    y = [Y1, np.eye(3)[LABELS]]
    logs = model.evaluate(X, y, verbose=0, return_dict=True)
    assert list(logs) == ["loss", "output_1_loss", "output_2_loss"]
    assert logs["loss"] == pytest.approx(logs["output_1_loss"] + logs["output_2_loss"])


@pytest.mark.parametrize("y", [{"a": Y1}, {"a": Y1, "b": None}, [Y1, None], [Y1, LABELS]])
def test_an_output_without_a_loss(y):
    model = compiled("dict", loss={"a": "mse"}, loss_weights=None)
    history = model.fit(X, y, verbose=0)
    assert list(history.history) == ["loss"]
    b = model.b.get_weights()[0]
    model.fit(X, y, verbose=0)
    np.testing.assert_array_equal(model.b.get_weights()[0], b)


def test_single_batches_and_predictions():
    model = compiled(metrics=[["mae"], ["accuracy"]])
    a, b = model.predict(X)
    assert a.shape == (70, 2) and b.shape == (70, 3)
    for x, y in zip(model.predict_on_batch(X), (a, b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)
    before = model.evaluate(X, [Y1, LABELS], batch_size=70, verbose=0)
    np.testing.assert_allclose(model.test_on_batch(X, [Y1, LABELS]), before, rtol=1e-6)
    np.testing.assert_allclose(model.train_on_batch(X, [Y1, LABELS]), before, rtol=1e-6)


def test_validation_split_cuts_every_array():
    model = compiled()
    history = model.fit(X, [Y1, LABELS], sample_weight=[W1, W2], validation_split=0.2, verbose=0)
    parts = [Y1[56:], LABELS[56:]], [W1[56:], W2[56:]]
    expected = model.evaluate(X[56:], *parts[:1], sample_weight=parts[1], verbose=0)
    assert [history.history[k][0] for k in list(history.history)[3:]] == expected


ERRORS = [
    (lambda m: m.fit(X, Y1), r"two: expected 2 outputs \(output_1, output_2\), got one of shape"),
    (lambda m: m.fit(X, [Y1]), "got a list of 1"),
    (lambda m: m.fit(X, {"output_1": Y1, "nope": Y1}), "got output_1, nope"),
    (lambda m: m.fit(X, [Y1, LABELS[:9]]), r"expected y\['output_2'\] with 70 rows like x, got 9"),
    (lambda m: m.fit(X, [Y1, None]), "expected y for the loss of output_2, got None"),
    (lambda m: m.fit(X), "expected y for the loss of output_1, got None"),
    (lambda m: m.fit(X, [Y1, LABELS], class_weight={0: 1.0}), "class_weight, got 2 outputs"),
    (lambda m: m.fit(X, [Y1, LABELS + 3]), "expected labels in 0..2, got"),
    (lambda m: m.fit(X, [LABELS, Y1]), "expected"),
    (lambda m: recompiled(m, ["mse"]), "compile: expected loss for the outputs output_1, output_2"),
    (lambda m: recompiled(m, {"b": "mse"}), "got b"),
    (lambda m: recompiled(m, "mse", metrics=["mae"]), "expected metrics for the outputs"),
    (lambda m: recompiled(m, "mse", loss_weights=2.0), "expected loss_weights as numbers for"),
    (lambda m: recompiled(m, "mse", loss_weights=["a", 1]), "expected loss_weights as numbers for"),
    (lambda m: recompiled(m, ["mse", "msee"]), "did you mean 'mse'"),
]  # fmt: skip


def recompiled(model, loss, **kwargs):
    model.compile("sgd", loss, **kwargs)
    model.fit(X, [Y1, np.eye(3)[LABELS]], verbose=0)


@pytest.mark.parametrize(("act", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_errors(act, message):
    model = compiled()
    model._name = "two"
    with pytest.raises((ValueError, TypeError), match=message):
        act(model)
    model.compile("sgd", ["mse", "sparse_categorical_crossentropy"])
    model.fit(X, [Y1, LABELS], verbose=0)


def test_saved_with_its_losses(tmp_path):
    model = compiled("dict", loss={"a": "mse", "b": "sparse_categorical_crossentropy"},
                     loss_weights={"a": 2.0}, metrics={"b": ["accuracy"]})  # fmt: skip
    model.fit(X, {"a": Y1, "b": LABELS}, verbose=0)
    expected = model.evaluate(X, {"a": Y1, "b": LABELS}, verbose=0)
    model.save(tmp_path / "m")
    other = models.load_model(tmp_path / "m", {"Two": Two})
    assert other.evaluate(X, {"a": Y1, "b": LABELS}, verbose=0) == expected


def test_threads_agree():
    results = []
    threads = dlcore.get_num_threads()
    for n in (1, 2, 3):
        dlcore.set_num_threads(n)
        model = compiled()
        model.fit(X, [Y1, LABELS], epochs=2, verbose=0)
        results.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    dlcore.set_num_threads(threads)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_losses_may_be_written_with_ops():
    def distance(y, p):
        return ops.mean(ops.abs(y - p), axis=-1)

    model = compiled(loss=[distance, None], loss_weights=None)
    expected = by_hand(model)[2]
    assert model.evaluate(X, [Y1, None], verbose=0) == pytest.approx(expected, rel=1e-5)


def test_results_of_metrics_are_listed_by_output():
    model = compiled(metrics=[["mae"], ["accuracy"]], weighted_metrics=[["mse"], ["accuracy"]])
    logs = model.evaluate(X, [Y1, LABELS], 70, 0, return_dict=True)
    names = ["1_mae", "1_mse", "2_accuracy", "2_weighted_accuracy"]
    assert model.metrics_names[3:] == [f"output_{name}" for name in names]
    assert model.evaluate(X, [Y1, LABELS], 70, 0) == [logs[n] for n in model.metrics_names]
