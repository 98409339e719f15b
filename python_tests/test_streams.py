"""fit, evaluate and predict over generators, iterators, sequences of batches and loaders."""

import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import dlcore
from dlcore import layers
from dlcore.data import DataLoader, PyDataset
from dlcore.data.batches import is_batches, prefetched

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3)).astype("float32")
Y = (X @ [[1.0], [-2.0], [0.5]]).astype("float32")


def model(seed=1):
    dlcore.utils.set_random_seed(seed)
    net = dlcore.Sequential([layers.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(1)])
    net.compile("adam", "mse", metrics=["mae"])
    return net


def parts(size=8):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, len(X), size)]


class Batches(PyDataset):
    """The rows in batches of eight, the last of four."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen, self.began, self.ended = [], 0, 0

    def __len__(self):
        return len(parts())

    def __getitem__(self, index):
        self.seen.append(index)
        return parts()[index]

    def on_epoch_begin(self):
        self.began += 1

    def on_epoch_end(self):
        self.ended += 1


class Plain:
    """A sequence of batches that is no PyDataset."""

    def __len__(self):
        return len(parts())

    def __getitem__(self, index):
        return parts()[index]


class Again:
    """What can be iterated again and again."""

    def __iter__(self):
        return iter(parts())


def forever():
    yield from itertools.cycle(parts())


def trained(source, **kwargs):
    net = model()
    history = net.fit(source, epochs=3, shuffle=False, verbose=0, **kwargs)
    return history.history, net.get_weights()


SOURCES = {
    "generator": (lambda: forever(), {"steps_per_epoch": 3}),
    "iterator": (lambda: iter(parts() * 3), {"steps_per_epoch": 3}),
    "PyDataset": (lambda: Batches(), {}),
    "PyDataset, no threads": (lambda: Batches(workers=0), {}),
    "PyDataset, three threads": (lambda: Batches(workers=3, max_queue_size=1), {}),
    "sequence": (lambda: Plain(), {}),
    "iterable": (lambda: Again(), {}),
    "loader": (lambda: DataLoader((X, Y), 8), {}),
    "loader of samples": (lambda: DataLoader(list(zip(X, Y, strict=True)), 8, workers=3), {}),
}


@pytest.mark.parametrize("name", SOURCES)
def test_batches_train_as_arrays_do(name):
    make, kwargs = SOURCES[name]
    net = model()
    expected = net.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
    history, weights = trained(make(), **kwargs)
    for key in ("loss", "mae"):
        np.testing.assert_array_equal(history[key], expected[key])
    for a, b in zip(weights, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_evaluate_and_predict_over_batches():
    net = model()
    expected = net.evaluate(X, Y, batch_size=8, verbose=0)
    for source in (Batches(), Plain(), Again(), iter(parts()), DataLoader((X, Y), 8)):
        assert net.evaluate(source, verbose=0) == expected
    assert net.evaluate(forever(), steps=3, verbose=0) == expected
    np.testing.assert_array_equal(net.predict(Batches()), net.predict(X))
    np.testing.assert_array_equal(net.predict(iter([X[:7], X[7:]])), net.predict(X))
    np.testing.assert_array_equal(net.predict((b for b in parts()), steps=2), net.predict(X[:16]))


def test_validation_over_batches():
    net = model()
    history = net.fit(X, Y, validation_data=Batches(), epochs=2, verbose=0).history
    assert history["val_loss"][-1] == net.evaluate(X, Y, batch_size=8, verbose=0)[0]
    net = model()
    source = forever()
    history = net.fit(Batches(), validation_data=source, validation_steps=2, epochs=2, verbose=0)
    assert len(history.history["val_loss"]) == 2
    np.testing.assert_array_equal(next(source)[0], parts()[1][0])  # four batches are used, not more


def test_weights_of_samples_and_classes():
    weights = np.linspace(0, 2, len(X)).astype("float32")
    net, other = model(), model()
    expected = net.fit(X, Y, 20, 2, 0, sample_weight=weights, shuffle=False).history["loss"]
    got = other.fit(iter([(X, Y, weights)] * 2), epochs=2, steps_per_epoch=1, verbose=0)
    assert got.history["loss"] == expected
    labels = (Y > 0).astype("int32")
    net, other = model(), model()
    kwargs = {"epochs": 2, "verbose": 0, "class_weight": {0: 1.0, 1: 3.0}, "shuffle": False}
    expected = net.fit(X, labels, 20, **kwargs).history["loss"]
    assert other.fit(DataLoader((X, labels), 20), **kwargs).history["loss"] == expected


def test_order_hooks_and_shuffling():
    data = Batches(workers=0)
    model().fit(data, epochs=4, verbose=0)
    assert data.began == data.ended == 4
    epochs = [data.seen[i : i + 3] for i in range(0, 12, 3)]
    assert all(sorted(e) == [0, 1, 2] for e in epochs) and len(set(map(tuple, epochs))) > 1
    again = Batches(workers=0)
    model().fit(again, epochs=4, verbose=0)
    assert again.seen == data.seen
    data = Batches(workers=0)
    with pytest.warns(UserWarning, match="fit: expected 2 batches from the Batches, got 1"):
        model().fit(data, epochs=3, steps_per_epoch=2, shuffle=False, verbose=0)
    assert data.seen == [0, 1, 2, 0, 1]


def test_a_generator_is_not_read_ahead():
    source = forever()
    model().fit(source, epochs=1, steps_per_epoch=2, verbose=0)
    assert len(next(source)[0]) == 4


def test_callbacks_get_every_batch():
    seen = []

    class Notes(dlcore.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, sorted(logs)))
            self.model.stop_training = len(seen) == 4

    net = model()
    net.fit(Batches(), epochs=9, verbose=0, callbacks=[Notes()])
    assert seen == [(i, ["loss", "mae"]) for i in (0, 1, 2, 0)]


def raising():
    yield parts()[0]
    raise ZeroDivisionError("no more")


class Broken(Batches):
    def __getitem__(self, index):
        if index == 2:
            raise OSError("disk")
        return super().__getitem__(index)


class Endless(Batches):
    def __len__(self):
        raise TypeError

    def __getitem__(self, index):
        return parts()[index % 3]


WRONG = [
    (lambda m: m.fit(raising(), verbose=0), RuntimeError,
     "fit: expected batch 2 from the generator, got ZeroDivisionError: no more"),
    (lambda m: m.fit(Broken(), shuffle=False, verbose=0), RuntimeError,
     "fit: expected batch 3 from the Broken, got OSError: disk"),
    (lambda m: m.fit(iter([]), verbose=0), ValueError,
     "fit: expected batches from the generator, got none"),
    (lambda m: m.fit(Endless(), verbose=0), ValueError,
     "fit: expected steps_per_epoch for a Endless without end, got None"),
    (lambda m: m.fit(Batches(), Y, verbose=0), ValueError, "fit: expected y=None beside a Batches"),
    (lambda m: m.fit(Batches(), validation_split=0.5), ValueError, "fit: expected validation_spl"),
    (lambda m: m.fit(iter([(X, Y, Y, Y)])), ValueError, "fit: expected batches"),
    (lambda m: m.fit(iter([(X[:, :2], Y)])), ValueError, r"expected input \(batch, 3\)"),
    (lambda m: m.fit(iter([(X, Y[:3])])), ValueError, "fit: expected y with 20 rows"),
    (lambda m: m.fit(X, Y, validation_data=iter([]), verbose=0), ValueError,
     "fit validation_data: expected batches from the generator, got none"),
    (lambda m: m.evaluate(iter([]), verbose=0), ValueError, "evaluate: expected batches"),
    (lambda m: m.predict(raising()), RuntimeError, "predict: expected batch 2"),
    (lambda m: Batches(workers=-1), ValueError, "Batches: expected workers as an int above -1"),
    (lambda m: DataLoader((X, Y[:3])), ValueError, "DataLoader: expected arrays with the same"),
    (lambda m: DataLoader(3), TypeError, "DataLoader: expected a sequence"),
    (lambda m: DataLoader((X,), seed=-1), ValueError, "expected a seed as an int above -1, got -1"),
    (lambda m: m.fit(DataLoader((X, Y), 10**6, drop_remainder=True)), ValueError,
     "fit: expected batches from the DataLoader, got none"),
    (lambda m: m.fit(lambda: None), TypeError, "got a function; a generator is what calling it"),
    (lambda m: DataLoader((X,), 0), ValueError, "DataLoader: expected a positive batch_size"),
    (lambda m: list(DataLoader([X, X[:3]], 2)), RuntimeError, "samples of one shape"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_one_sentence(call, error, message):
    before = threading.active_count()
    with pytest.raises(error, match=message):
        call(model())
    assert threading.active_count() == before  # the workers have ended


def test_endless_data_set():
    history = model().fit(Endless(), steps_per_epoch=4, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2


@pytest.mark.filterwarnings("ignore:fit. expected . batches from the generator, got [1-9]")
@pytest.mark.parametrize(("steps", "sizes"), [(2, [2, 1]), (None, [3]), (5, [3]), (3, [3])])
def test_a_generator_that_ends_early_ends_the_training(steps, sizes):
    calls = []
    count = dlcore.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: calls.append(0),
        on_train_batch_end=lambda *_: calls.append(calls.pop() + 1),
    )
    with pytest.warns(UserWarning, match="got none.*; training stops"):
        history = model().fit(
            iter(parts()), epochs=4, steps_per_epoch=steps, callbacks=[count], verbose=0
        )
    assert calls == [*sizes, 0] and len(history.history["loss"]) == len(sizes)
    with pytest.warns(UserWarning, match="evaluate: expected 5 batches from the generator, got 3"):
        model().evaluate(iter(parts()), steps=5, verbose=0)


@pytest.mark.filterwarnings("ignore:fit. expected 3 steps per epoch, got 2")
def test_epochs_of_fewer_steps_go_through_all_rows():
    kwargs = {"batch_size": 4, "steps_per_epoch": 3, "verbose": 0}
    net, other = model(), model()
    other.set_weights(net.get_weights())
    net.fit(X, Y, epochs=3, shuffle=False, **kwargs)  # batches 0 1 2, 3 4, 0 1 2
    for first, last in ((0, 12), (12, 20), (0, 12)):
        other.fit(X[first:last], Y[first:last], batch_size=4, shuffle=False, verbose=0)
    np.testing.assert_array_equal(net.get_weights()[0], other.get_weights()[0])
    rows = dlcore.Variable(np.zeros(20, "float32"), trainable=False)

    class Counts(dlcore.Model):
        def train_step(self, data):
            rows.assign_add(dlcore.ops.sum(dlcore.ops.one_hot(data, 20), axis=0))
            return {}

    net = Counts()
    net.compile()
    net.fit(np.arange(20), epochs=4, **kwargs)
    np.testing.assert_array_equal(rows.numpy(), np.full(20, 2))


def test_what_gives_batches():
    assert all(map(is_batches, (iter([]), forever(), Batches(), Plain(), Again())))
    for arrays in (X, [1.0], (X, X), {"a": X}, memoryview(b"12"), range(3), 3, None, "text"):
        assert not is_batches(arrays)


def test_loader_is_reproducible_for_any_number_of_workers():
    def add_noise(sample, rng):
        return sample[0] + rng.normal(size=3), sample[1]

    def mirror(batch, rng):
        time.sleep(0.001 * rng.random())
        return batch[0] * rng.choice([-1.0, 1.0]), batch[1]

    def run(workers):
        kwargs = {"shuffle": True, "seed": 5, "transform": add_noise, "batch_transform": mirror}
        loader = DataLoader((X, Y), 6, workers=workers, **kwargs)
        return [[b[0] for b in loader] for epoch in range(2)]

    first = run(0)
    assert [len(b) for b in first[0]] == [6, 6, 6, 2]
    assert not np.array_equal(first[0][0], first[1][0])  # epochs differ
    same = DataLoader((np.zeros((12, 3)), Y[:12]), 6, seed=5, transform=add_noise)
    a, b = (x for x, _ in same)
    assert (a != b).any()  # so do batches
    for workers in (1, 4):
        for a, b in zip(run(workers), first, strict=True):
            np.testing.assert_array_equal(np.concatenate(a), np.concatenate(b))
    assert len(DataLoader((X, Y), 6, drop_remainder=True)) == 3
    rows = np.concatenate([b[0] for b in DataLoader((X, Y), 7, shuffle=True)])
    np.testing.assert_array_equal(np.sort(rows[:, 0]), np.sort(X[:, 0]))


def test_prefetching_is_bounded_and_in_order():
    made = []

    def get(i):
        time.sleep(0.002 * (i % 3))
        made.append(i)
        return i

    source = prefetched(get, itertools.count(), 3, 4)
    assert [next(source) for _ in range(5)] == [0, 1, 2, 3, 4]
    time.sleep(0.05)
    assert max(made) <= 9
    source.close()
    time.sleep(0.02)
    assert not [t for t in threading.enumerate() if t.name.startswith("dlcore-batches")]


INTERRUPTED = """
import os, signal, threading, time
import numpy as np, dlcore
from dlcore import layers
class Slow(dlcore.utils.PyDataset):
    def __len__(self): return 1000
    def __getitem__(self, i):
        time.sleep(DURATION)
        return np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
