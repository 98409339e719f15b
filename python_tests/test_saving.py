"""Files of models: what comes back, what damaged and hostile files give, and what a full disk
does.
"""

import copy
import errno
import json
import os
import struct

import numpy as np
import pytest

from dlcore import layers, losses, metrics, models, ops, optimizers, random
from dlcore.io import files

X = np.random.default_rng(3).normal(size=(24, 5)).astype("float32")
LABELS = np.arange(24) % 3


def classifier(optimizer=None):
    random.set_random_seed(1)
    model = models.Sequential(
        [
            layers.Input((5,)),
            layers.Dense(8, "relu", kernel_regularizer="l2", name="hidden"),
            layers.PReLU(),
            layers.Maxout(4),
            layers.LeakyReLU(0.1),
            layers.Dense(3, "softmax"),
        ],
        name="digits",
    )
    model.compile(
        optimizer or optimizers.Adam(0.01),
        losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy", metrics.SparseTopKCategoricalAccuracy(k=2)],
    )
    return model


def assert_same_weights(a, b):
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)


@pytest.mark.parametrize("extension", ["dlcore", "keras"])
def test_round_trip(tmp_path, extension):
    model = classifier()
    model.fit(X, LABELS, epochs=3, verbose=0)
    path = tmp_path / f"m.{extension}"
    model.save(path)
    other = models.load_model(path)
    assert_same_weights(model, other)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    assert (other.name, other.layers[0].name) == ("digits", "hidden")
    assert other.evaluate(X, LABELS, verbose=0) == model.evaluate(X, LABELS, verbose=0)
    assert other.metrics_names == model.metrics_names
    assert not models.load_model(path, compile=False).compiled


@pytest.mark.parametrize(
    "optimizer",
    ["sgd", "rmsprop", "adagrad", "adadelta", "adam", "adamw", "adamax", "nadam"],
)
def test_training_goes_on_as_if_nothing_had_happened(tmp_path, optimizer):
    model = classifier(optimizers.get(optimizer))
    model.fit(X, LABELS, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "m.dlcore")
    other = models.load_model(tmp_path / "m.dlcore")
    assert int(other.optimizer.iterations) == 2
    for m in (model, other):
        m.fit(X, LABELS, epochs=2, verbose=0, shuffle=False)
    assert_same_weights(model, other)


def test_schedules_survive(tmp_path):
    schedule = optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    model = classifier(optimizers.SGD(schedule, momentum=0.9, nesterov=True))
    model.fit(X, LABELS, verbose=0)
    model.save(tmp_path / "m")
    other = models.load_model(tmp_path / "m")
    assert float(other.optimizer.learning_rate) == float(model.optimizer.learning_rate)
    assert other.optimizer.get_config() == model.optimizer.get_config()


class Scale(layers.Layer):
    def __init__(self, by=2.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1],), "ones", name="w")

    def call(self, x):
        return x * self.w * self.by


class Net(models.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.parts = [layers.Dense(units, "relu"), Scale(0.5), layers.Dense(3)]

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


def own_loss(y_true, y_pred):
    return ops.mean(ops.square(y_pred), axis=-1)


def test_classes_and_functions_of_the_user(tmp_path):
    model = Net(6, name="net")
    model.compile("adam", own_loss)
    model.fit(X, LABELS, verbose=0)
    model.save(tmp_path / "m")
    custom = {"Net": Net, "Scale": Scale, "own_loss": own_loss}
    other = models.load_model(tmp_path / "m", custom_objects=custom)
    assert type(other) is Net and other.units == 6 and other.name == "net"
    assert_same_weights(model, other)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="one in custom_objects, got 'Net'"):
        models.load_model(tmp_path / "m")
    with pytest.raises(ValueError, match="own_loss"):
        models.load_model(tmp_path / "m", custom_objects={"Net": Net})
    assert models.load_model(tmp_path / "m", {"Net": Net}, compile=False).predict(X).shape == (
        24,
        3,
    )


