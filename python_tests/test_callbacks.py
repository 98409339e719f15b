"""Callbacks: when they are called, what they are given, and what they do to training."""

import io
import struct
import sys

import numpy as np
import pytest

from dlcore import callbacks, layers, models, optimizers, random
from dlcore.callbacks import tensorboard

X = np.random.default_rng(2).normal(size=(40, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def model(rate=0.01):
    random.set_random_seed(0)
    m = models.Sequential([layers.Dense(1, input_shape=(3,))])
    m.compile(optimizers.SGD(rate), "mse", metrics=["mae"])
    return m


class Recorder(callbacks.Callback):
    """Notes every call."""

    def __init__(self):
        super().__init__()
        self.calls = []


HOOKS = [name for name in dir(callbacks.Callback) if name.startswith("on_")]
for _name in HOOKS:

    def _record(self, *args, _name=_name, **kwargs):
        self.calls.append((_name, *(a for a in args if isinstance(a, int))))

    setattr(Recorder, _name, _record)


def test_order_of_calls():
    recorder = Recorder()
    m = model()
    m.fit(X, Y, 20, verbose=0, callbacks=[recorder], validation_data=(X[:5], Y[:5]))
    assert recorder.model is m and recorder.params == {"verbose": 0, "epochs": 1, "steps": 2}
    assert recorder.calls == [
        ("on_train_begin",),
        ("on_epoch_begin", 0),
        ("on_train_batch_begin", 0),
        ("on_train_batch_end", 0),
        ("on_train_batch_begin", 1),
        ("on_train_batch_end", 1),
        ("on_test_begin",),
        ("on_test_batch_begin", 0), ("on_test_batch_end", 0),
        ("on_test_end",),
        ("on_epoch_end", 0),
        ("on_train_end",),
    ]  # fmt: skip
    recorder.calls.clear()
    m.predict(X, batch_size=40, callbacks=[recorder])
    assert [c[0] for c in recorder.calls] == [
        "on_predict_begin", "on_predict_batch_begin", "on_predict_batch_end", "on_predict_end",
    ]  # fmt: skip
    recorder.calls.clear()
    m.evaluate(X, Y, batch_size=40, callbacks=[recorder], verbose=0)
    assert [c[0] for c in recorder.calls] == [
        "on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end",
    ]  # fmt: skip


def test_logs_are_dictionaries():
    kinds = []

    def noted(*args):
        kinds.append(type(args[-1]))

    names = [name for name in dir(callbacks.Callback) if name.startswith("on_")]
    spy = type("Spy", (callbacks.Callback,), {n: lambda _, *args: noted(*args) for n in names})()
    m = model()
    m.fit(X, Y, verbose=0, callbacks=[spy], validation_data=(X, Y))
    m.evaluate(X, Y, verbose=0, callbacks=[spy])
    m.predict(X, verbose=0, callbacks=[spy])
    several = callbacks.CallbackList([spy], model=m)
    several.on_epoch_end(0, logs={"loss": 1.0})
    several.on_train_end(logs=None)
    assert set(kinds) == {dict}


def test_the_old_names_of_batch_methods():
    class Old(callbacks.Callback):
        seen = ""

        def on_batch_begin(self, batch, logs=None):
            self.seen += f"<{batch}"

        def on_batch_end(self, batch, logs=None):
            self.seen += ">"

    old = Old()
    model().fit(X, Y, 20, verbose=0, callbacks=[old])
    assert old.seen == "<0><1>"


def test_logs_of_batches_are_those_of_the_epoch_so_far():
    seen = []
    m = model()
    watch = callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["loss"])
    )
    history = m.fit(X, Y, 20, verbose=0, callbacks=[watch], shuffle=False)
    again = model()
    first = again.train_on_batch(X[:20], Y[:20], return_dict=True)["loss"]
    assert seen[0] == pytest.approx(first, rel=1e-6)
    assert seen[-1] == pytest.approx(history.history["loss"][0])


def test_batch_callbacks_change_nothing():
    a = model()
    a.fit(X, Y, 7, epochs=3, verbose=0)
    b = model()
    b.fit(X, Y, 7, epochs=3, verbose=0, callbacks=[Recorder()])
    np.testing.assert_array_equal(a.get_weights()[0], b.get_weights()[0])


