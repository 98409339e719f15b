"""Whole trainings: equal to the formulas, the same bits for any threads, forks, Python threads."""

import gc
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest

import dlcore as keras
from dlcore import backends, layers, random

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.05),
    "adadelta": lambda: keras.optimizers.Adadelta(0.5),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.005),
    "rmsprop centered": lambda: keras.optimizers.RMSprop(0.005, momentum=0.5, centered=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.01),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "clipvalue": lambda: keras.optimizers.Adam(0.01, clipvalue=0.01),
    "clipnorm": lambda: keras.optimizers.SGD(0.05, clipnorm=0.1),
    "global_clipnorm": lambda: keras.optimizers.SGD(0.05, global_clipnorm=0.1),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
    ),
}

# loss: (activation of the last layer, targets of N rows and 3 columns from a generator)
LOSSES = {
    "mean_squared_error": ("linear", lambda r, n: r.normal(size=(n, 3))),
    "mean_absolute_error": ("linear", lambda r, n: r.normal(size=(n, 3))),
    "mean_squared_logarithmic_error": ("softplus", lambda r, n: r.uniform(0, 2, (n, 3))),
    "mean_absolute_percentage_error": ("linear", lambda r, n: r.uniform(1, 2, (n, 3))),
    "huber": ("linear", lambda r, n: 2 * r.normal(size=(n, 3))),
    "log_cosh": ("linear", lambda r, n: r.normal(size=(n, 3))),
    "binary_crossentropy": ("sigmoid", lambda r, n: r.integers(0, 2, (n, 3))),
    "hinge": ("tanh", lambda r, n: 2 * r.integers(0, 2, (n, 3)) - 1),
    "squared_hinge": ("tanh", lambda r, n: 2 * r.integers(0, 2, (n, 3)) - 1),
    "categorical_crossentropy": ("softmax", lambda r, n: np.eye(3)[r.integers(0, 3, n)]),
    "sparse_categorical_crossentropy": ("softmax", lambda r, n: r.integers(0, 3, n)),
    "categorical_hinge": ("linear", lambda r, n: np.eye(3)[r.integers(0, 3, n)]),
    "kl_divergence": ("softmax", lambda r, n: r.dirichlet(np.ones(3), n)),
    "poisson": ("softplus", lambda r, n: r.integers(0, 4, (n, 3))),
}