def test_nested_models(tmp_path):
    inner = models.Sequential([layers.Dense(4), layers.Dense(2)])
    model = models.Sequential([layers.Input((5,), dtype="float32"), inner, layers.Dense(1)])
    model.save(tmp_path / "m")
    other = models.load_model(tmp_path / "m")
    assert_same_weights(model, other)
    assert [len(x.weights) for x in other.layers] == [4, 2]


def test_weights_alone(tmp_path):
    a, b = classifier(), classifier()
    a.fit(X, LABELS, verbose=0)
    a.save_weights(tmp_path / "w")
    b.load_weights(tmp_path / "w")
    assert_same_weights(a, b)
    a.save(tmp_path / "m")
    b.set_weights([0 * w for w in b.get_weights()])
    b.load_weights(tmp_path / "m")
    assert_same_weights(a, b)
    wrong = models.Sequential([layers.Dense(2, input_shape=(5,))])
    with pytest.raises(ValueError, match="expected 2 weights, got 7"):
        wrong.load_weights(tmp_path / "w")
    with pytest.raises(ValueError, match="expected a built model"):
        models.Sequential([layers.Dense(2)]).load_weights(tmp_path / "w")


def test_what_cannot_be_saved(tmp_path):
    model = models.Sequential([layers.Lambda(lambda x: x, name="mine", input_shape=(2,))])
    with pytest.raises(ValueError, match="mine: expected arguments that can be saved"):
        model.save(tmp_path / "m")
    model = models.Sequential([layers.Dense(1, activation=lambda x: x, name="d", input_shape=(2,))])
    with pytest.raises(ValueError, match="d: expected arguments that can be saved"):
        model.save(tmp_path / "m")
    model = models.Sequential([layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", lambda t, p: ops.mean(p, axis=-1))
    with pytest.raises(ValueError, match="got a lambda"):
        model.save(tmp_path / "m")
    with pytest.raises(ValueError, match="expected a built model"):
        models.Sequential([layers.Dense(1)]).save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_overwrite(tmp_path):
    model = classifier()
    model.save(tmp_path / "m")
    model.save(tmp_path / "m")
    with pytest.raises(FileExistsError, match="expected a new file"):
        model.save(tmp_path / "m", overwrite=False)
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "none" / "m")
    with pytest.raises(FileNotFoundError):
        models.load_model(tmp_path / "none")


def test_only_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="save: expected the name of a file, got the"):
            classifier().save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    model = classifier()
    path = tmp_path / "m"
    model.save(path)
    old = path.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    model.set_weights([0 * w for w in model.get_weights()])
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_file_size_limit_keeps_the_old_file(tmp_path):
    """The same through the kernel: a write beyond the limit fails half-way."""
    import resource
    import signal

    model = classifier()
    path = tmp_path / "m"
    model.save(path)
    old = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match=r"File too large: .*/m"):
            model.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == old and len(list(tmp_path.iterdir())) == 1


# Damaged and hostile files


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "m"
    model = classifier()
    model.fit(X, LABELS, verbose=0)
    model.save(path)
    return path.read_bytes()


def load_bytes(tmp_path, data):
    path = tmp_path / "damaged"
    path.write_bytes(data)
    return models.load_model(path)


def test_truncated(tmp_path, good):
    for size in [0, 1, 7, 8, 9, 100, *range(200, len(good), 997), len(good) - 1]:
        with pytest.raises(ValueError, match="load"):
            load_bytes(tmp_path, good[:size])


def test_changed_bytes_give_an_error_or_the_same_model(tmp_path, good):
    header = 8 + int.from_bytes(good[:8], "little")
    whole = load_bytes(tmp_path, good)
    rng = np.random.default_rng(0)
    places = rng.integers(8, header, 60), rng.integers(header, len(good), 60)
    for at in [*range(8), *np.concatenate(places), len(good) - 1]:
        data = bytearray(good)
        data[at] ^= 1 << int(rng.integers(0, 8))
        try:
            other = load_bytes(tmp_path, bytes(data))
        except ValueError as error:
            assert "load" in str(error)
        else:  # as where the checksum's own name was hit
            assert at < header and other.get_config() == whole.get_config()
            assert_same_weights(other, whole)