def run(callback, values, **logs):
    """Feed one figure per epoch to a callback; returns the number of epochs run."""

    class Fake:
        stop_training = False
        optimizer = optimizers.SGD(0.1)
        weights = None

        def get_weights(self):
            return self.weights

        def set_weights(self, weights):
            self.weights = weights

    fake = Fake()
    callback.set_model(fake)
    callback.on_train_begin()
    epoch = -1
    for epoch, value in enumerate(values):
        fake.weights = epoch
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"val_loss": value, **logs})
        if fake.stop_training:
            break
    callback.on_train_end()
    return epoch + 1, fake


@pytest.mark.parametrize(
    ("arguments", "values", "epochs", "weights"),
    [
        ({}, [3, 2, 1, 1, 0], 4, 3),
        ({"patience": 2}, [3, 2, 2, 2, 2], 4, 3),
        ({"patience": 2}, [3, 4, 2, 4, 4], 5, 4),
        ({"min_delta": 0.5}, [3, 2.8, 2, 1], 2, 1),
        ({"mode": "max"}, [1, 2, 3, 2], 4, 3),
        ({"patience": 1, "restore_best_weights": True}, [3, 1, 2, 2], 3, 1),
        ({"restore_best_weights": True}, [3, 2, 1], 3, 2),
        ({"baseline": 1.0, "patience": 2}, [3, 2.5, 2.6, 1.5], 3, 2),
        ({"baseline": 1.0, "patience": 1}, [0.5, 0.6, 0.4], 2, 1),
        ({"start_from_epoch": 3}, [1, 2, 3, 4, 5], 5, 4),
    ],
)
def test_early_stopping(arguments, values, epochs, weights):
    ran, fake = run(callbacks.EarlyStopping(**arguments), values)
    assert (ran, fake.weights) == (epochs, weights)


def test_early_stopping_in_fit():
    m = model(rate=0.0)
    stop = callbacks.EarlyStopping("loss", patience=2, min_delta=1e-6)
    assert m.fit(X, Y, epochs=50, verbose=0, callbacks=stop).epoch == [0, 1, 2]
    with pytest.warns(UserWarning, match="expected one of loss, mae to monitor, got 'val_loss'"):
        m.fit(X, Y, verbose=0, callbacks=[callbacks.EarlyStopping()])


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averages_in_the_place_of_weights(swap_on_epoch):
    seen, weights = [], []

    def look(of):
        return lambda *_: seen.append((of, m.get_weights()[0].copy()))

    m = model()
    m.compile(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), "mse")
    plain = callbacks.LambdaCallback(on_train_batch_end=lambda *_: weights.append(m.get_weights()))
    swap = callbacks.SwapEMAWeights(swap_on_epoch)
    watch = callbacks.LambdaCallback(on_epoch_end=look("epoch"), on_test_begin=look("test"))
    m.fit(X, Y, epochs=2, batch_size=20, callbacks=[plain, swap, watch], verbose=0,
          validation_data=(X, Y), shuffle=False)  # fmt: skip
    mean = weights[0][0]
    means = [mean := 0.5 * mean + 0.5 * w[0] for w in weights]
    expected = [means[1], means[1] if swap_on_epoch else weights[1][0], means[3]]
    for (_, got), e in zip(seen, expected, strict=False):
        np.testing.assert_allclose(got, e, rtol=1e-6)
    np.testing.assert_allclose(m.get_weights()[0], means[3], rtol=1e-6)
    m.compile("sgd", "mse")
    with pytest.raises(ValueError, match="expected an optimizer with use_ema=True, got sgd"):
        m.evaluate(X, Y, callbacks=[swap], verbose=0)