net = dlcore.Sequential([layers.Dense(1)])
net.compile("sgd", "mse")
def interrupt():
    global sent
    sent = time.perf_counter()
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(0.5, interrupt).start()
try:
    net.fit(Slow(workers=2), verbose=0)
except KeyboardInterrupt:
    assert time.perf_counter() - sent < 0.2
    time.sleep(2 * DURATION)
    names = [t.name for t in threading.enumerate()]
    print("interrupted", any(n.startswith("dlcore-batches") for n in names))
"""


def test_a_data_set_without_end_is_read_as_needed():
    class Numbers(PyDataset):
        def __getitem__(self, index):
            return index

    assert list(itertools.islice(Numbers(), 3)) == [0, 1, 2]


@pytest.mark.parametrize("duration", [0.01, 1.0])
def test_ctrl_c_stops_the_workers(duration):
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.replace("DURATION", str(duration))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "interrupted False", done.stderr
    assert done.returncode == 0 and time.perf_counter() - start < 8


def test_progress_without_a_known_end(capsys):
    model().fit((b for b in parts()), verbose=2)
    assert "3 steps in" in capsys.readouterr().out


def test_batches_of_several_inputs_and_outputs():
    a, b = layers.Input((3,), name="a"), layers.Input((2,), name="b")
    hidden = layers.Dense(4)(layers.concatenate([a, b]))
    outputs = [layers.Dense(1, name="p")(hidden), layers.Dense(2, name="q")(hidden)]
    net = dlcore.Model([a, b], outputs)
    net.compile("adam", {"p": "mse", "q": "mae"})
    x = {"a": X, "b": X[:, :2]}
    y = {"p": Y, "q": X[:, 1:]}

    def batches():
        for i in range(0, len(X), 8):
            yield tuple({k: v[i : i + 8] for k, v in part.items()} for part in (x, y))

    assert net.evaluate(batches(), verbose=0) == net.evaluate(x, y, batch_size=8, verbose=0)
    for got, expected in zip(net.predict(batches()), net.predict(x), strict=True):
        np.testing.assert_array_equal(got, expected)
    net.fit(batches(), verbose=0)


def test_loaders_have_methods_of_tf_data():
    def shuffled():
        return DataLoader((X, Y), 6, shuffle=True, seed=1)

    loader = shuffled()
    assert [len(x) for x, _ in loader.take(2)] == [6, 6] and len(loader.skip(3)) == 1
    assert len(loader.take(-1)) == 4 and len(loader.skip(-1)) == 0 and len(loader.take(9)) == 4
    whole = [x for x, _ in shuffled()]
    halves = shuffled().map(lambda x, y: (x / 2, y)).cache().prefetch(3)
    np.testing.assert_allclose(np.concatenate([x for x, _ in halves]), np.concatenate(whole) / 2)
    first, second = ([x for x, _ in halves.take(1)] for _ in range(2))
    assert not np.array_equal(first, second)  # epochs differ
    windows = dlcore.utils.timeseries_dataset_from_array(np.arange(6.0), None, 2, batch_size=2)
    assert [x.tolist() for x in windows.map(lambda x: x + 1).take(1)] == [[[1, 2], [2, 3]]]