def test_weights_that_are_missing_are_told(tmp_path, good):
    path = edited(tmp_path, good, lost_tensor)
    with pytest.raises(ValueError, match=r"load_weights: expected weights in .*, got too few"):
        classifier().load_weights(path)


def test_files_without_a_checksum_load(tmp_path, good):
    path = edited(tmp_path, good, lambda document, tensors: None)
    assert_same_weights(models.load_model(path), load_bytes(tmp_path, good))


@pytest.mark.parametrize(
    ("name", "error"),
    [("no.dlcore", FileNotFoundError), (".", IsADirectoryError), (None, TypeError)],
)
def test_what_is_no_file_is_named(tmp_path, name, error):
    path = name and tmp_path / name
    with pytest.raises(error, match=r"load: expected the (file of a model|name of a file), got"):
        models.load_model(path)
    if name is None:
        with pytest.raises(TypeError, match="save: expected the name of a file, got None"):
            classifier().save(None)


def write(path, tensors, document, form="dlcore"):
    from safetensors.numpy import save

    path.write_bytes(save(tensors, {"format": form, "document": document}))
    return path


def edited(tmp_path, good, change):
    """The good file with a changed document (and tensors)."""
    path = tmp_path / "edited"
    path.write_bytes(good)
    tensors, document = files.read(path)
    change(document, tensors)
    return write(path, tensors, json.dumps(document))


def config(document):
    return document["model"]["config"]


def huge_units(document, tensors):
    config(document)["layers"][0]["config"]["units"] = 10**12


def huge_input(document, tensors):
    config(document)["build_input_shape"] = [None, 2**62]


def other_units(document, tensors):
    config(document)["layers"][0]["config"]["units"] = 4


def lost_tensor(document, tensors):
    del tensors["hidden/kernel"]


def wrong_shape(document, tensors):
    tensors["hidden/kernel"] = np.zeros((8, 5), "float32")


def unknown_class(document, tensors):
    config(document)["layers"][0]["class_name"] = "os.system"


def unlikely_class(document, tensors):
    config(document)["layers"][0]["class_name"] = ["Dense"]


def unknown_activation(document, tensors):
    config(document)["layers"][0]["config"]["activation"] = "__import__"


def unknown_argument(document, tensors):
    config(document)["layers"][0]["config"]["evil"] = 1


def a_lambda(document, tensors):
    config(document)["layers"][0] = {
        "class_name": "Lambda", "name": "x", "config": {"function": "print"},
    }  # fmt: skip


def no_model(document, tensors):
    del document["model"]


def no_shape(document, tensors):
    config(document)["build_input_shape"] = "abc"


def no_weights(document, tensors):
    document["weights"] = None


def lost_slot(document, tensors):
    del tensors["optimizer/3"]


def wrong_slot(document, tensors):
    tensors["optimizer/3"] = np.zeros(3, "float32")


def bad_rate(document, tensors):
    document["compile"]["optimizer"]["config"]["learning_rate"] = -1


def many_variables(document, tensors):
    document["optimizer_variables"] = 10**15


CHANGES = [
    huge_units, huge_input, other_units, lost_tensor, wrong_shape, unknown_class, unlikely_class,
    unknown_activation, unknown_argument, a_lambda, no_model, no_shape, no_weights, lost_slot,
    wrong_slot, bad_rate, many_variables,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_hostile_documents(tmp_path, good, change):
    path = edited(tmp_path, good, change)
    with pytest.raises(ValueError, match="load_model: expected a model in") as info:
        models.load_model(path)
    assert "\n" not in str(info.value)


def test_a_file_makes_no_more_weights_than_it_holds(tmp_path, good):
    def large(document, tensors):
        config(document)["layers"][0]["config"]["units"] = 10**4

    with pytest.raises(ValueError, match=r"hidden: expected at most \d+ more weights"):
        models.load_model(edited(tmp_path, good, large))


def test_hostile_headers(tmp_path):
    path = tmp_path / "h"
    for data in (
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 1000) + b"[" * 1000,
        b"PK\x03\x04" + bytes(100),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="load: expected"):
            models.load_model(path)
    for document in ("", "[]", "[" * 10**5, '{"a": ' * 10**5):
        write(path, {}, document)
        with pytest.raises(ValueError, match="load: expected"):
            models.load_model(path)
    write(path, {}, "{}", form="pt")
    with pytest.raises(ValueError, match="of another program"):
        models.load_model(path)