def test_reduce_on_plateau():
    callback = callbacks.ReduceLROnPlateau(factor=0.5, patience=2, min_lr=0.02)
    _, fake = run(callback, [3, 3, 3])
    assert float(fake.optimizer.learning_rate) == pytest.approx(0.05)
    callback = callbacks.ReduceLROnPlateau(factor=0.5, patience=1, min_lr=0.04)
    fake.optimizer.learning_rate = 0.1
    _, fake = run(callback, [3] * 6)
    assert float(fake.optimizer.learning_rate) == pytest.approx(0.04)
    callback = callbacks.ReduceLROnPlateau(factor=0.5, patience=1, cooldown=2)
    fake.optimizer.learning_rate = 0.1
    _, fake = run(callback, [3, 3, 3])
    assert float(fake.optimizer.learning_rate) == pytest.approx(0.05)


def test_learning_rate_scheduler_is_obeyed_without_a_new_program():
    m = model()
    w = m.get_weights()[0]
    schedule = callbacks.LearningRateScheduler(lambda epoch, rate: 0.0 if epoch < 2 else 0.5)
    seen = []
    note = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(m.get_weights()[0]))
    history = m.fit(X, Y, 40, epochs=3, verbose=0, callbacks=[schedule, note])
    np.testing.assert_array_equal(seen[1], w)
    assert not np.array_equal(seen[2], w)
    assert history.history["learning_rate"] == [0.0, 0.0, 0.5]
    one = callbacks.LearningRateScheduler(lambda epoch: 0.25)
    m.fit(X, Y, verbose=0, callbacks=[one])
    assert float(m.optimizer.learning_rate) == 0.25


def test_checkpoints(tmp_path):
    m = model()
    path = str(tmp_path / "sub" / "m-{epoch:02d}-{loss:.2f}.dlcore")
    history = m.fit(X, Y, epochs=2, verbose=0, callbacks=[callbacks.ModelCheckpoint(path)])
    names = sorted(p.name for p in (tmp_path / "sub").iterdir())
    assert names == [f"m-{i + 1:02d}-{v:.2f}.dlcore" for i, v in enumerate(history.history["loss"])]
    last = models.load_model(tmp_path / "sub" / names[-1])
    np.testing.assert_array_equal(last.predict(X), m.predict(X))


@pytest.mark.filterwarnings("ignore:ModelCheckpoint")
def test_checkpoint_of_the_best(tmp_path):
    saved = []

    class Spy(callbacks.ModelCheckpoint):
        def _save(self, epoch, logs):
            before = self.best
            super()._save(epoch, logs)
            saved.append(self.best != before)

    class Fake:
        def save_weights(self, path):
            pass

    spy = Spy(tmp_path / "best", save_best_only=True, save_weights_only=True)
    spy.set_model(Fake())
    for epoch, value in enumerate([3, 4, 2, 2]):
        spy.on_epoch_end(epoch, {"val_loss": value})
    assert saved == [True, False, True, False]
    model().fit(
        X,
        Y,
        verbose=0,
        callbacks=[callbacks.ModelCheckpoint(tmp_path / "any", "nope", save_best_only=True)],
    )
    assert (tmp_path / "any").exists()


def test_checkpoint_by_batches(tmp_path):
    m = model()
    checkpoint = callbacks.ModelCheckpoint(
        str(tmp_path / "w{epoch}-{batch}"), save_freq=3, save_weights_only=True
    )
    m.fit(X, Y, 10, epochs=3, verbose=0, callbacks=[checkpoint])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w1-3", "w2-2", "w3-1", "w3-4"]
    with pytest.raises(KeyError, match="expected names in epoch, loss"):
        m.fit(X, Y, verbose=0, callbacks=[callbacks.ModelCheckpoint(str(tmp_path / "{nope}"))])


def test_csv_logger(tmp_path):
    m, path = model(), tmp_path / "log.csv"
    history = m.fit(X, Y, epochs=2, verbose=0, callbacks=[callbacks.CSVLogger(path)])
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert rows[0] == ["epoch", "loss", "mae", "val_loss", "val_mae"] and rows[1][3] == "NA"
    assert [float(r[1]) for r in rows[1:]] == history.history["loss"]
    m.fit(
        X,
        Y,
        initial_epoch=2,
        epochs=3,
        verbose=0,
        callbacks=[callbacks.CSVLogger(path, append=True)],
    )
    assert [r.split(",")[0] for r in path.read_text().splitlines()] == ["epoch", "0", "1", "2"]