def network(activation="softmax", hidden=9, inputs=7, outputs=3):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.layers.Input((inputs,)),
            keras.layers.Dense(hidden, activation="tanh"),
            keras.layers.Dense(outputs, activation=activation),
        ]
    )
    model.set_weights([0.5 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def train(optimizer, loss, formulas, monkeypatch):
    """20 steps on batches of 8 rows, the last of 5; the history of losses and the weights."""
    activation, targets = LOSSES[loss]
    rng = np.random.default_rng(1)
    x = rng.normal(size=(77, 7)).astype("float32")
    y = targets(rng, 77)
    with monkeypatch.context() as patch:
        if formulas:
            patch.setattr(backends, "_native", None)
            patch.setattr(backends, "_device", "cpu")
        model = network(activation)
        model.compile(OPTIMIZERS[optimizer](), loss)
        history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        program = next(iter(model._programs.values()))._compiled
        assert (type(program).__name__ == "ArrayBatches") is formulas
    return history.history["loss"], model.get_weights()


@pytest.mark.skipif(backends.isa() == "numpy", reason="the formulas are what runs")
@pytest.mark.parametrize(
    ("optimizer", "loss"),
    [(o, "sparse_categorical_crossentropy") for o in OPTIMIZERS] + [("adam", x) for x in LOSSES],
)
def test_training_equals_the_formulas(optimizer, loss, monkeypatch):
    losses, weights = train(optimizer, loss, False, monkeypatch)
    expected_losses, expected = train(optimizer, loss, True, monkeypatch)
    np.testing.assert_allclose(losses, expected_losses, rtol=2e-4)
    for w, e in zip(weights, expected, strict=True):
        np.testing.assert_allclose(w, e, rtol=2e-3, atol=2e-4)


def digits():
    (x, y), _ = keras.datasets.digits.load_data()
    return (x.reshape(len(x), -1) / 16).astype("float32"), y


def trained(x, y, seed=3):
    """A model wide enough that several threads take part, after two epochs with dropout."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(300, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(257, activation="gelu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=100, epochs=2, verbose=0)
    return model


@pytest.fixture
def threads():
    before = keras.get_num_threads()
    yield keras.set_num_threads
    keras.set_num_threads(before)


def test_weights_have_the_same_bits_for_any_number_of_threads(threads):
    x, y = digits()
    results = []
    for n in (1, 2, 3, 7):
        threads(n)
        results.append(trained(x, y).get_weights())
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(backends.isa() == "numpy", reason="NumPy's matmul depends on the batch")
def test_predict_row_by_row_equals_the_batch():
    x, y = digits()
    model = trained(x, y)
    whole = model.predict(x[:70], verbose=0)
    rows = np.concatenate([model.predict(x[i : i + 1], verbose=0) for i in range(70)])
    np.testing.assert_array_equal(whole, rows)
    np.testing.assert_array_equal(whole, model.predict(x[:70], batch_size=11, verbose=0))
    np.testing.assert_array_equal(whole, model.predict_on_batch(x[:70]))


@pytest.mark.skipif(keras.get_device() == "gpu", reason="CUDA does not survive a fork")
def test_predict_in_a_forked_child():
    x, y = digits()
    model = trained(x, y)
    expected = model.predict(x, verbose=0)
    pid = os.fork()
    if pid == 0:
        same = np.array_equal(model.predict(x, verbose=0), expected)
        os._exit(0 if same else 1)
    assert os.waitpid(pid, 0)[1] == 0
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(keras.get_device() == "gpu", reason="CUDA does not survive a fork")
def test_fork_while_another_thread_draws():
    rng = random.global_rng()
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            rng.normal(size=10_000)  # holds the generator's lock almost all the time

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)  # kills a child that waits for ever
                layers.Dense(3).build((None, 4))
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_eight_python_threads_fit_eight_models():
    x, y = digits()
    expected = [trained_alone(x, y, i).get_weights() for i in range(8)]
    results = [None] * 8

    def work(i):
        results[i] = trained_alone(x, y, i).get_weights()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(timeout=120)
    for e, r in zip(expected, results, strict=True):
        assert r is not None
        for a, b in zip(e, r, strict=True):
            np.testing.assert_array_equal(a, b)


class Late:
    """A native program that begins late: what another thread binds meanwhile must not be read."""

    def __init__(self, native):
        self._native = native

    def __getattr__(self, name):
        return getattr(self._native, name)

    def run(self, *args, **kwargs):
        time.sleep(0.01)
        return self._native.run(*args, **kwargs)


def test_threads_predict_with_one_model():
    x, y = digits()
    model = trained(x, y)
    expected = model.predict(x, batch_size=8, verbose=0)
    for program in model._programs.values():
        compiled = program._compiled
        owner = getattr(compiled, "_program", compiled)  # on a GPU, on the CPU
        if hasattr(owner, "native"):  # formulas have nothing to bind
            owner.native = Late(owner.native)
    wrong = []

    def work(k):
        for i in range(5):
            rows = slice(k + i, k + i + 32)
            got = model.predict(x[rows], batch_size=8, verbose=0)
            if not np.allclose(got, expected[rows], atol=1e-5):
                wrong.append((k, i))

    workers = [threading.Thread(target=work, args=(40 * k,)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(timeout=120)
    assert not wrong and not any(w.is_alive() for w in workers)


def test_data_is_let_go():
    """Programs hold arrays of the caller only while they run."""
    x, y = (a.copy() for a in digits())
    model = trained(x, y)
    model.fit(x, y, shuffle=False, verbose=0)
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    held = [weakref.ref(x), weakref.ref(y)]
    del x, y
    gc.collect()
    assert all(r() is None for r in held)


def trained_alone(x, y, seed):
    """A model whose result does not depend on generators that other threads draw from."""
    rng = np.random.default_rng(seed)
    model = network(hidden=200, inputs=64, outputs=10)
    model.set_weights([0.1 * rng.normal(size=w.shape) for w in model.get_weights()])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=100, epochs=3, shuffle=False, verbose=0)
    return model


def test_set_random_seed_repeats_a_training():
    x, y = digits()
    a, b, c = (trained(x, y, seed).get_weights() for seed in (5, 5, 6))
    assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
    assert not np.array_equal(a[0], c[0])