def test_deep_nesting(tmp_path):
    layer = {"class_name": "Flatten", "name": "f", "config": {}}
    for _ in range(150):
        layer = {"class_name": "Sequential", "name": "s", "config": {"layers": [layer]}}
    layer["config"]["build_input_shape"] = [None, 2]
    write(tmp_path / "deep", {}, json.dumps({"model": layer, "weights": []}))
    try:
        models.load_model(tmp_path / "deep")
    except ValueError as error:
        assert "load_model" in str(error)


def test_the_file_has_no_code(good):
    assert b"pickle" not in good and not good.startswith(b"\x80")
    header = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])
    assert header["hidden/kernel"]["shape"] == [5, 8]
    assert (
        json.loads(header["__metadata__"]["document"])["compile"]["optimizer"]["class_name"]
        == "Adam"
    )


class Noted(layers.Layer):
    """Keeps an array that is no weight, a file, and how it was built."""

    def __init__(self, units, note=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.note, self.seen = units, note, np.zeros(2)

    def build(self, input_shape, kind):
        self.kind, self.shape = kind, list(input_shape)
        self.w = self.add_weight((input_shape[-1], self.units), kind, name="w")

    def call(self, x):
        return x @ self.w

    def get_config(self):
        return dict(units=self.units, **super().get_config())

    def get_build_config(self):
        return {"input_shape": self.shape, "kind": self.kind}

    def build_from_config(self, config):
        self.build(**config)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["seen"] = self.seen

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.seen = store["seen"]

    def save_assets(self, dir_path):
        with open(os.path.join(dir_path, "note.txt"), "w") as f:
            f.write(self.note)

    def load_assets(self, dir_path):
        with open(os.path.join(dir_path, "note.txt")) as f:
            self.note = f.read()


class OwnCompile(models.Sequential):
    def compile(self, optimizer, loss_fn):
        super().compile(optimizer, loss_fn)
        self.loss_fn = loss_fn

    def get_compile_config(self):
        return {"optimizer": "sgd", "loss_fn": self.loss_fn}

    def compile_from_config(self, config):
        self.compile(**config)


def test_what_layers_save_themselves(tmp_path):
    layer = Noted(3, "a note")
    layer.build((None, 5), kind="random_normal")
    layer.seen = np.array([1.0, 2.0])
    model = OwnCompile([layers.Input((5,)), layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, LABELS, verbose=0)
    model.save(tmp_path / "m.keras")
    known = {"Noted": Noted, "OwnCompile": OwnCompile}
    other = models.load_model(tmp_path / "m.keras", custom_objects=known)
    copy = other.layers[0]
    assert (copy.note, copy.kind, copy.seen.tolist()) == ("a note", "random_normal", [1.0, 2.0])
    assert other.loss_fn == "mse" and int(other.optimizer.iterations) == 1
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    assert set(layer.get_config()) == {"units", "name", "trainable", "dtype"}


def test_assets_stay_in_their_folder(tmp_path):
    layer = Noted(3, "")
    layer.build((None, 5), kind="zeros")
    model = OwnCompile([layers.Input((5,)), layer])
    model.save(tmp_path / "m.keras")
    tensors, document = files.read(tmp_path / "m.keras")
    tensors["assets/1/../note.txt"] = tensors.pop("assets/1/note.txt")
    files.write(tmp_path / "m.keras", tensors, document)
    with pytest.raises(ValueError, match="an asset of a name below its folder"):
        models.load_model(tmp_path / "m.keras", {"Noted": Noted, "OwnCompile": OwnCompile})


def test_weights_of_other_shapes_are_skipped_when_asked(tmp_path):
    model = classifier()
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    other = models.Sequential([*model.layers[:-1], layers.Dense(7)])
    other.build((None, 5))
    own = other.get_weights()[-2:]
    model.set_weights([w + 1 for w in model.get_weights()])
    with pytest.raises(ValueError, match="expected weight"):
        other.load_weights(path)
    with pytest.warns(UserWarning, match="got 2 others"):
        other.load_weights(path, skip_mismatch=True)
    for v, w in zip(other.get_weights()[-2:], own, strict=True):
        np.testing.assert_array_equal(v, w)
    np.testing.assert_array_equal(other.get_weights()[0], classifier().get_weights()[0])


def test_from_config_with_custom_objects():
    class Twice(layers.Layer):
        def call(self, x):
            return 2 * x

    x = layers.Input((2,))
    model = models.Model(x, Twice()(x))
    other = models.Model.from_config(model.get_config(), custom_objects={"Twice": Twice})
    assert isinstance(other.layers[1], Twice)
    row = models.Sequential([layers.Input((2,)), Twice()])
    config = row.get_config()
    other = models.Sequential.from_config(config, custom_objects={"Twice": Twice})
    assert isinstance(other.layers[0], Twice)


def twice(x):
    return 2 * x


class Own(layers.Layer):
    def __init__(self, by, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, x):
        return self.by * x


def test_lambdas_of_named_functions(tmp_path):
    model = models.Sequential([layers.Lambda(twice, name="mine", input_shape=(2,))])
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match="mine: expected its function in custom_objects"):
        models.load_model(tmp_path / "m")
    again = models.load_model(tmp_path / "m", custom_objects={"twice": twice})
    np.testing.assert_array_equal(again.predict(X[:, :2], verbose=0), 2 * X[:, :2])


@pytest.mark.parametrize("copied", [models.clone_model, copy.deepcopy], ids=("clone", "deepcopy"))
def test_copies_need_no_names(copied):
    """Own classes and functions, which no file could find."""
    x = layers.Input((2,))
    y = layers.Lambda(lambda x: x + 1)(Own(3)(x))
    y = layers.Dense(2, activation=lambda x: x * x)(y)
    model = models.Model(x, layers.Dense(2, activation=twice)(y))
    again = copied(model)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(X[:, :2]), model(X[:, :2]))