def test_terminate_on_nan(capsys):
    m = model(rate=1e20)
    history = m.fit(X, Y, 4, epochs=50, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert len(history.epoch) < 50 and "training stops; " in capsys.readouterr().out


def test_layers_that_are_no_numbers_any_more_are_named(capsys):
    x = layers.Input((3,))
    frozen = layers.Dense(4, trainable=False, name="frozen")
    y = layers.Dense(1, name="last")(layers.Dense(4, name="middle")(frozen(x)))
    m = models.Model(x, y)
    m.compile(optimizers.SGD(1e30), "mse")
    ones = np.ones((8, 3), "float32")
    m.fit(ones, ones[:, :1], 8, 5, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert "weights of middle, last are not finite" in capsys.readouterr().out
    m = models.Sequential([layers.Input((3,)), layers.Dense(1)])
    m.compile("sgd", "mse")
    m.fit(ones, ones[:, :1] * 1e30, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert "The loss is inf" in capsys.readouterr().out


def test_raise_on_nan():
    m = model(1e30)
    with pytest.raises(RuntimeError, match=r"expected a finite loss, got (nan|inf) by"):
        m.fit(X, Y, epochs=9, verbose=0, callbacks=[callbacks.TerminateOnNaN(raise_error=True)])


class Interrupt(callbacks.Callback):
    """Ctrl-C at the end of an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("save_freq", ["epoch", 1])
def test_backup_and_restore(tmp_path, save_freq):
    def run(*extra):
        m = model()
        m.compile(optimizers.Adam(0.01), "mse")
        backup = callbacks.BackupAndRestore(tmp_path / "backup", save_freq=save_freq)
        return m, m.fit(X, Y, 8, epochs=5, verbose=0, callbacks=[backup, *extra])

    expected, history = run()
    assert not any(tmp_path.glob("backup/*"))
    with pytest.raises(KeyboardInterrupt):
        run(Interrupt())
    resumed, rest = run()
    assert rest.epoch == [3, 4] and rest.history["loss"] == history.history["loss"][3:]
    for a, b in zip(resumed.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(tmp_path.glob("backup/*"))


def test_backup_of_another_optimizer(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        model().fit(
            X, Y, epochs=5, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path), Interrupt()]
        )
    other = model()
    other.compile("adam", "mse")
    with pytest.raises(ValueError, match="expected the state of its optimizer, got another's"):
        other.fit(X, Y, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path)])
    with pytest.raises(ValueError, match="BackupAndRestore: expected save_freq 'epoch' or an int"):
        callbacks.BackupAndRestore(tmp_path, save_freq=0)


def scalars(folder):
    """[(tag, value, step)] in the event files of a folder, whose checksums must be right."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = data[12 : 12 + length], data[16 + length :]
            if b"brain.Event" in event:
                continue
            assert event[0] == 0x09 and event[9] == 0x10 and event[10] < 0x80 and event[11] == 0x2A
            one = event[15:]  # behind the headers of the summary and of its one value
            assert one[0] == 0x0A
            tag, value = one[2 : 2 + one[1]], one[3 + one[1] :]
            found.append((tag.decode(), struct.unpack("<f", value)[0], event[10]))
    return found


def test_tensorboard(tmp_path):
    m = model()
    board = callbacks.TensorBoard(tmp_path, update_freq=3)
    history = m.fit(X, Y, 8, epochs=2, verbose=0, validation_data=(X, Y), callbacks=[board]).history
    m.evaluate(X, Y, verbose=0, callbacks=[callbacks.TensorBoard(tmp_path)])
    train, validation = scalars(tmp_path / "train"), scalars(tmp_path / "validation")
    for name, found, key in (("loss", train, "loss"), ("mae", validation, "val_mae")):
        values = [(v, step) for tag, v, step in found if tag == f"epoch_{name}"]
        expected = list(zip(history[key], (0, 1), strict=True))
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert [v[2] for v in train if v[0] == "batch_loss"] == [0, 3, 6, 9]
    assert [v[2] for v in train if v[0] == "epoch_learning_rate"] == [0, 1]
    evaluated = [v for v in validation if v[0] == "evaluation_loss_vs_iterations"]
    assert [v[2] for v in evaluated] == [5, 10, 10]  # twice in fit, once by itself


def test_checksum_of_events():
    (masked,) = struct.unpack("<I", tensorboard._checksum(b"123456789"))
    rotated = masked - 0xA282EAD8 & 0xFFFFFFFF
    assert (rotated << 15 | rotated >> 17) & 0xFFFFFFFF == 0xE3069283  # RFC 3720, B.4


def test_what_tensorboard_does_not_write(tmp_path):
    with pytest.warns(UserWarning, match="TensorBoard: expected figures alone"):
        callbacks.TensorBoard(tmp_path, histogram_freq=1)
    with pytest.raises(ValueError, match="TensorBoard: expected update_freq 'epoch'"):
        callbacks.TensorBoard(tmp_path, update_freq=0)


def test_lambda_callback():
    with pytest.raises(TypeError, match="got 'on_nothing'"):
        callbacks.LambdaCallback(on_nothing=print)
    epochs = []
    only_epochs = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    assert not callbacks.CallbackList([only_epochs]).wants_batches("train")
    model().fit(X, Y, epochs=2, verbose=0, callbacks=[only_epochs])
    assert epochs == [0, 1]


def test_history():
    m = model()
    own = callbacks.History()
    assert m.fit(X, Y, epochs=3, verbose=0, callbacks=[own]) is own
    assert len(own.history["loss"]) == 3 and m.history is own
    assert m.fit(X, Y, verbose=0).history.keys() == {"loss", "mae"}


def test_plot(tmp_path):
    history = model().fit(X, Y, epochs=3, validation_split=0.2, verbose=0)
    try:
        import matplotlib
    except ImportError:
        with pytest.raises(ImportError, match=r"dlcore\[plot\]"):
            history.plot()
        return
    matplotlib.use("Agg")
    history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_one_line_per_epoch_without_a_terminal(capsys):
    m = model()
    m.fit(X, Y, epochs=2, validation_split=0.2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1].startswith("Epoch 2/2: 1 steps in ")
    assert "loss: " in lines[1] and "val_mae: " in lines[1]
    m.evaluate(X, Y)
    assert capsys.readouterr().out.startswith("Evaluate: 2 steps in ")
    m.fit(X, Y, verbose=0)
    m.predict(X)
    assert capsys.readouterr().out == ""


def test_a_stopped_epoch_counts_the_steps_done(capsys):
    m = model()

    def stop(batch, logs):
        m.stop_training = batch == 1

    m.fit(X, Y, 10, callbacks=[callbacks.LambdaCallback(on_train_batch_end=stop)])
    assert capsys.readouterr().out.startswith("Epoch 1/1: 2 steps in ")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(callbacks.progress, "_REFRESH_SECONDS", 0.0)
    m = model()
    m.fit(X, Y, 10, epochs=2, callbacks=[Recorder()])
    text = terminal.getvalue()
    first = text.split("\n")[0].split("\r")
    assert "1/4" in first[1] and "steps/s" in first[1] and "left" in first[1]
    assert first[-1].startswith("Epoch 1/2: 4 steps in ")
    terminal.truncate(0)
    m.fit(X, Y, 10, verbose=2, callbacks=[Recorder()])
    assert "\r" not in terminal.getvalue()


def test_the_bar_ends_its_line_after_an_error(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(callbacks.progress, "_REFRESH_SECONDS", 0.0)

    def interrupt(batch, logs):
        if batch == 2:
            raise KeyboardInterrupt

    stop = callbacks.LambdaCallback(on_train_batch_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model().fit(X, Y, 10, callbacks=[stop])
    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: callbacks.EarlyStopping(mode="smallest"), "expected mode"),
        (lambda: callbacks.ReduceLROnPlateau(factor=2), "expected factor between 0 and 1, got 2"),
        (lambda: callbacks.ModelCheckpoint("x", save_freq="batch"), "expected save_freq"),
    ],
)
def test_errors(act, message):
    with pytest.raises(ValueError, match=message):
        act()