@pytest.mark.parametrize("own_loss", [False, True])
def test_copies_are_compiled(own_loss):
    loss = (lambda y, p: losses.mean_squared_error(y, p) * 2) if own_loss else "mse"
    model = models.Sequential([layers.Dense(1, input_shape=(X.shape[1],))])
    model.compile(optimizers.Adam(0.1), loss, metrics=["mae"])
    y = X.sum(axis=1)
    model.fit(X, y, verbose=0)
    copied, cloned = copy.deepcopy(model), models.clone_model(model)
    assert copied.evaluate(X, y, verbose=0) == model.evaluate(X, y, verbose=0)
    assert int(cloned.optimizer.iterations) == 0
    cloned.set_weights(model.get_weights())
    assert cloned.evaluate(X, y, verbose=0) == model.evaluate(X, y, verbose=0)
    for m in (model, copied):
        m.fit(X, y, shuffle=False, verbose=0)
    np.testing.assert_array_equal(copied.get_weights()[0], model.get_weights()[0])
    assert not models.clone_model(models.Sequential([layers.Dense(1)])).compiled


def test_clones_by_other_calls():
    x = layers.Input((3,))
    inner = models.Sequential([layers.Input((4,)), layers.Dense(2, name="c")], name="inner")
    model = models.Model(x, inner(layers.Dense(4, name="a")(x)))

    def call(layer, *args, **kwargs):
        y = layer(*args, **kwargs)
        return layers.Dropout(0.5)(y) if isinstance(layer, layers.Dense) else y

    def named(layer):
        return type(layer).from_config({**layer.get_config(), "name": layer.name + "_copy"})

    classes = [type(layer).__name__ for layer in models.clone_model(model, None, None, call).layers]
    assert classes == ["InputLayer", "Dense", "Dropout", "Sequential"]
    deep = models.clone_model(model, clone_function=named, recursive=True)
    assert [layer.name for layer in deep.layers[1:]] == ["a_copy", "inner"]
    assert deep.get_layer("inner").layers[0].name == "c_copy"
    with pytest.raises(ValueError, match="did you mean 'recursive'"):
        models.clone_model(model, recursiv=True)
